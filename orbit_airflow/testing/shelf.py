"""What MemoryStore keeps, and the small rules that need no store: values, receiving, refusing."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from orbit_airflow.engine.checksums import composite, to_base64
from orbit_airflow.engine.errors import ChecksumRefused, InvalidRequest, RequestContext, StoreError
from orbit_airflow.engine.model import Checksum, ChecksumType, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import MAX_METADATA_BYTES, MAX_TAGS
from orbit_airflow.engine.store import Body, CompleteRequest


class RecordedRequest(NamedTuple):
    """One request that the store received, whatever became of it; ``bytes`` are those of its body that arrived."""

    operation: str
    part_number: int | None
    bytes: int


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A part of a finished object: its number and size, and the checksum that the object shows of it."""

    number: int
    size: int
    checksum: Checksum | None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object, or a delete marker (``deleted``)."""

    data: bytes = field(repr=False)
    etag: str
    version_id: str | None
    last_modified: datetime
    checksum: Checksum | None = None
    attributes: ObjectAttributes = field(default_factory=ObjectAttributes)
    deleted: bool = False
    parts: tuple[KeptPart, ...] = ()

    @property
    def metadata(self) -> dict[str, str]:
        """The user metadata, names in lower case."""
        return {name.lower(): value for name, value in self.attributes.metadata}


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that was neither completed nor aborted; ``parts`` maps each number to its bytes."""

    ref: ObjectRef
    upload_id: str
    initiator: str
    initiated: datetime
    parts: dict[int, bytes] = field(repr=False)


@dataclass(slots=True)
class StoredPart:
    """A part that arrived."""

    data: bytes
    etag: str
    md5: bytes
    crc32: int | None
    last_modified: datetime


@dataclass(slots=True)
class Upload:
    """An open upload as the store keeps it; without ``checksum_type`` it was begun without checksums."""

    ref: ObjectRef
    upload_id: str
    initiator: str
    initiated: datetime
    attributes: ObjectAttributes
    checksum_type: ChecksumType | None
    parts: dict[int, StoredPart] = field(default_factory=dict)

    def view(self) -> OpenUpload:
        """As a test sees it."""
        parts = {number: part.data for number, part in sorted(self.parts.items())}
        return OpenUpload(self.ref, self.upload_id, self.initiator, self.initiated, parts)

    def kept(self, numbers: Sequence[int]) -> tuple[KeptPart, ...]:
        """What the finished object remembers of these parts; of several under one checksum only the sizes."""
        shown = self.checksum_type is ChecksumType.COMPOSITE or len(numbers) == 1
        parts = ((number, self.parts[number]) for number in numbers)
        return tuple(
            KeptPart(number, len(part.data), listed_checksum(part) if shown else None) for number, part in parts
        )


def received_from(body: Body, received: list[int], context: RequestContext) -> bytes:
    """The whole body, which must have the size that it announced."""
    data = bytearray()
    for block in body.blocks():
        data += block
        received[0] = len(data)
    if len(data) != body.size:
        raise refused(InvalidRequest, "IncompleteBody", 400, context)
    return bytes(data)


def check_attributes(attributes: ObjectAttributes, context: RequestContext) -> None:
    """What S3 says about metadata and tags."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in attributes.metadata)
    if size > MAX_METADATA_BYTES:
        raise refused(InvalidRequest, "MetadataTooLarge", 400, context)
    if len(attributes.tags) > MAX_TAGS:
        raise refused(InvalidRequest, "InvalidTag", 400, context)


def object_checksum(
    upload: Upload, parts: list[StoredPart], data: bytes, request: CompleteRequest, context: RequestContext
) -> Checksum | None:
    """The finished object's, as the upload was begun; refused when the request promises another one."""
    if request.size != len(data):
        raise refused(InvalidRequest, "InvalidRequest", 400, context, "x-amz-mp-object-size does not match")
    if upload.checksum_type is ChecksumType.FULL_OBJECT:
        if request.full_crc32 not in (None, zlib.crc32(data)):
            raise refused(ChecksumRefused, "BadDigest", 400, context)
        return Checksum("CRC32", to_base64(zlib.crc32(data)))
    if request.full_crc32 is not None:
        raise refused(InvalidRequest, "InvalidRequest", 400, context, "the upload has no full-object checksum")
    if upload.checksum_type is ChecksumType.COMPOSITE:
        value = composite(part.crc32 or 0 for part in parts)
        return Checksum("CRC32", value, ChecksumType.COMPOSITE)
    return None


def listed_checksum(part: StoredPart) -> Checksum | None:
    """As ListParts shows it."""
    return None if part.crc32 is None else Checksum("CRC32", to_base64(part.crc32))


def refused(
    kind: type[StoreError], code: str, status: int, context: RequestContext, message: str = "refused"
) -> StoreError:
    """The error with which the store refuses."""
    return kind(
        f"the store in memory says {code}: {message}",
        RequestContext(
            context.operation, context.bucket, context.key, context.upload_id, context.part_number, status, code
        ),
    )
