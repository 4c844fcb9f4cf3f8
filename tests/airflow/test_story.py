"""The task's log as Airflow writes it: a person who reads nothing else knows what happened."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from orbit_airflow.durable.progress import TransferReporter
from orbit_airflow.durable.running import Run
from orbit_airflow.engine.errors import OrbitError, Unavailable
from orbit_airflow.engine.events import (
    Notice,
    Progress,
    Reporter,
    Retrying,
    TransferCompleted,
    TransferDirection,
    TransferEvent,
    TransferFailed,
    TransferStarted,
)
from orbit_airflow.engine.model import MIB, Checksum, Integrity
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.runner import Cancellation, run_all
from orbit_airflow.operators._base import OrbitTransferOperator
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, Try, connection_extra
from tests.airflow.fakes import FakeClock, FakeComms, RecordingLog
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
PART = 5 * MIB
TASK = {"ti_id": "0-1-2", "dag_id": "d", "task_id": "up", "try_number": 2}


class TaskLog:
    """The JSON lines of a task's log file."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def ours(self) -> list[dict[str, Any]]:
        """Those of the operators, without Airflow's and the amazon provider's own."""
        return [line for line in self.lines() if line.get("logger", "").startswith("airflow.task.operators.")]

    def texts(self) -> list[str]:
        return [line["event"] for line in self.ours()]


@pytest.fixture
def task_log() -> Iterator[TaskLog]:
    """Logging as the supervisor has it: every logger's lines as JSON in one file, with the task's names bound."""
    from airflow.sdk._shared.logging import configure_logging

    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log = TaskLog()
    configure_logging(json_output=True, log_level="INFO", output=log.file, cache_logger_on_first_use=False)
    with structlog.contextvars.bound_contextvars(**TASK):
        yield log
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def upload(dag: Any, path: Path, **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{
                "task_id": "up", "filename": str(path), "dest_bucket": BUCKET, "dest_key": "night.tar", "retries": 3,
                "replace": True, "parallel_operations": 1, **kwargs,
            }
        )  # fmt: skip


def story_of(texts: list[str]) -> str:
    return "\n".join(texts)


def test_an_uploads_two_tries_tell_their_story(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, task_log: TaskLog
) -> None:
    path = make_file(6 * PART)
    s3.inject(Fault(operation="UploadPart", part_number=4, status=500, times=None))
    op = upload(dag, path)
    assert run_try(op, 1).state == "up_for_retry"
    texts = task_log.texts()
    (upload_id,) = [item.upload_id for item in s3.open_uploads(BUCKET)]
    assert texts[0] == f"uploading s3://{BUCKET}/night.tar: 30.0 MiB in 6 parts of 5.0 MiB, upload {upload_id}"
    group = texts[1 : texts.index("::endgroup::") + 1]
    assert group[0] == "::group::Details of this transfer"
    assert f"file: {path}" in group
    assert f"endpoint: {s3.endpoint_url}" in group
    assert "connection: aws_default" in group
    assert "progress: XCom orbit_progress, /dags/d/runs/r1/tasks/up/xcom" in group
    retries = [text for text in texts if text.startswith("UploadPart of part 4 failed (")]
    assert len(retries) == 2
    assert all("again in 0." in text for text in retries)
    assert texts[-1].startswith(f"the upload of s3://{BUCKET}/night.tar failed after ")
    assert " at 50 % (15.0 MiB of 30.0 MiB), 2 requests were sent again: " in texts[-1]

    s3.reset()
    task_log.file.truncate(0)
    task_log.file.seek(0)
    assert run_try(op, 2).state == "success"
    texts = task_log.texts()
    assert texts[0] == (
        f"resuming upload of s3://{BUCKET}/night.tar: found 3 of 6 parts (15.0 MiB of 30.0 MiB), sending 3, "
        f"upload {upload_id}"
    )
    result = comms.xcoms[("up", -1, "return_value")]
    assert texts[-1].startswith(
        f"s3://{BUCKET}/night.tar is complete, proved by full-crc: 30.0 MiB, 15.0 MiB sent, 15.0 MiB saved by "
        "resuming, in "
    )
    assert texts[-1].endswith(f"/s), {result['checksum'].replace(':', ' ')}")
    end = task_log.ours()[-1]
    fields = ("bytes_total", "bytes_sent", "bytes_saved", "integrity", "resumed", "retries", "level")
    assert [end[name] for name in fields] == [6 * PART, 3 * PART, 3 * PART, "full-crc", True, 0, "info"]


def test_an_outage_is_told_once_and_counted_in_the_end_line(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, task_log: TaskLog
) -> None:
    """The circuit breaker is part of the reason: what opened it is what the log says."""
    comms.add_connection("here", s3.access_key, s3.secret_key, connection_extra(s3, outage_patience=60))
    s3.inject(Fault(operation="UploadPart", part_number=2, status=503, code="ServiceUnavailable", times=4))
    assert run_try(upload(dag, make_file(2 * PART), aws_conn_id="here", transfer_retry="fast")).state == "success"
    texts = task_log.texts()
    (begun,) = [number for number, text in enumerate(texts) if text.startswith("the store is not well (")]
    (over,) = [number for number, text in enumerate(texts) if text.startswith("the store answers again, after ")]
    assert begun < over
    assert task_log.ours()[begun]["level"] == "warning"
    assert "spent waiting for the store" in texts[-1]
    assert task_log.ours()[-1]["waited"] > 0


