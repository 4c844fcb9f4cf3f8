"""Batches of deletes: every key once, whatever the answers are, and never a second marker."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from orbit_airflow.engine import BatchConfig, KeyPrefix, PrefixKeys
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionLost,
    InvalidRequest,
    NotFound,
    RequestContext,
    StoreError,
    Throttled,
    Unavailable,
)
from orbit_airflow.engine.events import BatchProgress, TransferEvent
from orbit_airflow.engine.model import DeleteManyResult, DeleteOutcome, ObjectRef
from orbit_airflow.engine.store import DeleteItem
from orbit_airflow.testing import Fault, MemoryStore
from tests.unit.engine.batches import BUCKET, QUICK, engine_on, faulty, fill, lines, markers, numbered, sent


class Moody(MemoryStore):
    """Answers for chosen keys with an error, or not at all, when they are named for the first ``times`` times.

    ``acts``: the key is deleted all the same.
    """

    def __init__(
        self, moods: dict[str, StoreError | None], *, times: int = 1, acts: bool = False, versioned: bool
    ) -> None:
        super().__init__(versioned=versioned)
        self._moods = moods
        self._left = dict.fromkeys(moods, times)
        self._acts = acts

    def delete_many(self, bucket: str, items: Sequence[DeleteItem], *, quiet: bool = False) -> DeleteManyResult:
        struck = [item for item in items if self._left.get(item[0], 0) > 0]
        for key, _ in struck:
            self._left[key] -= 1
        served = [item for item in items if self._acts or item not in struck]
        found = super().delete_many(bucket, served, quiet=quiet).outcomes if served else ()
        known = {(one.key, one.version_id): one for one in found}
        told = {item: DeleteOutcome(*item, error=self._moods[item[0]]) for item in struck}
        return DeleteManyResult(tuple(told.get(item) or known[item] for item in items))


def _error(kind: type[StoreError], code: str) -> StoreError:
    return kind("made up", RequestContext("DeleteObjects", BUCKET, code=code))


INTERNAL = _error(Unavailable, "InternalError")


def test_a_list_is_deleted_by_the_page() -> None:
    """Requests are as few as the pages; a key that is not there is a success."""
    memory = MemoryStore()
    keys = fill(memory, numbered(25))
    result = engine_on(memory).batch.delete([*keys, "missing"], QUICK)
    assert (result.total, result.successful, result.failed, result.complete) == (26, 26, 0, True)
    assert (memory.objects, sent(memory, "delete_many"), result.requests) == ({}, 3, 3)


def test_an_empty_list_is_nothing() -> None:
    """Never everything: no request is made."""
    memory = MemoryStore()
    fill(memory, numbered(3))
    result = engine_on(memory).batch.delete([])
    assert (result.total, len(memory.objects), memory.requests) == (0, 3, [])


def test_a_key_named_twice_is_one_key() -> None:
    """One marker, one outcome."""
    memory = MemoryStore(versioned=True)
    fill(memory, ["a"])
    result = engine_on(memory).batch.delete(["a", "a"])
    assert (result.total, markers(memory, ["a"])) == (1, [1])


@pytest.mark.parametrize("acts", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("mood", [INTERNAL, None], ids=["InternalError", "forgotten"])
@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
def test_a_key_of_which_the_answer_knows_nothing_gets_one_marker(
    versioned: bool, mood: StoreError | None, acts: bool
) -> None:
    """Whether the store had deleted it or not; the others are not named again."""
    keys = numbered(10)
    memory = Moody(dict.fromkeys(keys[::3], mood), acts=acts, versioned=versioned)
    fill(memory, keys)
    result = engine_on(memory).batch.delete(keys, QUICK)
    assert (result.successful, result.failed, memory.objects) == (10, 0, {})
    assert markers(memory, keys) == [int(versioned)] * 10
    assert sent(memory, "delete_many") <= 2
    assert sent(memory, "head") == 0


def test_throttled_keys_are_named_again_without_a_look() -> None:
    """SlowDown says that nothing was done."""
    keys = numbered(10)
    memory = Moody({keys[4]: _error(Throttled, "SlowDown")}, versioned=True)
    fill(memory, keys)
    config = BatchConfig(retry_delay=0, page_keys=10)
    result = engine_on(memory).batch.delete(keys, config)
    assert (result.failed, markers(memory, keys)) == (0, [1] * 10)
    assert [request.operation for request in memory.requests] == ["delete_many", "delete_many"]


def test_five_bad_keys_do_not_stop_the_others() -> None:
    """Denied or broken for ever: each fails with its own error, and the report has every key once."""
    keys = numbered(1000)
    bad: dict[str, StoreError | None] = dict.fromkeys(keys[100:103], INTERNAL)
    bad |= dict.fromkeys(keys[500:502], _error(AccessDenied, "AccessDenied"))
    memory = Moody(bad, times=99, versioned=True)
    fill(memory, keys)
    result = engine_on(memory).batch.delete(keys, BatchConfig(retry_delay=0))
    assert (result.total, result.successful, result.failed) == (1000, 995, 5)
    assert sorted((error.key, error.code) for error in result.errors) == sorted(
        (key, error.context.code) for key, error in bad.items() if error is not None
    )
    assert markers(memory, keys) == [int(key not in bad) for key in keys]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_is_looked_up(when: str) -> None:
    """One marker each, whether the store had acted or not."""
    memory = MemoryStore(versioned=True)
    keys = fill(memory, numbered(10))
    lost = Fault("delete_many", when=when, error=ConnectionLost("lost", RequestContext("DeleteObjects", BUCKET)))  # type: ignore[arg-type]
    result = engine_on(faulty(memory, lost)).batch.delete(keys, QUICK)
    assert (result.successful, markers(memory, keys)) == (10, [1] * 10)


def test_keys_that_lie_far_apart_are_looked_up_one_by_one() -> None:
    """When listings do not reach them."""
    memory = MemoryStore(versioned=True, page_size=5)
    fill(memory, numbered(100))
    keys = ["logs/00000", "logs/00050", "logs/00099"]
    lost = Fault("delete_many", when="after", error=ConnectionLost("lost", RequestContext("DeleteObjects", BUCKET)))
    result = engine_on(faulty(memory, lost)).batch.delete(keys, QUICK)
    assert (result.successful, markers(memory, keys)) == (3, [1, 1, 1])
    assert (sent(memory, "list_objects"), sent(memory, "delete_many")) == (3, 1)


def test_keys_that_xml_carries_badly_go_alone() -> None:
    """Control characters and white space at the ends."""
    memory = MemoryStore(versioned=True)
    keys = fill(memory, ["bell\x07", "line\nbreak", " space", "plain"])
    result = engine_on(memory).batch.delete(keys, QUICK)
    assert (result.successful, markers(memory, keys)) == (4, [1] * 4)
    assert (sent(memory, "delete"), sent(memory, "delete_many")) == (3, 1)


def test_versions_are_deleted_for_good() -> None:
    """Pairs of key and version id; the others stay."""
    memory = MemoryStore(versioned=True)
    fill(memory, ["a"])
    fill(memory, ["a"])
    newest, oldest = memory.versions(ObjectRef(BUCKET, "a"))
    result = engine_on(memory).batch.delete([("a", oldest.version_id)], QUICK)
    assert (result.successful, memory.versions(ObjectRef(BUCKET, "a"))) == (1, [newest])


def test_what_is_about_the_bucket_ends_the_batch() -> None:
    """Not a million failed keys."""
    with pytest.raises(NotFound):
        engine_on(MemoryStore(buckets=["other"])).batch.delete(numbered(100), QUICK)


def test_a_refused_request_fails_its_keys() -> None:
    """As a whole, and only those."""
    memory = MemoryStore()
    keys = fill(memory, numbered(20))
    refused = Fault("delete_many", error=InvalidRequest("made up"))
    result = engine_on(faulty(memory, refused)).batch.delete(keys, QUICK)
    assert (result.successful, result.failed) == (10, 10)
    assert {error.code for error in result.errors} == {"InvalidRequest"}


def test_fail_fast_stops_behind_the_first_failure() -> None:
    """The rest is left as it is, and the result says so."""
    keys = numbered(100)
    memory = Moody({keys[0]: _error(AccessDenied, "AccessDenied")}, versioned=False)
    fill(memory, keys)
    config = BatchConfig(max_concurrent=1, page_keys=10).with_fail_fast(True)
    result = engine_on(memory).batch.delete(keys, config)
    assert (result.complete, result.total, result.failed, len(memory.objects)) == (False, 10, 1, 91)


def test_the_report_has_every_key_in_order(tmp_path: object) -> None:
    """One JSON line each, with the marker that was made."""
    memory = MemoryStore(versioned=True)
    keys = fill(memory, numbered(35))
    report = f"{tmp_path}/report.jsonl"
    result = engine_on(memory).batch.delete(keys, QUICK, BatchRun(report=report))
    told = lines(report)
    assert [line["key"] for line in told] == keys == [outcome.key for outcome in result.results]
    assert {line["outcome"] for line in told} == {"done"}
    assert [line["made"] for line in told] == [memory.versions(ObjectRef(BUCKET, key))[0].version_id for key in keys]


def test_the_report_may_be_objects() -> None:
    """A page each, below a prefix that is the run's own."""
    memory = MemoryStore()
    keys = fill(memory, numbered(15))
    engine = engine_on(memory)
    result = engine.batch.delete(keys, QUICK, BatchRun(report="s3://reports/nightly/"))
    pages = [item.key for item in engine.iter_objects(KeyPrefix("reports"))]
    place = f"s3://reports/{pages[0].rpartition('/')[0]}/"
    assert re.fullmatch("s3://reports/nightly/run-[0-9a-f]{16}/", place)
    assert [f"s3://reports/{page}" for page in pages] == [f"{place}page-00000000{n}.jsonl" for n in (1, 2)]
    assert b"".join(engine.download_bytes(ObjectRef("reports", page)) for page in pages).count(b'"done"') == 15
    assert result.report == place


