"""OrbitRetryPolicy: the engine's errors know whether a new try can help; Airflow asks them here."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from orbit_airflow.engine.errors import AccessDenied, Disposition, OrbitError, StoreError, printable

if TYPE_CHECKING:
    from airflow.sdk import Context

# A new try makes a new session with new credentials, so these refusals may be over by then.
_FRESH_SESSION_HELPS = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken", "RequestTimeTooSkewed"})


class OrbitRetryPolicy(RetryPolicy):
    """Fails the task at once when no retry can help (access denied, no such bucket, the source changed, a wrong
    option), and lets it be retried otherwise. Other exceptions: as Airflow does.

    A delay that the store (or the circuit breaker) asks for is honoured when it is longer than the task's own
    ``retry_delay``, with its backoff; it never shortens that one. Works in every task: ``@task(retry_policy=...)``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """The decision for one failed try. Never more retries than the task has."""
        del max_tries
        if not isinstance(exception, OrbitError):
            return RetryDecision.default()
        reason = printable(f"{type(exception).__name__}: {exception.message}", 400)
        delay = _asked_delay(exception, _own_delay(context, try_number))
        if exception.disposition is Disposition.RESUME:
            return RetryDecision.retry(delay=delay, reason=f"{reason} (the next try continues)")
        if exception.disposition is Disposition.RETRY or _may_be_over(exception):
            return RetryDecision.retry(delay=delay, reason=reason)
        return RetryDecision.fail(reason=f"{reason} (trying again cannot help)")

    def serialize(self) -> dict[str, Any]:
        """There is nothing to remember."""
        return {"__type": "OrbitRetryPolicy"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> OrbitRetryPolicy:
        """The inverse of ``serialize``."""
        del data
        return cls()


def _may_be_over(error: OrbitError) -> bool:
    """Refusals that a new session may not meet. Without any credentials nothing was sent: they may come back, too."""
    unsent = isinstance(error, AccessDenied) and not error.context.sent
    return unsent or error.context.code in _FRESH_SESSION_HELPS


def _asked_delay(error: OrbitError, own: timedelta) -> timedelta | None:
    """What the store asked for, when it is longer than the task's own delay; None leaves that to Airflow."""
    seconds = error.context.retry_after if isinstance(error, StoreError) else None
    asked = timedelta(seconds=seconds or 0)
    return asked if asked > own else None


def _own_delay(context: Context | None, try_number: int) -> timedelta:
    """The least that Airflow itself would wait: it adds up to as much again to a delay with backoff."""
    task = context.get("task") if context is not None else None
    delay: timedelta = getattr(task, "retry_delay", None) or timedelta()
    longest: timedelta | None = getattr(task, "max_retry_delay", None)
    multiplier = float(getattr(task, "retry_exponential_backoff", 0) or 1)
    try:
        delay *= multiplier ** max(0, try_number - 1)
    except OverflowError:
        return longest or timedelta.max
    return min(delay, longest) if longest else delay
