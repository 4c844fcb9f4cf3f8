"""Pacing: how many requests run at once, and how many bytes leave per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_SECONDS = 0.1


class BandwidthLimiter:
    """A token bucket of bytes shared by all threads of an engine; ``rate`` in bytes per second.

    ``take(n)`` returns when n bytes may be sent. The bucket holds a tenth of a second, so a pause is not made up for.
    """

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate <= 0:
            raise ValueError(f"a bandwidth limit is a positive number of bytes per second, got {rate}")
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, size: int, sleep: Callable[[float], None] | None = None) -> None:
        """Wait for the turn of the next ``size`` bytes; ``sleep`` is the transfer's own, which a stop order ends."""
        with self._lock:
            now = self._clock()
            start = max(self._free_at, now - 0.1)
            self._free_at = start + size / self._rate
            wait = start - now
        if wait > 0:
            (sleep or self._sleep)(wait)


class Permits:
    """At most ``count`` requests at once."""

    def __init__(self, count: int) -> None:
        self._semaphore = threading.BoundedSemaphore(count)

    @contextmanager
    def one(self, check: Callable[[], None]) -> Iterator[None]:
        """Hold a permit; ``check`` is called while waiting for it and may raise. Given back on every way out."""
        while not self._semaphore.acquire(timeout=LOOK_SECONDS):
            check()
        try:
            yield
        finally:
            self._semaphore.release()
