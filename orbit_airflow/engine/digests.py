"""The checksum algorithms of S3 as far as they are fast here: what proves a download, whoever uploaded the object.

CRC32 is ISA-L's (``isal``). CRC32C and CRC64NVME are anycrc's, by carry-less multiplication: 15 to 20 GiB/s here, over
any buffer. It keeps the GIL, for about 60 microseconds per MiB: give it blocks, not parts. The XXHASHes of S3 have no
implementation here; a pure Python one would be slower than any network, so such a checksum proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

from orbit_airflow.engine.checksums import POLYNOMIAL, Buffer, crc32, join


@dataclass(frozen=True, slots=True, kw_only=True)
class CrcAlgorithm:
    """One CRC: ``name`` as S3 has it, ``size`` of a value in bytes, the reflected ``polynomial``, and the native part.

    ``update(data, start)`` is the CRC continued over ``data``; the CRC of nothing is 0. Any contiguous buffer of bytes.
    """

    name: str
    size: int
    polynomial: int
    update: Callable[[Buffer, int], int]

    def combine(self, first: int, second: int, second_length: int) -> int:
        """The CRC of A+B from the CRCs of A and B and the length of B in bytes."""
        return join(self.polynomial, first, second, second_length)

    def combine_all(self, parts: Iterable[tuple[int, int]]) -> int:
        """The CRC of a whole object from (crc, length) of its parts, in order."""
        total = 0
        for crc, length in parts:
            total = self.combine(total, crc, length)
        return total

    def to_base64(self, value: int) -> str:
        """The value as S3 writes it: base64 of its bytes, big-endian."""
        return encoded(value.to_bytes(self.size, "big"))

    def from_base64(self, text: str) -> int:
        """The value of what S3 wrote. ValueError when it is none of this algorithm, or a COMPOSITE one."""
        value = int.from_bytes(base64.b64decode(text, validate=True), "big")
        if value >> (8 * self.size) or self.to_base64(value) != text:
            raise ValueError(f"{text!r} is no {self.name} in base64")
        return value

    def composite(self, values: Iterable[int]) -> str:
        """S3's COMPOSITE checksum: the CRC of the parts' CRCs, with ``-N``."""
        raw = [value.to_bytes(self.size, "big") for value in values]
        return f"{self.to_base64(self.update(b''.join(raw), 0))}-{len(raw)}"


class Hash(Protocol):
    """What hashlib's objects do, as far as it is used here. ``update`` releases the GIL."""

    def update(self, data: Buffer, /) -> None:
        """Continues over ``data``."""

    def digest(self) -> bytes:
        """Of all bytes so far."""

    def hexdigest(self) -> str:
        """The same in lower-case hex digits, as in an ETag."""


# Both the table and the carry-less multiplication of a native implementation are tried before it is believed.
_SAMPLE = bytes(range(256)) * 16

CRC32 = CrcAlgorithm(name="CRC32", size=4, polynomial=POLYNOMIAL, update=crc32)


class _RunningCrc:
    """A CRC with the face of a hash."""

    def __init__(self, algorithm: CrcAlgorithm) -> None:
        self._algorithm = algorithm
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        """Continues over ``data``."""
        self._value = self._algorithm.update(data, self._value)

    def digest(self) -> bytes:
        """As S3 encodes it."""
        return self._value.to_bytes(self._algorithm.size, "big")

    def hexdigest(self) -> str:
        """The same in hex digits."""
        return self.digest().hex()


_HASHES: Mapping[str, Callable[[], Hash]] = {
    "SHA1": partial(hashlib.sha1, usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
    "MD5": partial(hashlib.md5, usedforsecurity=False),
}


def hash_algorithm(name: str) -> Callable[[], Hash] | None:
    """Makes hashers of S3's algorithm ``name``; None for CRCs and for what has no fast implementation here."""
    return _HASHES.get(name)


def digest_algorithm(name: str) -> Callable[[], Hash] | None:
    """Makes hashers of S3's algorithm ``name``, hash or CRC; None when nothing fast here computes it."""
    crc = crc_algorithm(name)
    return hash_algorithm(name) if crc is None else partial(_RunningCrc, crc)


def encoded(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


def crc_algorithm(name: str) -> CrcAlgorithm | None:
    """The CRC that S3 calls ``name``; None when it is no CRC, or has no fast implementation that works here."""
    if name == "CRC32":
        return CRC32
    if name == "CRC32C":
        return _native(name, "CRC32-ISCSI", 0x82F63B78, 0x9C71FE32)
    if name == "CRC64NVME":
        return _native(name, "CRC64-NVME", 0x9A6C9329AC4BC9B5, 0x3E729F5F6750449C)
    return None


@lru_cache(maxsize=8)
def _native(name: str, model: str, polynomial: int, sample: int) -> CrcAlgorithm | None:
    try:
        import anycrc
    except ImportError:
        return None
    update: Callable[[Buffer, int], int] = anycrc.Model(model).calc
    algorithm = CrcAlgorithm(name=name, size=polynomial.bit_length() // 8, polynomial=polynomial, update=update)
    halves = algorithm.combine(update(_SAMPLE[:9], 0), update(_SAMPLE[9:], 0), len(_SAMPLE) - 9)
    return algorithm if update(_SAMPLE, 0) == halves == sample else None
