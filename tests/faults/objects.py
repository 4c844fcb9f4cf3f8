"""The objects that are downloaded: the same bytes with everything, something and nothing to compare them with."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache

from tests.model_server import ModelServer
from tests.model_server.blobs import Blob, Content
from tests.model_server.checksums import ALGORITHMS, ChecksumType, composite, digest_of, encode_digest
from tests.model_server.state import ObjectChecksum, ObjectTraits, StoredVersion


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a store knows about an object: the ETag of one PUT or of parts, and a checksum or none.

    ``managed``: the store encrypts with a managed key, and the ETag has nothing to do with the bytes.
    """

    name: str
    text: str
    multipart: bool = True
    managed: bool = False
    algorithm: str = ""
    type: ChecksumType = "FULL_OBJECT"


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="none", text="no checksum, opaque ETag", managed=True),
        Kind(name="crc64nvme", text="CRC64NVME, full object", algorithm="CRC64NVME"),
        Kind(name="crc32c", text="CRC32C, full object", algorithm="CRC32C"),
        Kind(name="crc32-parts", text="CRC32, composite", algorithm="CRC32", type="COMPOSITE"),
        Kind(name="md5", text="ETag is the MD5", multipart=False),
    )
}


_MANAGED = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:123456789012:key/faults",
}


@dataclass(frozen=True)
class Bodies:
    """Two generations of one object, equally long, cut into parts of ``part_size``."""

    seed: int
    size: int
    part_size: int

    def generation(self, number: int) -> bytes:
        """The bytes of the object, 0 the first."""
        return _body(self.seed + number, self.size)

    def put(self, server: ModelServer, bucket: str, key: str, kind: Kind, number: int) -> None:
        """Make a generation the current object, as if somebody had uploaded it, without a request."""
        world, body = server._world, self.generation(number)
        step = self.part_size if kind.multipart else self.size
        parts = tuple(body[at : at + step] for at in range(0, self.size, step))
        content = Content(tuple(_blob(server, part) for part in parts))
        checksum = _checksum(kind, parts)
        traits = ObjectTraits(encryption=dict(_MANAGED) if kind.managed else {})
        version = StoredVersion(
            key, "", content, _etag(parts, kind, self.seed + number), traits, world.store.now(), world.owner, checksum
        )
        version.multipart = kind.multipart
        world.store.put(bucket, version)


@cache
def _body(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _blob(server: ModelServer, part: bytes) -> Blob:
    writer = server._world.blobs.create()
    writer.write(part)
    return writer.finish()


def _etag(parts: tuple[bytes, ...], kind: Kind, seed: int) -> str:
    if kind.managed:
        return f"{random.Random(seed).randbytes(16).hex()}-{len(parts)}"
    digests = [hashlib.md5(part).digest() for part in parts]
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(parts)}" if kind.multipart else digests[0].hex()


@cache
def _checksum(kind: Kind, parts: tuple[bytes, ...]) -> ObjectChecksum | None:
    """Cached, because a CRC by table takes seconds."""
    if not kind.algorithm:
        return None
    algorithm = ALGORITHMS[kind.algorithm]
    if kind.type == "FULL_OBJECT":
        value = encode_digest(digest_of(algorithm, parts))
    else:
        value = composite(algorithm, [digest_of(algorithm, [part]) for part in parts])
    return ObjectChecksum(algorithm, value, kind.type)
