"""Deletes by a plan: what was written since stays; and keys that XML carries badly have the same guarantees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, BatchResult, KeyPrefix, ManifestKeys, PrefixKeys, VersionKeys
from orbit_airflow.engine.batch import Delete
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConnectionLost,
    NotFound,
    OrbitError,
    RequestContext,
    StoreError,
    Unavailable,
)
from orbit_airflow.engine.keys import KeySource
from orbit_airflow.engine.model import ListResult, ObjectAttributes, ObjectRef
from orbit_airflow.engine.store import ListRequest, PartDigests, TransferStore
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, QUICK, DictTokens, engine_on, faulty, fill, markers, numbered, sent

KEYS = numbered(30)
WORK = Delete(bucket=BUCKET)
LOGS = KeyPrefix(BUCKET, "logs/")
ODD = ["a", "b ", "c\n"]


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _planned(memory: MemoryStore, directory: Path, source: KeySource | None = None) -> ManifestKeys:
    place = str(directory / "plan.jsonl")
    engine_on(memory).batch.plan(WORK, source or PrefixKeys(where=LOGS), manifest=place)
    memory.requests.clear()
    return ManifestKeys(bucket=BUCKET, place=place)


def _rewrite(memory: MemoryStore, *keys: str) -> None:
    for key in keys:
        ref = ObjectRef(BUCKET, key)
        memory.put(ref, BytesBody(b"later"), PartDigests(), ObjectAttributes(), if_none_match=False)


def _there(memory: MemoryStore) -> list[str]:
    return sorted(ref.key for ref in memory.objects if ref.bucket == BUCKET)


def _failures(result: BatchResult) -> list[tuple[str, str | None]]:
    return [(error.key, error.code) for error in result.errors]


def _error(kind: type[StoreError], code: str) -> StoreError:
    return kind("made up", RequestContext("made up", BUCKET, code=code))


@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
def test_what_was_written_after_the_plan_stays(versioned: bool, tmp_path: Path) -> None:
    """The others go; one listing for each page is all that it costs, and a HEAD before a key fails."""
    memory = MemoryStore(versioned=versioned)
    fill(memory, KEYS)
    plan = _planned(memory, tmp_path)
    _rewrite(memory, KEYS[3], KEYS[17])
    memory.requests.clear()
    result = engine_on(memory).batch.run(WORK, plan, QUICK)
    assert (result.total, result.successful, result.failed) == (30, 28, 2)
    assert _failures(result) == [(KEYS[3], "PreconditionFailed"), (KEYS[17], "PreconditionFailed")]
    assert _there(memory) == [KEYS[3], KEYS[17]]
    assert [sent(memory, name) for name in ("list_objects", "head", "delete_many")] == [3, 2, 3]


def test_a_listing_of_now_is_not_looked_at_again() -> None:
    """It says what is there; only a manifest may be old."""
    memory = MemoryStore()
    fill(memory, KEYS)
    engine_on(memory).batch.run(WORK, PrefixKeys(where=LOGS), BatchConfig())
    assert [sent(memory, name) for name in ("list_objects", "head", "delete_many")] == [1, 0, 1]


def test_a_planned_key_that_is_gone_is_a_success_without_a_marker(tmp_path: Path) -> None:
    """It is as it should be."""
    memory = MemoryStore(versioned=True)
    fill(memory, KEYS)
    plan = _planned(memory, tmp_path)
    engine_on(memory).batch.delete(KEYS[:5], QUICK)
    result = engine_on(memory).batch.run(WORK, plan, QUICK)
    assert (result.successful, result.failed, markers(memory, KEYS)) == (30, 0, [1] * 30)


def test_what_is_written_while_an_answer_is_lost_stays(tmp_path: Path) -> None:
    """Every request for a planned key has a look of its own."""
    memory = MemoryStore()
    fill(memory, KEYS[:5])
    plan = _planned(memory, tmp_path)
    lost = _error(ConnectionLost, "made up")
    fault = Fault("delete_many", when="before", call=lambda: _rewrite(memory, KEYS[2]), error=lost)
    result = engine_on(faulty(memory, fault)).batch.run(WORK, plan, QUICK)
    assert (_there(memory), result.successful, _failures(result)) == ([KEYS[2]], 4, [(KEYS[2], "PreconditionFailed")])


@pytest.mark.parametrize("blind", [False, True], ids=["no listing", "no look at all"])
def test_nothing_planned_goes_without_a_look(blind: bool, tmp_path: Path) -> None:
    """Who may not list pays a HEAD for each key; who may not look at all deletes nothing."""
    memory = MemoryStore()
    fill(memory, KEYS)
    plan = _planned(memory, tmp_path)
    _rewrite(memory, KEYS[3])
    denied = [Fault("list_objects", times=None, error=_error(AccessDenied, "AccessDenied"))]
    if blind:
        denied.append(Fault("head", times=None, error=_error(AccessDenied, "AccessDenied")))
    result = engine_on(FaultyStore(memory, denied)).batch.run(WORK, plan, QUICK)
    assert _there(memory) == (KEYS if blind else [KEYS[3]])
    assert (result.failed, result.errors[0].code) == ((30, "AccessDenied") if blind else (1, "PreconditionFailed"))


def test_keys_that_expired_end_a_planned_batch(tmp_path: Path) -> None:
    """They are no planned key's own fault."""
    memory = MemoryStore()
    fill(memory, KEYS)
    plan = _planned(memory, tmp_path)
    unknown = _error(AccessDenied, "InvalidAccessKeyId")
    denied = [Fault(name, times=None, error=unknown) for name in ("list_objects", "delete_many")]
    nameless = Fault("head", times=None, error=_error(AccessDenied, "403"))
    with pytest.raises(AccessDenied, match="made up"):
        engine_on(FaultyStore(memory, [*denied, nameless])).batch.run(WORK, plan, QUICK)
    assert _there(memory) == KEYS


