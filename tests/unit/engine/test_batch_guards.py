"""What a batch refuses, what it plans, what it waits for, and what it holds in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, Cancellation, KeyList, KeyPrefix, ManifestKeys, PrefixKeys, Selection
from orbit_airflow.engine.batch import ChangeStorageClass, Copy, Delete, Prices, TagObjects
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import BatchRefused, ConfigError, ConnectionLost, Paused, RequestContext, TargetError
from orbit_airflow.engine.model import (
    DeleteManyResult,
    DeleteOutcome,
    DeleteReceipt,
    ListedObject,
    ListResult,
    ObjectAttributes,
    ObjectRef,
)
from orbit_airflow.engine.store import DeleteItem, ListRequest
from orbit_airflow.testing import Fault, MemoryStore
from tests.unit.engine.batches import BUCKET, QUICK, DictTokens, engine_on, faulty, fill, lines, numbered, sent

WHERE = PrefixKeys(where=KeyPrefix(BUCKET, "logs/"))
DELETE = Delete(bucket=BUCKET)


@pytest.mark.parametrize(
    ("guard", "keys"),
    [
        ({"max_keys": 19}, WHERE),
        ({"max_keys": 19}, KeyList(numbered(20))),
        ({"max_delete_percent": 50}, PrefixKeys(where=KeyPrefix(BUCKET, "logs/"), select=Selection(regex="0000|1.$"))),
        ({"require_non_empty": True}, PrefixKeys(where=KeyPrefix(BUCKET, "log/"))),
        ({"require_non_empty": True}, KeyList([])),
    ],
    ids=["prefix", "list", "share", "no keys", "empty list"],
)
def test_a_guard_refuses_before_anything_is_changed(guard: dict[str, Any], keys: Any) -> None:
    """With a BatchRefused that says so."""
    memory = MemoryStore()
    fill(memory, numbered(20))
    with pytest.raises(BatchRefused, match="nothing was changed"):
        engine_on(memory).batch.run(DELETE, keys, BatchConfig(**guard))
    assert len(memory.objects) == 20


def test_a_guard_that_holds_lets_the_batch_go() -> None:
    """At its very limit."""
    memory = MemoryStore()
    fill(memory, numbered(20))
    config = BatchConfig(max_keys=20, max_delete_percent=100, require_non_empty=True)
    assert engine_on(memory).batch.run(DELETE, WHERE, config).successful == 20


def test_a_share_needs_a_whole() -> None:
    """A list has none."""
    with pytest.raises(ConfigError, match="prefix"):
        engine_on(MemoryStore()).batch.run(DELETE, ["a"], BatchConfig(max_delete_percent=1))


@pytest.mark.parametrize(
    "choice",
    [
        {"max_concurrent": 0},
        {"max_concurrent": True},
        {"rate_limit": 0},
        {"operation_timeout": 0},
        {"retry_delay": -1},
        {"max_retries": -1},
        {"max_delete_percent": 101},
        {"page_keys": 1001},
        {"fail_fast": 1},
        {"max_keys": -1},
    ],
    ids=str,
)
def test_a_choice_that_cannot_be_is_refused(choice: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(ConfigError, match=next(iter(choice))):
        BatchConfig(**choice)


def test_the_defaults_are_the_guides() -> None:
    """And so are the builder's names."""
    config = BatchConfig()
    assert (config.max_concurrent, config.rate_limit, config.operation_timeout) == (10, None, 120.0)
    assert (config.fail_fast, config.max_retries, config.retry_delay) == (False, 3, 0.5)
    built = config.with_max_concurrent(5).with_rate_limit(100).with_fail_fast(True)
    assert built == BatchConfig(max_concurrent=5, rate_limit=100, fail_fast=True)


