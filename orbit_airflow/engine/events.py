"""What a transfer says while it runs: frozen events, a reporter that takes them, and a meter that counts bytes.

Every event of one transfer carries the same ``operation_id``; another try has another one. A megabyte is the guide's:
1,048,576 bytes. ``progress`` holds what carries events to their readers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orbit_airflow.engine.model import MIB, Checksum, Integrity

logger = logging.getLogger(__name__)


class TransferDirection(StrEnum):
    """Which way the bytes go."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    COPY = "copy"
    # Many objects, with or without bytes.
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStarted:
    """The plan of a transfer: its parts (0: a single request), and what was found of an earlier try."""

    key: str
    total_bytes: int
    direction: TransferDirection = TransferDirection.UPLOAD
    part_size: int = 0
    parts: int = 0
    upload_id: str | None = None
    parts_found: int = 0
    bytes_found: int = 0
    operation_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where the transfer stands; at most a few per second. ``bytes_done`` counts what was found, too.

    Honest about what is sent again: the bytes of a failed attempt are taken back from ``bytes_done``, so that it and
    ``percentage`` may fall, by no more than the parts that were under way; ``bytes_sent`` never falls. ``rate_bps`` is
    in bytes per second, ``eta_secs`` is None while nothing moves.
    """

    total_bytes: int
    bytes_done: int
    bytes_sent: int = 0
    bytes_found: int = 0
    parts_done: int = 0
    rate_bps: float = 0.0
    eta_secs: float | None = None
    operation_id: str = ""

    @property
    def percentage(self) -> float:
        """0 to 100, never above; an empty object is done at once."""
        return min(100.0, 100.0 * self.bytes_done / self.total_bytes) if self.total_bytes else 100.0


@dataclass(frozen=True, slots=True)
class Retrying:
    """A request failed and will be sent again after ``delay`` seconds."""

    operation: str
    attempt: int
    delay: float
    reason: str
    part_number: int | None = None
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person reading the log wants to know (a foreign part, a lost answer, a restart).

    ``waited``: seconds of an outage of the store that is over with this notice.
    """

    message: str
    warning: bool = False
    operation_id: str = ""
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class TransferStats:
    """A transfer's size in bytes, its duration in seconds, and its highest rate in bytes per second, if measured."""

    total_bytes: int
    duration: float
    peak_bps: float | None = None

    def avg_throughput_mbps(self) -> float:
        """Megabytes per second from beginning to end; 0 for a transfer that took no time."""
        return self.total_bytes / self.duration / MIB if self.duration > 0 else 0.0

    def peak_throughput_mbps(self) -> float:
        """The highest rate that was seen, which is never below the average; the average when none was measured."""
        return max(self.avg_throughput_mbps(), (self.peak_bps or 0.0) / MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCompleted:
    """The object is there and proved; figures of the last try. ``duration`` is in seconds. ``bytes_sent`` counts what
    travelled, in either direction.
    """

    key: str
    total_bytes: int
    duration: float
    bytes_sent: int = 0
    bytes_saved: int = 0
    integrity: Integrity | None = None
    resumed: bool = False
    peak_bps: float | None = None
    checksum: Checksum | None = None
    version_id: str | None = None
    operation_id: str = ""

    @property
    def stats(self) -> TransferStats:
        """The rates of this try: of the bytes that it sent, not of those that it found."""
        return TransferStats(self.bytes_sent, self.duration, self.peak_bps)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferFailed:
    """The try ended without the object; ``kept_bytes`` stay where they are for the next one, and ``bytes_sent`` is what
    travelled in this one, in either direction.
    """

    key: str
    error: str
    kept_bytes: int = 0
    bytes_sent: int = 0
    operation_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """Where a batch of objects stands: ``completed`` of ``total`` have ended, well or not.

    ``more``: the source is still being read, and ``total`` is what it has shown so far.
    """

    completed: int
    total: int
    succeeded: int
    failed: int
    operation_id: str = ""
    more: bool = False

    @property
    def percentage(self) -> float:
        """0 to 100; an empty batch is done at once."""
        return min(100.0, 100.0 * self.completed / self.total) if self.total else 100.0


TransferEvent = TransferStarted | Progress | Retrying | Notice | TransferCompleted | TransferFailed | BatchProgress


class Reporter(Protocol):
    """Takes events. It may be slow: it runs on a thread of its own and misses figures then, never a start or an end.
    What it raises is logged once and otherwise ignored, and so is what it returns.
    """

    def __call__(self, event: TransferEvent, /) -> object:
        """Take one event."""


def no_reporter(event: TransferEvent) -> None:
    """The reporter of those who do not ask."""


class GuardedReporter:
    """Keeps a transfer safe from its reporter: an exception in it is logged once and never reaches the engine."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._complained = False

    def __call__(self, event: TransferEvent) -> None:
        """Pass the event on."""
        try:
            self._reporter(event)
        except Exception:
            if not self._complained:
                self._complained = True
                logger.warning("the progress reporter raised; the transfer goes on without it", exc_info=True)


class ThroughputTracker:
    """Bytes per second over the last ``window`` seconds, and the time left at that rate. Threads may share it."""

    def __init__(self, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._total = 0

    def update(self, size: int) -> None:
        """Count ``size`` more bytes (negative when bytes were taken back)."""
        with self._lock:
            self._total += size
            now = self._clock()
            if now - self._samples[-1][0] >= self._window / 50:
                self._samples.append((now, self._total))
            while len(self._samples) > 2 and now - self._samples[0][0] > self._window:
                self._samples.popleft()

    def rate(self) -> float:
        """Bytes per second over the window."""
        with self._lock:
            since, base = self._samples[0]
            elapsed = self._clock() - since
            return max(0.0, (self._total - base) / elapsed) if elapsed > 0 else 0.0

    def throughput_mbps(self) -> float:
        """The rate in megabytes per second."""
        return self.rate() / MIB

    def eta(self, total_bytes: int) -> float | None:
        """Seconds until ``total_bytes`` are counted, those included that are already; None while nothing moves.

        0.0 when there is nothing left to wait for.
        """
        remaining = total_bytes - self._total
        if remaining <= 0:
            return 0.0
        rate = self.rate()
        return remaining / rate if rate > 0 else None


class Meter:
    """Counts a transfer's bytes over all worker threads and reports at most every ``every`` seconds.

    Honest when a part is sent again: ``rewind`` takes its bytes back from the done ones; ``sent`` keeps them, since
    they did travel.
    """

    def __init__(
        self, total: int, reporter: Reporter, *, clock: Callable[[], float] = time.monotonic, every: float = 0.5
    ) -> None:
        self._total = total
        self._reporter = reporter
        self._clock = clock
        self._every = every
        self._lock = threading.Lock()
        self._tracker = ThroughputTracker(clock=clock)
        self._last = clock()
        self.sent = 0
        self.found = 0
        self._in_flight_done = 0
        self._parts_done = 0
        self._peak = 0.0

    @property
    def peak_bps(self) -> float | None:
        """The highest rate of all figures that were reported; None when it was over before the first one."""
        return self._peak or None

    def add_found(self, size: int) -> None:
        """A part of an earlier try was compared and is used."""
        with self._lock:
            self.found += size
            self._parts_done += 1

    def add_sent(self, size: int) -> None:
        """A block is about to leave."""
        with self._lock:
            self.sent += size
            self._in_flight_done += size
            self._tracker.update(size)
            due = self._clock() - self._last >= self._every
            if due:
                self._last = self._clock()
        if due:
            self._reporter(self.snapshot())

    def rewind(self, size: int) -> None:
        """``size`` bytes of a failed attempt do not count as done."""
        with self._lock:
            self._in_flight_done -= size
            self._tracker.update(-size)

    def part_done(self) -> None:
        """A part was acknowledged."""
        with self._lock:
            self._parts_done += 1

    def snapshot(self) -> Progress:
        """The present figures."""
        with self._lock:
            done = min(self._total, self.found + max(0, self._in_flight_done))
            rate = self._tracker.rate()
            self._peak = max(self._peak, rate)
            return Progress(
                total_bytes=self._total,
                bytes_done=done,
                bytes_sent=self.sent,
                bytes_found=self.found,
                parts_done=self._parts_done,
                rate_bps=rate,
                eta_secs=self._tracker.eta(self._total - self.found),
            )
