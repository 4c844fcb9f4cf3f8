"""A prefix as it was: planned, done and put back, over kills at every request, with others writing meanwhile."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, KeyPrefix
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import BatchRefused, ConfigError, NotFound, SourceError, TargetExists
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.point_in_time import Moment, RestoredPrefix
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.engine.versioning import VersioningState
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, lines, sent

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONFIG = BatchConfig(retry_delay=0, max_concurrent=1, page_keys=3)
WHERE = KeyPrefix(BUCKET, "t/")
# What each key was at noon (None: not there), and what it is an hour later; "=" is not touched.
HISTORY: dict[str, tuple[bytes | None, list[bytes | None] | None]] = {
    "t/asitwas": (b"a", None),
    "t/changed": (b"old", [b"new"]),
    "t/changed/twice": (b"old", [b"newer", b"newest"]),
    "t/deleted": (b"d", [None]),
    "t/deleted/twice": (b"d", [None, None]),
    "t/overwritten then deleted": (b"o", [b"oo", None]),
    "t/born": (None, [b"b"]),
    "t/born and gone": (None, [b"b", None]),
    "t/same again": (b"same", [b"else", b"same"]),
}
CHANGED = {
    "t/changed": "copy", "t/changed/twice": "copy", "t/deleted": "undelete", "t/deleted/twice": "undelete",
    "t/overwritten then deleted": "copy", "t/born": "delete",
}  # fmt: skip


class Clocked(MemoryStore):
    """A versioned store whose time a test sets."""

    def __init__(self, **kwargs: Any) -> None:
        self.now = NOON.timestamp() - 60
        super().__init__(versioned=True, clock=lambda: self.now, **kwargs)

    def write(self, key: str, data: bytes | None, attributes: ObjectAttributes | None = None) -> None:
        ref = ObjectRef(BUCKET, key)
        if data is None:
            self.delete(ref)
        else:
            self.put(ref, BytesBody(data), PartDigests(), attributes or ObjectAttributes(), if_none_match=False)


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def a_history(**kwargs: Any) -> Clocked:
    memory = Clocked(**kwargs)
    for key, (then, _) in HISTORY.items():
        if then is not None:
            memory.write(key, then)
    memory.now = NOON.timestamp() + 3600
    for key, (_, later) in HISTORY.items():
        for data in later or []:
            memory.write(key, data)
    memory.requests.clear()
    return memory


def shown(memory: MemoryStore) -> dict[str, bytes]:
    return {ref.key: item.data for ref, item in memory.objects.items() if ref.key.startswith("t/")}


def everything(memory: MemoryStore) -> dict[str, list[str | None]]:
    """The version ids of each key; for a marker that was laid again only that it is one."""
    return {
        key: ["marker" if item.deleted else item.version_id for item in memory.versions(ObjectRef(BUCKET, key))]
        for key in HISTORY
    }


AT_NOON = {key: then for key, (then, _) in HISTORY.items() if then is not None}


def moment(path: Path | str, **kwargs: Any) -> Moment:
    return Moment(**{"where": WHERE, "as_of": NOON, "manifest": str(path), **kwargs})


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    """Three copies, one marker; two keys come back without a byte; what is the same again is left alone."""
    memory = a_history()
    before = everything(memory)
    result = engine_on(memory).point_in_time.restore(moment(tmp_path / "plan.jsonl"), CONFIG)
    assert shown(memory) == AT_NOON
    plan = result.plan
    assert (plan.keys, plan.changes, plan.copy, plan.delete, plan.undelete) == (9, 6, 3, 1, 2)
    assert (plan.bytes, sent(memory, "copy"), sent(memory, "delete")) == (7, 3, 4)
    assert {line["key"]: line["action"] for line in lines(plan.manifest)[1:-1]} == CHANGED
    untouched = set(HISTORY) - set(CHANGED)
    assert all(everything(memory)[key] == before[key] for key in untouched)
    assert (result.batch.total, result.batch.failed) == (6, 0)


def test_the_plan_alone_changes_nothing(tmp_path: Path) -> None:
    """A dry run reads, and says what would be done."""
    memory = a_history()
    plan = engine_on(memory).point_in_time.plan(moment(tmp_path / "plan.jsonl"), CONFIG)
    assert plan.changes == 6
    assert {request.operation for request in memory.requests} <= {"list_versions", "head", "get_versioning"}
    assert json.dumps(plan.summary())


def test_the_plan_is_the_undo_list(tmp_path: Path) -> None:
    """Each key has the versions that it had; what was deleted is deleted again."""
    memory = a_history()
    before, showed = everything(memory), shown(memory)
    engine = engine_on(memory)
    engine.point_in_time.restore(moment(tmp_path / "plan.jsonl"), CONFIG)
    undone = engine.point_in_time.undo(BUCKET, str(tmp_path / "plan.jsonl"), CONFIG)
    assert shown(memory) == showed
    before["t/deleted/twice"].remove("marker")
    assert everything(memory) == before
    assert (undone.batch.successful, undone.batch.failed) == (6, 0)
    again = engine.point_in_time.undo(BUCKET, str(tmp_path / "plan.jsonl"), CONFIG)
    assert (again.batch.skipped, everything(memory)) == (6, before)
    engine.point_in_time.apply(BUCKET, str(tmp_path / "plan.jsonl"), CONFIG)
    assert shown(memory) == AT_NOON


def _killed_at(memory: MemoryStore, nth: int, when: str) -> FaultyStore:
    first = Fault("*", nth=nth, times=1, when=when, error=Killed())  # type: ignore[arg-type]
    return FaultyStore(memory, [first, Fault("*", nth=nth + 1, times=None, error=Killed())])


def _until_done(memory: MemoryStore, nth: int, when: str, act: Any) -> RestoredPrefix:
    """Killed at this request, and at the next one of the next try; then in peace."""
    for at in (nth, nth):
        try:
            return act(_killed_at(memory, at, when))  # type: ignore[no-any-return]
        except Killed:
            continue
    return act(memory)  # type: ignore[no-any-return]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, 32))
@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
def test_killed_at_every_request_it_goes_on(nth: int, when: str, remote: bool, tmp_path: Path) -> None:
    """One plan over all tries, nothing twice, and the same plan puts all of it back."""
    memory, tokens = a_history(), DictTokens()
    before, showed = everything(memory), shown(memory)
    place = "s3://plans/plan.jsonl" if remote else str(tmp_path / "plan.jsonl")
    report = str(tmp_path / "report.jsonl")

    def restore(store: Any) -> RestoredPrefix:
        how = BatchRun(tokens=tokens, report=report)
        return engine_on(store).point_in_time.restore(moment(place), CONFIG, how)

    result = _until_done(memory, nth, when, restore)
    assert shown(memory) == AT_NOON
    assert sent(memory, "copy") + memory_markers(memory) <= 3 + 1 + 1
    assert (result.plan.changes, result.batch.failed, result.batch.total) == (6, 0, 6)
    after = everything(memory)
    assert [len(after[key]) - len(before[key]) for key in CHANGED] == [1, 1, -1, -2, 1, 1]
    assert sorted(line["key"] for line in lines(report)) == sorted(CHANGED)

    def undo(store: Any) -> RestoredPrefix:
        return engine_on(store).point_in_time.undo(BUCKET, place, CONFIG, BatchRun(tokens=tokens))

    _until_done(memory, nth, when, undo)
    assert shown(memory) == showed
    before["t/deleted/twice"].remove("marker")
    assert everything(memory) == before


def memory_markers(memory: MemoryStore) -> int:
    return sum(item.deleted for item in memory.versions(ObjectRef(BUCKET, "t/born")))


def test_what_others_wrote_since_the_plan_is_left_alone(tmp_path: Path) -> None:
    """Their keys fail, the others are done, and a later try begins with what failed."""
    memory, tokens = a_history(), DictTokens()
    engine = engine_on(memory)
    plan = engine.point_in_time.plan(moment(tmp_path / "plan.jsonl"), CONFIG)
    for key in ("t/changed", "t/deleted", "t/born"):
        memory.write(key, b"foreign")
    result = engine.point_in_time.apply(BUCKET, plan.manifest, CONFIG, BatchRun(tokens=tokens))
    assert {error.key for error in result.batch.errors} == {"t/changed", "t/deleted", "t/born"}
    assert {error.code for error in result.batch.errors} == {"PreconditionFailed"}
    now = shown(memory)
    assert [now[key] for key in ("t/changed", "t/deleted", "t/born")] == [b"foreign"] * 3
    assert {key: now[key] for key in AT_NOON if now[key] != b"foreign"} == {
        key: data for key, data in AT_NOON.items() if key not in ("t/changed", "t/deleted")
    }
    assert not any(key for key, value in tokens.kept.items() if value.get("op") == "batch")


@pytest.mark.parametrize("key", ["t/changed", "t/deleted", "t/born"])
def test_undo_leaves_alone_what_was_written_since_the_restore(key: str, tmp_path: Path) -> None:
    """Somebody's newer bytes are worth more than a tidy undo."""
    memory = a_history()
    engine = engine_on(memory)
    engine.point_in_time.restore(moment(tmp_path / "plan.jsonl"), CONFIG)
    memory.write(key, b"foreign")
    count = len(memory.versions(ObjectRef(BUCKET, key)))
    result = engine.point_in_time.undo(BUCKET, str(tmp_path / "plan.jsonl"), CONFIG)
    assert [error.key for error in result.batch.errors] == [key]
    assert (shown(memory)[key], len(memory.versions(ObjectRef(BUCKET, key)))) == (b"foreign", count)


