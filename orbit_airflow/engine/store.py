"""The port: what the engine asks of a store. One verb is one S3 request; no verb repeats itself.

Every verb raises StoreError (or a child) and nothing else for what the store or the line did; OSError and our own
SourceError may come out of a body. Wrappers (retrying, limited) implement the same protocols and pass the same tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import (
    ByteRange,
    CreatedUpload,
    DeleteManyResult,
    DeleteReceipt,
    KeyPrefix,
    ListResult,
    ObjectAttributes,
    ObjectInfo,
    ObjectPart,
    ObjectRef,
    Part,
    PartReceipt,
    PartsPage,
    UploadsPage,
    WriteReceipt,
)
from orbit_airflow.engine.versioning import VersioningState, VersioningStatus, VersionsPage, VersionsRequest

# A key, and the id of the version that is meant; None is the key itself.
DeleteItem = tuple[str, str | None]
MAX_DELETES = 1000
# What XML 1.0 has no way to write, not even as a character reference.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def fits_xml(key: str) -> bool:
    """True when a request body can name the key."""
    return _NO_XML.search(key) is None


def checked_items(items: Sequence[DeleteItem]) -> tuple[DeleteItem, ...]:
    """The items, each once. ConfigError for none, for more than one request takes, and for keys that XML cannot carry.

    AWS refuses a key that is named twice; other stores delete it twice.
    """
    found = tuple(dict.fromkeys(items))
    if not 1 <= len(found) <= MAX_DELETES:
        raise ConfigError(f"one DeleteObjects takes 1 to {MAX_DELETES} keys, got {len(found)}")
    for key, _ in found:
        if not fits_xml(key):
            raise ConfigError(f"XML cannot carry this key; delete it by itself: {key[:80]!r}")
    return found


class Body(Protocol):
    """Bytes that can be sent again: each call of ``blocks`` begins at the first byte (retriable by construction)."""

    @property
    def size(self) -> int:
        """The exact number of bytes."""

    def blocks(self) -> Iterator[memoryview]:
        """The bytes in big blocks, for the socket. A block is valid until the next one is asked for."""

    def read_at(self, position: int, size: int) -> bytes:
        """A copy of up to ``size`` bytes from ``position``, for signing and for clients that insist on ``read``."""


@dataclass(frozen=True, slots=True)
class PartDigests:
    """What is sent with a body so that the store can refuse wrong bytes. ``md5`` only where CRCs are unknown."""

    crc32: int | None = None
    md5: bytes | None = None


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """All that goes with a Complete. ``full_crc32`` only for uploads whose checksum type is FULL_OBJECT."""

    upload_id: str
    receipts: tuple[PartReceipt, ...]
    size: int
    full_crc32: int | None = None
    send_part_checksums: bool = False
    if_none_match: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """All that goes with a CopyObject.

    ``if_match`` pins the source to one ETag. Of ``attributes`` the storage class, encryption, ACL and extra arguments
    always travel; type and metadata only with ``replace_metadata``, tags only with ``replace_tags``: else the store
    copies the source's. ``if_none_match``: never over an object that is there.
    """

    source: ObjectRef
    if_match: str | None = None
    attributes: ObjectAttributes = field(default_factory=ObjectAttributes)
    replace_metadata: bool = False
    replace_tags: bool = False
    if_none_match: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPartRequest:
    """All that goes with an UploadPartCopy: ``part`` is also the range of the source. ``whole``: the part is all of it.

    ``if_match`` pins the source to one ETag, ``source.version_id`` to one version.
    """

    upload_id: str
    part: Part
    source: ObjectRef
    if_match: str
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """One page of a listing: behind ``token`` (the last page's) or behind the key ``start_after``."""

    where: KeyPrefix
    token: str | None = None
    start_after: str | None = None
    delimiter: str | None = None
    max_keys: int = 1000


class ObjectStream(Protocol):
    """The bytes of an object, or of a range of it, on their way here. Use as a context manager, in one thread."""

    @property
    def info(self) -> ObjectInfo:
        """The object as the answer's headers show it; ``size`` is the whole object's."""

    @property
    def length(self) -> int:
        """How many bytes this stream gives: neither fewer (ConnectionLost, Unavailable) nor more."""

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` from its beginning; less than the whole of it only at the end, 0 behind the last byte.

        StoreError when the line or the store fails: the bytes given so far are right, the stream is dead.
        """

    def close(self) -> None:
        """Give the connection back, or close it when bytes are still to come. May be called again."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class ObjectStore(Protocol):
    """Whole objects."""

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """Metadata with checksums. ObjectDeleted (a NotFound) for a delete marker. Idempotent."""

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """The part of a multipart object that was uploaded under ``number``. Idempotent.

        None when the store does not say how the object's parts lie, and for an object that never had parts.
        InvalidRequest for a number that the object does not have.
        """

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """The object, or exactly ``span`` of it. Idempotent; what fails while the body is read is the reader's affair.

        PreconditionFailed unless the object's ETag is ``if_match``, whatever the store thinks of conditions.
        Unavailable for an answer that is not to the letter: a range that is not the one asked for, no ETag, no length.
        """

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """One PutObject. Not idempotent on a versioned bucket: when the answer was lost, ask ``head`` first."""

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """One CopyObject to ``ref``. Not idempotent on a versioned bucket, as ``put``. NotFound is the source's;
        PreconditionFailed either the source's or the target's. Unavailable for a 200 that holds an error or no ETag.
        """

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """One DeleteObject. A key that is not there is a success. Without a version id it is not idempotent on a
        versioned bucket: each call lays one more delete marker.
        """

    def delete_many(self, bucket: str, items: Sequence[DeleteItem], *, quiet: bool = False) -> DeleteManyResult:
        """One DeleteObjects of 1 to 1,000 (key, version id or None). An error of the whole request is raised, an error
        of one key is in its outcome. Idempotent as ``delete``: not without a version id on a versioned bucket.

        ``quiet``: the store names errors only, so that a key that it forgot looks deleted; without it such a key is
        unknown. ConfigError for a key that XML cannot carry (``fits_xml``): delete it by itself.
        """

    def list_objects(self, request: ListRequest) -> ListResult:
        """One page. Unavailable when a page says that more follow, but not where."""


class MultipartStore(Protocol):
    """The six requests of a multipart upload."""

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """Begin. Not idempotent: a lost answer leaves an upload that only ``list_uploads`` can find."""

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """Send one part; the last one sent under a number wins. Idempotent. UploadGone when the upload is not there."""

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """The parts with numbers above ``after``, one page. UploadGone when the upload is not there."""

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """Make the object visible. Idempotent on AWS, UploadGone on others when repeated; see ``reconcile``."""

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Throw the parts away. An upload that is gone already is a success. Parts in flight may survive it."""

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """Open uploads whose key begins with ``ref.key``, one page; the caller compares the whole key."""

    def copy_part(self, ref: ObjectRef, request: CopyPartRequest) -> PartReceipt:
        """Make one part from a range of another object. Idempotent. UploadGone when the upload is not there; NotFound
        and PreconditionFailed are the source's. Unavailable for a 200 that holds an error or no ETag.
        """


class AttributeStore(Protocol):
    """What an object has beside its bytes, and is asked for by itself."""

    def get_tags(self, ref: ObjectRef) -> tuple[tuple[str, str], ...]:
        """The object's (or version's) tags, in the store's order; NotFound, ObjectDeleted. Idempotent."""

    def put_tags(self, ref: ObjectRef, tags: tuple[tuple[str, str], ...]) -> None:
        """Replace the whole set; an empty one takes all away. Idempotent."""


class VersionStore(Protocol):
    """Versions, and whether a bucket keeps them."""

    def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """One page. Unavailable when a page says that more follow, but not where, or where it began. Idempotent."""

    def get_versioning(self, bucket: str) -> VersioningStatus:
        """The bucket's state; NotFound without a bucket. Idempotent."""

    def put_versioning(self, bucket: str, state: VersioningState) -> None:
        """ENABLED or SUSPENDED; ConfigError for UNVERSIONED, which a bucket cannot become. Idempotent."""


class TransferStore(ObjectStore, MultipartStore, AttributeStore, VersionStore, Protocol):
    """All roles: what an engine needs."""
