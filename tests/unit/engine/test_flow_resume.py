"""What a second try believes, and what it does not."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from orbit_airflow.engine.errors import ConnectionLost, Paused, RestartsExhausted, TargetExists
from orbit_airflow.engine.events import TransferFailed, TransferStarted
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef, Part
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, DictTokens, Killed, data_of
from tests.unit.engine.test_testing_stores import _Body

SIZE = 8 * PART + 5


def _interrupted(bench: Bench, request: int = 5, size: int = SIZE) -> bytes:
    """A try that died with parts at the store: request 1 is Create."""
    data = bench.write(size)
    bench.workers = 1
    bench.kill_at(request)
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    bench.events.clear()
    return data


def test_only_what_is_missing_is_sent(bench: Bench) -> None:
    """And the figures say so: found, sent, saved."""
    data = _interrupted(bench)
    before = bench.sent
    result = bench.upload()
    bench.settled(data)
    assert bench.sent - before == SIZE - 3 * PART
    assert (result.bytes_sent, result.bytes_saved, result.parts_found) == (SIZE - 3 * PART, 3 * PART, 3)
    assert result.resumed
    (started,) = bench.seen(TransferStarted)
    assert (started.parts_found, started.bytes_found) == (3, 3 * PART)


def test_a_smaller_or_larger_wish_keeps_the_old_parts(bench: Bench) -> None:
    """The part size belongs to the token: 2 KiB go on as 2 KiB when 8 KiB are configured now."""
    data = _interrupted(bench)
    bench.part_size = 4 * PART
    result = bench.upload()
    bench.settled(data)
    assert (result.parts_found, len(bench.asked("create"))) == (3, 1)


def test_a_wish_above_the_file_s_size_keeps_the_old_upload(bench: Bench) -> None:
    """An upload with parts is not abandoned for a single request."""
    data = _interrupted(bench)
    bench.part_size = 100 * PART
    bench.upload()
    bench.settled(data)
    assert bench.asked("put") == []


def test_an_upload_that_somebody_aborted_starts_again(bench: Bench) -> None:
    """Between two tries, at each point: the object is there in the end."""
    for request in range(2, 11):
        bench.use()
        bench.tokens = bench.fresh_tokens()
        data = _interrupted(bench, request)
        for upload in bench.memory.uploads():
            bench.memory.abort(bench.ref, upload.upload_id)
        bench.upload()
        bench.settled(data)


@pytest.mark.parametrize("part", range(1, 10))
def test_an_upload_that_is_aborted_under_us_starts_again(bench: Bench, part: int) -> None:
    """During any part: once more from the beginning, within the same try."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", nth=part, call=lambda: _abort_all(bench)))
    bench.upload()
    bench.settled(data)
    assert len(bench.asked("create")) == 2


def _abort_all(bench: Bench) -> None:
    for upload in bench.memory.uploads():
        bench.memory.abort(bench.ref, upload.upload_id)


def test_an_upload_aborted_before_complete_starts_again(bench: Bench) -> None:
    """The last moment."""
    data = bench.write(SIZE)
    bench.on("complete", lambda: _abort_all(bench))
    bench.upload()
    bench.settled(data)


def test_an_upload_that_is_aborted_again_and_again_is_given_up(bench: Bench) -> None:
    """Bounded, with a verdict that a later try may succeed."""
    bench.write(SIZE)
    bench.on("complete", lambda: _abort_all(bench), times=None)
    with pytest.raises(RestartsExhausted, match="1 restarts"):
        bench.upload(max_restarts=1)
    assert len(bench.asked("create")) == 2


def test_a_zombie_s_complete_is_our_complete(bench: Bench) -> None:
    """The try before is still alive and completes the upload while this one sends: its object is ours."""
    bench.use(versioned=True, complete_again="gone")
    data = _interrupted(bench)

    def zombie() -> None:
        other = Bench(bench.folder)
        other.memory, other.faulty, other.tokens, other.time = bench.memory, _plain(bench), _Copy(bench), bench.time
        other.upload()

    bench.on("upload_part", zombie)
    result = bench.upload()
    bench.settled(data)
    assert result.size == SIZE


def _plain(bench: Bench) -> Any:
    from orbit_airflow.testing import FaultyStore

    return FaultyStore(bench.memory)


