"""What S3 says about versions, as values: a bucket's state, one entry of a listing, a page of it. None does I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby, pairwise

from orbit_airflow.engine.model import KeyPrefix, ObjectRef

# The id of the one version of a key that was written while the bucket kept no versions.
NULL = "null"
_NEVER = datetime.min.replace(tzinfo=UTC)


class VersioningState(StrEnum):
    """Whether a bucket keeps versions. It can never become UNVERSIONED again; suspended, it keeps those it has, and
    writes overwrite the version whose id is "null".
    """

    UNVERSIONED = "Unversioned"
    ENABLED = "Enabled"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class VersioningStatus:
    """A bucket's versioning. ``mfa_delete``: versions are removed, and this is changed, with an MFA code only."""

    status: VersioningState
    mfa_delete: bool = False

    @property
    def enabled(self) -> bool:
        """True when each write makes a version of its own; False also for a suspended bucket."""
        return self.status is VersioningState.ENABLED


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedVersion:
    """A version or a delete marker as a listing shows it. A marker has size 0 and an empty ETag.

    ``is_latest``: what the key shows. ``version_id`` is "null" for what was written without versioning.
    """

    key: str
    version_id: str
    is_latest: bool
    last_modified: datetime | None
    size: int = 0
    etag: str = ""
    storage_class: str | None = None
    delete_marker: bool = False

    def ref(self, bucket: str) -> ObjectRef:
        """Its address."""
        return ObjectRef(bucket, self.key, self.version_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsRequest:
    """One page of a listing of versions: behind ``after``, which is (key, version id) or (key, "") for a whole key."""

    where: KeyPrefix
    after: tuple[str, str] | None = None
    max_keys: int = 1000


@dataclass(frozen=True, slots=True)
class VersionsPage:
    """One page: keys in the order of their UTF-8 bytes, within a key the newest first, markers among the versions.

    ``next_marker`` is None behind the last page; else give it to the next request as ``after``.
    """

    versions: tuple[ListedVersion, ...]
    next_marker: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ObjectVersions:
    """All versions and delete markers of one key, each newest first; ``everything`` has both, in their order."""

    everything: tuple[ListedVersion, ...]

    @property
    def versions(self) -> tuple[ListedVersion, ...]:
        """Those with bytes."""
        return tuple(item for item in self.everything if not item.delete_marker)

    @property
    def delete_markers(self) -> tuple[ListedVersion, ...]:
        """Those without."""
        return tuple(item for item in self.everything if item.delete_marker)


def in_order(listed: Iterable[ListedVersion]) -> tuple[ListedVersion, ...]:
    """A page's entries by key, newest first, from the order in which the store wrote them.

    The store's own order decides within a key: times are whole seconds, and that of an object of parts is when its
    upload began. Only where a store writes all versions and then all markers (or the other way about), and the times
    contradict that, do they tell where a key's markers belong; the versions among themselves stay as they were written.
    """
    written = list(listed)
    turns = {(above.delete_marker, below.delete_marker) for above, below in pairwise(written)}
    apart = not {(True, False), (False, True)} <= turns
    by_key = sorted(written, key=lambda item: item.key.encode())
    result: list[ListedVersion] = []
    for _, group in groupby(by_key, key=lambda item: item.key):
        versions = list(group)
        result += _merged(versions) if apart else versions
    return tuple(result)


def _merged(versions: list[ListedVersion]) -> list[ListedVersion]:
    """With the markers where the times have them, if the times of each kind by itself can be believed."""
    if _newest_first(versions):
        return versions
    markers, others = ([item for item in versions if item.delete_marker is kind] for kind in (True, False))
    if not (_newest_first(markers) and _newest_first(others)):
        return versions
    result = []
    for version in others:
        while markers and _recency(markers[0]) > _recency(version):
            result.append(markers.pop(0))
        result.append(version)
    return result + markers


def _newest_first(versions: list[ListedVersion]) -> bool:
    return all(_recency(newer) >= _recency(older) for newer, older in pairwise(versions))


def _recency(item: ListedVersion) -> tuple[bool, datetime]:
    return item.is_latest, item.last_modified or _NEVER
