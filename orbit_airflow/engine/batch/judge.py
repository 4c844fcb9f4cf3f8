"""Whose fault it is when a key's requests fail for good: the key's, or the store's.

Five bad keys must not stop the other 995, and a store that is out must not fail a million keys one by one. A request's
own error does not tell the two apart (both are a 500), so the store is asked about something else: a HEAD of a key that
need not be there. An answer means that the store is well and the key is at fault. No answer means an outage: all
workers rest, one of them asks again after growing pauses, and what failed meanwhile is done again, with a look first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import (
    CircuitOpen,
    ClockSkewed,
    CredentialsExpired,
    Network,
    OrbitError,
    StoreError,
    Throttled,
)
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.resilience.outcome import proves_well
from orbit_airflow.engine.runner import LOOK_SECONDS

SHORTEST_PAUSE, LONGEST_PAUSE, SHARE = 1.0, 30.0, 1 / 8
# What is not about one key: with these every other key would fail as well.
_ABOUT_ALL = frozenset({
    "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidBucketName", "InvalidPayer",
})  # fmt: skip


def about_all(error: OrbitError) -> bool:
    """True for what ends the whole batch (its cursor stays): it is not the key that is wrong."""
    return isinstance(error, CredentialsExpired | ClockSkewed) or error.context.code in _ABOUT_ALL


class Judge:
    """One batch's. ``freeze`` holds back all requests of its workers, but not the question."""

    def __init__(self, call: Call, probe: ObjectRef, ask: Callable[[ObjectRef], object]) -> None:
        self._call = call
        self._probe = probe
        self._ask = ask
        self._lock = threading.Lock()
        self._well_since = float("-inf")

    def again(self, error: OrbitError, began: float) -> bool:
        """True when the work that began at ``began`` and failed with ``error`` is worth doing again; False when the key
        is at fault. Raises ``error`` when the store stays out for longer than ``outage_patience``.
        """
        if not isinstance(error, Network | Throttled | CircuitOpen):
            return False
        while not self._lock.acquire(timeout=LOOK_SECONDS):
            self._call.cancel.check()
        try:
            if began < self._well_since:
                # The outage that it fell into is over.
                return True
            return self._waited(error)
        finally:
            self._lock.release()

    def _waited(self, error: OrbitError) -> bool:
        call, patience = self._call, self._call.config.outage_patience
        started, out, told = call.monotonic(), isinstance(error, Throttled), False
        while True:
            if not out and self._well():
                return False
            lasted = call.monotonic() - started
            if lasted >= patience:
                raise error.with_note(f"Waited {lasted:.0f} s for the store (outage_patience).")
            if not told:
                told = True
                call.notice(f"the store is not well ({error.message}); waiting for it for up to {patience:.0f} s")
            asked = error.context.retry_after if isinstance(error, Throttled) else None
            pause = max(asked or 0.0, min(LONGEST_PAUSE, max(SHORTEST_PAUSE, lasted * SHARE)))
            call.cancel.sleep(min(pause, max(0.1, patience - lasted)))
            if self._well():
                self._well_since = call.monotonic()
                return True
            out = True

    def _well(self) -> bool:
        try:
            self._ask(self._probe)
        except StoreError as exc:
            return proves_well(exc)
        return True
