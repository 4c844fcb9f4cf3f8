"""Versions of objects: listed, brought back, removed, compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import takewhile

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import AccessDenied, ConfigError, NotFound, RequestContext, Unavailable, WriteConflict
from orbit_airflow.engine.model import CopyResult, KeyPrefix, ObjectRef
from orbit_airflow.engine.versioning import NULL, ListedVersion, ObjectVersions, VersioningState, VersionsRequest

# How often a key is looked at until no marker lies on its versions.
MAX_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """A version that the key shows again. ``version_id`` is the new version's (None in a bucket that keeps none);
    ``changed`` False: the key showed it already and nothing was done, ``version_id`` is its own then. ``not_kept``
    names what the copy does not have of it; see CopyResult.
    """

    ref: ObjectRef
    version_id: str | None
    changed: bool
    copy: CopyResult | None = None

    @property
    def not_kept(self) -> tuple[str, ...]:
        """What was lost on the way."""
        return self.copy.not_kept if self.copy is not None else ()


@dataclass(frozen=True, slots=True)
class UndeleteResult:
    """The delete markers that were taken off a key, newest first (none when there were none), and what it shows now."""

    removed: tuple[str, ...]
    current: ListedVersion


def every_version(call: Call, where: KeyPrefix) -> Iterator[ListedVersion]:
    """All versions and delete markers of the keys that begin with the prefix, page by page in constant memory: keys in
    the order of their UTF-8 bytes, within a key the newest first. Others' writes meanwhile may be there or not.
    """
    yield from _pages(call, VersionsRequest(where=where))


def versions_of(call: Call, ref: ObjectRef, *, page: int = 1000) -> Iterator[ListedVersion]:
    """Those of this very key, newest first, ``page`` by one request. A key that begins with it is another one."""
    where = KeyPrefix(ref.bucket, ref.key)
    # In the order of UTF-8 bytes a key comes before all that begin with it.
    return takewhile(lambda item: item.key == ref.key, _pages(call, VersionsRequest(where=where, max_keys=page)))


def _pages(call: Call, request: VersionsRequest) -> Iterator[ListedVersion]:
    seen: set[tuple[str, str] | None] = set()
    where = request.where
    while True:
        call.cancel.check()
        page = call.store.list_versions(request)
        yield from page.versions
        if page.next_marker is None:
            return
        if page.next_marker in seen:
            context = RequestContext("ListObjectVersions", where.bucket, where.prefix)
            raise Unavailable("the store's list of versions goes round in circles", context)
        seen = {request.after, page.next_marker}
        request = replace(request, after=page.next_marker)


def shows(call: Call, ref: ObjectRef) -> bool:
    """True when the version that ``ref`` names is what its key shows."""
    try:
        found = call.store.head(replace(ref, version_id=None))
    except NotFound:
        return False
    return (found.version_id or NULL) == ref.version_id


def version_at(call: Call, ref: ObjectRef, moment: datetime) -> ListedVersion | None:
    """What the key showed at ``moment`` (with a time zone): a version, a delete marker, or None: it was not there.

    Times are the store's, in whole seconds; what was written in the very second of ``moment`` counts as there. That of
    an object of parts is, on S3, when its upload began.
    """
    if moment.tzinfo is None:
        raise ConfigError(f"a moment needs a time zone, got {moment!r}")
    written = (item for item in versions_of(call, ref) if item.last_modified is not None)
    return next((item for item in written if item.last_modified <= moment), None)  # type: ignore[operator]


def refuse_loss_of_null(call: Call, ref: ObjectRef) -> None:
    """ConfigError when a restore of ``ref`` would destroy the version "null": in a suspended bucket every write, and so
    the copy, takes its place for good. Also when the bucket does not tell and there is such a version.
    """
    try:
        state = call.store.get_versioning(ref.bucket).status
    except AccessDenied:
        call.notice(f"these credentials may not ask whether {ref.bucket} keeps versions (s3:GetBucketVersioning)")
        state = VersioningState.SUSPENDED
    if state is not VersioningState.SUSPENDED:
        return
    try:
        call.store.head(replace(ref, version_id=NULL))
    except NotFound:
        # A delete marker named "null" (ObjectDeleted) holds no bytes that could be lost.
        return
    lost = 'the version "null" would be copied over itself' if ref.version_id == NULL else (
        f'to restore {ref.version_id} would overwrite the version "null" for good'
    )  # fmt: skip
    way = "" if ref.version_id == NULL else ", or give overwrite_null=True"
    raise ConfigError(f"versioning of {ref.bucket} is suspended, and {lost} ({ref.uri}); enable versioning first{way}")


def undelete(call: Call, ref: ObjectRef) -> UndeleteResult:
    """Take the delete markers off the key until its newest version shows. NotFound when there is none to show.

    Looks again behind the last one: not every store lists what was made in one second in its order, and others may be
    deleting the key. WriteConflict when there is always another marker.
    """
    removed: list[str] = []
    for _ in range(MAX_LOOKS):
        *markers, version = _down_to_bytes(call, ref)
        if not markers:
            return UndeleteResult(tuple(removed), version)
        for item in markers:
            call.cancel.check()
            call.store.delete(item.ref(ref.bucket))
            removed.append(item.version_id)
    raise WriteConflict(f"{ref.uri} is deleted again and again", RequestContext("DeleteObject", ref.bucket, ref.key))


def _down_to_bytes(call: Call, ref: ObjectRef) -> list[ListedVersion]:
    """The markers on top, and the version below them; looked for before a marker is removed."""
    found: list[ListedVersion] = []
    for item in versions_of(call, ref):
        found.append(item)
        if not item.delete_marker:
            return found
    what = "only delete markers" if found else "no version"
    raise NotFound(f"{ref.uri} has {what}", RequestContext("ListObjectVersions", ref.bucket, ref.key))


def all_of(call: Call, ref: ObjectRef) -> ObjectVersions:
    """All of one key in memory."""
    return ObjectVersions(tuple(versions_of(call, ref)))


def time_between(older: datetime | None, newer: datetime | None) -> timedelta | None:
    """From one to the other; None when the store does not tell one of them."""
    return newer - older if older is not None and newer is not None else None
