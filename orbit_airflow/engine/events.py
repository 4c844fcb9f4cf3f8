"""What a transfer says while it runs: frozen events, a reporter that takes them, and a meter that counts bytes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orbit_airflow.engine.model import Integrity

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """The plan of an upload: its parts (0: a single request), and what was found of an earlier try."""

    key: str
    total_bytes: int
    part_size: int
    parts: int
    upload_id: str | None
    parts_found: int
    bytes_found: int
    direction: str = "upload"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the transfer stands; at most a few per second. ``bytes_done`` counts what was found, too."""

    total_bytes: int
    bytes_done: int
    bytes_sent: int
    bytes_found: int
    parts_done: int
    rate_bps: float
    eta_seconds: float | None

    @property
    def percentage(self) -> float:
        """0 to 100; an empty object is done at once."""
        return 100.0 * self.bytes_done / self.total_bytes if self.total_bytes else 100.0


@dataclass(frozen=True, slots=True)
class Retrying:
    """A request failed and will be sent again after ``delay`` seconds."""

    operation: str
    attempt: int
    delay: float
    reason: str
    part_number: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person reading the log wants to know (a foreign part, a lost answer, a restart)."""

    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class TransferCompleted:
    """The object is there and proved; figures of the last try."""

    key: str
    total_bytes: int
    bytes_sent: int
    bytes_saved: int
    duration: float
    integrity: Integrity
    resumed: bool


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The try ended without the object; ``kept_bytes`` stay at the store for the next one."""

    key: str
    error: str
    kept_bytes: int


TransferEvent = TransferStarted | Progress | Retrying | Notice | TransferCompleted | TransferFailed


class Reporter(Protocol):
    """Takes events, from any thread. It should be quick; what it raises is logged once and otherwise ignored."""

    def __call__(self, event: TransferEvent, /) -> None:
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
    """Bytes per second over the last ``window`` seconds, and the time left at that rate."""

    def __init__(self, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._total = 0

    def update(self, size: int) -> None:
        """Count ``size`` more bytes (negative when bytes were taken back)."""
        self._total += size
        now = self._clock()
        if now - self._samples[-1][0] >= self._window / 50:
            self._samples.append((now, self._total))
        while len(self._samples) > 2 and now - self._samples[0][0] > self._window:
            self._samples.popleft()

    def rate(self) -> float:
        """Bytes per second over the window."""
        since, base = self._samples[0]
        elapsed = self._clock() - since
        return max(0.0, (self._total - base) / elapsed) if elapsed > 0 else 0.0

    def throughput_mbps(self) -> float:
        """The rate in MB (10^6 bytes) per second."""
        return self.rate() / 1e6

    def eta(self, remaining: int) -> float | None:
        """Seconds until ``remaining`` bytes are done; None while nothing moves."""
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
            return Progress(
                total_bytes=self._total,
                bytes_done=done,
                bytes_sent=self.sent,
                bytes_found=self.found,
                parts_done=self._parts_done,
                rate_bps=self._tracker.rate(),
                eta_seconds=self._tracker.eta(self._total - done),
            )
