"""The XCom's content and the log's story."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.durable.progress import RETRIES_TOLD, TransferReporter, XComProgress
from orbit_airflow.durable.words import human_size, human_time
from orbit_airflow.engine.events import (
    BatchProgress,
    Notice,
    Progress,
    Retrying,
    TransferCompleted,
    TransferEvent,
    TransferFailed,
    TransferStarted,
)
from orbit_airflow.engine.model import MIB, Integrity
from orbit_airflow.engine.runner import Cancellation
from tests.airflow.fakes import FakeClock, RecordingLog

RESUMED = TransferStarted(
    key="k", total_bytes=320 * MIB, part_size=5 * MIB, parts=64, upload_id="UPLOAD", parts_found=33,
    bytes_found=165 * MIB,
)  # fmt: skip


class Stage:
    def __init__(self) -> None:
        self.clock, self.log, self.cancel = FakeClock(), RecordingLog(), Cancellation()
        self.checkpoint = Checkpoint(self.cancel, RecordingLog(), clock=self.clock, parent=lambda: 1)
        self.pushed: list[dict[str, Any]] = []
        progress = XComProgress(
            self.checkpoint,
            lambda key, value: self.pushed.append({"xcom": key, **value}),
            try_number=2,
            now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        )
        self.reporter = TransferReporter(self.log, progress, self.cancel, uri="s3://b/k\n", clock=self.clock)

    def tell(self, event: TransferEvent, after: float = 0.0) -> None:
        self.clock.advance(after)
        self.reporter(event)
        self.checkpoint.step()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def moved(done: int, total: int = 320 * MIB) -> Progress:
    return Progress(
        total_bytes=total, bytes_done=done, bytes_sent=done - 165 * MIB, bytes_found=165 * MIB, parts_done=40,
        rate_bps=10.0 * MIB, eta_secs=12.34,
    )  # fmt: skip


def completed(duration: float) -> TransferCompleted:
    return TransferCompleted(
        key="k", total_bytes=320 * MIB, duration=duration, bytes_sent=155 * MIB, bytes_saved=165 * MIB,
        integrity=Integrity.FULL_CRC, resumed=True,
    )  # fmt: skip


def test_the_start_line_tells_what_was_found(stage: Stage) -> None:
    stage.tell(RESUMED)
    (text,) = stage.log.texts()
    assert text == (
        "resuming upload of s3://b/k\\n: found 33 of 64 parts (165.0 MiB of 320.0 MiB), sending 31, upload UPLOAD"
    )


def test_the_xcom_is_small_json_with_the_agreed_fields(stage: Stage) -> None:
    stage.tell(RESUMED)
    stage.tell(moved(200 * MIB), after=6)
    snapshot = stage.pushed[-1]
    assert snapshot.pop("xcom") == "orbit_progress"
    assert snapshot == {
        "phase": "uploading",
        "key": "k",
        "upload_id": "UPLOAD",
        "part_size": 5 * MIB,
        "parts_total": 64,
        "parts_found": 33,
        "parts_done": 40,
        "bytes_total": 320 * MIB,
        "bytes_found": 165 * MIB,
        "bytes_sent": 35 * MIB,
        "bytes_done": 200 * MIB,
        "percentage": 62.5,
        "rate_bps": 10 * MIB,
        "eta_seconds": 12.3,
        "resumed_from": 165 * MIB,
        "try_number": 2,
        "updated_at": "2026-01-02T00:00:00+00:00",
    }
    assert len(json.dumps(snapshot)) < 1024


def test_pushes_are_at_least_five_seconds_apart_but_for_milestones(stage: Stage) -> None:
    stage.tell(RESUMED)
    for step in range(1, 11):
        stage.tell(moved((165 + step) * MIB), after=1.0)
    assert [item["bytes_done"] // MIB for item in stage.pushed] == [165, 170, 175]
    stage.tell(completed(12.0))
    assert stage.pushed[-1]["phase"] == "done"
    assert stage.pushed[-1]["parts_done"] == 64
    assert stage.pushed[-1]["percentage"] == 100.0


def test_one_progress_line_per_thirty_seconds_or_ten_percent(stage: Stage) -> None:
    stage.tell(RESUMED)
    for _ in range(29):
        stage.tell(moved(166 * MIB), after=1.0)
    assert len(stage.log.lines) == 1
    stage.tell(moved(166 * MIB), after=1.0)
    assert stage.log.texts()[-1] == "52 % (166.0 MiB of 320.0 MiB), 10.0 MiB/s, 12.3 s left"
    stage.tell(moved(200 * MIB), after=1.0)
    assert len(stage.log.lines) == 3


def test_the_end_line_tells_sizes_saved_bytes_rate_and_proof(stage: Stage) -> None:
    stage.tell(completed(15.5))
    level, text, fields = stage.log.lines[-1]
    assert text == (
        "s3://b/k\\n is complete, proved by full-crc: 320.0 MiB, 155.0 MiB sent, 165.0 MiB saved by resuming, "
        "in 15.5 s (10.0 MiB/s)"
    )
    assert level == "info"
    assert fields["bytes_saved"] == 165 * MIB


def test_a_failure_is_called_paused_when_it_was_asked_for(stage: Stage) -> None:
    stage.tell(TransferFailed(key="k", error="AccessDenied", kept_bytes=5))
    assert stage.pushed[-1]["phase"] == "failed"
    stage.cancel.cancel()
    stage.tell(TransferFailed(key="k", error="stopped", kept_bytes=5))
    assert stage.pushed[-1]["phase"] == "paused"


def test_a_batch_shows_its_objects(stage: Stage) -> None:
    for done in range(1, 5):
        stage.tell(BatchProgress(completed=done, total=100, succeeded=done, failed=0), after=1.0)
    assert stage.log.texts() == []
    stage.tell(BatchProgress(completed=100, total=100, succeeded=98, failed=2), after=0.1)
    assert stage.log.texts() == ["100 of 100 objects: 98 succeeded, 2 failed"]
    shown = {name: stage.pushed[-1][name] for name in ("phase", "items_total", "items_done", "items_failed")}
    assert shown == {"phase": "batch", "items_total": 100, "items_done": 100, "items_failed": 2}
    assert stage.pushed[-1]["percentage"] == 100.0


def test_retries_are_told_until_there_are_too_many(stage: Stage) -> None:
    for number in range(100):
        stage.tell(Retrying("UploadPart", 1, 0.5, "reset\nby peer", number + 1))
    texts = stage.log.texts("warning")
    assert len(texts) == RETRIES_TOLD
    assert texts[0] == "UploadPart of part 1 failed (reset\\nby peer); again in 0.5 s"
    stage.tell(moved(300 * MIB), after=31)
    assert "100 requests were sent again" in stage.log.texts()[-1]


def test_notices_keep_their_level_and_write_no_lines_of_their_own(stage: Stage) -> None:
    stage.tell(Notice("fine"))
    stage.tell(Notice("bad\nERROR forged", warning=True))
    assert [line[:2] for line in stage.log.lines] == [("info", "fine"), ("warning", "bad\\nERROR forged")]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * MIB, "5.0 MiB"), (3 * 2**40, "3.0 TiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_times_for_people(seconds: float, text: str) -> None:
    assert human_time(seconds) == text
