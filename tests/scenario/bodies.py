"""A body of bytes, for requests that a test makes by itself."""

from __future__ import annotations

from collections.abc import Iterator

from orbit_airflow.engine.checksums import crc32


class BytesBody:
    """Bytes in memory as a ``Body``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.crc32 = crc32(data)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._data)

    def blocks(self) -> Iterator[memoryview]:
        """One block."""
        if self._data:
            yield memoryview(self._data)

    def read_at(self, position: int, size: int) -> bytes:
        """A stretch."""
        return self._data[position : position + size]
