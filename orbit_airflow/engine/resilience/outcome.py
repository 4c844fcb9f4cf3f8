"""What a failed request says about its effect: the difference between trying again and doing it twice."""

from __future__ import annotations

from orbit_airflow.engine.errors import (
    ChecksumRefused,
    CircuitOpen,
    ClockSkewed,
    ConnectionLost,
    CredentialsExpired,
    Garbled,
    Network,
    StoreError,
    Throttled,
    UploadGone,
    WriteConflict,
)
from orbit_airflow.engine.resilience.breaker import Verdict, verdict_on


def repeatable(error: BaseException) -> bool:
    """For idempotent requests: anything that may pass by itself.

    Not an upload that is gone (it will not come back), nor refused bytes (the caller reads them again first), nor what
    an open breaker refuses, which will do so again in a second. A refused time stamp is corrected meanwhile.
    """
    if isinstance(error, UploadGone | ChecksumRefused | CircuitOpen):
        return False
    return isinstance(error, StoreError) and error.is_retryable


# With these words a store says that it did not begin; a bare 503 may come from a proxy that had passed the request on.
_NOT_BEGUN = frozenset({"ServiceUnavailable", "SlowDown", "Busy", "ServerBusy"})


def surely_undone(error: BaseException) -> bool:
    """For requests that must not be done twice unknowingly: only what the store certainly did not do."""
    if isinstance(error, ConnectionLost | CircuitOpen):
        return not error.context.sent
    if isinstance(error, Throttled | WriteConflict | CredentialsExpired | ClockSkewed):
        return True
    return isinstance(error, StoreError) and error.context.code in _NOT_BEGUN


def outcome_unknown(error: BaseException) -> bool:
    """True when the store may have done what was asked, although no proper answer came."""
    return isinstance(error, Network) and not surely_undone(error)


def refuses_checksums(error: StoreError) -> bool:
    """True when a refusal is about checksum headers, which a store may not know: by its code, or by its words."""
    if error.context.code in ("NotImplemented", "XNotImplemented"):
        return True
    words = error.message.lower()
    return "checksum" in words or "x-amz-sdk" in words


def outage(error: BaseException, *, idempotent: bool) -> bool:
    """True when waiting for the store is what helps, and sending the request again then does no harm.

    The store is not well, or throttles without end, or an open breaker would not even ask it.
    """
    if not isinstance(error, Network | Throttled | CircuitOpen) or isinstance(error, Garbled):
        return False
    return idempotent or surely_undone(error)


def proves_well(error: BaseException | None) -> bool:
    """True for every answer that a store gives only when it is well: a success, and a 4xx of its own."""
    return verdict_on(error) is Verdict.WELL
