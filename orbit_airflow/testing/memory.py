"""MemoryStore: S3's semantics in a dict, strict, for tests of what stands above the port."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import (
    ChecksumRefused,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    RequestContext,
    UploadGone,
)
from orbit_airflow.engine.model import (
    GIB,
    MIB,
    ByteRange,
    Checksum,
    ChecksumType,
    CreatedUpload,
    DeleteReceipt,
    KeyPrefix,
    ListedPart,
    ListedUpload,
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
from orbit_airflow.engine.store import Body, CompleteRequest, CopyRequest, ListRequest, PartDigests
from orbit_airflow.testing.reading import MemoryStream, chosen, copied_attributes, info_of, page_of, part_of, stream_of
from orbit_airflow.testing.shelf import (
    KeptPart,
    OpenUpload,
    RecordedRequest,
    StoredObject,
    StoredPart,
    Upload,
    check_attributes,
    listed_checksum,
    object_checksum,
    received_from,
    refused,
)

MAX_PART_NUMBER = 10_000


class MemoryStore:
    """A TransferStore in memory: what S3 refuses, it refuses. Thread-safe.

    ``versioned`` keeps every version. ``checksums=False`` is a store that has never heard of CRCs and MpuObjectSize
    and ignores both (its ETags are MD5s still); ``full_object=False`` makes COMPOSITE checksums of multipart objects;
    ``opaque_etags`` makes ETags that look like an MD5 and are none. ``complete_again`` says what a repeated Complete
    gets. Every bucket exists, unless ``buckets`` names those that do. ``initiator`` may be set at any time: uploads
    begun from then on are that identity's. ``clock`` gives the seconds that Initiated and LastModified show.
    """

    def __init__(
        self,
        *,
        versioned: bool = False,
        checksums: bool = True,
        full_object: bool = True,
        opaque_etags: bool = False,
        complete_again: Literal["idempotent", "gone"] = "idempotent",
        min_part_size: int = 5 * MIB,
        max_part_size: int = 5 * GIB,
        max_put_size: int = 5 * GIB,
        page_size: int = 1000,
        initiator: str = "memory-user",
        buckets: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.initiator = initiator
        self.requests: list[RecordedRequest] = []
        self._versioned = versioned
        self._checksums = checksums
        self._full_object = full_object
        self._opaque = opaque_etags
        self._complete_again = complete_again
        self._min_part_size = min_part_size
        self._max_part_size = max_part_size
        self._max_put_size = max_put_size
        self._page_size = page_size
        self._buckets = None if buckets is None else frozenset(buckets)
        self._clock = clock
        self._lock = threading.RLock()
        self._serial = 0
        self._versions: dict[tuple[str, str], list[StoredObject]] = {}
        self._uploads: dict[str, Upload] = {}
        self._completed: dict[str, tuple[ObjectRef, WriteReceipt]] = {}

    # What a test looks at.

    @property
    def objects(self) -> dict[ObjectRef, StoredObject]:
        """What every key shows now."""
        with self._lock:
            newest = {ObjectRef(*address): found[-1] for address, found in self._versions.items() if found}
        return {ref: item for ref, item in newest.items() if not item.deleted}

    def versions(self, ref: ObjectRef) -> list[StoredObject]:
        """All versions and delete markers of a key, newest first."""
        with self._lock:
            return list(reversed(self._versions.get((ref.bucket, ref.key), [])))

    def read(self, ref: ObjectRef) -> bytes:
        """The bytes of an object; NotFound when there is none. Not recorded as a request."""
        return self._find(ref, RequestContext("GetObject", ref.bucket, ref.key)).data

    def uploads(self, ref: ObjectRef | None = None) -> list[OpenUpload]:
        """The open multipart uploads, of one key when given."""
        with self._lock:
            return [item.view() for item in self._uploads.values() if ref is None or item.ref == ref]

    # The port.

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """As S3; the user metadata's names come back in lower case."""
        with self._recorded("head"):
            return info_of(ref, self._find(ref, RequestContext("HeadObject", ref.bucket, ref.key)))

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """As S3."""
        context = RequestContext("HeadObject", ref.bucket, ref.key, part_number=number)
        with self._recorded("head_part", number):
            return part_of(self._find(ref, context), number, context)

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> MemoryStream:
        """As S3; a range that does not end within the object is refused."""
        context = RequestContext("GetObject", ref.bucket, ref.key)
        with self._recorded("get"):
            return stream_of(ref, self._find(ref, context), span, if_match, context)

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """As S3: one part whatever the source had, in the class that the request names or STANDARD."""
        context = RequestContext("CopyObject", ref.bucket, ref.key)
        with self._recorded("copy"), self._lock:
            self._check_bucket(ref, context)
            item = self._find(request.source, context)
            if request.if_match not in (None, item.etag):
                raise refused(PreconditionFailed, "PreconditionFailed", 412, context)
            if len(item.data) > self._max_put_size:
                raise refused(InvalidRequest, "InvalidRequest", 400, context, "the copy source is too large")
            self._check_condition(ref, context, if_none_match=request.if_none_match)
            attributes = copied_attributes(item, request)
            check_attributes(attributes, context)
            md5 = hashlib.md5(item.data, usedforsecurity=False).hexdigest()
            checksum = Checksum("CRC32", to_base64(zlib.crc32(item.data))) if item.checksum is not None else None
            return self._store(ref, item.data, self._etag(md5), checksum, attributes)

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """As S3: the version that is named, else the object, or a delete marker over it when versions are kept."""
        context = RequestContext("DeleteObject", ref.bucket, ref.key)
        with self._recorded("delete"), self._lock:
            self._check_bucket(ref, context)
            versions = self._versions.setdefault((ref.bucket, ref.key), [])
            if ref.version_id is not None:
                named = [item for item in versions if (item.version_id or "null") == ref.version_id]
                versions[:] = [item for item in versions if item not in named]
                return DeleteReceipt(bool(named) and named[0].deleted, ref.version_id)
            if not self._versioned:
                versions.clear()
                return DeleteReceipt()
            marker = StoredObject(b"", "", self._next("marker"), self._now(), deleted=True)
            versions.append(marker)
            return DeleteReceipt(delete_marker=True, version_id=marker.version_id)

    def list_objects(self, request: ListRequest) -> ListResult:
        """As S3, ``page_size`` at a time."""
        where = request.where
        context = RequestContext("ListObjectsV2", where.bucket, where.prefix)
        with self._recorded("list_objects"), self._lock:
            self._check_bucket(where, context)
            return page_of(self._versions, request, self._page_size)

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """As S3; a CRC32 is kept and echoed when one was sent."""
        context = RequestContext("PutObject", ref.bucket, ref.key)
        with self._recorded("put") as received:
            self._check_bucket(ref, context)
            check_attributes(attributes, context)
            self._check_condition(ref, context, if_none_match=if_none_match)
            if body.size > self._max_put_size:
                raise refused(InvalidRequest, "EntityTooLarge", 400, context)
            data = received_from(body, received, context)
            digest = self._checked(data, digests, context)
            keep = self._checksums and digests.crc32 is not None
            checksum = Checksum("CRC32", to_base64(zlib.crc32(data))) if keep else None
            with self._lock:
                self._check_condition(ref, context, if_none_match=if_none_match)
                return self._store(ref, data, self._etag(digest.hex()), checksum, attributes)

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """As S3."""
        context = RequestContext("CreateMultipartUpload", ref.bucket, ref.key)
        with self._recorded("create"), self._lock:
            self._check_bucket(ref, context)
            check_attributes(attributes, context)
            kind = None
            if checksums and self._checksums:
                kind = ChecksumType.FULL_OBJECT if self._full_object else ChecksumType.COMPOSITE
            upload_id = self._next("upload")
            now = self._now().replace(microsecond=0)
            self._uploads[upload_id] = Upload(ref, upload_id, self.initiator, now, attributes, kind)
            return CreatedUpload(upload_id, "CRC32" if kind else None, kind)

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """As S3: the upload must be open before and behind the body; a checksum must fit the upload's kind."""
        context = RequestContext("UploadPart", ref.bucket, ref.key, upload_id, part.number)
        with self._recorded("upload_part", part.number) as received:
            upload = self._upload(ref, upload_id, context)
            self._check_part(upload, part, body, digests, context)
            data = received_from(body, received, context)
            digest = self._checked(data, digests, context)
            crc = zlib.crc32(data) if upload.checksum_type is not None else None
            with self._lock:
                upload = self._upload(ref, upload_id, context)
                stored = StoredPart(data, self._etag(digest.hex()), digest, crc, self._now())
                upload.parts[part.number] = stored
            return PartReceipt(part.number, len(data), stored.etag, digests.crc32, digests.md5, echoed=crc is not None)

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """As S3, ``page_size`` at a time."""
        context = RequestContext("ListParts", ref.bucket, ref.key, upload_id)
        with self._recorded("list_parts"), self._lock:
            upload = self._upload(ref, upload_id, context)
            listed = [
                ListedPart(number, len(part.data), part.etag, listed_checksum(part), part.last_modified)
                for number, part in sorted(upload.parts.items())
                if number > after
            ]
            page = listed[: self._page_size]
            more = len(listed) > len(page)
            return PartsPage(tuple(page), page[-1].number if more else None, upload.initiator)

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """As S3: parts, order, sizes and checksums are compared, then the object appears at once."""
        context = RequestContext("CompleteMultipartUpload", ref.bucket, ref.key, request.upload_id)
        with self._recorded("complete"), self._lock:
            finished = self._completed.get(request.upload_id)
            if finished is not None and finished[0] == ref and self._complete_again == "idempotent":
                return finished[1]
            upload = self._upload(ref, request.upload_id, context)
            parts = self._named_parts(upload, request, context)
            data = b"".join(part.data for part in parts)
            checksum = object_checksum(upload, parts, data, request, context) if self._checksums else None
            self._check_condition(ref, context, if_none_match=request.if_none_match)
            joined = hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()
            etag = f"{self._etag(joined)}-{len(parts)}"
            kept = upload.kept([receipt.number for receipt in request.receipts])
            receipt = self._store(ref, data, etag, checksum, upload.attributes, kept)
            del self._uploads[request.upload_id]
            self._completed[request.upload_id] = (ref, receipt)
            return receipt

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """As the port says: an upload that is gone is a success; another key's upload stays."""
        with self._recorded("abort"), self._lock:
            found = self._uploads.get(upload_id)
            if found is not None and found.ref == ref:
                del self._uploads[upload_id]

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """As S3: by key prefix, in the order of (key, time), ``page_size`` at a time."""
        with self._recorded("list_uploads"), self._lock:
            self._check_bucket(ref, RequestContext("ListMultipartUploads", ref.bucket, ref.key))
            found = sorted(
                (item.ref.key, item.upload_id)
                for item in self._uploads.values()
                if item.ref.bucket == ref.bucket and item.ref.key.startswith(ref.key)
            )
            names = [name for name in found if after is None or name > after]
            page = names[: self._page_size]
            listed = tuple(
                ListedUpload(key, name, self._uploads[name].initiated, self._uploads[name].initiator)
                for key, name in page
            )
            return UploadsPage(listed, page[-1] if len(names) > len(page) else None)

    # The rules.

    def _check_bucket(self, ref: ObjectRef | KeyPrefix, context: RequestContext) -> None:
        if self._buckets is not None and ref.bucket not in self._buckets:
            raise refused(NotFound, "NoSuchBucket", 404, context)

    def _find(self, ref: ObjectRef, context: RequestContext) -> StoredObject:
        self._check_bucket(ref, context)
        with self._lock:
            found = list(self._versions.get((ref.bucket, ref.key), []))
        return chosen(ref, found, context)

    def _upload(self, ref: ObjectRef, upload_id: str, context: RequestContext) -> Upload:
        with self._lock:
            found = self._uploads.get(upload_id)
        if found is None or found.ref != ref:
            raise refused(UploadGone, "NoSuchUpload", 404, context)
        return found

    def _check_condition(self, ref: ObjectRef, context: RequestContext, *, if_none_match: bool) -> None:
        with self._lock:
            newest = self._versions.get((ref.bucket, ref.key), [])[-1:]
        if if_none_match and newest and not newest[0].deleted:
            raise refused(PreconditionFailed, "PreconditionFailed", 412, context)

    def _check_part(
        self, upload: Upload, part: Part, body: Body, digests: PartDigests, context: RequestContext
    ) -> None:
        if not 1 <= part.number <= MAX_PART_NUMBER:
            raise refused(InvalidRequest, "InvalidArgument", 400, context)
        if body.size > self._max_part_size:
            raise refused(InvalidRequest, "EntityTooLarge", 400, context)
        if self._checksums and (upload.checksum_type is None) != (digests.crc32 is None):
            raise refused(InvalidRequest, "InvalidRequest", 400, context, "checksum type mismatch occurred")

    def _checked(self, data: bytes, digests: PartDigests, context: RequestContext) -> bytes:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        wrong_crc = self._checksums and digests.crc32 not in (None, zlib.crc32(data))
        if wrong_crc or digests.md5 not in (None, digest):
            raise refused(ChecksumRefused, "BadDigest", 400, context)
        return digest

    def _named_parts(self, upload: Upload, request: CompleteRequest, context: RequestContext) -> list[StoredPart]:
        numbers = [receipt.number for receipt in request.receipts]
        if not numbers:
            raise refused(InvalidRequest, "MalformedXML", 400, context)
        if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
            raise refused(InvalidRequest, "InvalidPartOrder", 400, context)
        parts = [self._named_part(upload, receipt, request, context) for receipt in request.receipts]
        if any(len(part.data) < self._min_part_size for part in parts[:-1]):
            raise refused(InvalidRequest, "EntityTooSmall", 400, context)
        return parts

    def _named_part(
        self, upload: Upload, receipt: PartReceipt, request: CompleteRequest, context: RequestContext
    ) -> StoredPart:
        part = upload.parts.get(receipt.number)
        if part is None or part.etag != receipt.etag:
            raise refused(InvalidRequest, "InvalidPart", 400, context)
        named = self._checksums and request.send_part_checksums and receipt.crc32 is not None
        if named and receipt.crc32 != part.crc32:
            raise refused(InvalidRequest, "InvalidPart", 400, context)
        if upload.checksum_type is ChecksumType.COMPOSITE and not named:
            raise refused(InvalidRequest, "InvalidRequest", 400, context, "each part's checksum must be named")
        return part

    # The rest.

    def _store(
        self, ref: ObjectRef, data: bytes, etag: str, checksum: Checksum | None, attributes: ObjectAttributes,
        parts: tuple[KeptPart, ...] = (),
    ) -> WriteReceipt:  # fmt: skip
        version = self._next("version") if self._versioned else None
        item = StoredObject(data, etag, version, self._now(), checksum, attributes, parts=parts)
        versions = self._versions.setdefault((ref.bucket, ref.key), [])
        if not self._versioned:
            versions.clear()
        versions.append(item)
        return WriteReceipt(etag, version, checksum)

    def _etag(self, md5: str) -> str:
        return secrets.token_hex(16) if self._opaque else md5

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _next(self, kind: str) -> str:
        """A name that sorts by age and cannot be guessed."""
        with self._lock:
            self._serial += 1
            return f"{kind}-{self._serial:08d}-{secrets.token_hex(8)}"

    @contextmanager
    def _recorded(self, operation: str, part_number: int | None = None) -> Iterator[list[int]]:
        received = [0]
        try:
            yield received
        finally:
            with self._lock:
                self.requests.append(RecordedRequest(operation, part_number, received[0]))