def test_a_version_that_only_looks_like_ours_is_not_removed(tmp_path: Path) -> None:
    """Of the same size on a store without checksums and MD5s: the bytes decide."""
    memory = a_history(checksums=False, opaque_etags=True)
    engine = engine_on(memory)
    plan = engine.point_in_time.plan(moment(tmp_path / "plan.jsonl"), CONFIG)
    memory.write("t/changed", b"OLD")
    result = engine.point_in_time.undo(BUCKET, plan.manifest, CONFIG)
    assert [error.key for error in result.batch.errors] == ["t/changed"]
    assert shown(memory)["t/changed"] == b"OLD"


def test_a_change_of_metadata_is_a_difference(tmp_path: Path) -> None:
    """Same bytes, other metadata: a reader sees it."""
    memory = Clocked()
    memory.write("t/k", b"x", ObjectAttributes(metadata=(("a", "1"),)))
    memory.now = NOON.timestamp() + 3600
    memory.write("t/k", b"x", ObjectAttributes(metadata=(("a", "2"),)))
    engine_on(memory).point_in_time.restore(moment(tmp_path / "plan.jsonl"), CONFIG)
    assert memory.objects[ObjectRef(BUCKET, "t/k")].metadata == {"a": "1"}


def test_a_null_version_comes_back(tmp_path: Path) -> None:
    """Written before the bucket kept versions; replaced and put back since."""
    memory = Clocked()
    memory.put_versioning(BUCKET, VersioningState.SUSPENDED)
    memory.write("t/k", b"null")
    memory.put_versioning(BUCKET, VersioningState.ENABLED)
    memory.now = NOON.timestamp() + 3600
    memory.write("t/k", b"newer")
    engine = engine_on(memory)
    engine.point_in_time.restore(moment(tmp_path / "plan.jsonl"), CONFIG)
    assert [item.data for item in memory.versions(ObjectRef(BUCKET, "t/k"))] == [b"null", b"newer", b"null"]
    engine.point_in_time.undo(BUCKET, str(tmp_path / "plan.jsonl"), CONFIG)
    assert [item.data for item in memory.versions(ObjectRef(BUCKET, "t/k"))] == [b"newer", b"null"]


