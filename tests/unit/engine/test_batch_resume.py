"""A batch that is killed anywhere and continued: each key once, the report whole, at most one page per worker again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, BatchResult, Cancellation, KeyPrefix, PrefixKeys
from orbit_airflow.engine.batch import Copy, Delete
from orbit_airflow.engine.batch.token import BatchToken
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import Paused, StateUnavailable
from orbit_airflow.engine.events import Notice, TransferEvent
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, fill, lines, markers, numbered

CONFIG = BatchConfig(retry_delay=0, max_concurrent=3, page_keys=10)
KEYS = numbered(100)
WHERE = PrefixKeys(where=KeyPrefix(BUCKET, "logs/"))


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _killed_at(memory: MemoryStore, nth: int, when: str) -> FaultyStore:
    """From this request on nothing leaves any more; the last one may have arrived."""
    first = Fault("*", nth=nth, times=1, when=when, error=Killed())  # type: ignore[arg-type]
    return FaultyStore(memory, [first, Fault("*", nth=nth + 1, times=None, error=Killed())])


def _until_done(
    memory: MemoryStore, tokens: DictTokens, report: str | None, kills: list[int], work: Any, keys: Any
) -> BatchResult:
    for count, nth in enumerate(kills):
        store = _killed_at(memory, nth, "after" if count % 2 else "before")
        try:
            return engine_on(store).batch.run(work, keys, CONFIG, BatchRun(report=report, tokens=tokens))
        except Killed:
            continue
    return engine_on(memory).batch.run(work, keys, CONFIG, BatchRun(report=report, tokens=tokens))


@pytest.mark.parametrize("nth", range(1, 17))
@pytest.mark.parametrize("keys", [KEYS, WHERE], ids=["list", "prefix"])
def test_deletes_continue_behind_a_kill(keys: Any, nth: int, tmp_path: Path) -> None:
    """Three kills; one marker per key, and each key once in the report."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    fill(memory, KEYS)
    report = str(tmp_path / "report.jsonl")
    result = _until_done(memory, tokens, report, [nth, nth + 1, nth], Delete(bucket=BUCKET), keys)
    assert markers(memory, KEYS) == [1] * 100
    assert sorted(line["key"] for line in lines(report)) == KEYS
    assert {line["outcome"] for line in lines(report)} == {"done"}
    assert (result.total, result.successful, result.failed) == (100, 100, 0)
    assert not (tmp_path / "report.jsonl.pages").exists()


@pytest.mark.parametrize("nth", [2, 5, 9, 13])
def test_deletes_of_a_prefix_are_counted_without_a_report(nth: int) -> None:
    """What a killed try has deleted counts, although no listing names it."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    fill(memory, KEYS)
    result = _until_done(memory, tokens, None, [nth, nth, nth], Delete(bucket=BUCKET), WHERE)
    assert (result.total, result.successful, markers(memory, KEYS)) == (100, 100, [1] * 100)


@pytest.mark.parametrize("second", [1, 2, 3])
@pytest.mark.parametrize("keys", [KEYS, WHERE], ids=["list", "prefix"])
def test_a_kill_right_behind_a_kill_forgets_nothing(keys: Any, second: int, tmp_path: Path) -> None:
    """Pages that the first try had begun are looked at although the second one did not come to them."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    fill(memory, KEYS)
    report = str(tmp_path / "report.jsonl")
    result = _until_done(memory, tokens, report, [7, second, second, second], Delete(bucket=BUCKET), keys)
    assert markers(memory, KEYS) == [1] * 100
    assert sorted(line["key"] for line in lines(report)) == KEYS
    assert (result.total, result.successful) == (100, 100)


@pytest.mark.parametrize("nth", [2, 7, 30, 61, 120])
def test_copies_continue_behind_a_kill(nth: int, tmp_path: Path) -> None:
    """No target gains a second version."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    fill(memory, KEYS)
    report = str(tmp_path / "report.jsonl")
    work = Copy(bucket=BUCKET, dest_prefix="copies/")
    result = _until_done(memory, tokens, report, [nth, nth + 3, nth], work, KEYS)
    copies = [memory.versions(ObjectRef(BUCKET, f"copies/{key}")) for key in KEYS]
    assert [len(versions) for versions in copies] == [1] * 100
    assert [line["key"] for line in lines(report)] == KEYS
    assert (result.successful, result.failed) == (100, 0)


@pytest.mark.parametrize("nth", [4, 8])
def test_a_report_of_objects_is_whole_behind_a_kill(nth: int) -> None:
    """Each page under its own name, written again where it must be."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    fill(memory, KEYS)
    _until_done(memory, tokens, "s3://reports/run/", [nth, nth + 9], Delete(bucket=BUCKET), WHERE)
    engine = engine_on(memory)
    pages = [
        engine.download_bytes(ObjectRef("reports", item.key)) for item in engine.iter_objects(KeyPrefix("reports"))
    ]
    told = b"".join(pages).decode()
    assert [told.count(f'"{key}"') for key in KEYS] == [1] * 100
    assert told.count('"done"') == 100


