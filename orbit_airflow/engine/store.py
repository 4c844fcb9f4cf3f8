"""The port: what the engine asks of a store. One verb is one S3 request; no verb repeats itself.

Every verb raises StoreError (or a child) and nothing else for what the store or the line did; OSError and our own
SourceError may come out of a body. Wrappers (retrying, limited) implement the same protocols and pass the same tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

from orbit_airflow.engine.model import (
    ByteRange,
    CreatedUpload,
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


class TransferStore(ObjectStore, MultipartStore, Protocol):
    """Both roles: what an upload needs."""
