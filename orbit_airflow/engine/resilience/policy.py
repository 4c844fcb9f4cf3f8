"""When a request is sent again, and after how long. tenacity drives the loop; the numbers are the guide's."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import tenacity

from orbit_airflow.engine.errors import ConfigError, StoreError, Throttled

T = TypeVar("T")
Retryable = Callable[[BaseException], bool]
OnRetry = Callable[[int, float, BaseException], None]

# S3 asks throttled clients to go away for longer than a lost packet does (botocore uses the same floor).
THROTTLE_FLOOR = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Attempts and delays in seconds. ``max_attempts`` counts the first one; delays grow by ``multiplier``.

    ``jitter_factor`` 0.1 spreads each delay by up to 10 % either way. A store's Retry-After is a lower bound.
    """

    max_attempts: int = 5
    initial_delay: float = 0.1
    max_delay: float = 5.0
    multiplier: float = 2.0
    jitter_factor: float = 0.1

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.initial_delay < 0 or self.max_delay < self.initial_delay:
            raise ConfigError(f"not a retry policy: {self!r} (max_attempts >= 1, 0 <= initial_delay <= max_delay)")
        if self.multiplier < 1 or not 0 <= self.jitter_factor <= 1:
            raise ConfigError(f"not a retry policy: {self!r} (multiplier >= 1, jitter_factor 0 to 1)")

    @classmethod
    def fast(cls) -> RetryPolicy:
        """For low latency: 3 attempts, 50 ms to 1 s."""
        return cls(max_attempts=3, initial_delay=0.05, max_delay=1.0)

    @classmethod
    def slow(cls) -> RetryPolicy:
        """For a store that needs time: 5 attempts, 200 ms to 10 s."""
        return cls(max_attempts=5, initial_delay=0.2, max_delay=10.0)

    @classmethod
    def network(cls) -> RetryPolicy:
        """For an unreliable line: 5 attempts, 100 ms to 5 s."""
        return cls(max_attempts=5, initial_delay=0.1, max_delay=5.0)

    @classmethod
    def named(cls, name: str) -> RetryPolicy:
        """A preset by its name; ConfigError for another word."""
        presets = {"fast": cls.fast, "slow": cls.slow, "network": cls.network}
        if name not in presets:
            raise ConfigError(f"no retry preset {name!r}; there are {', '.join(presets)}")
        return presets[name]()

    def with_max_retries(self, max_retries: int) -> RetryPolicy:
        """The same delays with 1 + ``max_retries`` attempts."""
        return replace(self, max_attempts=1 + max_retries)

    def delay(self, attempt: int, error: BaseException | None, rng: random.Random) -> float:
        """Seconds to wait behind failed attempt number ``attempt`` (from 1). Pure but for ``rng``."""
        exponent = min(attempt - 1, 63)
        base = min(self.initial_delay * self.multiplier**exponent, self.max_delay)
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
    ) -> T:
        """``call()`` until it returns, is not retryable, or the attempts are spent; then the last error is raised."""

        def wait(state: tenacity.RetryCallState) -> float:
            return self.delay(state.attempt_number, state.outcome.exception() if state.outcome else None, rng)

        def announce(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if on_retry is not None and error is not None:
                on_retry(state.attempt_number, state.upcoming_sleep, error)

        loop = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.max_attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(retryable),
            sleep=sleep,
            before_sleep=announce,
            reraise=True,
        )
        return loop(call)
