"""The objects that the sink serves: any number of bytes under a key that names it, made of one block in memory.

The key ``made/1048576`` is an object of 1,048,576 bytes: the block of pseudo-random bytes, again and again. The block
is larger than a processor's cache, so that every client pays for fresh bytes, and of a known checksum, so that a
client can prove what it got.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import socket
import ssl
import tempfile
import zlib
from functools import cached_property

PREFIX = "made/"
BLOCK = 64 * 1024 * 1024
TLS_AT_ONCE = 256 * 1024
# Of an object in parts: nobody may take it for an MD5 and pay for the comparison.
ETAG = '"00000000000000000000000000000000-128"'
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def size_of(key: str) -> int | None:
    """The size that the key names; None for other keys."""
    digits = key.removeprefix(PREFIX)
    return int(digits) if key.startswith(PREFIX) and digits.isdigit() else None


def span_of(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last; None without a range that the object has."""
    found = _RANGE.fullmatch(header)
    if found is None or int(found[1]) >= size:
        return None
    return int(found[1]), min(int(found[2] or size) + (1 if found[2] else 0), size)


class Pattern:
    """The block, in a file that lives in memory."""

    def __init__(self) -> None:
        self._file = _in_memory()
        os.ftruncate(self._file, BLOCK)
        self._view = mmap.mmap(self._file, BLOCK)
        self._view[:] = hashlib.shake_128(b"orbit").digest(BLOCK)

    def send(self, sock: socket.socket, start: int, stop: int) -> None:
        """These bytes of any object, from the kernel to the kernel; over TLS through this process."""
        while start < stop:
            at = start % BLOCK
            count = min(BLOCK - at, stop - start)
            if isinstance(sock, ssl.SSLSocket):
                count = min(count, TLS_AT_ONCE)
                with memoryview(self._view)[at : at + count] as piece:
                    sock.sendall(piece)
            else:
                count = os.sendfile(sock.fileno(), self._file, at, count)
            start += count

    @cached_property
    def _block_crc32(self) -> int:
        return zlib.crc32(self._view)

    def crc32(self, size: int) -> int:
        """Of the whole object."""
        from orbit_airflow.engine.checksums import combine

        blocks, rest = divmod(size, BLOCK)
        total = 0
        for _ in range(blocks):
            total = combine(total, self._block_crc32, BLOCK)
        with memoryview(self._view)[:rest] as end:
            return combine(total, zlib.crc32(end), rest)


def _in_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pattern")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
