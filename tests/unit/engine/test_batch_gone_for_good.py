"""Deletes of all versions: markers too, hidden keys too, in constant memory, over kills."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, Delete, KeyPrefix, ManifestKeys, PrefixKeys, Selection, VersionKeys
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import AccessDenied, ConfigError, RequestContext, Unavailable
from orbit_airflow.engine.model import DeleteOutcome, ObjectRef
from orbit_airflow.engine.store import DeleteItem
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.batches import BUCKET, QUICK, DictTokens, engine_on, fill, lines, numbered, sent

WHERE = KeyPrefix(BUCKET, "logs/")
KEYS = numbered(30)


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _versioned() -> MemoryStore:
    """Three versions of each key, and every second one hidden behind a marker; and one key elsewhere."""
    memory = MemoryStore(versioned=True)
    for _ in range(3):
        fill(memory, [*KEYS, "other"])
    for key in KEYS[::2]:
        memory.delete(ObjectRef(BUCKET, key))
    memory.requests.clear()
    return memory


def _left(memory: MemoryStore) -> list[int]:
    return [len(memory.versions(ObjectRef(BUCKET, key))) for key in KEYS]


def test_a_prefix_loses_versions_and_markers() -> None:
    """Each of them once in the outcome; also of keys that no listing of objects shows."""
    memory = _versioned()
    source = PrefixKeys(where=WHERE)
    result = engine_on(memory).batch.delete(source, QUICK, all_versions=True)
    assert (result.total, result.successful, result.failed) == (3 * 30 + 15, 105, 0)
    assert _left(memory) == [0] * 30
    assert len(memory.versions(ObjectRef(BUCKET, "other"))) == 3


def test_a_list_of_keys_loses_them_too() -> None:
    """One outcome per key, however many versions it had."""
    memory = _versioned()
    result = engine_on(memory).batch.delete(KEYS[:10], QUICK, all_versions=True)
    assert (result.total, result.successful) == (10, 10)
    assert _left(memory) == [0] * 10 + [4, 3] * 10


def test_versions_that_may_not_go_fail_their_key() -> None:
    """The others go, and the message tells how many are left."""
    locked = _versioned()
    kept = locked.versions(ObjectRef(BUCKET, KEYS[1]))[0].version_id

    class Locked(FaultyStore):
        def delete_many(self, bucket: str, items: Any, *, quiet: bool = False) -> Any:
            wanted: list[DeleteItem] = [item for item in items if item[1] != kept]
            answer = super().delete_many(bucket, wanted, quiet=quiet)
            refused = AccessDenied("locked", RequestContext("DeleteObjects", BUCKET, KEYS[1], code="AccessDenied"))
            more = tuple(DeleteOutcome(key, version, error=refused) for key, version in items if version == kept)
            return type(answer)(answer.outcomes + more)

    result = engine_on(Locked(locked)).batch.delete(KEYS[:2], QUICK, all_versions=True)
    assert (result.successful, result.failed) == (1, 1)
    assert "1 versions are left" in result.errors[0].message
    assert _left(locked)[:2] == [0, 1]


def test_a_page_ends_with_a_key() -> None:
    """Its position is a key; only a key of more versions than a page is cut."""
    memory = _versioned()
    pages = list(VersionKeys(where=WHERE).pages(engine_on(memory).call(), most=10))
    assert {len(page.entries) for page in pages} <= {7, 10, 11, 8, 9}
    ends = [page.entries[-1].key for page in pages]
    assert ends == [page.cursor for page in pages]
    many = list(VersionKeys(where=WHERE).pages(engine_on(memory).call(), most=2))
    named = [(entry.key, entry.version_id) for page in many for entry in page.entries]
    assert len(named) == len(set(named)) == 105
    assert max(len(page.entries) for page in many) == 2


@pytest.mark.parametrize("position", ["", KEYS[0], KEYS[7], KEYS[28]])
def test_a_source_continues_behind_a_key(position: str) -> None:
    """Neither its versions nor those before it are named again."""
    pages = VersionKeys(where=WHERE).pages(engine_on(_versioned()).call(), after=position, most=10)
    assert sorted({entry.key for page in pages for entry in page.entries}) == [key for key in KEYS if key > position]


def test_filters_hold_for_versions() -> None:
    """By pattern and by size; a marker has none."""
    source = VersionKeys(where=WHERE, select=Selection(match="*5", min_size=1))
    entries = [entry for page in source.pages(engine_on(_versioned()).call()) for entry in page.entries]
    assert len(entries) == 3 * 3


def test_a_whole_bucket_has_to_be_asked_for() -> None:
    """As for objects."""
    with pytest.raises(ConfigError, match="whole_bucket"):
        VersionKeys(where=KeyPrefix(BUCKET))


@pytest.mark.parametrize("nth", range(2, 14, 3))
@pytest.mark.parametrize("with_report", [True, False])
def test_a_killed_delete_of_versions_continues(nth: int, with_report: bool, tmp_path: Path) -> None:
    """Three kills; everything gone, counted once, and in the report once."""
    memory, tokens = _versioned(), DictTokens()
    config = BatchConfig(retry_delay=0, max_concurrent=2, page_keys=10)
    how = BatchRun(report=str(tmp_path / "r.jsonl") if with_report else None, tokens=tokens)
    work, source = Delete(bucket=BUCKET), VersionKeys(where=WHERE)
    for count in range(3):
        first = Fault("*", nth=nth, times=1, when="after" if count % 2 else "before", error=Killed())
        store = FaultyStore(memory, [first, Fault("*", nth=nth + 1, times=None, error=Killed())])
        try:
            engine_on(store).batch.run(work, source, config, how)
        except Killed:
            continue
    result = engine_on(memory).batch.run(work, source, config, how)
    assert _left(memory) == [0] * 30
    assert (result.total, result.failed) == (105, 0)
    if with_report:
        told = [(line["key"], line["version_id"]) for line in lines(tmp_path / "r.jsonl")]
        assert len(told) == len(set(told)) == 105


def _inventory(directory: Path, memory: MemoryStore) -> str:
    """Of all versions and markers, as S3 writes it."""
    rows = [
        f'"{BUCKET}","{key}","{item.version_id}","{str(not nth).lower()}","{str(item.deleted).lower()}"'
        for key in KEYS
        for nth, item in enumerate(memory.versions(ObjectRef(BUCKET, key)))
    ]
    (directory / "data.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    told = {
        "sourceBucket": BUCKET, "fileFormat": "CSV", "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker",
        "files": [{"key": "data.csv.gz"}],
    }  # fmt: skip
    (directory / "manifest.json").write_text(json.dumps(told))
    return str(directory / "manifest.json")


def test_run_and_plan_take_hidden_keys_of_a_prefix(tmp_path: Path) -> None:
    """As ``delete`` does; and a plan's manifest names them."""
    memory, work = _versioned(), Delete(bucket=BUCKET, all_versions=True)
    plan = engine_on(memory).batch.plan(work, PrefixKeys(where=WHERE), manifest=str(tmp_path / "p.jsonl"))
    assert (plan.objects, dict(plan.requests)) == (105, {"DeleteObjects": 1, "ListObjectVersions": 1})
    assert len(lines(tmp_path / "p.jsonl")) == 105
    result = engine_on(memory).batch.run(work, PrefixKeys(where=WHERE), QUICK)
    assert (result.total, result.failed, _left(memory)) == (105, 0, [0] * 30)


