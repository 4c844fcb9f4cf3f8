"""Credentials that may only write: what HEAD hides is neither there nor absent, and nothing is sent twice for it."""

from __future__ import annotations

from typing import Any

import pytest

from orbit_airflow.engine.errors import AccessDenied, RequestContext, TargetExists, Unavailable
from orbit_airflow.engine.model import ObjectAttributes
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import HIDDEN, PART, Bench, DictTokens, Killed
from tests.unit.engine.test_testing_stores import _Body

SIZE = 4 * PART + 3
GATEWAY = Unavailable("gateway", RequestContext("complete", status=500))
CANNOT_TELL = "cannot be told"


class _DeadBehindDone(DictTokens):
    """The process is killed right after it kept the word that all is done."""

    def save(self, key: str, token: dict[str, Any]) -> bool:
        kept = super().save(key, token)
        if token["phase"] == "done":
            raise Killed
        return kept


def _hide(bench: Bench) -> None:
    bench.faulty.add(Fault("head", times=None, error=HIDDEN))


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("size", [100, SIZE])
def test_a_finished_upload_is_not_sent_again(bench: Bench, size: int, replace: bool) -> None:
    """Its token says done and HEAD says 403: the earlier result, and not a byte."""
    bench.use(versioned=True)
    data = bench.write(size)
    _hide(bench)
    first = bench.upload(replace=replace)
    again = bench.upload(replace=replace)
    bench.settled(data)
    assert bench.sent == size
    assert (again.resumed, again.bytes_sent, again.bytes_saved) == (True, 0, size)
    assert (again.etag, again.version_id, again.checksum) == (first.etag, first.version_id, first.checksum)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("size", [100, SIZE])
def test_a_death_behind_the_last_save_costs_nothing(bench: Bench, size: int, replace: bool) -> None:
    """The next try returns the result and sends nothing."""
    bench.use(versioned=True)
    data = bench.write(size)
    bench.tokens = dying = _DeadBehindDone()
    _hide(bench)
    with pytest.raises(Killed):
        bench.upload(replace=replace)
    bench.tokens = bench.fresh_tokens()
    bench.tokens.kept = dict(dying.kept)
    result = bench.upload(replace=replace)
    bench.settled(data)
    assert (result.resumed, result.bytes_sent, bench.sent) == (True, 0, size)


@pytest.mark.parametrize("replace", [True, False])
def test_a_death_behind_complete_sends_nothing_twice(bench: Bench, replace: bool) -> None:
    """The upload is gone and the object hidden: one error that says so, and no second upload."""
    bench.use(versioned=True)
    data = bench.write(SIZE)
    bench.faulty.add(Fault("complete", when="after", error=Killed()))
    with pytest.raises(Killed):
        bench.upload(replace=replace)
    bench.faulty.clear()
    assert bench.token["phase"] == "completing"
    _hide(bench)
    with pytest.raises(AccessDenied, match=CANNOT_TELL):
        bench.upload(replace=replace)
    bench.settled(data)
    assert (bench.sent, len(bench.asked("create"))) == (SIZE, 1)


@pytest.mark.parametrize("replace", [True, False])
def test_a_lost_complete_at_a_forgetful_store_cannot_be_told(bench: Bench, replace: bool) -> None:
    """One AccessDenied that says so: no restart, nothing sent twice, no second version."""
    bench.use(versioned=True, complete_again="gone")
    data = bench.write(SIZE)
    _hide(bench)
    bench.faulty.add(Fault("complete", when="after"))
    with pytest.raises(AccessDenied, match=CANNOT_TELL):
        bench.upload(replace=replace)
    bench.settled(data)
    assert (bench.sent, len(bench.asked("create"))) == (SIZE, 1)
    assert "starting again" not in bench.notices


def test_what_cannot_be_told_is_told_once_the_object_may_be_looked_at(bench: Bench) -> None:
    """The state was kept: with the missing permission the next try finds its object."""
    bench.use(versioned=True, complete_again="gone")
    data = bench.write(SIZE)
    _hide(bench)
    bench.faulty.add(Fault("complete", when="after"))
    with pytest.raises(AccessDenied):
        bench.upload()
    bench.faulty.clear()
    result = bench.upload()
    bench.settled(data)
    assert (result.resumed, result.bytes_sent, bench.sent) == (True, 0, SIZE)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_complete_without_an_answer_is_repeated(bench: Bench, when: Any) -> None:
    """An upload is completed once, however often it is asked for: a 500 costs a second request, not the night."""
    bench.use(versioned=True)
    data = bench.write(SIZE)
    _hide(bench)
    bench.faulty.add(Fault("complete", when=when, error=GATEWAY))
    bench.upload()
    bench.settled(data)
    assert bench.sent == SIZE


@pytest.mark.parametrize("size", [100, SIZE])
def test_a_taken_key_is_a_taken_key(bench: Bench, size: int) -> None:
    """412 to the first and only request: no answer of ours was lost, so it is not ours."""
    bench.write(size)
    bench.memory.put(bench.ref, _Body(b"theirs"), PartDigests(), ObjectAttributes(), if_none_match=False)
    _hide(bench)
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert bench.stored == b"theirs"
    assert bench.memory.uploads() == []


def test_412_behind_a_lost_put_cannot_be_told(bench: Bench) -> None:
    """The key may hold our own object or another one's."""
    bench.use(versioned=True)
    data = bench.write(100)
    _hide(bench)
    bench.faulty.add(Fault("put", when="after"))
    with pytest.raises(AccessDenied, match=CANNOT_TELL):
        bench.upload(replace=False)
    bench.settled(data)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "ExpiredToken", "InvalidAccessKeyId"])
@pytest.mark.parametrize("replace", [True, False])
def test_a_refusal_with_a_reason_of_its_own_is_an_error(bench: Bench, code: str, replace: bool) -> None:
    """It says nothing about the object: the state stays, and the next try finds all done."""
    bench.use(versioned=True)
    data = bench.write(SIZE)
    bench.upload()
    kept = bench.token
    refused = AccessDenied("x", RequestContext("HeadObject", status=403, code=code))
    bench.faulty.add(Fault("head", error=refused))
    with pytest.raises(AccessDenied):
        bench.upload(replace=replace)
    assert bench.token == kept
    assert bench.upload(replace=replace).bytes_sent == 0
    bench.settled(data)


def test_without_credentials_nothing_is_taken_for_hidden(bench: Bench) -> None:
    """A HEAD that was never sent is no 403."""
    data = bench.write(SIZE)
    bench.upload()
    kept = bench.token
    bench.faulty.add(Fault("head", error=AccessDenied("no usable credentials", RequestContext(sent=False))))
    with pytest.raises(AccessDenied, match="no usable credentials"):
        bench.upload()
    assert bench.token == kept
    bench.settled(data)
