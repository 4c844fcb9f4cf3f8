"""What a running transfer shows: the XCom ``orbit_progress`` for the present try, and the log's story for every try."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.durable.words import (
    Stopped,
    Troubles,
    end_line,
    failure_line,
    percent,
    progress_line,
    start_line,
    words_for,
)
from orbit_airflow.engine.errors import OrbitError, printable
from orbit_airflow.engine.events import (
    BatchProgress,
    Notice,
    Progress,
    Retrying,
    TransferCompleted,
    TransferDirection,
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

    ``progress`` is None when the task does not want XComs. ``uri`` is the object's; ``target`` is the local file that a
    download makes. ``details`` are read when the transfer starts, and folded in the log below its first line.
    """

    def __init__(
        self,
        log: Any,
        progress: XComProgress | None,
        cancel: Cancellation,
        *,
        uri: str,
        direction: TransferDirection = TransferDirection.UPLOAD,
        target: str | None = None,
        try_number: int = 1,
        details: Mapping[str, object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._progress = progress
        self._cancel = cancel
        self._uri = printable(uri)
        self._words = words_for(direction)
        self._target = printable(target) if target else None
        self._try_number = try_number
        self._details = details
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._parts: int | None = None
        self._total: int | None = None
        self._done = 0
        self._over = False
        self._retries = 0
        self._waited = 0.0
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
                self._noticed(event)
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
        share = percent(event.bytes_found, event.total_bytes)
        with self._lock:
            self._words = words_for(event.direction)
            self._parts, self._total, self._done = event.parts, event.total_bytes, event.bytes_found
            self._told_at, self._told_percent = self._clock(), share
        figures: dict[str, Any] = {
            "upload_id": event.upload_id,
            "bytes_total": event.total_bytes,
            "bytes_found": event.bytes_found,
            "parts_total": event.parts,
            "parts_found": event.parts_found,
            "part_size": event.part_size,
        }
        self._log.info(start_line(event, self._words, self._uri, try_number=self._try_number), **figures)
        self._tell_details()
        self._show(
            at_once=True,
            phase=self._words.doing,
            key=event.key,
            **figures,
            parts_done=event.parts_found,
            bytes_done=event.bytes_found,
            percentage=share,
            resumed_from=event.bytes_found,
            **{self._words.moved: 0},
        )

    def _tell_details(self) -> None:
        """A group of lines, which the UI shows folded."""
        if not self._details:
            return
        self._log.info("::group::Details of this transfer")
        for name, value in dict(self._details).items():
            self._log.info(f"{name}: {printable(str(value), 1200)}")
        self._log.info("::endgroup::")

    def _moved(self, event: Progress) -> None:
        figures: dict[str, Any] = {
            "bytes_done": event.bytes_done,
            self._words.moved: event.bytes_sent,
            "parts_done": event.parts_done,
            "percentage": round(event.percentage, 1),
            "rate_bps": int(event.rate_bps),
            "eta_seconds": round(event.eta_secs, 1) if event.eta_secs is not None else None,
        }
        self._done = event.bytes_done
        self._show(**figures)
        if self._line_due(event.percentage):
            self._log.info(progress_line(event, retries=self._retries), **figures)

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
        part = f" of {self._words.piece} {event.part_number}" if event.part_number else ""
        silence = "; further ones are only counted" if told == RETRIES_TOLD else ""
        self._log.warning(
            f"{event.operation}{part} failed ({printable(event.reason)}); again in {event.delay:.1f} s{silence}",
            operation=event.operation,
            part_number=event.part_number,
            attempt=event.attempt,
            delay=round(event.delay, 3),
        )

    def _noticed(self, event: Notice) -> None:
        with self._lock:
            self._waited += event.waited
        (self._log.warning if event.warning else self._log.info)(printable(event.message, 1000))

    def _troubles(self) -> Troubles:
        return Troubles(retries=self._retries, waited=round(self._waited, 3))

    def _completed(self, event: TransferCompleted) -> None:
        words, troubles = self._words, self._troubles()
        rate = event.bytes_sent / event.duration if event.duration > 0 else 0.0
        self._over = True
        self._log.info(
            end_line(event, words, self._uri, self._target, troubles),
            bytes_total=event.total_bytes,
            bytes_saved=event.bytes_saved,
            duration=round(event.duration, 3),
            integrity=event.integrity.value if event.integrity else None,
            checksum=f"{event.checksum.algorithm}:{event.checksum.value}" if event.checksum else None,
            version_id=event.version_id,
            resumed=event.resumed,
            retries=troubles.retries,
            waited=troubles.waited,
            **{words.moved: event.bytes_sent},
        )
        self._show(
            at_once=True,
            phase="done",
            key=event.key,
            parts_done=self._parts or 0,
            bytes_total=event.total_bytes,
            bytes_done=event.total_bytes,
            percentage=100.0,
            rate_bps=int(rate),
            eta_seconds=0.0,
            **{words.moved: event.bytes_sent},
        )

    def _failed(self, event: TransferFailed) -> None:
        stopped = Stopped(
            paused=self._cancel.cancelled,
            seconds=self._clock() - self._began,
            done=event.kept_bytes,
            total=self._total,
        )
        phase, troubles = "paused" if stopped.paused else "failed", self._troubles()
        self._log.warning(
            failure_line(event, self._words, self._uri, stopped, troubles),
            phase=phase,
            bytes_total=stopped.total,
            bytes_done=stopped.done,
            duration=round(stopped.seconds, 3),
            retries=troubles.retries,
            waited=troubles.waited,
            **{self._words.moved: event.bytes_sent},
        )
        self._over = True
        self._show(at_once=True, phase=phase, **({"key": event.key} if event.key else {}))

    def ended_by(self, error: BaseException) -> None:
        """Tell of a try that ended before its transfer could (no connection, a wrong option), or beside it."""
        if not self._over:
            # What a stranger's exception says may hold anything; Airflow logs it, with secrets masked.
            text = str(error) if isinstance(error, OrbitError) else type(error).__name__
            self._failed(TransferFailed(key="", error=text, kept_bytes=self._done))

    def _batch_moved(self, event: BatchProgress) -> None:
        percentage = round(event.percentage, 1)
        ended = event.completed >= event.total and not event.more
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
