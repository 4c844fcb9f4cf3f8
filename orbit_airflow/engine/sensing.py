"""What it means that something new is there: the decisions of the sensor, its trigger and the watcher. None does I/O.

A version is new when it was not there before, and "before" is a set of remembered versions. Times decide nothing: an
object that was uploaded in parts shows the moment at which its upload began, two versions of one second have no order
by them, and the store's clock is not ours. Nor does "the newest one of the last look": that very version may be removed
for good, and then all older ones would look new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orbit_airflow.engine.errors import ConfigError, NotFound, RequestContext
from orbit_airflow.engine.model import KeyPrefix, ObjectInfo, ObjectRef
from orbit_airflow.engine.versioning import NULL, ListedVersion, VersioningStatus

# How many of a key's versions are remembered: about 8 KB of state.
MAX_KNOWN = 500
# So many known ones in a row, and what is below them is known, too: a listing's order is nearly, not quite, that of
# the writes where a store tells them by LastModified.
OVERLAP = 100
# What a result lists; the count beside it is of all.
MAX_TOLD = 1000
FINGERPRINT_BYTES = 6
_SCHEMA = 1


class WaitFor(StrEnum):
    """What may be waited for."""

    ENABLED = "enabled"
    NEW_VERSION = "new_version"
    DELETE_MARKER = "delete_marker"
    VERSION_ID = "version_id"

    @classmethod
    def parse(cls, text: object) -> WaitFor:
        """ConfigError for anything else, with what is allowed."""
        try:
            return cls(str(text))
        except ValueError:
            allowed = ", ".join(repr(item.value) for item in cls)
            raise ConfigError(f"wait_for is one of {allowed}, got {text!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is waited for, checked: ConfigError for a combination that means nothing.

    ``since_version_id``: what is newer than this version counts, instead of what is newer than the beginning.
    """

    bucket: str
    wait_for: WaitFor
    key: str | None = None
    since_version_id: str | None = None
    version_id: str | None = None

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)
        about_key = self.wait_for is not WaitFor.ENABLED
        if about_key != bool(self.key):
            verb = "needs a" if about_key else "is about the bucket and takes no"
            raise ConfigError(f"wait_for={self.wait_for.value!r} {verb} bucket_key")
        if (self.wait_for is WaitFor.VERSION_ID) != bool(self.version_id):
            raise ConfigError("version_id is given with wait_for='version_id', and only with it")
        if self.since_version_id and not self.needs_baseline:
            raise ConfigError("since_version_id goes with wait_for='new_version' or 'delete_marker'")
        if self.key:
            ObjectRef(self.bucket, self.key)

    @property
    def needs_baseline(self) -> bool:
        """True when "new" must be measured from something."""
        return self.wait_for in (WaitFor.NEW_VERSION, WaitFor.DELETE_MARKER)

    @property
    def ref(self) -> ObjectRef:
        """The key that is looked at; ConfigError when the bucket is."""
        if not self.key:
            raise ConfigError(f"wait_for={self.wait_for.value!r} is about no key")
        return ObjectRef(self.bucket, self.key)

    @property
    def identity(self) -> str:
        """What a remembered baseline is bound to."""
        words = [self.wait_for.value, self.bucket, self.key, self.since_version_id, self.version_id]
        return hashlib.sha256(json.dumps(["sense", *words]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Baseline:
    """The versions and markers that were there at the beginning: at most MAX_KNOWN, the newest of them.

    ``complete``: these were all, so that what is not among them is new wherever it is listed.
    """

    known: frozenset[int]
    complete: bool = True

    def to_mapping(self, wanted: Wanted) -> dict[str, Any]:
        """As small JSON, bound to what is waited for."""
        known = [f"{item:0{2 * FINGERPRINT_BYTES}x}" for item in sorted(self.known)]
        return {"schema": _SCHEMA, "target": wanted.identity, "known": known, "complete": self.complete}

    @classmethod
    def from_mapping(cls, value: object, wanted: Wanted) -> Baseline | None:
        """The inverse; None for what is damaged, of another schema, or was taken for something else."""
        if not isinstance(value, Mapping) or (value.get("schema"), value.get("target")) != (_SCHEMA, wanted.identity):
            return None
        known, complete = value.get("known"), value.get("complete")
        if not isinstance(known, list) or len(known) > MAX_KNOWN or not isinstance(complete, bool):
            return None
        if not all(isinstance(item, str) and len(item) == 2 * FINGERPRINT_BYTES for item in known):
            return None
        try:
            return cls(frozenset(int(item, 16) for item in known), complete)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one look saw of what is waited for: ``versions``, newest first, or the bucket's ``status``."""

    wanted: Wanted
    versions: tuple[ListedVersion, ...] = ()
    status: VersioningStatus | None = None

    @property
    def done(self) -> bool:
        """True when the waiting is over."""
        return bool(self.versions) or (self.status is not None and self.status.enabled)

    def to_mapping(self) -> dict[str, Any]:
        """The result as small JSON: the newest version's own fields, and ``versions`` with all of them, newest first
        (the newest MAX_TOLD; ``count`` is of all).
        """
        wanted = self.wanted
        result: dict[str, Any] = {"wait_for": wanted.wait_for.value, "bucket": wanted.bucket}
        if self.status is not None:
            about = {"status": self.status.status.value, "mfa_delete": self.status.mfa_delete}
            return {**result, "uri": f"s3://{wanted.bucket}", **about}
        listed = [told(wanted.bucket, item) for item in self.versions[:MAX_TOLD]]
        return {**result, **listed[0], "count": len(self.versions), "versions": listed}


def told(bucket: str, item: ListedVersion) -> dict[str, Any]:
    """A version or marker as small JSON; times as ISO text."""
    return {
        "uri": item.ref(bucket).uri,
        "bucket": bucket,
        "key": item.key,
        "version_id": item.version_id,
        "size": item.size,
        "etag": item.etag,
        "last_modified": item.last_modified.isoformat() if item.last_modified else None,
        "delete_marker": item.delete_marker,
        "is_latest": item.is_latest,
    }


def fingerprint(item: ListedVersion) -> int:
    """A version's identity in 48 bits: key and version id, which no other version ever gets.

    But for "null", which every write of a bucket without (or with suspended) versioning gets: there, size, ETag and the
    text of its time tell one from the next. The same bytes written twice within a second are one version then.
    """
    words: list[object] = [item.key, item.version_id]
    if item.version_id == NULL:
        words += [item.size, item.etag, item.delete_marker, str(item.last_modified)]
    digest = hashlib.blake2b(json.dumps(words).encode(), digest_size=FINGERPRINT_BYTES).digest()
    return int.from_bytes(digest, "big")


def baseline_of(listed: Iterable[ListedVersion], since: str | None, ref: ObjectRef) -> Baseline:
    """What of a key's versions (newest first) is old: all of them, or ``since`` and those below it.

    NotFound when there is no version ``since``: what is newer than it cannot be told.
    """
    remaining = iter(listed)
    old: Iterator[ListedVersion] = remaining
    if since:
        first = next((item for item in remaining if item.version_id == since), None)
        if first is None:
            context = RequestContext("ListObjectVersions", ref.bucket, ref.key)
            raise NotFound(f"{ref.uri} has no version {since}, so nothing can be newer than it", context)
        old = _with_first(first, remaining)
    known: set[int] = set()
    for item in old:
        if len(known) == MAX_KNOWN:
            return Baseline(frozenset(known), complete=False)
        known.add(fingerprint(item))
    return Baseline(frozenset(known))


def _with_first(first: ListedVersion, rest: Iterator[ListedVersion]) -> Iterator[ListedVersion]:
    yield first
    yield from rest


def news(baseline: Baseline, listed: Iterable[ListedVersion], ref: ObjectRef) -> tuple[ListedVersion, ...]:
    """Those of a key's versions and markers (newest first) that were not there at the baseline, in that order.

    Reads no further than it must. NotFound when none of the remembered versions is left and there were more than are
    remembered: which of the rest is new cannot be told.
    """
    found: list[ListedVersion] = []
    below: list[ListedVersion] = []
    row, met = 0, False
    for item in listed:
        if fingerprint(item) not in baseline.known:
            row = 0
            below.append(item)
            continue
        found += below
        below, met, row = [], True, row + 1
        if row == OVERLAP:
            return tuple(found)
    if baseline.complete:
        return (*found, *below)
    if below and not met:
        context = RequestContext("ListObjectVersions", ref.bucket, ref.key)
        raise NotFound(f"the {MAX_KNOWN} versions of {ref.uri} that were remembered are all gone", context)
    return tuple(found)


def verdict_on(wanted: Wanted, fresh: Sequence[ListedVersion]) -> Verdict:
    """Of the new versions and markers, those that are waited for."""
    markers = wanted.wait_for is WaitFor.DELETE_MARKER
    return Verdict(wanted=wanted, versions=tuple(item for item in fresh if item.delete_marker is markers))


def listed_as(info: ObjectInfo, version_id: str) -> ListedVersion:
    """A version that a HEAD found, as a listing would show it; whether it is the latest one, a HEAD does not say."""
    return ListedVersion(
        key=info.ref.key,
        version_id=info.version_id or version_id,
        is_latest=False,
        last_modified=info.last_modified,
        size=info.size,
        etag=info.etag,
        storage_class=info.storage_class,
    )