def test_a_key_with_pages_of_versions(tmp_path: Path) -> None:
    """Fifty versions and as many markers since then, ten to a page."""
    memory = Clocked(page_size=10)
    memory.write("t/k", b"wanted")
    memory.now = NOON.timestamp() + 3600
    for number in range(50):
        memory.write("t/k", b"%d" % number)
        memory.write("t/k", None)
    memory.write("t/many markers", b"never")
    engine = engine_on(memory)
    engine.point_in_time.restore(moment(tmp_path / "plan.jsonl"), CONFIG)
    assert shown(memory) == {"t/k": b"wanted"}
    engine.point_in_time.undo(BUCKET, str(tmp_path / "plan.jsonl"), CONFIG)
    assert shown(memory) == {"t/many markers": b"never"}
    assert len(memory.versions(ObjectRef(BUCKET, "t/k"))) == 101


@pytest.mark.parametrize("state", [VersioningState.SUSPENDED, VersioningState.UNVERSIONED])
def test_versioning_must_be_on(state: VersioningState, tmp_path: Path) -> None:
    """Elsewhere a copy would overwrite the version "null"; also when it was switched off behind the plan."""
    memory = a_history()
    engine = engine_on(memory)
    plan = engine.point_in_time.plan(moment(tmp_path / "plan.jsonl"), CONFIG)
    if state is VersioningState.SUSPENDED:
        memory.put_versioning(BUCKET, state)
    else:
        memory, engine = MemoryStore(), engine_on(MemoryStore())
    showed = shown(memory)
    for act in (
        lambda: engine.point_in_time.restore(moment(tmp_path / "other.jsonl")),
        lambda: engine.point_in_time.apply(BUCKET, plan.manifest),
        lambda: engine.point_in_time.undo(BUCKET, plan.manifest),
    ):
        with pytest.raises(ConfigError, match="needs it enabled"):
            act()
    assert (shown(memory), (tmp_path / "other.jsonl").exists()) == (showed, False)


