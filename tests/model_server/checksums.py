"""The checksum algorithms of S3: incremental hashers, header names and the composite form."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import anycrc
from isal import isal_zlib

from tests.model_server.errors import S3Error

ChecksumType = Literal["COMPOSITE", "FULL_OBJECT"]
Block = bytes | bytearray | memoryview


class Hasher(Protocol):
    """Takes bytes in order and gives one digest."""

    def update(self, data: Block, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 at the speed of the CPU's carry-less multiplication."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Block, /) -> None:
        self._value = isal_zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class FastCrc:
    """One of anycrc's models, which the tests compare with TableCrc."""

    def __init__(self, model: str, width: int) -> None:
        self._calc = anycrc.Model(model).calc
        self._width = width
        self._value = 0

    def update(self, data: Block, /) -> None:
        self._value = self._calc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class TableCrc:
    """A reflected CRC by table: the textbook, at some 10 MB/s. The judge of the fast ones."""

    def __init__(self, table: tuple[int, ...], width: int) -> None:
        self._table = table
        self._width = width
        self._mask = (1 << (8 * width)) - 1
        self._value = self._mask

    def update(self, data: Block, /) -> None:
        table, value = self._table, self._value
        for byte in bytes(data):
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
        self._value = value

    def digest(self) -> bytes:
        return (self._value ^ self._mask).to_bytes(self._width, "big")


def _reflected_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ polynomial if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


# By algorithm: the table of its reflected polynomial, and its width in bytes.
TABLES = {
    "CRC32": (_reflected_table(0xEDB88320), 4),
    "CRC32C": (_reflected_table(0x82F63B78), 4),
    "CRC64NVME": (_reflected_table(0x9A6C9329AC4BC9B5), 8),
}


@dataclass(frozen=True)
class Algorithm:
    """One checksum algorithm and the object checksum types it may have; the first is the default."""

    name: str
    size: int
    new: Callable[[], Hasher]
    types: tuple[ChecksumType, ...]

    @property
    def header(self) -> str:
        return f"x-amz-checksum-{self.name.lower()}"

    @property
    def element(self) -> str:
        return f"Checksum{self.name}"


ALGORITHMS = {
    item.name: item
    for item in (
        Algorithm("CRC32", 4, Crc32, ("COMPOSITE", "FULL_OBJECT")),
        Algorithm("CRC32C", 4, lambda: FastCrc("CRC32-ISCSI", 4), ("COMPOSITE", "FULL_OBJECT")),
        Algorithm("CRC64NVME", 8, lambda: FastCrc("CRC64-NVME", 8), ("FULL_OBJECT",)),
        Algorithm("SHA1", 20, hashlib.sha1, ("COMPOSITE",)),
        Algorithm("SHA256", 32, hashlib.sha256, ("COMPOSITE",)),
    )
}
BY_HEADER = {item.header: item for item in ALGORITHMS.values()}


def algorithm_named(name: str) -> Algorithm:
    """The algorithm of a header value; raises InvalidRequest for an unknown one."""
    found = ALGORITHMS.get(name.upper())
    if found is None:
        raise S3Error("InvalidRequest", f"Checksum algorithm provided is unsupported: {name}")
    return found


def decode_digest(text: str, algorithm: Algorithm) -> bytes:
    """The bytes of a base64 checksum; raises InvalidRequest when it cannot be one of this algorithm."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != algorithm.size:
        raise S3Error("InvalidRequest", f"Value for {algorithm.header} header is invalid.")
    return value


def encode_digest(digest: bytes) -> str:
    """The base64 text of a digest."""
    return base64.b64encode(digest).decode("ascii")


def digest_of(algorithm: Algorithm, blocks: Iterable[Block]) -> bytes:
    """The digest of really read bytes."""
    hasher = algorithm.new()
    for block in blocks:
        hasher.update(block)
    return hasher.digest()


def composite(algorithm: Algorithm, digests: Iterable[bytes]) -> str:
    """The checksum of the part checksums, with the number of parts."""
    parts = list(digests)
    return f"{encode_digest(digest_of(algorithm, parts))}-{len(parts)}"