def test_a_plan_changes_nothing_and_may_be_applied(tmp_path: Path) -> None:
    """Objects, bytes, requests; and a manifest with exactly these keys, whatever comes later."""
    memory = MemoryStore()
    keys = fill(memory, numbered(1500))
    batch, manifest = engine_on(memory).batch, str(tmp_path / "plan.jsonl")
    plan = batch.plan(DELETE, WHERE, manifest=manifest)
    assert (plan.objects, plan.bytes, plan.unsized, plan.manifest) == (1500, 1500, 0, manifest)
    assert plan.requests == {"DeleteObjects": 2, "ListObjectsV2": 2}
    assert plan.cost == pytest.approx(2 * 0.005 / 1000)
    assert {request.operation for request in memory.requests} == {"list_objects"}
    assert [line["key"] for line in lines(manifest)] == keys
    fill(memory, ["logs/later"])
    result = batch.run(DELETE, ManifestKeys(bucket=BUCKET, place=manifest))
    assert (result.successful, [ref.key for ref in memory.objects]) == (1500, ["logs/later"])


def test_a_plan_counts_what_a_verb_needs() -> None:
    """And what a class costs; what the source does not tell is said."""
    memory = MemoryStore()
    fill(memory, numbered(10))
    fill(memory, numbered(5, "logs/ia"), ObjectAttributes(storage_class="STANDARD_IA"))
    batch = engine_on(memory).batch
    plan = batch.plan(ChangeStorageClass(bucket=BUCKET, storage_class="STANDARD_IA"), WHERE)
    assert (plan.requests["CopyObject"], plan.requests["HeadObject"]) == (10, 10)
    assert plan.cost == pytest.approx(10 * 0.01 / 1000 + 10 * 0.0004 / 1000 + 0.005 / 1000, abs=1e-6)
    assert any("30 days" in warning for warning in plan.warnings)
    free = batch.plan(TagObjects(bucket=BUCKET, tags=(("a", "b"),)), ["a"], prices=Prices(per_thousand={}))
    assert (free.cost, free.unsized, free.requests) == (0, 1, {"GetObjectTagging": 1, "PutObjectTagging": 1})
    assert any("does not tell" in said for said in free.assumptions)
    assert batch.plan(Copy(bucket=BUCKET, dest_prefix="x/"), []).requests == {}


