"""What an answer proves about an object, compared with what was hashed here. Decisions only; no request is made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from orbit_airflow.engine.checksums import combine_all, composite, to_base64
from orbit_airflow.engine.errors import IntegrityError
from orbit_airflow.engine.model import Checksum, ChecksumType, Integrity, ListedPart, ObjectInfo, PartReceipt

MARK = "orbit-upload"
_MD5_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


@dataclass(frozen=True, slots=True)
class LocalProof:
    """The local side: the size, the CRC32 of the whole, and what the ETag and a composite checksum should be.

    ``md5_binding``: the parts' ETags were their MD5s, so the object's ETag must be the MD5 of those.
    """

    size: int
    crc32: int
    composite: str | None = None
    md5_etag: str | None = None
    md5_binding: bool = False

    @classmethod
    def of_parts(cls, receipts: Sequence[PartReceipt]) -> LocalProof:
        """From the receipts of all parts, in order; each has its CRC, and its MD5 where CRCs are unknown."""
        crcs = [(receipt.crc32 or 0, receipt.size) for receipt in receipts]
        md5s = [receipt.md5 for receipt in receipts if receipt.md5 is not None]
        etag = None
        if len(md5s) == len(receipts):
            etag = f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"
        return cls(
            size=sum(receipt.size for receipt in receipts),
            crc32=combine_all(crcs),
            composite=composite(crc for crc, _ in crcs),
            md5_etag=etag,
            md5_binding=all(receipt.md5 is not None and receipt.etag == receipt.md5.hex() for receipt in receipts),
        )

    def to_mapping(self) -> dict[str, int | str | bool | None]:
        """JSON-safe, for the token."""
        return asdict(self)

    @property
    def checksum(self) -> Checksum:
        """The local CRC32 as S3 would write it."""
        return Checksum("CRC32", to_base64(self.crc32))


def proved(local: LocalProof, etag: str, checksum: Checksum | None) -> Integrity:
    """How strongly (ETag, checksum) of an answer prove the local bytes. IntegrityError when they prove others.

    An ETag that differs from the MD5 proves nothing: encrypted objects, and some stores, have opaque ones.
    """
    whole = checksum is not None and checksum.type is ChecksumType.FULL_OBJECT
    # A composite checksum says nothing to somebody who does not know the parts.
    if checksum is not None and checksum.algorithm == "CRC32" and (whole or local.composite is not None):
        expected = to_base64(local.crc32) if whole else local.composite
        if checksum.value == expected:
            return Integrity.FULL_CRC if whole else Integrity.PART_CRC
        raise IntegrityError(f"the store's checksum is {checksum.value}, that of the bytes sent is {expected}")
    if local.md5_etag is not None and etag == local.md5_etag:
        return Integrity.MD5
    if local.md5_binding and _MD5_ETAG.fullmatch(etag):
        raise IntegrityError(f"the object's ETag is {etag}, the MD5 of the parts that were sent is {local.md5_etag}")
    return Integrity.SIZE_ETAG


def is_ours(info: ObjectInfo, mark: str, size: int) -> bool:
    """True when the object is the one that this transfer wrote: it has our size and carries our random mark."""
    return info.size == size and info.metadata_value(MARK) == mark


def comparable(info: ObjectInfo) -> bool:
    """True when the object has a checksum over all its bytes that we can compute, too."""
    checksum = info.checksum
    return checksum is not None and checksum.type is ChecksumType.FULL_OBJECT and checksum.algorithm == "CRC32"


def same_bytes(info: ObjectInfo, local: LocalProof) -> bool:
    """True when a checksum over the full object proves the local bytes, whoever wrote them."""
    return comparable(info) and info.size == local.size and info.checksum == local.checksum


def part_is_local(listed: ListedPart, crc32: int, md5: bytes | None) -> bool:
    """True when a listed part certainly holds the local bytes; an ETag counts only where it is their MD5."""
    if listed.checksum is not None and listed.checksum.algorithm == "CRC32":
        return listed.checksum.value == to_base64(crc32)
    return md5 is not None and listed.etag == md5.hex()


def wants_md5(listed: ListedPart) -> bool:
    """True when only the ETag can tell, and it looks like an MD5."""
    if listed.checksum is not None and listed.checksum.algorithm == "CRC32":
        return False
    return len(listed.etag) == 32 and all(char in "0123456789abcdef" for char in listed.etag)
