"""What is proved about a downloaded file before it gets its name: never more than was compared."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from orbit_airflow.engine.digests import CrcAlgorithm, Hash, crc_algorithm, hash_algorithm
from orbit_airflow.engine.errors import IntegrityError, IntegrityTooWeak, RequestContext
from orbit_airflow.engine.model import MIB, Checksum, ChecksumType, Integrity, ObjectInfo

# Fills a view from an offset of the file.
ReadInto = Callable[[memoryview, int], None]
_BLOCK = MIB
_MD5 = re.compile(r"[0-9a-f]{32}")
_MULTIPART = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}")
_STRENGTH = (Integrity.FULL_CRC, Integrity.PART_CRC, Integrity.MD5, Integrity.SIZE_ETAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBytes:
    """A file of ``size`` bytes and known CRC by ``algorithm``. ``check`` is called between blocks and may raise."""

    size: int
    algorithm: CrcAlgorithm
    crc: int
    read_into: ReadInto
    check: Callable[[], None]

    def digest(self, hasher: Hash) -> Hash:
        """``hasher`` over all bytes, read once more from the disk."""
        buffer, done = memoryview(bytearray(max(1, min(_BLOCK, self.size)))), 0
        while done < self.size:
            self.check()
            view = buffer[: min(len(buffer), self.size - done)]
            self.read_into(view, done)
            hasher.update(view)
            done += len(view)
        return hasher


def refuse_weak(found: Integrity, wanted: Integrity | str | None, info: ObjectInfo, *, ahead: bool = False) -> None:
    """IntegrityTooWeak when ``found`` is less than is wanted; ``ahead``: it is the best that can come of it."""
    if wanted is None or _STRENGTH.index(found) <= _STRENGTH.index(Integrity(wanted)):
        return
    checksum = info.checksum
    has = f"a {checksum.type} {checksum.algorithm}" if checksum is not None else f"no checksum (ETag {info.etag})"
    end = "nothing was fetched" if ahead else "the file was not made visible"
    raise IntegrityTooWeak(
        f"{info.ref.uri} has {has}: {found} can be proved, {Integrity(wanted)} is required; {end}", _context(info)
    )


def best_proof(info: ObjectInfo) -> Integrity:
    """The strongest proof that what the store says about an object may turn out to allow."""
    checksum = info.checksum
    if checksum is not None and _computable(checksum.algorithm):
        return Integrity.FULL_CRC if checksum.type is ChecksumType.FULL_OBJECT else Integrity.PART_CRC
    if not _managed(info) and (_MD5.fullmatch(info.etag) or _MULTIPART.fullmatch(info.etag)):
        return Integrity.MD5
    return Integrity.SIZE_ETAG


def prove_whole(info: ObjectInfo, local: LocalBytes) -> Integrity | None:
    """What a checksum or MD5 over all bytes proves; None when the store keeps none that can be computed here.

    IntegrityError when the bytes are not those that it is of.
    """
    checksum = info.checksum
    if checksum is not None and checksum.type is ChecksumType.FULL_OBJECT:
        value = _full_value(checksum, local)
        if value is not None:
            if value != checksum.value:
                raise differing(
                    info, f"the object's {checksum.algorithm} is {checksum.value}", f"the file's is {value}"
                )
            return Integrity.FULL_CRC
    if checksum is not None or _managed(info) or not _MD5.fullmatch(info.etag):
        return None
    return prove_md5(info, local)


def prove_md5(info: ObjectInfo, local: LocalBytes) -> Integrity | None:
    """What an ETag that is an MD5 by S3's rules proves: 32 hex digits and no key management. None when it is none."""
    hasher = hash_algorithm("MD5")
    if hasher is None or _managed(info) or not _MD5.fullmatch(info.etag):
        return None
    value = local.digest(hasher()).hexdigest()
    if value != info.etag:
        raise differing(
            info,
            f"the object's ETag is {info.etag}",
            f"the file's MD5 is {value} (where ETags only look like an MD5, use verify_checksums=False)",
        )
    return Integrity.MD5


def differing(info: ObjectInfo, theirs: str, ours: str) -> IntegrityError:
    """The error for bytes that are not those of the object."""
    return IntegrityError(f"{theirs}, {ours}", _context(info))


def _full_value(checksum: Checksum, local: LocalBytes) -> str | None:
    if checksum.algorithm == local.algorithm.name:
        return local.algorithm.to_base64(local.crc)
    hasher = hash_algorithm(checksum.algorithm)
    return base64.b64encode(local.digest(hasher()).digest()).decode() if hasher is not None else None


def _computable(algorithm: str) -> bool:
    return crc_algorithm(algorithm) is not None or hash_algorithm(algorithm) is not None


def _managed(info: ObjectInfo) -> bool:
    return info.customer_key or (info.server_side_encryption or "").startswith("aws:kms")


def _context(info: ObjectInfo) -> RequestContext:
    return RequestContext("GetObject", info.ref.bucket, info.ref.key)
