"""The objects that are downloaded: the same bytes with everything, something and nothing to compare them with."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from tests.model_server import ModelServer, ServerProfile
from tests.model_server.blobs import Blob, Content
from tests.model_server.checksums import ALGORITHMS, ChecksumType, digest_of, encode_digest
from tests.model_server.state import StoredVersion

_NURSERY = "nursery"
_GROWING = threading.Lock()


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


@dataclass(frozen=True)
class Bodies:
    """Two generations of one object, equally long, cut into parts of ``part_size``."""

    seed: int
    size: int
    part_size: int

    def generation(self, number: int) -> bytes:
        """The bytes of the object, 0 the first."""
        return _body(self.seed + number, self.size)

    def version(self, kind: Kind, number: int) -> StoredVersion:
        """What a store keeps of a generation. The first call of each takes its time, as an upload does."""
        with _GROWING:
            return _grown(self, kind, number)

    def put(self, server: ModelServer, bucket: str, key: str, kind: Kind, number: int) -> None:
        """Make a generation the current object, as if somebody had uploaded it, without a request."""
        world, version = server._world, self.version(kind, number)
        content = Content(tuple(_blob(server, part) for part in _parts(self, kind, number)))
        world.store.put(bucket, replace(version, key=key, content=content, last_modified=world.store.now()))


@cache
def _body(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _parts(bodies: Bodies, kind: Kind, number: int) -> list[bytes]:
    body = bodies.generation(number)
    step = bodies.part_size if kind.multipart else bodies.size
    return [body[at : at + step] for at in range(0, bodies.size, step)]


def _blob(server: ModelServer, part: bytes) -> Blob:
    writer = server._world.blobs.create()
    writer.write(part)
    return writer.finish()


@cache
def _grown(bodies: Bodies, kind: Kind, number: int) -> StoredVersion:
    """Really uploaded once, to a server of its own, so that the object is exactly what the store makes of it."""
    parts = _parts(bodies, kind, number)
    with ModelServer(profile=ServerProfile(min_part_size=1)) as server:
        server.create_bucket(_NURSERY)
        (_upload if kind.multipart else _put)(_client(server), kind, parts)
        version = server._world.store.current(_NURSERY, kind.name)
        assert version is not None
    if not kind.managed:
        return version
    # As on AWS, where the ETag of parts under a managed key still has their number.
    return replace(version, etag=f"{random.Random(bodies.seed + number).randbytes(16).hex()}-{len(parts)}")


def _client(server: ModelServer) -> Any:
    # Checksums are those that a kind names, and no others.
    config = Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"})
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=config,
    )


def _put(client: Any, kind: Kind, parts: list[bytes]) -> None:
    client.put_object(Bucket=_NURSERY, Key=kind.name, Body=b"".join(parts))


def _upload(client: Any, kind: Kind, parts: list[bytes]) -> None:
    chosen: dict[str, str] = {"ServerSideEncryption": "aws:kms"} if kind.managed else {}
    if kind.algorithm:
        chosen |= {"ChecksumAlgorithm": kind.algorithm, "ChecksumType": kind.type}
    place = {"Bucket": _NURSERY, "Key": kind.name}
    place["UploadId"] = client.create_multipart_upload(**place, **chosen)["UploadId"]
    listed = []
    for number, part in enumerate(parts, 1):
        sums = {}
        if kind.algorithm:
            algorithm = ALGORITHMS[kind.algorithm]
            sums = {algorithm.element: encode_digest(digest_of(algorithm, [part]))}
        answer = client.upload_part(**place, PartNumber=number, Body=part, **sums)
        listed.append({"PartNumber": number, "ETag": answer["ETag"], **sums})
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": listed})
