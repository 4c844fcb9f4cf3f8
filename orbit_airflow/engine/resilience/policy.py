"""When a request is sent again, and after how long. tenacity drives the loop; the numbers are the guide's."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import tenacity

from orbit_airflow.engine.errors import ConfigError, Disposition, OrbitError, StoreError, Throttled
from orbit_airflow.engine.resilience.breaker import CircuitBreaker, CircuitBreakerConfig

T = TypeVar("T")
Retryable = Callable[[BaseException], bool]
OnRetry = Callable[[int, float, BaseException], None]

# S3 asks throttled clients to go away for longer than a lost packet does (botocore uses the same floor).
THROTTLE_FLOOR = 1.0


@dataclass(frozen=True, slots=True)
class BackoffStrategy:
    """How delays grow: each is ``multiplier`` times the one before it."""

    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if not self.multiplier >= 1:
            raise ConfigError(f"not a backoff: {self!r} (multiplier >= 1)")

    @classmethod
    def exponential(cls, multiplier: float = 2.0) -> BackoffStrategy:
        """The guide's one; 1.0 keeps every delay the same."""
        return cls(multiplier)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Attempts and delays in seconds. ``max_attempts`` counts the first one; delays grow as ``backoff`` says.

    ``jitter_factor`` 0.1 spreads each delay by up to 10 % either way. A store's Retry-After is a lower bound.
    ``use_circuit_breaker``: the engine keeps a breaker per endpoint and bucket, which opens after
    ``circuit_breaker_threshold`` failures in a row, for ``circuit_breaker_timeout`` seconds.
    """

    max_attempts: int = 5
    initial_delay: float = 0.1
    max_delay: float = 5.0
    backoff: BackoffStrategy = BackoffStrategy()
    jitter_factor: float = 0.1
    use_circuit_breaker: bool = True
    circuit_breaker_threshold: int = 5
    circuit_breaker_timeout: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.backoff, BackoffStrategy):
            raise ConfigError(f"not a retry policy: {self!r} (backoff is a BackoffStrategy)")
        # "not >=" instead of "<": a NaN must not get through.
        if not (self.max_attempts >= 1 and self.initial_delay >= 0 and self.max_delay >= self.initial_delay):
            raise ConfigError(f"not a retry policy: {self!r} (max_attempts >= 1, 0 <= initial_delay <= max_delay)")
        if not 0 <= self.jitter_factor <= 1:
            raise ConfigError(f"not a retry policy: {self!r} (jitter_factor 0 to 1)")
        if not (self.circuit_breaker_threshold >= 1 and self.circuit_breaker_timeout > 0):
            raise ConfigError(f"not a retry policy: {self!r} (circuit breaker threshold >= 1, timeout > 0)")

    @classmethod
    def fast(cls) -> RetryPolicy:
        """For low latency: 3 attempts, 50 ms to 1 s, no breaker."""
        return cls(max_attempts=3, initial_delay=0.05, max_delay=1.0, use_circuit_breaker=False)

    @classmethod
    def slow(cls) -> RetryPolicy:
        """For a store that needs time: 5 attempts, 200 ms to 10 s, no breaker."""
        return cls(max_attempts=5, initial_delay=0.2, max_delay=10.0, use_circuit_breaker=False)

    @classmethod
    def network(cls) -> RetryPolicy:
        """For an unreliable line: 5 attempts, 100 ms to 5 s, with a circuit breaker."""
        return cls(max_attempts=5, initial_delay=0.1, max_delay=5.0)

    @classmethod
    def named(cls, name: str) -> RetryPolicy:
        """A preset by its name; ConfigError for another word."""
        presets = {"fast": cls.fast, "slow": cls.slow, "network": cls.network}
        if name not in presets:
            raise ConfigError(f"no retry preset {name!r}; there are {', '.join(presets)}")
        return presets[name]()

    @property
    def multiplier(self) -> float:
        """The backoff's."""
        return self.backoff.multiplier

    @property
    def breaker_config(self) -> CircuitBreakerConfig | None:
        """The settings of the breaker that this policy wants; None when it wants none."""
        if not self.use_circuit_breaker:
            return None
        return CircuitBreakerConfig(
            failure_threshold=self.circuit_breaker_threshold, timeout=self.circuit_breaker_timeout
        )

    def with_max_retries(self, max_retries: int) -> RetryPolicy:
        """The same delays with 1 + ``max_retries`` attempts."""
        return replace(self, max_attempts=1 + max_retries)

    def delay(self, attempt: int, error: BaseException | None, rng: random.Random) -> float:
        """Seconds to wait behind failed attempt number ``attempt`` (from 1). Pure but for ``rng``."""
        exponent = min(attempt - 1, 63)
        base = min(self.initial_delay * self.backoff.multiplier**exponent, self.max_delay)
        if isinstance(error, Throttled):
            base = max(base, min(THROTTLE_FLOOR, self.max_delay))
        base *= 1 + self.jitter_factor * (2 * rng.random() - 1)
        hint = error.context.retry_after if isinstance(error, StoreError) else None
        return max(base, hint or 0.0)

    def run(
        self,
        call: Callable[[], T],
        *,
        retryable: Retryable,
        sleep: Callable[[float], None],
        rng: random.Random,
        on_retry: OnRetry | None = None,
        may_repeat: Retryable | None = None,
    ) -> T:
        """``call()`` until it returns, is not retryable, or the attempts are spent; then the last error is raised.

        ``may_repeat`` is asked once for each repetition that would follow; False ends the loop as well.
        """

        def wait(state: tenacity.RetryCallState) -> float:
            return self.delay(state.attempt_number, state.outcome.exception() if state.outcome else None, rng)

        def announce(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if on_retry is not None and error is not None:
                on_retry(state.attempt_number, state.upcoming_sleep, error)

        def stop(state: tenacity.RetryCallState) -> bool:
            if state.attempt_number >= self.max_attempts:
                return True
            error = state.outcome.exception() if state.outcome else None
            return may_repeat is not None and error is not None and not may_repeat(error)

        loop = tenacity.Retrying(
            stop=stop,
            wait=wait,
            retry=tenacity.retry_if_exception(retryable),
            sleep=sleep,
            before_sleep=announce,
            reraise=True,
        )
        return loop(call)


def worth_repeating(error: BaseException) -> bool:
    """``with_retry``'s own choice: the engine's errors that may pass by themselves.

    Neither a stop order nor an open breaker: both mean "not now".
    """
    return isinstance(error, OrbitError) and error.disposition is Disposition.RETRY


def with_retry(
    policy: RetryPolicy,
    call: Callable[[], T],
    *,
    breaker: CircuitBreaker | None = None,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
    retryable: Retryable = worth_repeating,
) -> T:
    """``call()``, repeated as ``policy`` says; its result, or the last error as it is.

    For work of your own: the engine's verbs repeat their single requests by themselves, so a verb in here is tried
    that many times more. ``breaker``: one that you share between calls; every attempt goes through it, and CircuitOpen
    ends the repetition. Without one, ``policy.use_circuit_breaker`` has nothing to share and no effect here.
    """
    attempt = call if breaker is None else lambda: breaker.call(call)
    return policy.run(attempt, retryable=retryable, sleep=sleep, rng=rng or random.Random())  # noqa: S311 - jitter