def test_a_plan_that_fails_leaves_no_manifest(tmp_path: Path) -> None:
    """Neither whole nor half."""
    store = faulty(MemoryStore(), Fault("list_objects", times=None))
    with pytest.raises(ConnectionLost):
        engine_on(store).batch.plan(DELETE, WHERE, manifest=str(tmp_path / "plan.jsonl"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"\.jsonl"):
        engine_on(store).batch.plan(DELETE, WHERE, manifest=str(tmp_path / "plan.csv"))
    with pytest.raises(TargetError):
        engine_on(store).batch.plan(DELETE, WHERE, manifest=str(tmp_path / "none" / "plan.jsonl"))


def test_an_outage_is_waited_for_and_no_key_fails() -> None:
    """All workers rest, one asks; what failed meanwhile is done again, with a look first."""
    memory = MemoryStore(versioned=True)
    keys = fill(memory, numbered(40))
    lost = ConnectionLost("made up", RequestContext("x", BUCKET, sent=False))
    store = faulty(memory, Fault("*", nth=2, times=5, error=lost))
    engine = engine_on(store, outage_patience=60)
    result = engine.batch.delete(keys, BatchConfig(max_retries=0, max_concurrent=4, page_keys=10))
    assert (result.successful, result.failed) == (40, 0)
    assert sent(memory, "delete_many") == 4


def test_an_outage_beyond_the_patience_ends_the_try_and_keeps_the_cursor() -> None:
    """The next one continues."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    keys = fill(memory, numbered(40))
    store = faulty(memory, Fault("*", nth=2, times=None))
    with pytest.raises(ConnectionLost):
        engine_on(store).batch.delete(keys, QUICK, BatchRun(tokens=tokens))
    result = engine_on(memory).batch.delete(keys, QUICK, BatchRun(tokens=tokens))
    assert (result.successful, result.resumed) == (40, True)


class Endless(MemoryStore):
    """A bucket of so many keys, made when they are listed."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.deleted = 0

    def list_objects(self, request: ListRequest) -> ListResult:
        after = request.token or request.start_after
        start = int(after.rpartition("/")[2]) + 1 if after else 0
        stop = min(self._count, start + request.max_keys)
        found = tuple(ListedObject(f"logs/{number:09d}", 1, "e") for number in range(start, stop))
        more = stop < self._count
        return ListResult(found, more, found[-1].key if more else None)

    def delete_many(self, bucket: str, items: Sequence[DeleteItem], *, quiet: bool = False) -> DeleteManyResult:
        with self._lock:
            self.deleted += len(items)
        return DeleteManyResult(tuple(DeleteOutcome(key, version, DeleteReceipt()) for key, version in items))


_MEASURED = """
import resource, sys
from tests.unit.engine.test_batch_guards import DELETE, WHERE, BatchConfig, BatchRun, DictTokens, Endless, engine_on

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

engine_on(Endless(2000)).batch.run(DELETE, WHERE, BatchConfig(), BatchRun(report=sys.argv[1], tokens=DictTokens()))
idle, store = peak(), Endless(200_000)
result = engine_on(store).batch.run(
    DELETE, WHERE, BatchConfig(), BatchRun(report=sys.argv[2], tokens=DictTokens())
)
print(result.total, result.successful, store.deleted, peak() - idle)
"""


def test_200_000_keys_fit_into_little_memory(tmp_path: Path) -> None:
    """Pages, not lists: a process that has done 2,000 keys hardly grows with 200,000."""
    reports = [str(tmp_path / "small.jsonl"), str(tmp_path / "large.jsonl")]
    command = [sys.executable, "-c", _MEASURED, *reports]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    *counts, grown_kib = map(int, done.stdout.split())
    assert counts == [200_000] * 3
    assert grown_kib < 32 * 1024
    with Path(reports[1]).open() as file:
        assert sum(1 for _ in file) == 200_000


@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
@pytest.mark.parametrize(
    ("last", "said"),
    [("other,k25", "line 27 .* bucket 'other'"), ("lake,", "line 27"), ("lake,a,b", "cells"), ('lake,"', "line 27")],
)
@pytest.mark.parametrize("guard", [{}, {"max_keys": 100}, {"require_non_empty": True}], ids=str)
def test_a_bad_row_is_found_before_anything_is_changed(
    tmp_path: Path, last: str, said: str, guard: dict[str, Any], remote: bool
) -> None:
    """However far behind it stands."""
    memory, place = MemoryStore(), str(tmp_path / "m.csv")
    keys = fill(memory, numbered(25))
    Path(place).write_text("bucket,key\n" + "".join(f"lake,{key}\n" for key in keys) + last + "\n")
    if remote:
        engine_on(memory).upload(place, ObjectRef("lists", "m.csv"))
        place = "s3://lists/m.csv"
    before = set(memory.objects)
    tokens, config = DictTokens(), BatchConfig(retry_delay=0, page_keys=10, **guard)
    with pytest.raises(ConfigError, match=said):
        engine_on(memory).batch.run(DELETE, ManifestKeys(bucket=BUCKET, place=place), config, BatchRun(tokens=tokens))
    assert set(memory.objects) == before
    assert tokens.kept == {}


def test_a_manifest_is_read_before_the_first_try_only(tmp_path: Path) -> None:
    """A later one goes on at once; a plan changes nothing, and reads once. A stop order ends it."""
    memory, tokens = MemoryStore(), DictTokens()
    keys = fill(memory, numbered(30))
    engine_on(memory).upload_bytes(("key\n" + "\n".join(keys)).encode(), ObjectRef("lists", "m.csv"))
    source = ManifestKeys(bucket=BUCKET, place="s3://lists/m.csv")
    memory.requests.clear()
    store = faulty(memory, Fault("delete_many", nth=2, error=KeyboardInterrupt()))
    config = BatchConfig(retry_delay=0, page_keys=10, max_concurrent=1)
    with pytest.raises(KeyboardInterrupt):
        engine_on(store).batch.run(DELETE, source, config, BatchRun(tokens=tokens))
    assert sent(memory, "get") == 2
    memory.requests.clear()
    assert engine_on(memory).batch.run(DELETE, source, config, BatchRun(tokens=tokens)).total == 30
    assert sent(memory, "get") == 1
    memory.requests.clear()
    assert engine_on(memory).batch.plan(DELETE, source).objects == 30
    assert sent(memory, "get") == 1
    stopped = Cancellation()
    stopped.cancel()
    with pytest.raises(Paused):
        source.check(engine_on(memory).call(stopped))
