"""One look of a sensor, wherever it runs: the requests that ``sensing``'s decisions need."""

from __future__ import annotations

from orbit_airflow.engine.errors import AccessDenied, NotFound, ObjectDeleted
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.sensing import (
    Baseline,
    Verdict,
    WaitFor,
    Wanted,
    baseline_of,
    listed_as,
    news,
    verdict_on,
)
from orbit_airflow.engine.versioning import VersioningState


def take_baseline(engine: TransferEngine, wanted: Wanted, *, cancel: Cancellation | None = None) -> Baseline:
    """What is there before the first look. NotFound when ``since_version_id`` is not. Empty where none is needed."""
    if not wanted.needs_baseline:
        return Baseline(frozenset())
    listed = engine.versions.iter_object_versions(wanted.ref, cancel=cancel)
    return baseline_of(listed, wanted.since_version_id, wanted.ref)


def look(engine: TransferEngine, wanted: Wanted, baseline: Baseline, *, cancel: Cancellation | None = None) -> Verdict:
    """Whether what is waited for is there: by one GetBucketVersioning, one HEAD, or a listing of the key's versions.

    ObjectDeleted when the awaited version id is a delete marker: it will never be anything else. StoreErrors as they
    are; which of them are worth another look, their disposition says.
    """
    if wanted.wait_for is WaitFor.ENABLED:
        return Verdict(wanted=wanted, status=engine.versions.get_versioning_status(wanted.bucket, cancel=cancel))
    if wanted.version_id is not None:
        return _look_for_version(engine, wanted, wanted.version_id, cancel)
    listed = engine.versions.iter_object_versions(wanted.ref, cancel=cancel)
    return verdict_on(wanted, news(baseline, listed, wanted.ref))


def _look_for_version(engine: TransferEngine, wanted: Wanted, version_id: str, cancel: Cancellation | None) -> Verdict:
    try:
        info = engine.get_metadata(wanted.ref, version_id=version_id, cancel=cancel)
    except ObjectDeleted:
        raise
    except NotFound:
        return Verdict(wanted=wanted)
    return Verdict(wanted=wanted, versions=(listed_as(info, version_id),))


def caveat(engine: TransferEngine, wanted: Wanted, *, cancel: Cancellation | None = None) -> str | None:
    """What the reader of the log should know about a bucket that keeps no versions now; None when all is well.

    Also None when these credentials may not ask. NotFound when there is no such bucket.
    """
    if not wanted.needs_baseline:
        return None
    try:
        state = engine.versions.get_versioning_status(wanted.bucket, cancel=cancel).status
    except AccessDenied:
        return None
    if state is VersioningState.ENABLED:
        return None
    if wanted.wait_for is WaitFor.DELETE_MARKER and state is VersioningState.UNVERSIONED:
        return f"{wanted.bucket} keeps no versions: as long as that is so, a delete leaves no marker to wait for"
    return (
        f'{wanted.bucket} is {state.value.lower()}: each write replaces the version "null" of its key, and several of '
        "them between two looks are seen as one"
    )
