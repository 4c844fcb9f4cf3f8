"""One upload rate for all connections together, changeable while bodies arrive."""

import threading
from collections.abc import Callable

_BURST_SECONDS = 0.05
_SLICE_SECONDS = 0.02
_LEAST_SLICE = 16 * 1024


class Pacer:
    """A token bucket; without a rate it costs one lock per block."""

    def __init__(self, stop: threading.Event, clock: Callable[[], float], rate: int | None = None) -> None:
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._rate = rate
        self._free_at = clock()

    def set_rate(self, rate: int | None) -> None:
        """The new rate in bytes per second; None takes the limit away."""
        with self._lock:
            self._rate = rate or None
            self._free_at = self._clock()

    def block_size(self, most: int) -> int:
        """How much to read at once, so that a slow body still shows steady progress."""
        rate = self._rate
        return most if rate is None else max(1, min(most, max(_LEAST_SLICE, int(rate * _SLICE_SECONDS))))

    def pay(self, count: int) -> None:
        """Wait until `count` more bytes fit the rate, or the server stops."""
        with self._lock:
            rate = self._rate
            if rate is None:
                return
            now = self._clock()
            self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / rate
            wait = self._free_at - now
        if wait > 0:
            self._stop.wait(wait)