def test_the_guards_refuse_before_anything_is_changed(tmp_path: Path) -> None:
    """The future, too many changes, a prefix that was empty then, one that is no prefix at all."""
    memory = a_history()
    showed, engine = shown(memory), engine_on(memory)
    with pytest.raises(ConfigError, match="in the future"):
        engine.point_in_time.restore(moment(tmp_path / "1.jsonl", as_of=datetime(2999, 1, 1, tzinfo=UTC)))
    with pytest.raises(ConfigError, match="time zone"):
        moment(tmp_path / "1.jsonl", as_of=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(BatchRefused, match="6 keys would be changed, more than 5"):
        engine.point_in_time.restore(moment(tmp_path / "2.jsonl", max_changes=5))
    with pytest.raises(BatchRefused, match="delete all"):
        engine.point_in_time.restore(moment(tmp_path / "3.jsonl", as_of=datetime(2020, 1, 1, tzinfo=UTC)))
    with pytest.raises(BatchRefused, match="no version of any key"):
        engine.point_in_time.restore(moment(tmp_path / "4.jsonl", where=KeyPrefix(BUCKET, "typo/")))
    assert shown(memory) == showed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.jsonl"]


def test_what_was_empty_then_may_be_emptied_on_request(tmp_path: Path) -> None:
    """By markers, which the undo takes off."""
    memory = a_history()
    showed, engine = shown(memory), engine_on(memory)
    early = datetime(2020, 1, 1, tzinfo=UTC)
    engine.point_in_time.restore(moment(tmp_path / "p.jsonl", as_of=early, allow_empty=True), CONFIG)
    assert shown(memory) == {}
    engine.point_in_time.undo(BUCKET, str(tmp_path / "p.jsonl"), CONFIG)
    assert shown(memory) == showed


@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
def test_a_plan_is_never_overwritten(remote: bool, tmp_path: Path) -> None:
    """It may be the only way back."""
    memory = a_history()
    engine = engine_on(memory)
    place = "s3://plans/plan.jsonl" if remote else str(tmp_path / "plan.jsonl")
    engine.point_in_time.plan(moment(place))
    with pytest.raises(TargetExists):
        engine.point_in_time.plan(moment(place))
    assert engine.point_in_time.apply(BUCKET, place).plan.changes == 6


def test_a_plan_that_was_changed_behind_a_try_is_not_used(tmp_path: Path) -> None:
    """Between the try that was killed and this one."""
    memory, tokens = a_history(), DictTokens()
    engine, path = engine_on(memory), tmp_path / "plan.jsonl"
    engine.point_in_time.plan(moment(path), None, BatchRun(tokens=tokens))
    path.write_text(path.read_text().replace("t/born", "t/bore"))
    with pytest.raises(SourceError, match="changed or replaced"):
        engine.point_in_time.restore(moment(path), None, BatchRun(tokens=tokens))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "not whole"),
        (lambda rows: [rows[0], *rows[2:]], "not whole"),
        (lambda rows: rows[1:], "no plan of kind"),
        (lambda rows: [rows[0].replace(BUCKET, "other"), *rows[1:]], "no plan of kind"),
        (lambda rows: [rows[0], rows[1].replace("copy", "burn"), *rows[2:]], "line 2"),
        (lambda rows: [rows[0], rows[1].replace("copy", "leave"), *rows[2:]], "line 2"),
        (lambda rows: [rows[0], "[]", *rows[2:]], "no JSON object"),
        (lambda rows: [rows[0], "{", *rows[2:]], "no JSON"),
        (lambda rows: [rows[0], '{"key": 7, "action": "copy"}', *rows[2:]], "line 2"),
        (lambda rows: [*rows, rows[1]], "not whole"),
        (lambda rows: [], "no plan of kind"),
    ],
)
def test_a_manifest_that_is_no_whole_plan_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    """Before the first request that changes anything."""
    memory = a_history()
    engine, path = engine_on(memory), tmp_path / "plan.jsonl"
    engine.point_in_time.plan(moment(path))
    rows = path.read_text().splitlines()
    rows.sort(key=lambda row: ('"end"' in row, '"plan"' not in row, '"copy"' not in row))
    path.write_text("".join(row + "\n" for row in change(rows)))
    memory.requests.clear()
    with pytest.raises(ConfigError, match=message):
        engine.point_in_time.apply(BUCKET, str(path))
    assert memory.requests == []


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    """A file or an object."""
    engine = engine_on(a_history())
    with pytest.raises(SourceError):
        engine.point_in_time.undo(BUCKET, str(tmp_path / "none.jsonl"))
    with pytest.raises(NotFound):
        engine.point_in_time.undo(BUCKET, "s3://plans/none.jsonl")
    with pytest.raises(ConfigError, match="jsonl"):
        engine.point_in_time.plan(moment(tmp_path / "plan.txt"))
