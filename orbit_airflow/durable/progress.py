"""What a running transfer shows: the XCom ``orbit_progress`` for the present try, and the log's story for every try."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.engine.errors import printable
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
from orbit_airflow.engine.runner import Cancellation

PROGRESS_KEY = "orbit_progress"
LOG_SECONDS = 30.0
LOG_PERCENT = 10.0
# A bad line may fail thousands of requests; the log tells of the first ones and then only counts.
RETRIES_TOLD = 20

Push = Callable[[str, dict[str, Any]], object]


def human_size(size: float) -> str:
    """Bytes as people read them: ``1.5 GiB``."""
    if abs(size) < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if abs(size) < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def human_time(seconds: float) -> str:
    """A duration as people read it: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class XComProgress:
    """The small dict in XCom, read-only for everybody: newest wins, at most every five seconds, plus milestones."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        push: Push,
        *,
        try_number: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._checkpoint = checkpoint
        self._push = push
        self._now = now
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {
            "phase": "starting",
            "key": None,
            "upload_id": None,
            "part_size": None,
            "parts_total": None,
            "parts_found": 0,
            "parts_done": 0,
            "bytes_total": None,
            "bytes_found": 0,
            "bytes_sent": 0,
            "bytes_done": 0,
            "percentage": 0.0,
            "rate_bps": 0,
            "eta_seconds": None,
            "resumed_from": 0,
            "try_number": try_number,
        }

    def show(self, *, at_once: bool = False, **changes: Any) -> None:
        """Change the figures and let them be pushed. Any thread may call."""
        with self._lock:
            self._state |= changes
            snapshot = {**self._state, "updated_at": self._now().isoformat()}
        self._checkpoint.show(PROGRESS_KEY, lambda: self._push(PROGRESS_KEY, snapshot), at_once=at_once)


class TransferReporter:
    """The engine's Reporter under Airflow. ``log`` is the task's logger (structlog: keyword arguments are fields).

    ``progress`` is None when the task does not want XComs.
    """

    def __init__(
        self,
        log: Any,
        progress: XComProgress | None,
        cancel: Cancellation,
        *,
        uri: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._progress = progress
        self._cancel = cancel
        self._uri = printable(uri)
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: int | None = None
        self._retries = 0
        self._told_at = clock()
        self._told_percent = 0.0

    def __call__(self, event: TransferEvent) -> None:
        """Take an event, from any thread."""
        match event:
            case TransferStarted():
                self._started(event)
            case Progress():
                self._moved(event)
            case Retrying():
                self._retrying(event)
            case Notice():
                (self._log.warning if event.warning else self._log.info)(printable(event.message, 1000))
            case TransferCompleted():
                self._completed(event)
            case TransferFailed():
                self._failed(event)
            case BatchProgress():
                self._batch_moved(event)

    def _show(self, *, at_once: bool = False, **changes: Any) -> None:
        if self._progress is not None:
            self._progress.show(at_once=at_once, **changes)

    def _started(self, event: TransferStarted) -> None:
        with self._lock:
            self._parts = event.parts
            self._told_at = self._clock()
            self._told_percent = _percent(event.bytes_found, event.total_bytes)
        total, part = human_size(event.total_bytes), human_size(event.part_size)
        if not event.parts:
            text = f"uploading {self._uri}: {total} in one request"
        elif event.parts_found:
            text = (
                f"resuming upload {event.upload_id} of {self._uri}: found {event.parts_found} of {event.parts} parts "
                f"({human_size(event.bytes_found)} of {total}), sending {event.parts - event.parts_found}"
            )
        else:
            text = f"uploading {self._uri}: {total} in {event.parts} parts of {part}, upload {event.upload_id}"
        self._log.info(
            text,
            upload_id=event.upload_id,
            bytes_total=event.total_bytes,
            bytes_found=event.bytes_found,
            parts_total=event.parts,
            parts_found=event.parts_found,
            part_size=event.part_size,
        )
        self._show(
            at_once=True,
            phase="uploading",
            key=event.key,
            upload_id=event.upload_id,
            part_size=event.part_size,
            parts_total=event.parts,
            parts_found=event.parts_found,
            parts_done=event.parts_found,
            bytes_total=event.total_bytes,
            bytes_found=event.bytes_found,
            bytes_done=event.bytes_found,
            bytes_sent=0,
            percentage=_percent(event.bytes_found, event.total_bytes),
            resumed_from=event.bytes_found,
        )

    def _moved(self, event: Progress) -> None:
        eta = round(event.eta_secs, 1) if event.eta_secs is not None else None
        figures: dict[str, Any] = {
            "bytes_done": event.bytes_done,
            "bytes_sent": event.bytes_sent,
            "parts_done": event.parts_done,
            "percentage": round(event.percentage, 1),
            "rate_bps": int(event.rate_bps),
            "eta_seconds": eta,
        }
        self._show(**figures)
        if not self._line_due(event.percentage):
            return
        left = f", {human_time(eta)} left" if eta is not None else ""
        again = f", {self._retries} requests were sent again" if self._retries else ""
        done, total = human_size(event.bytes_done), human_size(event.total_bytes)
        rate = human_size(event.rate_bps)
        self._log.info(f"{event.percentage:.0f} % ({done} of {total}), {rate}/s{left}{again}", **figures)

    def _line_due(self, percentage: float) -> bool:
        with self._lock:
            now = self._clock()
            if now - self._told_at < LOG_SECONDS and percentage - self._told_percent < LOG_PERCENT:
                return False
            self._told_at, self._told_percent = now, percentage
            return True

    def _retrying(self, event: Retrying) -> None:
        with self._lock:
            self._retries += 1
            told = self._retries
        if told > RETRIES_TOLD:
            return
        part = f" of part {event.part_number}" if event.part_number else ""
        silence = "; further ones are only counted" if told == RETRIES_TOLD else ""
        self._log.warning(
            f"{event.operation}{part} failed ({printable(event.reason)}); again in {event.delay:.1f} s{silence}",
            operation=event.operation,
            part_number=event.part_number,
            attempt=event.attempt,
        )

    def _completed(self, event: TransferCompleted) -> None:
        rate = event.bytes_sent / event.duration if event.duration > 0 else 0.0
        proof = f", proved by {event.integrity.value}" if event.integrity else ""
        saved = f", {human_size(event.bytes_saved)} saved by resuming" if event.bytes_saved else ""
        self._log.info(
            f"{self._uri} is complete: {human_size(event.total_bytes)}, {human_size(event.bytes_sent)} sent{saved}, "
            f"in {human_time(event.duration)} ({human_size(rate)}/s){proof}",
            bytes_total=event.total_bytes,
            bytes_sent=event.bytes_sent,
            bytes_saved=event.bytes_saved,
            duration=round(event.duration, 3),
            integrity=event.integrity.value if event.integrity else None,
            resumed=event.resumed,
        )
        self._show(
            at_once=True,
            phase="done",
            key=event.key,
            parts_done=self._parts or 0,
            bytes_total=event.total_bytes,
            bytes_done=event.total_bytes,
            bytes_sent=event.bytes_sent,
            percentage=100.0,
            rate_bps=int(rate),
            eta_seconds=0.0,
        )

    def _failed(self, event: TransferFailed) -> None:
        paused = self._cancel.cancelled
        self._log.warning(f"the upload {'paused' if paused else 'failed'}: {printable(event.error, 2000)}")
        self._show(at_once=True, phase="paused" if paused else "failed", key=event.key)

    def _batch_moved(self, event: BatchProgress) -> None:
        percentage = round(event.percentage, 1)
        ended = event.completed >= event.total
        self._show(
            at_once=ended,
            phase="batch",
            items_total=event.total,
            items_done=event.completed,
            items_failed=event.failed,
            percentage=percentage,
        )
        if self._line_due(percentage) or ended:
            self._log.info(
                f"{event.completed} of {event.total} objects: {event.succeeded} succeeded, {event.failed} failed",
                items_total=event.total,
                items_done=event.completed,
                items_failed=event.failed,
            )


def _percent(done: int, total: int) -> float:
    return round(100.0 * done / total, 1) if total else 100.0
