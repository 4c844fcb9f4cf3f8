"""Deleting many keys by one request, and tags: what every store must do, and every wrapper must not change."""

from __future__ import annotations

import uuid

import pytest

from orbit_airflow.engine.errors import ConfigError, NotFound
from orbit_airflow.engine.model import ObjectRef
from tests.bodies import BytesBody
from tests.contract.benches import BUCKET, Bench
from tests.contract.bodies import PLAIN, digests_of

_AWKWARD = ["a b", "plus+", "per%cent", "q?m", "amp&lt<", "quote'\"", "uml\u00e4ut", "\U0001f600", "slash//slash"]
_ESCAPED = {"newline": "line\nbreak", "return": "return\rkey", "tab": "tab\tkey"}


def _put(bench: Bench, key: str) -> ObjectRef:
    ref = ObjectRef(BUCKET, key)
    bench.store.put(ref, BytesBody(b"x"), digests_of(b"x"), PLAIN, if_none_match=False)
    return ref


def _there(bench: Bench, key: str) -> bool:
    try:
        bench.store.head(ObjectRef(BUCKET, key))
    except NotFound:
        return False
    return True


def test_each_key_is_deleted_and_answered_for_once(bench: Bench) -> None:
    """Also one that is not there, one that is named twice, and in the order of naming."""
    folder = f"many/{uuid.uuid4().hex}/"
    keys = [_put(bench, f"{folder}{number}").key for number in (3, 1, 2)]
    kept = _put(bench, f"{folder}kept").key
    items = [(key, None) for key in [*keys, keys[0], f"{folder}missing"]]
    result = bench.store.delete_many(BUCKET, items)
    assert [one.key for one in result.outcomes] == [*keys, f"{folder}missing"]
    assert all(one.receipt is not None and one.error is None for one in result.outcomes)
    assert [_there(bench, key) for key in [*keys, kept]] == [False, False, False, True]


def test_a_quiet_answer_accounts_for_all(bench: Bench) -> None:
    """What it does not name was deleted."""
    keys = [_put(bench, f"quiet/{uuid.uuid4().hex}").key for _ in range(2)]
    result = bench.store.delete_many(BUCKET, [(key, None) for key in keys], quiet=True)
    assert [(one.key, one.unknown) for one in result.outcomes] == [(key, False) for key in keys]
    assert not any(_there(bench, key) for key in keys)


@pytest.mark.parametrize("name", _AWKWARD)
def test_awkward_keys_are_deleted(bench: Bench, name: str) -> None:
    """XML is escaped, and the answer's key is the one that was asked for."""
    key = _put(bench, f"awkward/{uuid.uuid4().hex}/{name}").key
    (one,) = bench.store.delete_many(BUCKET, [(key, None)]).outcomes
    assert (one.key, one.receipt is not None) == (key, True)
    assert not _there(bench, key)


@pytest.mark.parametrize("name", list(_ESCAPED))
def test_control_characters_that_xml_knows_reach_the_store(bench: Bench, name: str) -> None:
    """Escaped; whatever an answer makes of the key, no other one is answered for."""
    key = f"escaped/{uuid.uuid4().hex}/{_ESCAPED[name]}"
    if name not in bench.quirks.impossible_keys:
        _put(bench, key)
    (one,) = bench.store.delete_many(BUCKET, [(key, None)]).outcomes
    assert (one.key, one.error) == (key, None)
    assert one.unknown or not _there(bench, key)


def test_what_one_request_cannot_carry_is_refused(bench: Bench) -> None:
    """No key, more than 1,000, and characters that XML has no way to write: nothing is sent."""
    for items in ([], [(f"k{number}", None) for number in range(1001)], [("bell\x07", None)]):
        with pytest.raises(ConfigError):
            bench.store.delete_many(BUCKET, items)


def test_a_bucket_that_is_not_there_fails_as_a_whole(bench: Bench) -> None:
    """NotFound, not an outcome per key."""
    with pytest.raises(NotFound):
        bench.store.delete_many("no-such-bucket-at-all", [("key", None)])


def test_tags_are_replaced_as_a_set(bench: Bench) -> None:
    """Characters that URLs and XML escape included; none takes all away."""
    ref = _put(bench, f"tags/{uuid.uuid4().hex}")
    assert bench.store.get_tags(ref) == ()
    for value in ("a+b = c/d:e@f_g.h-i", *(["data & more"] if bench.quirks.tags_of_any_characters else [])):
        bench.store.put_tags(ref, (("team", value), ("year", "2025")))
        assert dict(bench.store.get_tags(ref)) == bench.window.tags(ref) == {"team": value, "year": "2025"}
    bench.store.put_tags(ref, (("year", "2026"),))
    assert bench.store.get_tags(ref) == (("year", "2026"),)
    if bench.quirks.tags_can_be_emptied:
        bench.store.put_tags(ref, ())
        assert bench.store.get_tags(ref) == ()


def test_tags_of_what_is_not_there(bench: Bench) -> None:
    """NotFound by both verbs."""
    with pytest.raises(NotFound):
        bench.store.get_tags(bench.ref())
    with pytest.raises(NotFound):
        bench.store.put_tags(bench.ref(), (("a", "b"),))
