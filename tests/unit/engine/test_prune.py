"""Old versions: what they cost, which may go, and their removal over kills, locks and others' deletes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, KeyPrefix
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import BatchRefused, ConfigError, ObjectLocked, RequestContext, TargetExists
from orbit_airflow.engine.model import DeleteManyResult, DeleteOutcome, ObjectRef
from orbit_airflow.engine.prune import Pruned
from orbit_airflow.engine.prune_plan import Keep, VersionCosts, prunable
from orbit_airflow.engine.store import DeleteItem
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.testing import MemoryStore
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, lines, sent
from tests.unit.engine.test_point_in_time import Clocked, Killed, _killed_at

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WHERE = KeyPrefix(BUCKET, "t/")
CONFIG = BatchConfig(retry_delay=0, max_concurrent=1, page_keys=3)


def _listed(events: str) -> list[ListedVersion]:
    """Newest first, one a day, the newest a day old: "v" writes ten bytes, "d" deletes."""
    return [
        ListedVersion(
            key="k", version_id=str(len(events) - 1 - at), is_latest=at == 0, delete_marker=event == "d",
            last_modified=NOW - timedelta(days=at + 1), size=0 if event == "d" else 10,
        )
        for at, event in enumerate(reversed(events))
    ]  # fmt: skip


def _goes(events: str, **keep: Any) -> str:
    """The ids that go, oldest first; each version's id is its place in ``events``."""
    found = prunable(_listed(events), Keep(**keep), NOW, VersionCosts())
    return "".join(sorted(item.version_id for item in found))


@pytest.mark.parametrize(
    ("events", "keep", "gone"),
    [
        ("vvvv", {"keep_last": 1}, "012"),
        ("vvvv", {"keep_last": 3}, "0"),
        ("vvvv", {"keep_last": 4}, ""),
        ("vvvd", {"keep_last": 1}, "01"),
        ("vdvv", {"keep_last": 1}, "012"),
        ("vdvv", {"keep_last": 2}, "01"),
        ("d", {"keep_last": 1}, ""),
        ("vvvv", {"older_than": timedelta(days=2)}, "01"),
        ("vvvd", {"older_than": timedelta(days=1)}, "012"),
        ("vvvv", {"older_than": timedelta(days=2), "keep_last": 3}, "0"),
        ("vvvv", {"older_than": timedelta(days=3), "keep_last": 1}, "0"),
        ("vvvv", {}, ""),
    ],
)
def test_what_may_go(events: str, keep: dict[str, Any], gone: str) -> None:
    """A version is as old as the one that took its place; the shown one counts among the last ones."""
    assert _goes(events, **keep) == gone


@pytest.mark.parametrize("events", ["".join(e) for n in range(1, 6) for e in itertools.product("vd", repeat=n)])
@pytest.mark.parametrize("keep", [{"keep_last": 1}, {"keep_last": 2}, {"older_than": timedelta(0)}])
def test_what_a_key_shows_never_goes(events: str, keep: dict[str, Any]) -> None:
    """Nor a marker that hides what lies below it; with keep_last an undelete stays possible."""
    gone = _goes(events, **keep)
    assert str(len(events) - 1) not in gone
    if "keep_last" in keep:
        left = [event for at, event in enumerate(events) if str(at) not in gone]
        assert left.count("v") == min(events.count("v"), keep["keep_last"])


def test_the_sums_of_a_prefix() -> None:
    """By age, in bytes and pieces."""
    costs = VersionCosts()
    listed = [item for key in ("vvvv", "vd", "d") for item in _renamed(_listed(key), key)]
    assert len(list(prunable(listed, Keep(older_than=timedelta(days=2)), NOW, costs))) == 2
    told = costs.summary()
    assert (told["keys"], told["shown"], told["old"]) == (3, {"count": 1, "bytes": 10}, {"count": 4, "bytes": 40})
    assert (told["markers"], told["hiding_markers"], told["lone_markers"]) == (2, 2, 1)
    assert told["old_by_age"]["up to 1 days"] == {"count": 2, "bytes": 20}
    assert told["old_by_age"]["up to 7 days"] == {"count": 2, "bytes": 20}
    assert told["prunable"] == {"count": 2, "bytes": 20}
    assert json.dumps(told)


def _renamed(listed: list[ListedVersion], key: str) -> list[ListedVersion]:
    return [
        ListedVersion(
            key=key, version_id=item.version_id, is_latest=item.is_latest, last_modified=item.last_modified,
            size=item.size, delete_marker=item.delete_marker,
        )
        for item in listed
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"keep_last": 0}, {"keep_last": True}, {"older_than": 3}, {"older_than": -timedelta(1)}]
)
def test_rules_that_cannot_be(wrong: dict[str, Any]) -> None:
    """Zero would let the shown version go."""
    with pytest.raises(ConfigError):
        Keep(**wrong)


def a_bucket(keys: int = 5, versions: int = 4, **kwargs: Any) -> Clocked:
    memory = Clocked(**kwargs)
    for number in range(keys):
        for at in range(versions):
            memory.write(f"t/{number}", b"%d" % at)
    memory.write("t/deleted", b"x")
    memory.write("t/deleted", None)
    memory.requests.clear()
    return memory