@pytest.mark.parametrize("by_name", [False, True], ids=["run", "delete"])
def test_an_inventory_loses_hidden_keys_too(by_name: bool, tmp_path: Path) -> None:
    """Its rows of older versions and markers are meant as well."""
    memory = _versioned()
    source = ManifestKeys(bucket=BUCKET, place=_inventory(tmp_path, memory))
    engine = engine_on(memory)
    work = Delete(bucket=BUCKET, all_versions=True)
    result = engine.batch.delete(source, QUICK, all_versions=True) if by_name else engine.batch.run(work, source, QUICK)
    assert (result.total, result.failed, _left(memory)) == (105, 0, [0] * 30)


def test_a_forgotten_delete_of_versions_begins_anew() -> None:
    """By the work that the caller knows, whatever it became."""
    memory, how, work = _versioned(), BatchRun(tokens=DictTokens()), Delete(bucket=BUCKET, all_versions=True)
    source = PrefixKeys(where=WHERE)
    engine_on(memory).batch.run(work, source, QUICK, how)
    fill(memory, KEYS)
    assert engine_on(memory).batch.run(work, source, QUICK, how).resumed
    engine_on(memory).batch.forget(work, QUICK, how)
    result = engine_on(memory).batch.run(work, source, QUICK, how)
    assert (result.resumed, result.total, _left(memory)) == (False, 30, [0] * 30)


def test_versions_of_a_list_outlast_an_outage() -> None:
    """What the store did not take is tried again, as its key."""
    memory = _versioned()
    out = Unavailable("made up", RequestContext("DeleteObjects", BUCKET, code="ServiceUnavailable"))
    faults = [Fault("delete_many", times=2, error=out), Fault("head", times=1, error=out)]
    engine = engine_on(FaultyStore(memory, faults), outage_patience=30)
    result = engine.batch.delete(KEYS[:3], BatchConfig(retry_delay=0, max_retries=0), all_versions=True)
    assert (result.total, result.successful, _left(memory)[:4]) == (3, 3, [0, 0, 0, 3])


def test_versions_of_a_prefix_go_by_the_page() -> None:
    """Not one request for each, also when ``all_versions`` is said of a source that has them already."""
    memory = _versioned()
    engine_on(memory).batch.delete(VersionKeys(where=WHERE), all_versions=True)
    assert (sent(memory, "delete_many"), _left(memory)) == (1, [0] * 30)


def test_a_plan_counts_the_listings() -> None:
    """Of versions, as such."""
    memory = _versioned()
    plan = engine_on(memory).batch.plan(Delete(bucket=BUCKET), VersionKeys(where=WHERE))
    assert (plan.objects, dict(plan.requests)) == (105, {"DeleteObjects": 1, "ListObjectVersions": 1})
