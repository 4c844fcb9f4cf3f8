"""docs/monitoring.md: its snippets run, and its tables are what the code writes."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset

from orbit_airflow.durable import metrics, spans
from orbit_airflow.durable.metrics import TransferMetrics
from orbit_airflow.durable.outlets import emit_assets
from orbit_airflow.durable.words import Troubles, end_line, start_line, words_for
from orbit_airflow.engine.events import (
    Retrying,
    TransferCompleted,
    TransferDirection,
    TransferStarted,
)
from orbit_airflow.engine.model import MIB, Checksum, Integrity
from tests.docs.blocks import REPOSITORY, excused, runnable

PAGE = "docs/monitoring.md"
TEXT = (REPOSITORY / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", runnable(PAGE), ids=str)
def test_a_snippet_runs(block: Any) -> None:
    """In an Airflow without a database."""
    block.run()


def test_none_is_excused() -> None:
    assert excused(PAGE) == {}
    assert len(runnable(PAGE)) == 3


def test_the_consumer_prints_what_an_event_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Its function is given the extra that an upload makes."""
    events: dict[Any, Any] = {}
    latest = Asset("s3://backups/database/latest.tar")

    class Events(dict[Any, Any]):
        def __missing__(self, key: Any) -> Any:
            self[key] = SimpleNamespace(extra={})
            return self[key]

    made = Events()
    summary = {"uri": latest.uri, "size": 5, "version_id": "v1", "integrity": "full-crc", "etag": "e", "checksum": None}
    context: Any = {"task": SimpleNamespace(outlets=[latest]), "outlet_events": made}
    emit_assets(context, summary, None)
    events[latest] = [made[latest]]
    verify: Any = runnable(PAGE)[1].run()["verify"]
    verify.function(triggering_asset_events=events)
    said = "s3://backups/database/latest.tar version v1: 5 bytes, proved by full-crc\n"
    assert capsys.readouterr().out == said
    assert all(f"`{name}`" in TEXT for name in made[latest].extra)


def test_the_datasets_are_named_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    runnable(PAGE)[2].run()
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["file /var/backups/night.tar", "s3://backups database/night.tar"]
    assert all(f"`{line}`" in TEXT for line in printed)


def test_the_table_of_metrics_is_what_is_counted() -> None:
    """All of them, and no other."""
    names: set[str] = set()
    for direction in (TransferDirection.UPLOAD, TransferDirection.DOWNLOAD):
        for outcome in ("completed", "failed", "paused"):
            counted = TransferMetrics(
                {},
                direction,
                count=lambda name, value, tags: names.add(name),
                time_of=lambda name, value, tags: names.add(name),
            )
            counted.begin()
            counted(Retrying("UploadPart", 1, 0.1, "reset"))
            counted(TransferCompleted(key="k", total_bytes=2, duration=1.0, bytes_sent=1, bytes_saved=1))
            counted.end(outcome)
    assert set(re.findall(r"^\| `(orbit\.transfer\.\w+)` \|", TEXT, re.MULTILINE)) == names


def test_the_table_of_attributes_is_what_a_span_has() -> None:
    """Their names stand in the module's source."""
    from pathlib import Path

    tree = ast.parse(Path(spans.__file__).read_text(encoding="utf-8"))
    keys = {
        key.value
        for item in ast.walk(tree)
        if isinstance(item, ast.Dict)
        for key in item.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    of_events = {"operation", "attempt", "part_number", "message", "warning"}
    named = {key if "." in key else f"orbit.{key}" for key in keys - of_events}
    documented = set(re.findall(r"`((?:orbit|aws|error)\.[\w.]+)`", TEXT.split("## Spans")[1].split("## Links")[0]))
    assert documented - {"orbit.transfer"} == named | {"orbit.direction", "orbit.uri", "orbit.try_number"}
    assert f"Up to {spans.EVENTS_TOLD} events" in TEXT
    assert metrics.FLUSH_SECONDS == 5.0


def test_the_quoted_lines_are_ours() -> None:
    """Word for word, from the same figures."""
    words, uri = words_for(TransferDirection.UPLOAD), "s3://backups/night.tar"
    plan = TransferStarted(key="k", total_bytes=30 * MIB, part_size=5 * MIB, parts=6, upload_id="KSugO3gi")
    again = TransferStarted(
        key="k", total_bytes=30 * MIB, part_size=5 * MIB, parts=6, upload_id="KSugO3gi", parts_found=3,
        bytes_found=15 * MIB,
    )  # fmt: skip
    end = TransferCompleted(
        key="k", total_bytes=30 * MIB, duration=1.2, bytes_sent=15 * MIB, bytes_saved=15 * MIB,
        integrity=Integrity.FULL_CRC, checksum=Checksum("CRC32", "LibO2Q=="), version_id="3sL4kqtJ",
    )  # fmt: skip
    for line in (
        start_line(plan, words, uri, try_number=1),
        start_line(again, words, uri, try_number=2),
        end_line(end, words, uri, None, Troubles()),
    ):
        assert f"\n{line}\n" in TEXT
