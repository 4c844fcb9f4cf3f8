"""What a caller may choose about a batch, validated when it is built. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.keys import MAX_PAGE_KEYS
from orbit_airflow.engine.resilience.policy import RetryPolicy

MAX_CONCURRENT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How a batch works; the first six names and defaults are the guide's.

    ``max_concurrent`` requests run at once, ``rate_limit`` begin per second (None: as many as go; the listing of the
    source is not counted); the store's SlowDown lowers both for a while. ``operation_timeout``: no request for one key
    (or one page of deletes) begins later than this after its first one. ``fail_fast`` stops the batch behind the first
    key that failed. ``max_retries`` repetitions per request and per key of an answer, ``retry_delay`` before the first
    of them; it doubles.

    Guards, looked at before anything is changed, each at the price of one more reading of the source: ``max_keys``
    refuses a source with more keys, ``max_delete_percent`` (0 to 100) a delete of a larger share of the keys below the
    prefix, ``require_non_empty`` a source without keys. ``page_keys``: how many keys are one page, which is what the
    cursor counts and a DeleteObjects carries.
    """

    max_concurrent: int = 10
    rate_limit: float | None = None
    operation_timeout: float = 120.0
    fail_fast: bool = False
    max_retries: int = 3
    retry_delay: float = 0.5
    max_keys: int | None = None
    max_delete_percent: float | None = None
    require_non_empty: bool = False
    page_keys: int = MAX_PAGE_KEYS

    def __post_init__(self) -> None:
        _whole("max_concurrent", self.max_concurrent, 1, MAX_CONCURRENT)
        _whole("max_retries", self.max_retries, 0, 100)
        _whole("page_keys", self.page_keys, 1, MAX_PAGE_KEYS)
        if self.max_keys is not None:
            _whole("max_keys", self.max_keys, 0, 2**53)
        if self.rate_limit is not None:
            _number("rate_limit", self.rate_limit, 0.001, 1e6)
        if self.max_delete_percent is not None:
            _number("max_delete_percent", self.max_delete_percent, 0, 100)
        _number("operation_timeout", self.operation_timeout, 0.001, 86_400)
        _number("retry_delay", self.retry_delay, 0, 3600)
        for name in ("fail_fast", "require_non_empty"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is true or false, got {getattr(self, name)!r}")

    @property
    def policy(self) -> RetryPolicy:
        """The retries of one request."""
        longest = max(5.0, self.retry_delay)
        return RetryPolicy(
            max_attempts=1 + self.max_retries,
            initial_delay=self.retry_delay,
            max_delay=longest,
            use_circuit_breaker=False,
        )

    def with_max_concurrent(self, max_concurrent: int) -> BatchConfig:
        """The guide's builder: the same with another ``max_concurrent``."""
        return replace(self, max_concurrent=max_concurrent)

    def with_rate_limit(self, rate_limit: float | None) -> BatchConfig:
        """The guide's builder: the same with another ``rate_limit``."""
        return replace(self, rate_limit=rate_limit)

    def with_fail_fast(self, fail_fast: bool) -> BatchConfig:  # noqa: FBT001 - the guide's call
        """The guide's builder: the same with another ``fail_fast``."""
        return replace(self, fail_fast=fail_fast)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is a whole number from {low} to {high}, got {value!r}")


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name} is a number from {low:g} to {high:g}, got {value!r}")
