"""A body of bytes, for requests that a test makes by itself."""

from __future__ import annotations

from collections.abc import Iterator

from orbit_airflow.engine.checksums import crc32
from orbit_airflow.engine.model import MIB


class BytesBody:
    """Bytes in memory as the port's ``Body``, in blocks of ``block`` bytes; ``crc32`` is theirs."""

    def __init__(self, data: bytes, *, block: int = MIB) -> None:
        self._data = data
        self._block = block
        self.crc32 = crc32(data)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._data)

    def blocks(self) -> Iterator[memoryview]:
        """All of them, from the first one."""
        for start in range(0, len(self._data), self._block):
            yield memoryview(self._data)[start : start + self._block]

    def read_at(self, position: int, size: int) -> bytes:
        """A stretch."""
        return self._data[position : position + size]
