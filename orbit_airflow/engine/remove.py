"""Deleting one object, without laying two delete markers when an answer is lost."""

from __future__ import annotations

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import AccessDenied, NotFound, ObjectDeleted, StoreError
from orbit_airflow.engine.model import DeleteReceipt, ObjectRef
from orbit_airflow.engine.resilience.outcome import outcome_unknown


def delete_object(call: Call, ref: ObjectRef) -> DeleteReceipt:
    """Delete the object, or the one version that ``ref`` names. What is not there is a success."""
    if ref.version_id is not None:
        return call.store.delete(ref)
    attempts = call.config.policy.max_attempts
    for attempt in range(1, attempts + 1):
        call.cancel.check()
        try:
            return call.store.delete(ref)
        except StoreError as exc:
            if not outcome_unknown(exc):
                raise
            call.notice(f"the answer to DeleteObject was lost ({exc.message}); looking whether the object is there")
            gone = _gone(call, ref)
            if gone is not None:
                return gone
            if attempt == attempts:
                raise
            call.pause(attempt, exc)
    raise AssertionError("the last attempt returns or raises")  # pragma: no cover


def _gone(call: Call, ref: ObjectRef) -> DeleteReceipt | None:
    try:
        call.store.head(ref)
    except ObjectDeleted:
        return DeleteReceipt(delete_marker=True)
    except NotFound:
        return DeleteReceipt()
    except AccessDenied:
        # It cannot be known; one marker too many is better than an object that was to be deleted.
        return None
    return None
