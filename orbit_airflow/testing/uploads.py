"""The multipart uploads of a MemoryStore: what S3 says about parts, in the order in which it says it."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orbit_airflow.engine.errors import InvalidRequest, RequestContext, UploadGone
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    ListedPart,
    ListedUpload,
    ObjectAttributes,
    ObjectRef,
    PartReceipt,
    PartsPage,
    UploadsPage,
    WriteReceipt,
)
from orbit_airflow.engine.store import CompleteRequest, PartDigests
from orbit_airflow.testing.shelf import (
    KeptPart,
    OpenUpload,
    StoredPart,
    Upload,
    listed_checksum,
    object_checksum,
    refused,
)

MAX_PART_NUMBER = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRules:
    """A store's limits and habits. ``etag`` makes an ETag of an MD5 in hex, ``now`` is the store's time."""

    checksums: bool
    min_part_size: int
    max_part_size: int
    page_size: int
    etag: Callable[[str], str]
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a Complete is about to make visible."""

    upload: Upload
    data: bytes
    etag: str
    checksum: Checksum | None
    parts: tuple[KeptPart, ...]


class Uploads:
    """Open and finished uploads. Its caller holds the store's lock."""

    def __init__(self, rules: PartRules) -> None:
        self._rules = rules
        self._open: dict[str, Upload] = {}
        self._completed: dict[str, tuple[ObjectRef, WriteReceipt]] = {}

    def views(self, ref: ObjectRef | None) -> list[OpenUpload]:
        """The open uploads, of one key when given."""
        return [item.view() for item in self._open.values() if ref is None or item.ref == ref]

    def begin(self, upload: Upload) -> None:
        """A new one."""
        self._open[upload.upload_id] = upload

    def find(self, ref: ObjectRef, upload_id: str, context: RequestContext) -> Upload:
        """The open upload of exactly this key; UploadGone."""
        upload = self._open.get(upload_id)
        if upload is None or upload.ref != ref:
            raise refused(UploadGone, "NoSuchUpload", 404, context)
        return upload

    def admit(self, upload: Upload, number: int, size: int, digests: PartDigests, context: RequestContext) -> None:
        """Number, size and checksum of a part fit the upload."""
        self.check_part(number, size, context)
        if self._rules.checksums and (upload.checksum_type is None) != (digests.crc32 is None):
            raise refused(InvalidRequest, "InvalidRequest", 400, context, "checksum type mismatch occurred")

    def check_part(self, number: int, size: int, context: RequestContext) -> None:
        """Number and size may be."""
        if not 1 <= number <= MAX_PART_NUMBER:
            raise refused(InvalidRequest, "InvalidArgument", 400, context)
        if size > self._rules.max_part_size:
            raise refused(InvalidRequest, "EntityTooLarge", 400, context)

    def keep(self, upload: Upload, number: int, data: bytes) -> StoredPart:
        """The part, in place of an earlier one of its number; with a checksum if the upload has them."""
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        crc = zlib.crc32(data) if upload.checksum_type is not None else None
        part = StoredPart(data, self._rules.etag(md5.hex()), md5, crc, self._rules.now())
        upload.parts[number] = part
        return part

    def listed(self, upload: Upload, after: int) -> PartsPage:
        """One page of its parts."""
        found = [
            ListedPart(number, len(part.data), part.etag, listed_checksum(part), part.last_modified)
            for number, part in sorted(upload.parts.items())
            if number > after
        ]
        page = found[: self._rules.page_size]
        return PartsPage(tuple(page), page[-1].number if len(found) > len(page) else None, upload.initiator)

    def page(self, ref: ObjectRef, after: tuple[str, str] | None) -> UploadsPage:
        """By key prefix, in the order of (key, time)."""
        found = sorted(
            (item.ref.key, item.upload_id)
            for item in self._open.values()
            if item.ref.bucket == ref.bucket and item.ref.key.startswith(ref.key)
        )
        names = [name for name in found if after is None or name > after]
        page = names[: self._rules.page_size]
        listed = tuple(
            ListedUpload(key, name, self._open[name].initiated, self._open[name].initiator) for key, name in page
        )
        return UploadsPage(listed, page[-1] if len(names) > len(page) else None)

    def finished(self, ref: ObjectRef, upload_id: str) -> WriteReceipt | None:
        """What a repeated Complete of this key is told."""
        found = self._completed.get(upload_id)
        return found[1] if found is not None and found[0] == ref else None

    def assembled(self, ref: ObjectRef, request: CompleteRequest, context: RequestContext) -> Assembled:
        """The object, when parts, order, sizes and checksums are what the request says."""
        upload = self.find(ref, request.upload_id, context)
        parts = self._named_parts(upload, request, context)
        data = b"".join(part.data for part in parts)
        checksum = object_checksum(upload, parts, data, request, context) if self._rules.checksums else None
        joined = hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()
        etag = f"{self._rules.etag(joined)}-{len(parts)}"
        kept = upload.kept([receipt.number for receipt in request.receipts])
        return Assembled(upload, data, etag, checksum, kept)

    def end(self, upload: Upload, receipt: WriteReceipt | None = None) -> None:
        """It was completed, or aborted."""
        del self._open[upload.upload_id]
        if receipt is not None:
            self._completed[upload.upload_id] = (upload.ref, receipt)

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Another key's upload stays."""
        found = self._open.get(upload_id)
        if found is not None and found.ref == ref:
            self.end(found)

    def _named_parts(self, upload: Upload, request: CompleteRequest, context: RequestContext) -> list[StoredPart]:
        numbers = [receipt.number for receipt in request.receipts]
        if not numbers:
            raise refused(InvalidRequest, "MalformedXML", 400, context)
        if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
            raise refused(InvalidRequest, "InvalidPartOrder", 400, context)
        parts = [self._named_part(upload, receipt, request, context) for receipt in request.receipts]
        if any(len(part.data) < self._rules.min_part_size for part in parts[:-1]):
            raise refused(InvalidRequest, "EntityTooSmall", 400, context)
        return parts

    def _named_part(
        self, upload: Upload, receipt: PartReceipt, request: CompleteRequest, context: RequestContext
    ) -> StoredPart:
        part = upload.parts.get(receipt.number)
        if part is None or part.etag != receipt.etag:
            raise refused(InvalidRequest, "InvalidPart", 400, context)
        named = self._rules.checksums and request.send_part_checksums and receipt.crc32 is not None
        if named and receipt.crc32 != part.crc32:
            raise refused(InvalidRequest, "InvalidPart", 400, context)
        if upload.checksum_type is ChecksumType.COMPOSITE and not named:
            raise refused(InvalidRequest, "InvalidRequest", 400, context, "each part's checksum must be named")
        return part


def new_upload(
    ref: ObjectRef, upload_id: str, initiator: str, now: datetime, attributes: ObjectAttributes,
    kind: ChecksumType | None,
) -> Upload:  # fmt: skip
    """An upload without parts; Initiated is in whole seconds."""
    return Upload(ref, upload_id, initiator, now.replace(microsecond=0), attributes, kind)