class _Copy(DictTokens):
    """Another process's view of the same tokens."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        assert isinstance(bench.tokens, DictTokens)
        self.kept = dict(bench.tokens.kept)


@pytest.mark.parametrize("profile", [{}, {"checksums": False}, {"full_object": False}])
def test_foreign_parts_in_our_upload_are_sent_again(bench: Bench, profile: dict[str, Any]) -> None:
    """Part 2 is somebody else's by now: compared, not believed."""
    bench.use(**profile)
    data = _interrupted(bench)
    (upload,) = bench.memory.uploads()
    junk = data_of(PART, 50)
    crc = zlib.crc32(junk) if profile.get("checksums", True) else None
    bench.memory.upload_part(bench.ref, upload.upload_id, Part(2, PART, PART), _Body(junk), PartDigests(crc))
    result = bench.upload()
    bench.settled(data)
    assert result.parts_found == 2
    assert "not of this file" in bench.notices


@pytest.mark.parametrize(("number", "size"), [(9_999, PART), (2, PART - 1), (9, PART)])
def test_parts_outside_of_the_plan_are_left_alone(bench: Bench, number: int, size: int) -> None:
    """A number or a size that is not ours is not named in Complete, or is sent again."""
    data = _interrupted(bench)
    (upload,) = bench.memory.uploads()
    junk = data_of(size, 50)
    digests = PartDigests(zlib.crc32(junk))
    bench.memory.upload_part(bench.ref, upload.upload_id, Part(number, 0, size), _Body(junk), digests)
    bench.upload()
    bench.settled(data)


def test_opaque_parts_without_checksums_are_sent_again(bench: Bench) -> None:
    """What cannot be compared is not believed."""
    bench.use(checksums=False, opaque_etags=True)
    data = _interrupted(bench)
    result = bench.upload()
    bench.settled(data)
    assert result.parts_found == 0


@pytest.mark.parametrize("page_size", [1, 2, 3])
def test_parts_are_listed_page_by_page(bench: Bench, page_size: int) -> None:
    """None is forgotten."""
    bench.use(page_size=page_size)
    data = _interrupted(bench)
    assert bench.upload().parts_found == 3
    bench.settled(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"target": "0" * 64},
        {"upload_id": "no such upload"},
        {"part_size": 0},
        {"source": None},
        {"phase": "nonsense"},
        {"mark": "short"},
        {"op": "download"},
    ],
)
def test_a_token_that_cannot_be_used_is_a_clean_start(bench: Bench, changes: dict[str, Any]) -> None:
    """Said in a warning; the object arrives."""
    data = _interrupted(bench)
    bench.edit_token(**changes)
    result = bench.upload()
    assert bench.stored == data
    assert not result.resumed
    assert "the saved state is not used" in bench.notices


def test_a_token_with_another_key_s_upload_touches_nothing_of_it(bench: Bench) -> None:
    """The upload id must be listed under the present key."""
    other = ObjectRef("bucket", "victim")
    victim = bench.memory.create(other, ObjectAttributes(), checksums=True).upload_id
    data = _interrupted(bench)
    bench.edit_token(upload_id=victim)
    bench.upload()
    assert bench.stored == data
    assert [upload.upload_id for upload in bench.memory.uploads(other)] == [victim]
    assert bench.memory.uploads(other)[0].parts == {}


def test_a_token_that_lies_about_done_is_not_believed(bench: Bench) -> None:
    """The object must carry the mark; a hand-made outcome is not enough."""
    data = _interrupted(bench)
    outcome = {"etag": "x", "size": SIZE, "integrity": "full-crc", "crc32": 1, "version_id": None, "checksum": None}
    bench.edit_token(phase="done", outcome=outcome)
    bench.upload()
    assert bench.stored == data


def test_resume_false_ignores_and_leaves_what_was(bench: Bench) -> None:
    """A new upload beside the old one, whose state, parts and right to go on stay as they were."""
    data = _interrupted(bench)
    kept, old = bench.token, bench.memory.uploads()
    result = bench.upload(resume=False)
    assert bench.stored == data
    assert (result.resumed, result.bytes_sent, result.bytes_saved) == (False, SIZE, 0)
    assert (bench.token, bench.memory.uploads()) == (kept, old)
    later = bench.upload()
    bench.settled(data)
    assert (later.resumed, later.parts_found, later.bytes_sent) == (True, 3, SIZE - 3 * PART)