def test_progress_counts_to_the_end() -> None:
    """The last event has all keys."""
    memory, events = MemoryStore(), list[TransferEvent]()
    keys = fill(memory, numbered(30))
    engine_on(memory).batch.delete(keys, QUICK, BatchRun(reporter=events.append))
    last = [event for event in events if isinstance(event, BatchProgress)][-1]
    assert (last.completed, last.total, last.succeeded, last.failed) == (30, 30, 30, 0)


def test_the_configured_bucket_is_needed() -> None:
    """By the guide's verbs; a text is no list of keys."""
    with pytest.raises(ConfigError, match="bucket"):
        engine_on(MemoryStore(), bucket=None).batch.delete(["a"])
    with pytest.raises(ConfigError, match="not one text"):
        engine_on(MemoryStore()).batch.delete("a")


def test_the_guides_names_are_the_verbs() -> None:
    """On the engine itself."""
    memory = MemoryStore()
    fill(memory, ["a"])
    engine = engine_on(memory)
    assert engine.batch_delete(["a"]).successful == 1
    assert engine.batch_delete.__func__ is engine.batch.delete.__func__  # type: ignore[attr-defined]


def test_a_prefix_is_deleted_to_its_last_key() -> None:
    """And nothing beside it."""
    memory = MemoryStore()
    fill(memory, [*numbered(95), "logs", "logz/1"])
    result = engine_on(memory).batch.delete(PrefixKeys(where=KeyPrefix(BUCKET, "logs/")), QUICK)
    assert (result.total, sorted(ref.key for ref in memory.objects)) == (95, ["logs", "logz/1"])