def counts(memory: MemoryStore) -> list[int]:
    return [len(memory.versions(ObjectRef(BUCKET, f"t/{number}"))) for number in range(5)]


def test_a_plan_removes_nothing(tmp_path: Path) -> None:
    """It names each version."""
    memory = a_bucket()
    plan = engine_on(memory).old_versions.plan(WHERE, Keep(keep_last=2), str(tmp_path / "p.jsonl"))
    assert (plan.count, plan.bytes, plan.costs["old"]["count"]) == (10, 10, 16)
    assert {request.operation for request in memory.requests} == {"list_versions"}
    with pytest.raises(TargetExists):
        engine_on(memory).old_versions.plan(WHERE, Keep(keep_last=2), str(tmp_path / "p.jsonl"))
    with pytest.raises(ConfigError, match="keep_last or older_than"):
        engine_on(memory).old_versions.plan(WHERE, Keep(), str(tmp_path / "q.jsonl"))
    assert engine_on(memory).old_versions.costs(WHERE, Keep(keep_last=2)).prunable.count == 10


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, 16))
def test_killed_at_every_request_it_goes_on(nth: int, when: str, tmp_path: Path) -> None:
    """Each version once in the report, and nothing but what was planned is gone."""
    memory, tokens = a_bucket(), DictTokens()
    showed = memory.objects

    def prune(store: Any) -> Pruned:
        how = BatchRun(tokens=tokens, report=str(tmp_path / "r.jsonl"))
        return engine_on(store).old_versions.prune(WHERE, Keep(keep_last=2), str(tmp_path / "p.jsonl"), CONFIG, how)

    for at in (nth, nth):
        try:
            prune(_killed_at(memory, at, when))
        except Killed:
            continue
    result = prune(memory)
    assert (result.batch.total, result.batch.failed, counts(memory)) == (10, 0, [2] * 5)
    assert memory.objects == showed
    told = [(line["key"], line["version_id"]) for line in lines(tmp_path / "r.jsonl")]
    assert len(told) == len(set(told)) == 10


def test_what_has_become_the_shown_version_stays(tmp_path: Path) -> None:
    """Somebody removed the newest version for good behind the plan."""
    memory, tokens = a_bucket(keys=5, versions=2), DictTokens()
    engine = engine_on(memory)
    engine.old_versions.plan(WHERE, Keep(keep_last=1), str(tmp_path / "p.jsonl"), BatchRun(tokens=tokens))
    newest = memory.versions(ObjectRef(BUCKET, "t/3"))[0]
    memory.delete(ObjectRef(BUCKET, "t/3", newest.version_id))
    result = engine.old_versions.prune(
        WHERE, Keep(keep_last=1), str(tmp_path / "p.jsonl"), CONFIG, BatchRun(tokens=tokens)
    )
    assert counts(memory) == [1] * 5
    assert (result.batch.successful, result.batch.skipped, result.batch.total) == (5, 1, 5)


class Locked(Clocked):
    """Protects one key's versions."""

    locked = "t/2"

    def delete_many(self, bucket: str, items: Sequence[DeleteItem], *, quiet: bool = False) -> DeleteManyResult:
        error = ObjectLocked("governance", RequestContext("DeleteObjects", bucket, self.locked, code="AccessDenied"))
        struck = [DeleteOutcome(key, version, error=error) for key, version in items if key == self.locked]
        left = [item for item in items if item[0] != self.locked]
        done = super().delete_many(bucket, left, quiet=quiet).outcomes if left else ()
        return DeleteManyResult((*done, *struck))


def test_a_lock_is_a_failure_of_its_key_alone(tmp_path: Path) -> None:
    """And a later try asks again for what failed; what is gone stays gone."""
    memory, tokens = Locked(), DictTokens()
    for number, at in itertools.product(range(5), range(3)):
        memory.write(f"t/{number}", b"%d" % at)
    engine, place = engine_on(memory), str(tmp_path / "p.jsonl")
    how = BatchRun(tokens=tokens)
    result = engine.old_versions.prune(WHERE, Keep(keep_last=1), place, CONFIG, how)
    assert (result.batch.failed, {error.key for error in result.batch.errors}) == (2, {"t/2"})
    assert {error.code for error in result.batch.errors} == {"AccessDenied"}
    assert counts(memory) == [1, 1, 3, 1, 1]
    memory.locked = ""
    again = engine.old_versions.prune(WHERE, Keep(keep_last=1), place, CONFIG, how)
    assert (again.batch.failed, counts(memory)) == (0, [1] * 5)


def test_too_many_are_refused(tmp_path: Path) -> None:
    """Before the first one."""
    memory = a_bucket()
    with pytest.raises(BatchRefused, match="10 versions would be removed"):
        engine_on(memory).old_versions.prune(WHERE, Keep(keep_last=2), str(tmp_path / "p.jsonl"), max_changes=9)
    assert (counts(memory), sent(memory, "delete_many")) == ([4] * 5, 0)