def test_every_line_carries_the_tasks_names(
    dag: Any,
    run_try: RunTry,
    comms: FakeComms,
    s3: ModelServer,
    make_file: MakeFile,
    task_log: TaskLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever thread writes it: part workers, progress, checkpoints, a library below them."""
    import threading

    from orbit_airflow.engine.stores.s3 import S3Store

    threads: set[str] = set()
    send = S3Store.upload_part

    def chatty(self: Any, *args: Any) -> Any:
        threads.add(threading.current_thread().name)
        logging.getLogger("a.library").warning("sending %s", "bytes")
        structlog.get_logger("another").info("sending", part=1)
        return send(self, *args)

    monkeypatch.setattr(S3Store, "upload_part", chatty)
    broken = [True]

    def trouble(name: str, message: Any) -> None:
        if name == "SetTaskStateStore" and broken.pop():
            broken.append(False)
            raise OSError("the API server is away")

    comms.trouble = trouble
    assert run_try(upload(dag, make_file(3 * PART), parallel_operations=2)).state == "success"
    assert all(name.startswith("orbit-part-") for name in threads)
    seen = task_log.lines()
    spoken = {line["event"] for line in seen}
    assert {"sending bytes", "sending"} <= spoken
    assert any(text.startswith("a checkpoint could not be made") for text in spoken)
    assert [line for line in seen if {name: line.get(name) for name in TASK} != TASK] == []


def test_a_try_without_a_connection_tells_its_end(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile, task_log: TaskLog
) -> None:
    """The transfer never began; the type is named here, and Airflow prints the rest."""
    run_try(upload(dag, make_file(100), aws_conn_id="nowhere"))
    (text,) = task_log.texts()
    assert text.startswith(f"the upload of s3://{BUCKET}/night.tar failed after ")
    assert text.endswith(": AirflowNotFoundException")


def test_a_second_try_that_finds_nothing_says_so(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, task_log: TaskLog
) -> None:
    assert run_try(upload(dag, make_file(100), durable=False), 2).state == "success"
    start = f"uploading s3://{BUCKET}/night.tar: 100 B in one request; nothing of an earlier try was found"
    assert start in task_log.texts()


class ScriptedDownload(OrbitTransferOperator):
    """A download whose engine says what it is told to say."""

    direction = TransferDirection.DOWNLOAD

    def __init__(self, *, script: Callable[[Reporter, Cancellation], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.script = script

    def _target(self) -> str | None:
        return "/data/night.tar"

    def execute(self, context: Any) -> None:
        def download(run: Run) -> None:
            with OperationReporter(run.reporter) as told:
                assert run.cancel is not None
                self.script(told, run.cancel)

        self._run_transfer(context, "s3://backups/night.tar", download)


def download(dag: Any, script: Callable[[Reporter, Cancellation], None]) -> ScriptedDownload:
    with dag:
        return ScriptedDownload(task_id="up", script=script, retries=3)


FOUND = TransferStarted(
    key="night.tar", total_bytes=64 * MIB, direction=TransferDirection.DOWNLOAD, part_size=8 * MIB, parts=8,
    parts_found=3, bytes_found=24 * MIB,
)  # fmt: skip
ARRIVED = TransferCompleted(
    key="night.tar", total_bytes=64 * MIB, duration=4.0, bytes_sent=40 * MIB, bytes_saved=24 * MIB,
    integrity=Integrity.FULL_CRC, resumed=True, checksum=Checksum("CRC64NVME", "AAAAAAAAAAA="), version_id="v1",
)  # fmt: skip


def test_a_download_is_told_in_its_own_words(dag: Any, run_try: RunTry, comms: FakeComms, task_log: TaskLog) -> None:
    def script(tell: Reporter, cancel: Cancellation) -> None:
        tell(FOUND)
        tell(Retrying("GetObject", 1, 0.5, "reset by peer", 4))
        tell(
            Progress(total_bytes=64 * MIB, bytes_done=48 * MIB, bytes_sent=24 * MIB, rate_bps=10.0 * MIB, eta_secs=1.6)
        )
        tell(ARRIVED)

    assert run_try(download(dag, script), 2).state == "success"
    texts = task_log.texts()
    assert texts[0] == (
        "resuming download of s3://backups/night.tar: found 3 of 8 ranges (24.0 MiB of 64.0 MiB), fetching 5"
    )
    assert texts[texts.index("::endgroup::") + 1 :] == [
        "GetObject of range 4 failed (reset by peer); again in 0.5 s",
        "75 % (48.0 MiB of 64.0 MiB), 10.0 MiB/s, 1.6 s left, 1 request was sent again",
        (
            "s3://backups/night.tar is complete at /data/night.tar, proved by full-crc: 64.0 MiB, 40.0 MiB received, "
            "24.0 MiB saved by resuming, in 4.0 s (10.0 MiB/s), CRC64NVME AAAAAAAAAAA=, version v1, "
            "1 request was sent again"
        ),
    ]
    assert "uploading" not in story_of(texts)
    assert "sent," not in story_of(texts)
    assert task_log.ours()[-1]["bytes_received"] == 40 * MIB
    shown = comms.xcoms[("up", -1, "orbit_progress")]
    assert (shown["phase"], shown["bytes_received"], shown["bytes_sent"]) == ("done", 40 * MIB, 0)


def test_a_downloads_phase_is_downloading(dag: Any, run_try: RunTry, comms: FakeComms, task_log: TaskLog) -> None:
    phases: list[str] = []
    comms.trouble = lambda name, message: (
        phases.append(message.value["phase"]) if name == "SetXCom" and message.key == "orbit_progress" else None
    )

    def script(tell: Reporter, cancel: Cancellation) -> None:
        tell(FOUND)
        # A milestone of its own, so that the newest snapshot does not swallow this one.
        while "downloading" not in phases:
            cancel.sleep(0.01)
        raise Unavailable("the store went away")

    assert run_try(download(dag, script)).state == "up_for_retry"
    assert phases == ["downloading", "failed"]
    assert task_log.texts()[-1].startswith("the download of s3://backups/night.tar failed after ")
    assert " at 38 % (24.0 MiB of 64.0 MiB): the store went away" in task_log.texts()[-1]


def test_a_fresh_download_has_a_plan(dag: Any, run_try: RunTry, comms: FakeComms, task_log: TaskLog) -> None:
    def script(tell: Reporter, cancel: Cancellation) -> None:
        tell(TransferStarted(
            key="k", total_bytes=64 * MIB, direction=TransferDirection.DOWNLOAD, part_size=8 * MIB, parts=8
        ))  # fmt: skip
        tell(ARRIVED)

    run_try(download(dag, script))
    assert task_log.texts()[0] == "downloading s3://backups/night.tar: 64.0 MiB in 8 ranges of 8.0 MiB"


class Stage:
    """A reporter beside a clock."""

    def __init__(self) -> None:
        self.log, self.cancel, self.clock = RecordingLog(), Cancellation(), FakeClock()
        self.reporter = TransferReporter(self.log, None, self.cancel, uri="s3://bucket/k", clock=self.clock)

    def tell(self, *events: TransferEvent) -> None:
        for event in events:
            self.reporter(event)


def test_a_pause_says_where_it_stands() -> None:
    stage = Stage()
    stage.tell(TransferStarted(key="k", total_bytes=100, part_size=50, parts=2, upload_id="U"))
    stage.clock.advance(12.34)
    stage.cancel.cancel()
    stage.tell(TransferFailed(key="k", error="stopped by Airflow", kept_bytes=50, bytes_sent=70))
    level, text, fields = stage.log.lines[-1]
    assert (level, text) == (
        "warning", "the upload of s3://bucket/k paused after 12.3 s at 50 % (50 B of 100 B): stopped by Airflow"
    )  # fmt: skip
    assert (fields["phase"], fields["bytes_sent"], fields["duration"]) == ("paused", 70, 12.34)


@pytest.mark.parametrize(
    ("error", "said"),
    [(OrbitError("no such option"), ": no such option"), (ValueError("password=hunter2"), ": ValueError")],
)
def test_only_our_own_errors_are_quoted(error: BaseException, said: str) -> None:
    """A stranger's message may hold anything."""
    stage = Stage()
    stage.reporter.ended_by(error)
    assert stage.log.texts()[0].endswith(said)


def test_an_end_is_told_once() -> None:
    stage = Stage()
    stage.tell(TransferFailed(key="k", error="gone"))
    stage.reporter.ended_by(OrbitError("gone"))
    assert len(stage.log.lines) == 1


def test_details_write_no_lines_of_their_own() -> None:
    log = RecordingLog()
    reporter = TransferReporter(
        log, None, Cancellation(), uri="s3://bucket/k", details={"file": "/data/x\n::endgroup::\nERROR forged"}
    )
    reporter(TransferStarted(key="k", total_bytes=1))
    assert log.texts()[2] == "file: /data/x\\n::endgroup::\\nERROR forged"


def test_outages_add_up() -> None:
    stage = Stage()
    stage.tell(
        Notice("the store answers again", waited=40.0),
        Notice("the store answers again", waited=35.0),
        TransferCompleted(key="k", total_bytes=1, duration=90.0, bytes_sent=1),
    )
    assert stage.log.texts()[-1].endswith(", 1 min 15 s spent waiting for the store")


def test_the_engines_workers_start_with_the_callers_context() -> None:
    """The promise that the lines above rest on."""
    with structlog.contextvars.bound_contextvars(ti_id="x"):
        seen = run_all([1, 2], lambda _, __: structlog.contextvars.get_contextvars(), workers=2, cancel=Cancellation())
    assert [item["ti_id"] for item in seen] == ["x", "x"]
