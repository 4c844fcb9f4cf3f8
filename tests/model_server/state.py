"""The values a bucket is made of: versions, uploads, parts."""

import hashlib
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from tests.model_server.blobs import Blob, Content
from tests.model_server.checksums import Algorithm, ChecksumType, composite, digest_of, encode_digest
from tests.model_server.config import Credentials

Versioning = Literal["", "Enabled", "Suspended"]


@dataclass(frozen=True)
class ObjectTraits:
    """What a writer says about an object besides its bytes."""

    metadata: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    encryption: dict[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    tags: tuple[tuple[str, str], ...] = ()
    acl: str = "private"
    lock: dict[str, str] = field(default_factory=dict)
    # The MD5 of the customer's key (SSE-C), in base64; the key itself is forgotten, as S3 does.
    customer_key_md5: str = ""


@dataclass(frozen=True)
class ObjectChecksum:
    """The checksum of an object, in the form the store answers."""

    algorithm: Algorithm
    value: str
    type: ChecksumType


@dataclass
class StoredPart:
    """One part as the store holds it."""

    number: int
    blob: Blob
    etag: str
    checksum: tuple[Algorithm, bytes] | None
    last_modified: datetime

    @property
    def size(self) -> int:
        return self.blob.size

    def read_again(self) -> None:
        """Derive ETag and checksum from the bytes as they are stored now."""
        self.etag = self.blob.md5().hex()
        if self.checksum is not None:
            algorithm = self.checksum[0]
            self.checksum = (algorithm, digest_of(algorithm, self.blob.blocks(0, self.size)))


@dataclass
class StoredVersion:
    """One version of an object, or a delete marker; the ETag is without quotes."""

    key: str
    version_id: str
    content: Content
    etag: str
    traits: ObjectTraits
    last_modified: datetime
    owner: Credentials
    checksum: ObjectChecksum | None = None
    delete_marker: bool = False
    multipart: bool = False
    # Of a multipart object: the numbers of its parts, and their digests when its checksum is COMPOSITE.
    part_numbers: tuple[int, ...] = ()
    part_digests: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        return self.content.size

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.traits.metadata)

    def read(self) -> bytes:
        """All bytes of the version."""
        return b"".join(self.content.blocks(0, self.size))

    def read_again(self) -> None:
        """Derive ETag and checksum from the bytes as they are stored now."""
        digests = [blob.md5() for blob in self.content.blobs]
        if self.multipart:
            self.etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
        else:
            self.etag = digests[0].hex()
        if self.checksum is not None:
            self.checksum = replace(self.checksum, value=self._checksum_value(self.checksum))

    def _checksum_value(self, checksum: ObjectChecksum) -> str:
        algorithm = checksum.algorithm
        if checksum.type == "FULL_OBJECT":
            return encode_digest(digest_of(algorithm, self.content.blocks(0, self.size)))
        self.part_digests = tuple(digest_of(algorithm, blob.blocks(0, blob.size)) for blob in self.content.blobs)
        return composite(algorithm, self.part_digests)


@dataclass
class Upload:
    """A multipart upload; `lock` makes part commits, Complete and Abort follow each other."""

    upload_id: str
    key: str
    initiator: Credentials
    initiated: datetime
    traits: ObjectTraits
    algorithm: Algorithm | None = None
    checksum_type: ChecksumType | None = None
    parts: dict[int, StoredPart] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    open: bool = True


@dataclass(frozen=True)
class CompletedUpload:
    """A finished upload and the answer a repeated Complete gets."""

    key: str
    version: StoredVersion


@dataclass(frozen=True)
class AbortRule:
    """A lifecycle rule that aborts incomplete uploads."""

    rule_id: str
    prefix: str
    days: int
    enabled: bool = True


@dataclass
class Bucket:
    """A bucket; objects hold their versions oldest first."""

    name: str
    created: datetime
    versioning: Versioning = ""
    objects: dict[str, list[StoredVersion]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    completed: dict[str, CompletedUpload] = field(default_factory=dict)
    abort_rules: tuple[AbortRule, ...] = ()
    conditional_writers: set[str] = field(default_factory=set)
