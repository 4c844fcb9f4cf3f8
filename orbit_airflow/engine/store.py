"""The port: what the engine asks of a store. One verb is one S3 request; no verb repeats itself.

Every verb raises StoreError (or a child) and nothing else for what the store or the line did; OSError and our own
SourceError may come out of a body. Wrappers (retrying, limited) implement the same protocols and pass the same tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from orbit_airflow.engine.model import (
    CreatedUpload,
    ObjectAttributes,
    ObjectInfo,
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


class ObjectStore(Protocol):
    """Whole objects."""

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """Metadata with checksums. NotFound also for a delete marker. Idempotent."""

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """One PutObject. Not idempotent on a versioned bucket: when the answer was lost, ask ``head`` first."""


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