def test_a_head_has_the_last_word(tmp_path: Path) -> None:
    """A store whose listings tell other ETags than its HEADs does not keep what was planned by HEADs."""

    class Other(MemoryStore):
        def list_objects(self, request: ListRequest) -> ListResult:
            page = super().list_objects(request)
            return replace(page, objects=tuple(replace(item, etag="0" * 32) for item in page.objects))

    memory = Other()
    fill(memory, KEYS[:5])
    plan = tmp_path / "plan.jsonl"
    etag = memory.head(ObjectRef(BUCKET, KEYS[0])).etag
    plan.write_text("".join(f'{{"key": "{key}", "etag": "{etag}"}}\n' for key in KEYS[:5]))
    result = engine_on(memory).batch.run(WORK, ManifestKeys(bucket=BUCKET, place=str(plan)), QUICK)
    assert (result.successful, _there(memory)) == (5, [])


def test_planned_keys_among_many_others_are_found_by_listings(tmp_path: Path) -> None:
    """As long as a listing passes enough of them; a HEAD each is for the few that lie far off."""
    memory = MemoryStore(page_size=20)
    fill(memory, [*numbered(400), *(f"logs/{number:05d}/x" for number in range(0, 400, 2))])
    keys = [*(f"logs/{number:05d}/x" for number in range(0, 200, 2)), "logs/00398/x"]
    plan = tmp_path / "plan.jsonl"
    etag = memory.head(ObjectRef(BUCKET, keys[0])).etag
    plan.write_text("".join(f'{{"key": "{key}", "etag": "{etag}"}}\n' for key in keys))
    memory.requests.clear()
    result = engine_on(memory).batch.run(WORK, ManifestKeys(bucket=BUCKET, place=str(plan)), BatchConfig())
    assert (result.successful, sent(memory, "delete_many")) == (101, 1)
    assert sent(memory, "head") + sent(memory, "list_objects") < 101


@pytest.mark.parametrize("nth", range(1, 14, 2))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_planned_delete_continues_behind_a_kill(when: Any, nth: int, tmp_path: Path) -> None:
    """What was written meanwhile stays, and nothing gains a second marker."""
    memory, how = MemoryStore(versioned=True), BatchRun(tokens=DictTokens())
    fill(memory, KEYS)
    plan = _planned(memory, tmp_path)
    _rewrite(memory, KEYS[7])
    kill = [Fault("*", nth=nth, when=when, error=Killed()), Fault("*", nth=nth + 1, times=None, error=Killed())]
    try:
        result = engine_on(FaultyStore(memory, kill)).batch.run(WORK, plan, QUICK, how)
    except Killed:
        result = engine_on(memory).batch.run(WORK, plan, QUICK, how)
    assert (result.total, result.failed, _there(memory)) == (30, 1, [KEYS[7]])
    assert markers(memory, KEYS) == [int(key != KEYS[7]) for key in KEYS]


def test_a_planned_key_that_xml_carries_badly_is_looked_at_too(tmp_path: Path) -> None:
    """It goes alone, and only as it was."""
    memory = MemoryStore()
    fill(memory, ["logs/a ", "logs/b\n", "logs/c"])
    plan = _planned(memory, tmp_path)
    _rewrite(memory, "logs/a ")
    result = engine_on(memory).batch.run(WORK, plan, QUICK)
    assert (_failures(result), _there(memory)) == ([("logs/a ", "PreconditionFailed")], ["logs/a "])


