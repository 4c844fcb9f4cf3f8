"""A transfer in Airflow's own metrics: ``orbit.transfer.*``, through whatever backend the deployment has.

Tags are Airflow's (dag_id, task_id, team_name) with the operator and the direction: names that a deployment has few of.
Bucket and key are no tags: they come from templates, and each new value would be a new time series for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from orbit_airflow.engine.events import (
    Progress,
    Retrying,
    TransferCompleted,
    TransferDirection,
    TransferEvent,
    TransferFailed,
)

logger = logging.getLogger(__name__)

PREFIX = "orbit.transfer."
# How often a running transfer's bytes are counted; a packet for every figure would be two a second.
FLUSH_SECONDS = 5.0

Count = Callable[[str, int, dict[str, str]], object]
Time = Callable[[str, float, dict[str, str]], object]


def _count(name: str, value: int, tags: dict[str, str]) -> None:
    from airflow.sdk.observability import stats

    stats.incr(name, value, tags=tags)


def _time(name: str, milliseconds: float, tags: dict[str, str]) -> None:
    from airflow.sdk.observability import stats

    stats.timing(name, milliseconds, tags=tags)


class TransferMetrics:
    """One try's counters and its timer. Any thread may call; nothing raises, what fails is logged once.

    Bytes are counted while they travel, so that a try that is killed has counted all but its last seconds.
    """

    def __init__(
        self,
        tags: Mapping[str, str],
        direction: TransferDirection,
        *,
        count: Count = _count,
        time_of: Time = _time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tags = {**tags, "direction": direction.value}
        self._moved = "bytes_received" if direction is TransferDirection.DOWNLOAD else "bytes_sent"
        self._count = count
        self._time = time_of
        self._clock = clock
        self._lock = threading.Lock()
        self._began = self._flushed_at = clock()
        self._seen = 0
        self._retries = 0
        self._told: dict[str, int] = {}
        self._complained = False

    def begin(self) -> None:
        """A try has begun."""
        self._began = self._flushed_at = self._clock()
        self._incr("started", 1)

    def __call__(self, event: TransferEvent) -> None:
        """Count what the event says."""
        with self._lock:
            if isinstance(event, Retrying):
                self._retries += 1
            elif isinstance(event, Progress | TransferCompleted | TransferFailed):
                self._seen = max(self._seen, event.bytes_sent)
            saved = event.bytes_saved if isinstance(event, TransferCompleted) else 0
            due = self._clock() - self._flushed_at >= FLUSH_SECONDS
        if saved:
            self._incr("bytes_saved", saved)
        if due:
            self._flush()

    def end(self, outcome: str) -> None:
        """The try has ended as ``outcome`` says: completed, failed or paused."""
        self._flush()
        self._incr(outcome, 1)
        seconds = self._clock() - self._began
        self._harmlessly(lambda: self._time(f"{PREFIX}duration", seconds * 1000, {**self._tags, "outcome": outcome}))

    def _flush(self) -> None:
        with self._lock:
            self._flushed_at = self._clock()
            new = {name: value - self._told.get(name, 0) for name, value in self._totals().items()}
            self._told = self._totals()
        for name, value in new.items():
            if value > 0:
                self._incr(name, value)

    def _totals(self) -> dict[str, int]:
        return {self._moved: self._seen, "retries": self._retries}

    def _incr(self, name: str, value: int) -> None:
        self._harmlessly(lambda: self._count(PREFIX + name, value, self._tags))

    def _harmlessly(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            if not self._complained:
                self._complained = True
                logger.warning("metrics cannot be written; the transfer goes on without them", exc_info=True)
