"""The pace of a batch: so many requests at once and per second, and fewer of both while the store says SlowDown.

A store that throttles is met by all workers together: the first SlowDown freezes them all, halves how many requests run
at once, and sets a rate a little below the one at which the store still answered. Both grow again, slowly, with every
second without a SlowDown. Concurrency alone would not do: against a store a millisecond away one single worker sends
hundreds of requests per second.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from orbit_airflow.engine.errors import OperationTimeout, RequestContext, Throttled

T = TypeVar("T")
LOOK_SECONDS = 0.05
# How long all workers rest behind a SlowDown that names no time of its own.
FREEZE_SECONDS = 1.0
# The share of the rate that the store was seen to bear, with which it is tried again; growth per second from there.
BACK_OFF, GROWTH = 0.8, 0.05
MEASURED_SECONDS = 1.0
# So much of a pause may be made up for, in seconds of the rate.
BURST_SECONDS = 0.02


class Gate(Protocol):
    """What every attempt of a request goes through."""

    def call(self, call: Callable[[], T]) -> T:
        """``call()``, when it may be made, or an error without it."""


class Pace:
    """One batch's pace, shared by its workers; as a Gate, it stands inside the retries and sees every attempt.

    ``most`` requests at once, ``rate`` per second (None: no limit). ``sleep`` is the batch's own, which a stop order
    ends.
    """

    def __init__(
        self,
        most: int,
        rate: float | None,
        *,
        sleep: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._highest = rate
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._limit = float(most)
        self._rate = rate
        self._free_at = self._grown_at = clock()
        self._frozen_until = 0.0
        self._good: deque[float] = deque()
        self._mine = threading.local()
        self.requests = 0
        self.slowed = 0

    def until(self, deadline: float | None) -> None:
        """Of this thread's requests, none begins behind ``deadline`` (of the clock): OperationTimeout then."""
        self._mine.deadline = deadline

    def call(self, call: Callable[[], T]) -> T:
        """``call()``, when its turn has come; what it raises comes out, a SlowDown slows everybody down."""
        self._enter()
        try:
            answer = call()
        except Throttled as exc:
            self._slow_down(exc)
            raise
        else:
            self._went_well()
            return answer
        finally:
            with self._lock:
                self._running -= 1

    def freeze(self, seconds: float) -> None:
        """Nobody sends anything for so long."""
        with self._lock:
            self._frozen_until = max(self._frozen_until, self._clock() + seconds)

    def _enter(self) -> None:
        while True:
            self._check_deadline()
            with self._lock:
                wait = self._wait()
                if wait <= 0:
                    self._running += 1
                    self.requests += 1
                    return
            self._sleep(min(wait, LOOK_SECONDS))

    def _check_deadline(self) -> None:
        deadline = getattr(self._mine, "deadline", None)
        if deadline is not None and self._clock() >= deadline:
            raise OperationTimeout("the operation's time is over (operation_timeout)", RequestContext(sent=False))

    def _wait(self) -> float:
        """Seconds until the next look; 0 takes a place."""
        now = self._clock()
        if now < self._frozen_until:
            return self._frozen_until - now
        if self._running >= max(1, int(self._limit)):
            return LOOK_SECONDS
        if self._rate is None:
            return 0.0
        if now < self._free_at:
            return self._free_at - now
        self._free_at = max(self._free_at, now - BURST_SECONDS) + 1 / self._rate
        return 0.0

    def _slow_down(self, error: Throttled) -> None:
        with self._lock:
            now = self._clock()
            asked = error.context.retry_after or FREEZE_SECONDS
            if now < self._frozen_until:
                # A request that was under way when another one was refused: the same story.
                self._frozen_until = max(self._frozen_until, now + min(asked, FREEZE_SECONDS))
                return
            self.slowed += 1
            self._forget(now)
            borne = len(self._good) / MEASURED_SECONDS
            self._rate = max(1.0, BACK_OFF * (borne if self._rate is None else min(borne, self._rate)))
            self._limit = max(1.0, self._limit / 2)
            self._frozen_until = self._free_at = self._grown_at = now + asked
            self._good.clear()

    def _went_well(self) -> None:
        with self._lock:
            now = self._clock()
            self._good.append(now)
            self._forget(now)
            self._limit = min(float(self._most), self._limit + 1 / self._limit)
            if self._rate is not None and now > self._grown_at:
                grown = self._rate * (1 + GROWTH * (now - self._grown_at))
                self._rate = grown if self._highest is None else min(grown, self._highest)
                self._grown_at = now

    def _forget(self, now: float) -> None:
        while self._good and self._good[0] <= now - MEASURED_SECONDS:
            self._good.popleft()
