"""Objects that are simply there: bytes, parts, ETag and checksum as a test wants them, without a request.

`server.seed(Seed("bucket", "key", data))` is an object as a plain PutObject without a checksum leaves it. With `parts`
it is a multipart object of parts of these sizes; `checksum` names an algorithm; `etag` stands in for the ETag that S3
would make: the MD5 of the bytes, or of the parts' MD5s with their number.

`KINDS` names what a download can be proved by, and not:

    server.seed(Seed.of_kind("crc64nvme", "bucket", "key", data, part_size=5 * MIB))
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from tests.model_server.blobs import BlobStore, Content
from tests.model_server.checksums import ALGORITHMS, ChecksumType, composite, digest_of, encode_digest
from tests.model_server.config import Credentials
from tests.model_server.state import ObjectChecksum, ObjectTraits, StoredVersion
from tests.model_server.store import Store

Kind = Literal["none", "crc64nvme", "crc32c", "crc32", "composite", "sha256-composite", "md5", "md5-parts"]


@dataclass(frozen=True)
class Wish:
    """What the store shall say about the bytes."""

    parts: bool = True
    checksum: str | None = None
    checksum_type: ChecksumType = "FULL_OBJECT"
    etag: str | None = None


KINDS: Final[Mapping[Kind, Wish]] = {
    "none": Wish(etag="opaque-etag"),
    "crc64nvme": Wish(checksum="CRC64NVME"),
    "crc32c": Wish(checksum="CRC32C"),
    "crc32": Wish(checksum="CRC32"),
    "composite": Wish(checksum="CRC32", checksum_type="COMPOSITE"),
    "sha256-composite": Wish(checksum="SHA256", checksum_type="COMPOSITE"),
    "md5": Wish(parts=False),
    "md5-parts": Wish(),
}


@dataclass(frozen=True)
class Seed:
    """One object. The sizes of `parts` add up to the bytes; without any it is no multipart object.

    The ETag has no quotes. Raises ValueError for what S3 could not hold.
    """

    bucket: str
    key: str
    data: bytes = field(repr=False)
    parts: tuple[int, ...] = ()
    checksum: str | None = None
    checksum_type: ChecksumType = "FULL_OBJECT"
    etag: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    tags: Mapping[str, str] = field(default_factory=dict)
    # Seconds since it was written: what is old can be had without waiting.
    age: float = 0.0

    def __post_init__(self) -> None:
        if self.parts and sum(self.parts) != len(self.data):
            raise ValueError(f"the parts have {sum(self.parts)} bytes, the object {len(self.data)}")
        if self.checksum is None:
            return
        if self.checksum not in ALGORITHMS:
            raise ValueError(f"no such algorithm: {self.checksum}")
        possible = ALGORITHMS[self.checksum].types if self.parts else ("FULL_OBJECT",)
        if self.checksum_type not in possible:
            raise ValueError(f"the {self.checksum} of such an object is {' or '.join(possible)}")

    @classmethod
    def of_kind(cls, kind: Kind, bucket: str, key: str, data: bytes, *, part_size: int) -> "Seed":
        """An object that can be proved by just this; of equal parts where it has parts."""
        wish = KINDS[kind]
        sizes = tuple(min(part_size, len(data) - at) for at in range(0, len(data), part_size)) or (0,)
        return cls(bucket, key, data, sizes if wish.parts else (), wish.checksum, wish.checksum_type, wish.etag)

    def to_json(self) -> dict[str, Any]:
        """For the control API."""
        return {**asdict(self), "data": base64.b64encode(self.data).decode()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Seed":
        """The other way."""
        return cls(**{**values, "data": base64.b64decode(values["data"]), "parts": tuple(values["parts"])})


def plant(seed: Seed, store: Store, blobs: BlobStore, owner: Credentials) -> StoredVersion:
    """Make it the newest version of its key; raises NoSuchBucket, and ValueError when bytes are discarded."""
    if blobs.discards:
        raise ValueError("a server that discards bytes cannot be seeded")
    store.bucket(seed.bucket)
    content = _content(seed, blobs)
    traits = ObjectTraits(
        metadata=dict(seed.metadata),
        system={"content-type": "binary/octet-stream"},
        storage_class=seed.storage_class,
        tags=tuple(seed.tags.items()),
    )
    version = StoredVersion(
        seed.key, "null", content, _etag(seed, content), traits, store.now() - timedelta(seconds=seed.age), owner
    )
    version.multipart = bool(seed.parts)
    version.part_numbers = tuple(range(1, len(seed.parts) + 1))
    _give_checksum(seed, version)
    return store.put(seed.bucket, version)


def _content(seed: Seed, blobs: BlobStore) -> Content:
    made, at, view = [], 0, memoryview(seed.data)
    for size in seed.parts or (len(seed.data),):
        writer = blobs.create()
        writer.write(view[at : at + size])
        made.append(writer.finish())
        at += size
    return Content(tuple(made))


def _etag(seed: Seed, content: Content) -> str:
    if seed.etag is not None:
        return seed.etag
    digests = [blob.md5() for blob in content.blobs]
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}" if seed.parts else digests[0].hex()


def _give_checksum(seed: Seed, version: StoredVersion) -> None:
    if seed.checksum is None:
        return
    algorithm = ALGORITHMS[seed.checksum]
    value = encode_digest(digest_of(algorithm, [seed.data]))
    if seed.checksum_type == "COMPOSITE":
        blobs = version.content.blobs
        version.part_digests = tuple(digest_of(algorithm, blob.blocks(0, blob.size)) for blob in blobs)
        value = composite(algorithm, version.part_digests)
    version.checksum = ObjectChecksum(algorithm, value, seed.checksum_type)
