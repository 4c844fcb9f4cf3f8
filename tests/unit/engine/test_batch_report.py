"""Reports that several runs share: each run reads its own notes only, and no batch works on its own report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, KeyPrefix, PrefixKeys, Selection, VersionKeys
from orbit_airflow.engine.batch import Delete, TagObjects
from orbit_airflow.engine.batch.report import FileReport, ObjectReport
from orbit_airflow.engine.batch.token import BatchToken
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import ConfigError, NotFound, SourceError
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.batches import BUCKET, QUICK, DictTokens, engine_on, fill, lines, numbered

CONFIG = BatchConfig(retry_delay=0, max_concurrent=3, page_keys=10)
KEYS = numbered(30)
WORK = Delete(bucket=BUCKET)
ALL = PrefixKeys(where=KeyPrefix(BUCKET, "logs/"))
ENDS = PrefixKeys(where=KeyPrefix(BUCKET, "logs/"), select=Selection(regex="logs/000[02]"))
FIRST, SECOND = "0" * 15 + "1", "0" * 15 + "2"


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _killed_at(memory: MemoryStore, nth: int) -> FaultyStore:
    first = Fault("*", nth=nth, times=1, when="after", error=Killed())
    return FaultyStore(memory, [first, Fault("*", nth=nth + 1, times=None, error=Killed())])


def _place(kind: str, directory: Path) -> str:
    return "s3://reports/r/" if kind == "objects" else str(directory / "r.jsonl")


@pytest.mark.parametrize("kind", ["objects", "file"])
@pytest.mark.parametrize("first", [0, 9], ids=["finished", "killed"])
@pytest.mark.parametrize("nth", range(3, 14))
def test_a_continued_delete_takes_no_key_of_an_older_runs_report(
    nth: int, first: int, kind: str, tmp_path: Path
) -> None:
    """The second night selects the first and the last page only, and is killed: what lies between them stays."""
    memory, report = MemoryStore(), _place(kind, tmp_path)
    fill(memory, KEYS)
    try:
        store = _killed_at(memory, first) if first else memory
        engine_on(store).batch.run(WORK, ALL, CONFIG, BatchRun(report=report, tokens=DictTokens()))
    except Killed:
        pass
    fill(memory, KEYS)
    how = BatchRun(report=report, tokens=DictTokens())
    try:
        result = engine_on(_killed_at(memory, nth)).batch.run(WORK, ENDS, CONFIG, how)
    except Killed:
        result = engine_on(memory).batch.run(WORK, ENDS, CONFIG, how)
    left = sorted(ref.key for ref in memory.objects if ref.bucket == BUCKET)
    assert (left, result.total, result.successful) == (KEYS[10:20], 20, 20)


def _told(memory: MemoryStore, place: str) -> list[dict[str, Any]]:
    """The lines of all objects of a report."""
    engine, where = engine_on(memory), ObjectRef.parse(place + "x")
    pages = engine.iter_objects(KeyPrefix(where.bucket, where.key[:-1]))
    texts = [engine.download_bytes(ObjectRef(where.bucket, page.key)).decode() for page in pages]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_runs_share_no_object_of_a_report() -> None:
    """Thirty keys, then one key at the same address: each result names its own lines."""
    memory, how = MemoryStore(), BatchRun(report="s3://reports/r/")
    fill(memory, KEYS)
    many = engine_on(memory).batch.run(WORK, KEYS, CONFIG, how)
    one = engine_on(memory).batch.run(WORK, KEYS[:1], CONFIG, how)
    places = [many.report or "", one.report or ""]
    assert [len(_told(memory, place)) for place in places] == [30, 1]
    assert all(place.startswith("s3://reports/r/run-") for place in places)


def test_all_tries_of_a_run_write_one_report() -> None:
    """Also a call behind the last one says where."""
    memory, how = MemoryStore(), BatchRun(report="s3://reports/r/", tokens=DictTokens())
    fill(memory, KEYS)
    with pytest.raises(Killed):
        engine_on(_killed_at(memory, 6)).batch.run(WORK, ALL, CONFIG, how)
    result = engine_on(memory).batch.run(WORK, ALL, CONFIG, how)
    again = engine_on(memory).batch.run(WORK, ALL, CONFIG, how)
    assert result.report == again.report is not None
    assert [line["key"] for line in _told(memory, result.report or "")] == KEYS


@pytest.mark.parametrize("kind", ["objects", "file"])
def test_a_note_is_of_its_run_and_whole(kind: str, tmp_path: Path) -> None:
    """Another run's, one of another length, and none at all are no note."""
    kept: dict[ObjectRef, bytes] = {}

    def read(ref: ObjectRef) -> bytes:
        try:
            return kept[ref]
        except KeyError:
            raise NotFound("made up") from None

    def opened(run: str, *, fresh: bool) -> Any:
        place = _place(kind, tmp_path)
        report = ObjectReport(place, kept.__setitem__, read) if kind == "objects" else FileReport(place)
        assert report.open(run, 0, fresh=fresh)
        return report

    entries = (KeyEntry("a"), KeyEntry("b", "v1"))
    opened(FIRST, fresh=True).begin(1, entries)
    assert opened(FIRST, fresh=False).begun(1, 2) == entries
    assert opened(FIRST, fresh=False).begun(1, 3) is None
    assert opened(FIRST, fresh=False).begun(2, 2) is None
    assert opened(SECOND, fresh=False).begun(1, 2) is None
    opened(SECOND, fresh=True).close(done=False)
    assert kind == "objects" or not (tmp_path / "r.jsonl.pages").exists()


