"""A manifest that names a key twice: it is one key, within a page, across pages and over kills."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, ManifestKeys
from orbit_airflow.engine.batch import Copy, Delete
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import DiskFull
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, fill, lines, markers

# Repetitions next to each other, within a page, in the next one, far behind, and a page of nothing else.
NAMES = ["a", "b", "a", "c", "a", "a", "b", "c", "d", "e", "f", "a", "g", "d"]
WANTED = list(dict.fromkeys(NAMES))


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _manifest(tmp_path: Path, rows: list[str]) -> ManifestKeys:
    place = tmp_path / "m.csv"
    place.write_text("key,version_id\n" + "".join(f"{row}\n" for row in rows))
    return ManifestKeys(bucket=BUCKET, place=str(place))


def _plain(tmp_path: Path) -> ManifestKeys:
    return _manifest(tmp_path, [f"{name}," for name in NAMES])


def _config(workers: int = 1) -> BatchConfig:
    return BatchConfig(retry_delay=0, max_concurrent=workers, page_keys=2)


@pytest.mark.parametrize("most", range(1, 16))
def test_each_key_is_in_one_page_and_positions_count_records(tmp_path: Path, most: int) -> None:
    """Behind every position comes exactly what no record before it has named."""
    source, call = _plain(tmp_path), engine_on(MemoryStore()).call()
    pages = list(source.pages(call, most=most))
    assert [entry.key for page in pages for entry in page.entries] == WANTED
    assert sum(page.scanned for page in pages) == len(NAMES)
    for page in pages:
        before = set(NAMES[: int(page.cursor)])
        rest = [entry.key for later in source.pages(call, after=page.cursor, most=most) for entry in later.entries]
        assert rest == [name for name in WANTED if name not in before]


def test_versions_of_a_key_are_different_things(tmp_path: Path) -> None:
    """The first record tells what is known of a repeated one."""
    source = _manifest(tmp_path, ["a,v1", "a,v2", "a,", "a,v1", "v1,a", "av,1"])
    entries = [entry for page in source.pages(engine_on(MemoryStore()).call()) for entry in page.entries]
    assert [(entry.key, entry.version_id) for entry in entries] == [
        ("a", "v1"), ("a", "v2"), ("a", None), ("v1", "a"), ("av", "1"),
    ]  # fmt: skip


def test_a_repeated_key_gets_one_marker(tmp_path: Path) -> None:
    """And one outcome."""
    memory, report = MemoryStore(versioned=True), str(tmp_path / "report.jsonl")
    fill(memory, WANTED)
    result = engine_on(memory).batch.run(Delete(bucket=BUCKET), _plain(tmp_path), _config(3), BatchRun(report=report))
    assert (result.total, result.successful, markers(memory, WANTED)) == (7, 7, [1] * 7)
    assert [line["key"] for line in lines(report)] == WANTED


def test_a_repeated_key_is_copied_once(tmp_path: Path) -> None:
    """Also within one page, whose keys have a worker each."""
    memory = MemoryStore(versioned=True)
    fill(memory, WANTED)
    config = BatchConfig(retry_delay=0, max_concurrent=4, page_keys=100)
    result = engine_on(memory).batch.run(Copy(bucket=BUCKET, dest_prefix="x/"), _plain(tmp_path), config)
    assert (result.total, result.successful) == (7, 7)
    assert [len(memory.versions(ObjectRef(BUCKET, f"x/{name}"))) for name in WANTED] == [1] * 7


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("work", [Delete(bucket=BUCKET), Copy(bucket=BUCKET, dest_prefix="x/")], ids=["delete", "copy"])
def test_a_repeated_key_is_one_over_kills(tmp_path: Path, work: Any, nth: int) -> None:
    """What came before the cursor is known to the next try."""
    memory, tokens, report = MemoryStore(versioned=True), DictTokens(), str(tmp_path / "report.jsonl")
    fill(memory, WANTED)
    how, source = BatchRun(report=report, tokens=tokens), _plain(tmp_path)
    for when, at in (("before", nth), ("after", nth + 1)):
        faults = [Fault("*", nth=at, when=when, error=Killed()), Fault("*", nth=at + 1, times=None, error=Killed())]  # type: ignore[arg-type]
        try:
            engine_on(FaultyStore(memory, faults)).batch.run(work, source, _config(), how)
        except Killed:
            continue
    result = engine_on(memory).batch.run(work, source, _config(), how)
    assert (result.total, result.successful) == (7, 7)
    assert [line["key"] for line in lines(report)] == WANTED
    if isinstance(work, Delete):
        assert markers(memory, WANTED) == [1] * 7
    else:
        assert [len(memory.versions(ObjectRef(BUCKET, f"x/{name}"))) for name in WANTED] == [1] * 7


def test_a_plan_and_a_guard_count_a_key_once(tmp_path: Path) -> None:
    """So max_keys is about keys and not about rows."""
    engine, manifest = engine_on(MemoryStore()), str(tmp_path / "plan.jsonl")
    plan = engine.batch.plan(Delete(bucket=BUCKET), _plain(tmp_path), manifest=manifest)
    assert plan.objects == 7
    assert [json.loads(line)["key"] for line in Path(manifest).read_text().splitlines()] == WANTED
    config = BatchConfig(max_keys=7, page_keys=2)
    assert engine.batch.run(Delete(bucket=BUCKET), _plain(tmp_path), config).total == 7


def test_a_temporary_disk_without_room_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try may find room; no key is ever taken twice instead."""
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        base: sqlite3.Connection = connect(*args, **options)
        base.execute("PRAGMA max_page_count = 3")
        return base

    monkeypatch.setattr(sqlite3, "connect", small)
    source = _manifest(tmp_path, [f"{number}," for number in range(2000)])
    with pytest.raises(DiskFull, match="TMPDIR"):
        list(source.pages(engine_on(MemoryStore()).call()))
