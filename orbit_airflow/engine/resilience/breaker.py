"""A circuit breaker: a store that fails again and again is left alone for a while, and then asked by one request.

It locks for its own state only, never around a request (a library that did made eight calls of 0.2 s take 1.6 s).

A half-open breaker's probe gives its place back however it ends, also with a stop order or a KeyboardInterrupt. A probe
whose thread never comes back (a system call without an end) loses its place after ``timeout`` seconds; what it reports
later is not counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from orbit_airflow.engine.errors import CircuitOpen, ConfigError, Network, StoreError, Throttled

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """``failure_threshold`` failures in a row open it; after ``timeout`` seconds it is half open and lets one request
    through at a time; ``success_threshold`` successes close it, one failure opens it again.
    """

    failure_threshold: int = 5
    timeout: float = 60.0
    success_threshold: int = 2

    def __post_init__(self) -> None:
        if self.failure_threshold < 1 or self.success_threshold < 1 or self.timeout <= 0:
            raise ConfigError(f"not a circuit breaker: {self!r} (thresholds >= 1, timeout > 0)")


class State(Enum):
    """The three states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Verdict(Enum):
    """What a request's end says about the store."""

    WELL = "well"
    ILL = "ill"
    NOTHING = "nothing"


def verdict_on(error: BaseException | None) -> Verdict:
    """Only the store's own faults count: a 4xx shows that it is well, throttling that it is busy.

    Anything else (a stop order, an error in a body, credentials that could not be fetched) says nothing about it.
    """
    if error is None:
        return Verdict.WELL
    if isinstance(error, Network):
        return Verdict.ILL
    answered = isinstance(error, StoreError) and error.context.sent and not isinstance(error, Throttled | CircuitOpen)
    return Verdict.WELL if answered else Verdict.NOTHING


class _Pass:
    """One request's way through; ``probe`` for the one that a half-open breaker lets through."""

    def __init__(self, *, probe: bool, at: float) -> None:
        self.probe = probe
        self.at = at


class CircuitBreaker:
    """One store's breaker, shared by the threads of a process."""

    def __init__(
        self, config: CircuitBreakerConfig | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config or CircuitBreakerConfig()
        self._clock = clock
        self._lock = threading.Lock()
        self._state = State.CLOSED
        self._failures = 0
        self._successes = 0
        self._opened_at = 0.0
        self._probe: _Pass | None = None

    @property
    def state(self) -> State:
        """The state as of now: an open breaker whose time is over is half open."""
        with self._lock:
            return self._now()

    @property
    def is_open(self) -> bool:
        """True while requests are refused; a half-open breaker lets one through and is not open."""
        return self.state is State.OPEN

    def call(self, call: Callable[[], T]) -> T:
        """``call()`` if the breaker lets it through; CircuitOpen (with the seconds to wait) if not.

        What it raises comes out as it is, and decides what the breaker learns.
        """
        given = self._admit()
        error: BaseException | None = None
        try:
            return call()
        except BaseException as exc:
            error = exc
            raise
        finally:
            self._record(verdict_on(error), given)

    def attend(self, call: Callable[[], object]) -> None:
        """Ask the store in any state, for somebody who paces himself: as often as it takes to close the breaker.

        Returns when the store is well and the breaker closed. Raises what shows that it is not well, which leaves an
        open breaker as it is. An answer like NotFound is a good one here, and is swallowed.
        """
        for _ in range(self.config.success_threshold):
            verdict = Verdict.WELL
            try:
                call()
            except BaseException as exc:
                verdict = verdict_on(exc)
                if verdict is not Verdict.WELL:
                    raise
            finally:
                self._attended(verdict)
            if self.state is State.CLOSED:
                return

    def _now(self) -> State:
        if self._state is State.OPEN and self._clock() - self._opened_at >= self.config.timeout:
            self._half_open()
        return self._state

    def _half_open(self) -> None:
        self._state = State.HALF_OPEN
        self._successes = 0
        self._probe = None

    def _admit(self) -> _Pass:
        with self._lock:
            state, now = self._now(), self._clock()
            if state is State.CLOSED:
                return _Pass(probe=False, at=now)
            if state is State.HALF_OPEN:
                if self._probe is None or now - self._probe.at >= self.config.timeout:
                    self._probe = _Pass(probe=True, at=now)
                    return self._probe
                left = 1.0
            else:
                left = self.config.timeout - (now - self._opened_at)
        raise CircuitOpen.after(max(0.1, left))

    def _record(self, verdict: Verdict, given: _Pass) -> None:
        with self._lock:
            current = given is self._probe
            if current:
                self._probe = None
            if verdict is Verdict.NOTHING:
                return
            state = self._now()
            if state is State.HALF_OPEN and current:
                self._count_probe(verdict)
            elif state is State.CLOSED and not given.probe:
                self._count(verdict)

    def _attended(self, verdict: Verdict) -> None:
        with self._lock:
            state = self._now()
            if verdict is Verdict.NOTHING or (state is State.OPEN and verdict is Verdict.ILL):
                return
            if state is State.CLOSED:
                self._count(verdict)
                return
            if state is State.OPEN:
                self._half_open()
            self._count_probe(verdict)

    def _count(self, verdict: Verdict) -> None:
        self._failures = self._failures + 1 if verdict is Verdict.ILL else 0
        if self._failures >= self.config.failure_threshold:
            self._open()

    def _count_probe(self, verdict: Verdict) -> None:
        if verdict is Verdict.ILL:
            self._open()
            return
        self._successes += 1
        if self._successes >= self.config.success_threshold:
            self._state = State.CLOSED
            self._failures = 0

    def _open(self) -> None:
        self._state = State.OPEN
        self._opened_at = self._clock()
        self._failures = 0


_shared: dict[tuple[str, str], CircuitBreaker] = {}
_shared_lock = threading.Lock()


def shared_breaker(endpoint: str, bucket: str, config: CircuitBreakerConfig | None = None) -> CircuitBreaker:
    """The process's breaker for a bucket at an endpoint; ``config`` counts for the first one who asks."""
    with _shared_lock:
        found = _shared.get((endpoint, bucket))
        if found is None:
            found = _shared[endpoint, bucket] = CircuitBreaker(config)
        return found


def forget_breakers() -> None:
    """Drop this process's shared breakers: for tests, whose outages must not reach into the next test."""
    with _shared_lock:
        _shared.clear()