def test_lines_of_a_finished_page_are_no_note_in_a_file(tmp_path: Path) -> None:
    """Only what was begun is."""
    report = FileReport(str(tmp_path / "r.jsonl"))
    report.open(FIRST, 0, fresh=True)
    report.begin(1, [KeyEntry("a")])
    note = tmp_path / "r.jsonl.pages" / "000000001.json"
    note.write_text(note.read_text().replace("begun", "done"))
    assert report.begun(1, 1) is None
    note.write_text("no JSON\n")
    with pytest.raises(SourceError, match="not readable"):
        report.begun(1, 1)
    report.close(done=True)


def test_a_cursor_without_a_run_is_continued_with_its_notes(tmp_path: Path) -> None:
    """As an earlier version of the package has left them: the page's keys are known, and counted once."""
    memory, tokens, report = MemoryStore(), DictTokens(), tmp_path / "r.jsonl"
    fill(memory, KEYS)
    how = BatchRun(report=str(report), tokens=tokens)
    with pytest.raises(Killed):
        engine_on(_killed_at(memory, 2)).batch.run(WORK, ALL, CONFIG, how)
    for token in tokens.kept.values():
        assert token.pop("run")
        assert token["window"]
    for note in (tmp_path / "r.jsonl.pages").iterdir():
        rows = [json.loads(line) for line in note.read_text().splitlines()]
        assert all(row.pop("run") for row in rows)
        note.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = engine_on(memory).batch.run(WORK, ALL, CONFIG, how)
    assert (result.total, result.resumed, memory.objects) == (30, True, {})
    assert sorted(line["key"] for line in lines(report)) == KEYS


@pytest.mark.parametrize("run", ["../up", "A" * 16, "0" * 40, 7, None], ids=str)
def test_a_tokens_run_is_hexadecimal(run: object) -> None:
    """It becomes a part of an object's key."""
    good = BatchToken(target="t", identity="i", run=FIRST).to_mapping()
    assert BatchToken.from_mapping(good, "t").run == FIRST
    with pytest.raises(TokenRejected):
        BatchToken.from_mapping({**good, "run": run}, "t")


@pytest.mark.parametrize("place", ["s3://lake/logs/report/", "s3://lake/logs", "s3://lake/logs/"])
@pytest.mark.parametrize("source", [ALL, VersionKeys(where=KeyPrefix(BUCKET, "logs/"))], ids=["objects", "versions"])
@pytest.mark.parametrize("work", [WORK, TagObjects(bucket=BUCKET, tags=(("a", "b"),))], ids=["delete", "tag"])
def test_a_batch_refuses_a_report_among_its_objects(work: Any, source: Any, place: str) -> None:
    """Before anything is asked or changed."""
    memory = MemoryStore()
    fill(memory, numbered(25))
    with pytest.raises(ConfigError, match="report"):
        engine_on(memory).batch.run(work, source, QUICK, BatchRun(report=place))
    assert memory.requests == []


@pytest.mark.parametrize("place", ["s3://other/logs/", "s3://lake/", "s3://lake/reports/", "s3://lake/log/"])
def test_a_report_beside_its_objects_is_written(place: str) -> None:
    """In another bucket, or under another prefix."""
    memory = MemoryStore()
    fill(memory, numbered(25))
    result = engine_on(memory).batch.run(WORK, ALL, QUICK, BatchRun(report=place))
    assert (result.total, len(_told(memory, result.report or ""))) == (25, 25)


@pytest.mark.parametrize("prefix", ["reports/", "reports/run-", "reports/run-0", ""])
def test_prefixes_that_may_hold_the_report_are_refused(prefix: str) -> None:
    """Also a narrower one than the report's own, and the whole bucket."""
    source = PrefixKeys(where=KeyPrefix(BUCKET, prefix), whole_bucket=not prefix)
    with pytest.raises(ConfigError, match="report"):
        engine_on(MemoryStore()).batch.run(WORK, source, QUICK, BatchRun(report=f"s3://{BUCKET}/reports/"))
