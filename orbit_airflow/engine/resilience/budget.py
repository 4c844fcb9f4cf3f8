"""One budget of repetitions for all requests of an engine, so that many threads do not make an outage worse."""

from __future__ import annotations

import threading

from orbit_airflow.engine.errors import Throttled

# botocore's figures for its own (per client) bucket: 500 tokens, a repetition costs 14, of a throttled request 5.
CAPACITY = 500
COST, THROTTLE_COST = 14, 5


class RetryBudget:
    """A bucket of tokens: repetitions take, successes give back. Thread-safe; never waits.

    A repetition that succeeds gives back what it took, so that single failures cost nothing; a request that succeeds
    at once gives one token. Only repetitions that fail as well empty the bucket.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._tokens = capacity
        self._lock = threading.Lock()

    def take(self, error: BaseException) -> int:
        """The tokens taken for sending a request again that failed with ``error``; 0 when it must not be."""
        cost = THROTTLE_COST if isinstance(error, Throttled) else COST
        with self._lock:
            if self._tokens < cost:
                return 0
            self._tokens -= cost
            return cost

    def give(self, tokens: int = 1) -> None:
        """A request succeeded."""
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + tokens)

    @property
    def left(self) -> int:
        """The tokens that are left."""
        return self._tokens
