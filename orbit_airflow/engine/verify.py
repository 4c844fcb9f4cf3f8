"""What is proved about a downloaded file before it gets its name: never more than was compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from orbit_airflow.engine.digests import CrcAlgorithm, digest_algorithm, encoded
from orbit_airflow.engine.errors import IntegrityError, IntegrityTooWeak, RequestContext, printable
from orbit_airflow.engine.layout import ReadInto, digest_of
from orbit_airflow.engine.model import Checksum, ChecksumType, Integrity, ObjectInfo

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


def refuse_weak(found: Integrity, wanted: Integrity | str | None, info: ObjectInfo, *, ahead: bool = False) -> None:
    """IntegrityTooWeak when ``found`` is less than is wanted; ``ahead``: it is the best that can come of it."""
    if wanted is None or suffices(found, wanted):
        return
    checksum = info.checksum
    has = (
        f"a {checksum.type} {checksum.algorithm}"
        if checksum is not None
        else f"no checksum (ETag {printable(info.etag)})"
    )
    end = "nothing was fetched" if ahead else "the file was not made visible"
    raise IntegrityTooWeak(
        f"{printable(info.ref.uri)} has {has}: {found} can be proved, {Integrity(wanted)} is required; {end}",
        _context(info),
    )


def suffices(found: Integrity, wanted: Integrity | str | None) -> bool:
    """Whether ``found`` is at least what is wanted."""
    return wanted is None or _STRENGTH.index(found) <= _STRENGTH.index(Integrity(wanted))


def weaker(one: Integrity, other: Integrity) -> Integrity:
    """The lesser of two proofs."""
    return max(one, other, key=_STRENGTH.index)


def best_proof(info: ObjectInfo) -> Integrity:
    """The strongest proof that what the store says about an object may turn out to allow."""
    checksum = info.checksum
    if checksum is not None and digest_algorithm(checksum.algorithm) is not None:
        return Integrity.FULL_CRC if checksum.type is ChecksumType.FULL_OBJECT else Integrity.PART_CRC
    if not managed(info) and (_MD5.fullmatch(info.etag) or _MULTIPART.fullmatch(info.etag)):
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
    if checksum is not None or managed(info) or not _MD5.fullmatch(info.etag):
        return None
    return prove_md5(info, local)


def prove_md5(info: ObjectInfo, local: LocalBytes) -> Integrity | None:
    """What an ETag that is an MD5 by S3's rules proves: 32 hex digits and no key management. None when it is none."""
    if managed(info) or not _MD5.fullmatch(info.etag):
        return None
    digest = digest_of("MD5", local.read_into, local.size, check=local.check)
    value = digest.hex() if digest is not None else None
    if value != info.etag:
        raise differing(
            info,
            f"the object's ETag is {printable(info.etag)}",
            f"the file's MD5 is {value} (where ETags only look like an MD5, use verify_checksums=False)",
        )
    return Integrity.MD5


def differing(info: ObjectInfo, theirs: str, ours: str) -> IntegrityError:
    """The error for bytes that are not those of the object."""
    return IntegrityError(f"{theirs}, {ours}", _context(info))


def _full_value(checksum: Checksum, local: LocalBytes) -> str | None:
    if checksum.algorithm == local.algorithm.name:
        return local.algorithm.to_base64(local.crc)
    digest = digest_of(checksum.algorithm, local.read_into, local.size, check=local.check)
    return encoded(digest) if digest is not None else None


def managed(info: ObjectInfo) -> bool:
    """True when the ETag is certainly made of no MD5: key management is involved."""
    return info.customer_key or (info.server_side_encryption or "").startswith("aws:kms")


def _context(info: ObjectInfo) -> RequestContext:
    return RequestContext("GetObject", info.ref.bucket, info.ref.key)
