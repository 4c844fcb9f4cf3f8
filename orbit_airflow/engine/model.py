"""The engine's values: addresses, parts, receipts, answers. All frozen; none of them does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from urllib.parse import quote

from orbit_airflow.engine.errors import ConfigError, StoreError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html: a key is 1 to 1,024 bytes of UTF-8.
MAX_KEY_BYTES = 1024
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{1,254}")


class Integrity(StrEnum):
    """What was proved about the bytes, strongest first.

    ``full-crc``: the store verified (or reported) a checksum of the whole object that equals ours.
    ``part-crc``: the same for each part, and for the checksum of the parts' checksums.
    ``md5``: the ETag is the MD5 (or the MD5 of the parts' MD5s) that we computed.
    ``size+etag``: only the size was compared and the ETag recorded.
    """

    FULL_CRC = "full-crc"
    PART_CRC = "part-crc"
    MD5 = "md5"
    SIZE_ETAG = "size+etag"


class ChecksumType(StrEnum):
    """How a multipart object's checksum is formed: over all bytes, or over the parts' checksums."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum as S3 writes it: ``value`` is base64, with ``-N`` behind it for a composite one."""

    algorithm: str
    value: str
    type: ChecksumType = ChecksumType.FULL_OBJECT


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object's address. Raises ConfigError for a bucket or key that S3 cannot hold."""

    bucket: str
    key: str
    version_id: str | None = None

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ConfigError(f"not a bucket name: {self.bucket!r}")
        try:
            size = len(self.key.encode("utf-8"))
        except UnicodeEncodeError as exc:
            raise ConfigError(f"the key is not valid UTF-8: {self.key!r}") from exc
        if not 1 <= size <= MAX_KEY_BYTES:
            raise ConfigError(f"a key has 1 to {MAX_KEY_BYTES} bytes, this one has {size}: {self.key[:80]!r}")

    @classmethod
    def parse(cls, uri: str) -> ObjectRef:
        """``s3://bucket/key``; the key is everything behind the first slash, untouched (no query, no fragment)."""
        scheme, separator, rest = uri.partition("://")
        bucket, slash, key = rest.partition("/")
        if scheme.lower() != "s3" or not separator or not slash:
            raise ConfigError(f"expected s3://bucket/key, got {uri!r}")
        return cls(bucket, key)

    @property
    def uri(self) -> str:
        """The address as people write it (not percent-encoded; ``parse`` is its inverse)."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def copy_source(self) -> str:
        """The address as the ``x-amz-copy-source`` header wants it."""
        source = quote(f"{self.bucket}/{self.key}", safe="/")
        return f"{source}?versionId={self.version_id}" if self.version_id else source


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """What a listing is about: the keys of a bucket that begin with ``prefix`` (empty: all of them).

    A prefix is no directory: ``a/b`` is also the beginning of ``a/bc``.
    """

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ConfigError(f"not a bucket name: {self.bucket!r}")
        try:
            size = len(self.prefix.encode("utf-8"))
        except UnicodeEncodeError as exc:
            raise ConfigError(f"the prefix is not valid UTF-8: {self.prefix!r}") from exc
        if size > MAX_KEY_BYTES:
            raise ConfigError(f"a prefix has at most {MAX_KEY_BYTES} bytes, this one has {size}")

    @classmethod
    def parse(cls, uri: str) -> KeyPrefix:
        """``s3://bucket`` or ``s3://bucket/prefix``, taken to the letter."""
        scheme, separator, rest = uri.partition("://")
        if scheme.lower() != "s3" or not separator:
            raise ConfigError(f"expected s3://bucket/prefix, got {uri!r}")
        bucket, _, prefix = rest.partition("/")
        return cls(bucket, prefix)

    @property
    def probe(self) -> ObjectRef:
        """A key below it, of which a HEAD asks whether the store is well; nothing needs to be there."""
        return ObjectRef(self.bucket, self.prefix or "-")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from ``start`` up to but not including ``stop``. Raises ConfigError for an empty or negative one."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ConfigError(f"a range has 0 <= start < stop, got {self.start} and {self.stop}")

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.stop - self.start

    @property
    def header(self) -> str:
        """As the Range header wants it."""
        return f"bytes={self.start}-{self.stop - 1}"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a plan: S3's part number (from 1) and its range in the source."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """What the store answered for a part; ``checksum`` and ``md5`` are ours, ``etag`` is the store's, unquoted."""

    number: int
    size: int
    etag: str
    crc32: int | None = None
    md5: bytes | None = None
    echoed: bool = False


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A part as ListParts shows it. Nothing here is trusted before it was compared with the local bytes."""

    number: int
    size: int
    etag: str
    checksum: Checksum | None
    last_modified: datetime | None


@dataclass(frozen=True, slots=True)
class PartsPage:
    """One page of ListParts; ``next_marker`` is a part number, or None behind the last page."""

    parts: tuple[ListedPart, ...]
    next_marker: int | None
    initiator: str | None = None


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """An open multipart upload as ListMultipartUploads shows it."""

    key: str
    upload_id: str
    initiated: datetime | None
    initiator: str | None


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One page of ListMultipartUploads; ``next_marker`` is (key, upload id), or None behind the last page."""

    uploads: tuple[ListedUpload, ...]
    next_marker: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class CreatedUpload:
    """The answer to CreateMultipartUpload: what the store will check, and when it would abort the upload itself."""

    upload_id: str
    checksum_algorithm: str | None = None
    checksum_type: ChecksumType | None = None
    abort_date: datetime | None = None


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """The answer to PutObject or CompleteMultipartUpload. An empty ``etag`` means: ask HEAD, nothing is known yet."""

    etag: str
    version_id: str | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class DeleteReceipt:
    """The answer to DeleteObject. With ``delete_marker`` and no version asked for, ``version_id`` is the new marker's
    and the versions below it are kept; with a version asked for, that version is gone (and was a marker, if so).
    """

    delete_marker: bool = False
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """What one DeleteObjects answered for one key (or one version of it): a receipt, an error, or neither.

    ``unknown``: the answer does not name the key. Whether it was deleted has to be looked up.
    """

    key: str
    version_id: str | None = None
    receipt: DeleteReceipt | None = None
    error: StoreError | None = None

    @property
    def unknown(self) -> bool:
        """True when the answer is silent about the key."""
        return self.receipt is None and self.error is None


@dataclass(frozen=True, slots=True)
class DeleteManyResult:
    """The answer to DeleteObjects: one outcome for each (key, version id) asked for, each exactly once, in the order in
    which they were first named, whatever the store answered.
    """

    outcomes: tuple[DeleteOutcome, ...]


@dataclass(frozen=True, slots=True)
class RestoreState:
    """How far the restoring of an archived object is (``x-amz-restore``).

    ``ongoing``: the bytes are not there yet. Else they are, until ``expires`` (None: the store does not say).
    """

    ongoing: bool
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentHeaders:
    """The headers that travel with an object besides its user metadata; None where it has none."""

    content_type: str | None = None
    content_encoding: str | None = None
    content_disposition: str | None = None
    content_language: str | None = None
    cache_control: str | None = None
    expires: datetime | None = None
    website_redirect: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as HEAD shows it; all values are frozen.

    ``storage_class`` None is STANDARD. ``archive_status`` is that of INTELLIGENT_TIERING's archive tiers. ``restore``
    is None for what was never archived, or is archived and nobody has asked for it. ``retention`` is the Object Lock
    mode. ``customer_key``: encrypted with a key that the store does not keep (SSE-C). ``tag_count`` is 0 also where the
    store does not tell it.
    """

    ref: ObjectRef
    size: int
    etag: str
    version_id: str | None = None
    last_modified: datetime | None = None
    checksum: Checksum | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    storage_class: str | None = None
    headers: ContentHeaders = ContentHeaders()
    restore: RestoreState | None = None
    archive_status: str | None = None
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    bucket_key: bool = False
    customer_key: bool = False
    retention: str | None = None
    legal_hold: bool = False
    tag_count: int = 0

    def metadata_value(self, name: str) -> str | None:
        """A user metadata value by its lower-case name, or None."""
        return dict(self.metadata).get(name)


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """One part of a finished multipart object, as a HEAD by part number shows it.

    ``count`` is the object's number of parts and ``size`` this part's. ``checksum`` is over the bytes of the part, and
    only there where the object's is COMPOSITE, or the part is the only one. ``etag`` is the object's (moto's: the
    part's own). Without a Content-Range a store that ignores the number cannot be told here: compare ``size`` with the
    object's.
    """

    number: int
    count: int
    size: int
    checksum: Checksum | None
    etag: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it. ``storage_class`` None: the store does not say."""

    key: str
    size: int
    etag: str
    last_modified: datetime | None = None
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class ListResult:
    """One page of a listing, in the store's order (S3's: by the UTF-8 bytes of the key).

    ``common_prefixes``: what a delimiter has folded. ``continuation_token`` is None behind the last page; else give it
    to the next call. A page may be empty although more follow.
    """

    objects: tuple[ListedObject, ...]
    is_truncated: bool = False
    continuation_token: str | None = None
    common_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """What an upload gives to its object besides the bytes. None means: send nothing, the bucket decides."""

    metadata: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    content_type: str | None = None
    storage_class: str | None = None
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    acl: str | None = None
    extra_args: tuple[tuple[str, str | bool | datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class UploadResult:
    """A finished upload. ``bytes_sent`` and ``bytes_saved`` are of the last try: their sum is at least ``size``.

    ``parts_found`` are those of earlier tries. ``resumed`` is True when something that an earlier try had done was used
    again, be it parts or the whole object.
    """

    ref: ObjectRef
    etag: str
    size: int
    checksum: Checksum | None
    integrity: Integrity
    duration: float
    version_id: str | None = None
    resumed: bool = False
    bytes_sent: int = 0
    bytes_saved: int = 0
    parts_found: int = 0


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A finished download: the file at ``path`` (absolute) is complete and one snapshot of the object.

    ``bytes_received`` and ``bytes_saved`` are of the last try: bytes that travelled, and bytes that an earlier try had
    fetched. ``ranges_found`` are those of earlier tries. ``resumed`` is True when something that was there already was
    used again, be it ranges or the whole file.
    """

    ref: ObjectRef
    path: str
    etag: str
    size: int
    checksum: Checksum | None
    integrity: Integrity
    duration: float
    version_id: str | None = None
    last_modified: datetime | None = None
    resumed: bool = False
    bytes_received: int = 0
    bytes_saved: int = 0
    ranges_found: int = 0


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A whole object in memory. ``integrity`` says what was proved; ``size+etag`` means that the store gave nothing
    to compare the bytes with (or that checking is switched off).
    """

    info: ObjectInfo
    data: bytes = field(repr=False)
    integrity: Integrity = Integrity.SIZE_ETAG


@dataclass(frozen=True, slots=True)
class CopyResult:
    """A finished copy. ``integrity`` compares it with its source as the store reports both; no byte came here.

    ``not_kept`` names what the source had and a copy does not get by itself: "retention", "legal hold"; "etag", where
    it was made of parts that the copy does not have, and "checksum algorithm", where the copy's is another one. No copy
    has its source's Last-Modified. A HEAD does not tell of an ACL of the source's own, which no copy gets, nor of
    annotations, which a copy in parts does not get.
    ``bytes_copied`` and ``bytes_saved`` are of the last try, ``parts_found`` those that earlier tries had copied.
    ``tagged_again``: the store had dropped the tags, and they were set by a request of their own.
    """

    ref: ObjectRef
    source: ObjectRef
    etag: str
    size: int
    checksum: Checksum | None
    integrity: Integrity
    duration: float
    version_id: str | None = None
    storage_class: str | None = None
    not_kept: tuple[str, ...] = ()
    resumed: bool = False
    bytes_copied: int = 0
    bytes_saved: int = 0
    parts_found: int = 0
    tagged_again: bool = False