def test_the_version_of_a_bucket_without_versions_may_be_another_one(tmp_path: Path) -> None:
    """Its id is "null" for whatever is there."""
    memory = MemoryStore()
    fill(memory, KEYS[:5])
    plan = _planned(memory, tmp_path, VersionKeys(where=LOGS))
    _rewrite(memory, KEYS[1])
    result = engine_on(memory).batch.run(WORK, plan, QUICK)
    assert (_failures(result), _there(memory)) == ([(KEYS[1], "PreconditionFailed")], [KEYS[1]])


@pytest.mark.parametrize("nth", [None, *range(1, 12)], ids=str)
def test_all_versions_of_a_planned_key_go_unless_it_was_replaced(nth: int | None, tmp_path: Path) -> None:
    """Also over a kill: what the key shows goes last, so that the next try can still tell."""
    memory, how = MemoryStore(versioned=True), BatchRun(tokens=DictTokens())
    for _ in range(3):
        fill(memory, KEYS[:4])
    plan = _planned(memory, tmp_path)
    _rewrite(memory, KEYS[0])
    memory.delete(ObjectRef(BUCKET, KEYS[1]))
    work, config = Delete(bucket=BUCKET, all_versions=True), BatchConfig(retry_delay=0, max_concurrent=1)
    kill = [] if nth is None else [Fault("*", nth=nth, times=None, when="after", error=Killed())]
    try:
        result = engine_on(FaultyStore(memory, kill)).batch.run(work, plan, config, how)
    except Killed:
        result = engine_on(memory).batch.run(work, plan, config, how)
    assert _failures(result) == [(key, "PreconditionFailed") for key in KEYS[:2]]
    assert [len(memory.versions(ObjectRef(BUCKET, key))) for key in KEYS[:4]] == [4, 4, 0, 0]


def test_a_plan_by_a_manifest_counts_its_looks(tmp_path: Path) -> None:
    """A listing for a page."""
    memory = MemoryStore()
    fill(memory, KEYS)
    plan = engine_on(memory).batch.plan(WORK, _planned(memory, tmp_path))
    assert dict(plan.requests) == {"DeleteObjects": 1, "ListObjectsV2": 1}


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("when", ["before", "after"])
def test_odd_keys_gain_no_second_marker_behind_a_kill(when: Any, nth: int) -> None:
    """They are looked at first, as the others are."""
    memory, how = MemoryStore(versioned=True), BatchRun(tokens=DictTokens())
    fill(memory, ODD)
    kill = [Fault("*", nth=nth, when=when, error=Killed()), Fault("*", nth=nth + 1, times=None, error=Killed())]
    try:
        result = engine_on(FaultyStore(memory, kill)).batch.run(WORK, ODD, QUICK, how)
    except Killed:
        result = engine_on(memory).batch.run(WORK, ODD, QUICK, how)
    assert (result.total, result.successful, markers(memory, ODD)) == (3, 3, [1, 1, 1])


@pytest.mark.parametrize("code", ["NoSuchBucket", "InvalidAccessKeyId"])
def test_what_is_about_all_ends_a_batch_of_odd_keys(code: str) -> None:
    """It is not that key's fault."""
    memory = MemoryStore()
    fill(memory, ODD)
    kind: type[StoreError] = NotFound if code == "NoSuchBucket" else AccessDenied
    store = faulty(memory, Fault("delete", times=None, error=_error(kind, code)))
    with pytest.raises(OrbitError) as caught:
        engine_on(store).batch.delete(["b ", "c\n"], QUICK)
    assert caught.value.context.code == code


def test_an_odd_key_alone_fails_when_the_store_is_well() -> None:
    """The others are done."""
    memory = MemoryStore()
    fill(memory, ["b ", "c\n", "d\t", "e"])
    config = BatchConfig(retry_delay=0, max_retries=0)
    broken = Fault("delete", nth=2, error=_error(Unavailable, "InternalError"))
    result = engine_on(faulty(memory, broken)).batch.delete(["b ", "c\n", "d\t", "e"], config)
    assert (_failures(result), _there(memory)) == ([("c\n", "InternalError")], ["c\n"])


def test_odd_keys_outlast_an_outage() -> None:
    """They are done again when it is over, with a look first: one marker each."""
    memory = MemoryStore(versioned=True)
    fill(memory, ODD)
    out = _error(Unavailable, "ServiceUnavailable")
    faults = [Fault("delete", times=2, when="after", error=out), Fault("head", times=1, error=out)]
    store: TransferStore = FaultyStore(memory, faults)
    engine = engine_on(store, outage_patience=30)
    config = BatchConfig(retry_delay=0, max_retries=0)
    result = engine.batch.delete(ODD, config)
    assert (result.successful, result.failed, markers(memory, ODD)) == (3, 0, [1, 1, 1])