class _Deaf(DictTokens):
    """A state store that is down: it answers, and keeps nothing."""

    def save(self, key: str, token: dict[str, Any]) -> bool:
        return False


class _Broken(DictTokens):
    """A state store whose client raises."""

    def save(self, key: str, token: dict[str, Any]) -> bool:
        raise OSError("the API is down")


@pytest.mark.parametrize("kind", [_Deaf, _Broken])
@pytest.mark.parametrize("size", [100, SIZE])
def test_a_state_store_that_is_down_does_not_fail_a_transfer(bench: Bench, kind: type[DictTokens], size: int) -> None:
    """Whatever it does: "a transfer never fails because of them"."""
    data = bench.write(size)
    bench.tokens = kind()
    bench.upload()
    bench.settled(data)


def test_a_stop_keeps_the_parts(bench: Bench) -> None:
    """Paused, with a note that says what is kept; the next try continues."""
    data = bench.write(SIZE)
    bench.workers = 1
    cancel = bench.cancellation()
    bench.faulty.add(Fault("upload_part", nth=4, when="after", call=lambda: cancel.cancel("told to stop")))
    with pytest.raises(Paused, match=rf"told to stop.*Upload upload-\S+ keeps {4 * PART} bytes") as caught:
        bench.upload(cancel=cancel)
    assert caught.value.is_retryable
    assert bench.asked("abort") == []
    assert len(bench.seen(TransferFailed)) == 1
    assert bench.upload().parts_found == 4
    bench.settled(data)


def test_a_stop_before_the_start_asks_nothing(bench: Bench) -> None:
    """Not even Create."""
    bench.write(SIZE)
    cancel = bench.cancellation()
    cancel.cancel()
    with pytest.raises(Paused):
        bench.upload(cancel=cancel)
    assert bench.memory.requests == []


def test_an_orphan_aborts_nothing(bench: Bench) -> None:
    """A try that lost its supervisor leaves everything to the one that lives."""
    bench.write(SIZE)
    cancel = bench.cancellation()
    bench.on("upload_part", lambda: cancel.cancel("the supervisor is gone", orphaned=True))
    with pytest.raises(Paused):
        bench.upload(cancel=cancel)
    assert bench.asked("abort") == []
    assert len(bench.memory.uploads()) == 1


def test_an_orphan_that_finds_its_parts_worthless_aborts_nothing(bench: Bench) -> None:
    """Its verdict may be out of date: the try that lives uses the same upload, and the same token."""
    bench.write(SIZE)
    cancel = bench.cancellation()

    def overtaken() -> None:
        bench.memory.put(bench.ref, _Body(b"taken"), PartDigests(), ObjectAttributes(), if_none_match=False)
        cancel.cancel("the supervisor is gone", orphaned=True)

    bench.on("complete", overtaken)
    with pytest.raises(TargetExists):
        bench.upload(replace=False, cancel=cancel)
    assert bench.asked("abort") == []
    assert len(bench.memory.uploads()) == 1
    assert bench.token["phase"] == "completing"


def test_the_abort_is_repeated_until_the_upload_is_gone(bench: Bench) -> None:
    """A part in flight may survive the first one."""
    bench.write(SIZE)
    bench.memory.put(bench.ref, _Body(b"taken"), PartDigests(), ObjectAttributes(), if_none_match=False)
    bench.faulty.add(Fault("head", answer=None, error=_not_found()), Fault("abort", answer=None))
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert bench.memory.uploads() == []


def _not_found() -> Exception:
    from orbit_airflow.engine.errors import NotFound, RequestContext

    return NotFound("404", RequestContext(status=404, code="404"))


def test_an_upload_that_cannot_be_aborted_is_told(bench: Bench) -> None:
    """The error that matters comes out, and the log names what remains."""
    bench.write(SIZE)
    bench.memory.put(bench.ref, _Body(b"taken"), PartDigests(), ObjectAttributes(), if_none_match=False)
    bench.faulty.add(Fault("head", error=_not_found()), Fault("abort", times=None, error=ConnectionLost("x")))
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert "could not be aborted and stays open" in bench.notices
