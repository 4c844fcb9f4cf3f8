"""Do two versions hold the same bytes? By what the store says of them; by the bytes themselves on request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Self

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import Network
from orbit_airflow.engine.model import MIB, ByteRange, ChecksumType, ObjectInfo, ObjectRef
from orbit_airflow.engine.store import ObjectStream
from orbit_airflow.engine.versions import time_between

_MD5 = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
BLOCK = MIB


class Decision(StrEnum):
    """How ``content_differs`` was decided, or that it could not be."""

    SAME_VERSION = "same version"
    SIZE = "size"
    FULL_OBJECT_CHECKSUM = "full-object checksum"
    COMPOSITE_CHECKSUM = "composite checksum"
    ETAG = "etag"
    BYTES = "bytes"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionComparison:
    """Two versions, from ``first`` to ``second``: ``size_diff`` in bytes is positive when the second one is larger,
    ``time_diff`` when it is newer (None: the store does not say when).

    ``content_differs`` is None when nothing that the store says decides it: different ETags or checksums of objects
    that were made of parts differ with the parts, too. ``decided_by`` says how sure it is: an ETag is the MD5 of the
    bytes on S3, but some stores have ETags that only look like one.
    """

    first: ObjectInfo
    second: ObjectInfo
    size_diff: int
    time_diff: timedelta | None
    content_differs: bool | None
    decided_by: Decision


def compare_versions(call: Call, first: ObjectRef, second: ObjectRef, *, read_bytes: bool = False) -> VersionComparison:
    """Two HEADs. ``read_bytes``: where they do not decide it, both are read at once, in constant memory, until the
    first difference.
    """
    one, other = call.store.head(first), call.store.head(second)
    differs, how = decided(one, other)
    if first == second:
        differs, how = False, Decision.SAME_VERSION
    if differs is None and read_bytes:
        differs, how = bytes_differ(call, one, other), Decision.BYTES
    return VersionComparison(
        first=one,
        second=other,
        size_diff=other.size - one.size,
        time_diff=time_between(one.last_modified, other.last_modified),
        content_differs=differs,
        decided_by=how,
    )


def decided(one: ObjectInfo, other: ObjectInfo) -> tuple[bool | None, Decision]:
    """Whether the bytes differ, as far as two HEADs tell, and by what."""
    if one.size != other.size:
        return True, Decision.SIZE
    had, has = one.checksum, other.checksum
    if had is not None and has is not None and (had.algorithm, had.type) == (has.algorithm, has.type):
        if had.type is ChecksumType.FULL_OBJECT:
            return had.value != has.value, Decision.FULL_OBJECT_CHECKSUM
        if had.value == has.value:
            return False, Decision.COMPOSITE_CHECKSUM
    if _of_bytes(one) and _of_bytes(other):
        if one.etag == other.etag:
            return False, Decision.ETAG
        if "-" not in one.etag + other.etag:
            return True, Decision.ETAG
    return None, Decision.UNDECIDED


def _of_bytes(info: ObjectInfo) -> bool:
    """True when the ETag is an MD5 by S3's rules: of the bytes, or of the parts' MD5s."""
    managed = info.customer_key or (info.server_side_encryption or "").startswith("aws:kms")
    return not managed and _MD5.fullmatch(info.etag) is not None


def bytes_differ(call: Call, one: ObjectInfo, other: ObjectInfo) -> bool:
    """Read both, which are of one size, at once and in constant memory until the first difference. PreconditionFailed
    when one of them is replaced meanwhile.
    """
    with _Reading(call, one) as left, _Reading(call, other) as right:
        views = memoryview(bytearray(BLOCK)), memoryview(bytearray(BLOCK))
        for start in range(0, one.size, BLOCK):
            size = min(BLOCK, one.size - start)
            left.fill(views[0][:size])
            right.fill(views[1][:size])
            if views[0][:size] != views[1][:size]:
                return True
    return False


class _Reading:
    """One version's bytes from the first to the last; a body that breaks off is fetched again from where it broke."""

    def __init__(self, call: Call, info: ObjectInfo) -> None:
        self._call = call
        self._info = info
        self._at = 0
        self._failed = 0
        self._stream: ObjectStream | None = None

    def fill(self, view: memoryview) -> None:
        """The next ``len(view)`` bytes. Gives up after as many failures in a row as the policy has attempts."""
        done = 0
        while done < len(view):
            self._call.cancel.check()
            try:
                done += self._some(view[done:])
            except Network as exc:
                self.close()
                self._failed += 1
                if self._failed >= self._call.config.policy.max_attempts:
                    raise
                self._call.pause(self._failed, exc)

    def _some(self, view: memoryview) -> int:
        if self._stream is None:
            rest = ByteRange(self._at, self._info.size)
            self._stream = self._call.store.get(self._info.ref, rest, if_match=self._info.etag)
        count = self._stream.read_into(view)
        self._at += count
        self._failed = 0 if count else self._failed
        return count

    def close(self) -> None:
        """Give the connection back."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