def test_at_most_one_page_per_worker_is_looked_at_again() -> None:
    """The window of a saved cursor is never wider."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    fill(memory, KEYS)
    engine_on(memory).batch.run(Delete(bucket=BUCKET), KEYS, CONFIG, BatchRun(tokens=tokens))
    assert max(len(token["window"]) for token in tokens.saves) <= CONFIG.max_concurrent
    memory.requests.clear()
    with pytest.raises(Killed):
        engine_on(_killed_at(memory, 6, "after")).batch.run(
            Delete(bucket=BUCKET), numbered(100, "new/"), CONFIG, BatchRun(tokens=tokens)
        )
    window = len(tokens.saves[-1]["window"])
    memory.requests.clear()
    engine_on(memory).batch.run(Delete(bucket=BUCKET), numbered(100, "new/"), CONFIG, BatchRun(tokens=tokens))
    looks = [request for request in memory.requests if request.operation != "delete_many"]
    assert window <= CONFIG.max_concurrent
    assert {request.operation for request in looks} == {"list_objects"}
    assert len(looks) <= window


def test_no_key_is_touched_before_its_page_is_in_a_saved_cursor() -> None:
    """Or a kill would leave it outside of what the next try looks at."""
    memory, tokens = MemoryStore(), DictTokens()
    fill(memory, KEYS)
    counts: list[int] = []

    def look() -> None:
        token = tokens.saves[-1]
        counts.append(token["pages"] + len(token["window"]))

    store = FaultyStore(memory, [Fault("delete_many", times=None, call=look)])
    engine_on(store).batch.run(
        Delete(bucket=BUCKET), KEYS, BatchConfig(max_concurrent=1, page_keys=10), BatchRun(tokens=tokens)
    )
    assert counts == list(range(1, 11))


def test_a_finished_batch_is_not_done_again() -> None:
    """Its result comes from the cursor."""
    memory, tokens = MemoryStore(), DictTokens()
    fill(memory, KEYS)
    engine = engine_on(memory)
    first = engine.batch.run(Delete(bucket=BUCKET), [*KEYS[:20]], CONFIG, BatchRun(tokens=tokens))
    memory.requests.clear()
    again = engine.batch.run(Delete(bucket=BUCKET), [*KEYS[:20]], CONFIG, BatchRun(tokens=tokens))
    assert (again.total, again.successful, again.resumed, memory.requests) == (first.total, 20, True, [])


def test_another_list_begins_anew() -> None:
    """The digest of the keys is compared, and a person is told."""
    memory, tokens, events = MemoryStore(), DictTokens(), list[TransferEvent]()
    fill(memory, KEYS)
    engine = engine_on(memory)
    engine.batch.run(Delete(bucket=BUCKET), KEYS[:20], CONFIG, BatchRun(tokens=tokens))
    result = engine.batch.run(
        Delete(bucket=BUCKET), KEYS[20:40], CONFIG, BatchRun(tokens=tokens, reporter=events.append)
    )
    assert (result.total, result.resumed, len(memory.objects)) == (20, False, 60)
    assert any(isinstance(event, Notice) and "another one" in event.message for event in events)


def test_a_stop_order_leaves_a_cursor() -> None:
    """Paused, and the next call does the rest."""
    memory, tokens, cancel = MemoryStore(versioned=True), DictTokens(), Cancellation()
    fill(memory, KEYS)
    store = FaultyStore(memory, [Fault("delete_many", nth=4, call=cancel.cancel)])
    with pytest.raises(Paused):
        engine_on(store).batch.run(Delete(bucket=BUCKET), KEYS, CONFIG, BatchRun(tokens=tokens, cancel=cancel))
    result = engine_on(memory).batch.run(Delete(bucket=BUCKET), KEYS, CONFIG, BatchRun(tokens=tokens))
    assert (result.total, result.resumed, markers(memory, KEYS)) == (100, True, [1] * 100)


def test_a_state_that_cannot_be_read_ends_the_try() -> None:
    """Beginning anew could lay second markers."""

    class Broken(DictTokens):
        def load(self, key: str) -> object:
            raise OSError("made up")

    with pytest.raises(StateUnavailable):
        engine_on(MemoryStore()).batch.run(Delete(bucket=BUCKET), KEYS, CONFIG, BatchRun(tokens=Broken()))


_GOOD = BatchToken(target="t", identity="i").to_mapping()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"op": "upload"},
        {"target": "other"},
        {"counts": [1, 2]},
        {"counts": [1, 2, -3]},
        {"window": [["cursor", True]]},
        {"window": [["cursor", 1]] * 65},
        {"pages": "1"},
        {"position": 7},
        {"errors": [["key"]]},
        {"identity": "x" * 5000},
    ],
    ids=str,
)
def test_a_token_that_was_edited_is_not_believed(change: dict[str, Any]) -> None:
    """Every surprise is a TokenRejected."""
    assert BatchToken.from_mapping(_GOOD, "t") == BatchToken(target="t", identity="i")
    with pytest.raises(TokenRejected):
        BatchToken.from_mapping({**_GOOD, **change}, "t")
    with pytest.raises(TokenRejected):
        BatchToken.from_mapping("no token", "t")
