"""Bodies: a part of a file on its way to the socket, counted, and able to start again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from orbit_airflow.engine.checksums import crc32
from orbit_airflow.engine.errors import SourceChanged, printable
from orbit_airflow.engine.events import Meter
from orbit_airflow.engine.model import MIB, Part
from orbit_airflow.engine.source import BLOCK, Source
from orbit_airflow.engine.store import Body

# Parts up to this size are read once, into a buffer that their worker reuses; larger ones are read twice in blocks.
BUFFER_LIMIT = 16 * MIB


def buffer_for(part_size: int) -> memoryview:
    """A worker's buffer: its memory is bounded whatever the part size is."""
    return memoryview(bytearray(max(1, part_size if part_size <= BUFFER_LIMIT else BLOCK)))


class WorkerBuffers:
    """One buffer per worker of a run, made when the worker first needs it: together they are the transfer's memory."""

    def __init__(self, part_size: int) -> None:
        self._part_size = part_size
        self._buffers: dict[int, memoryview] = {}

    def of(self, worker: int) -> memoryview:
        """The worker's buffer, always the same one. Workers use their own index, so no lock is needed."""
        buffer = self._buffers.get(worker)
        if buffer is None:
            buffer = self._buffers[worker] = buffer_for(self._part_size)
        return buffer


class PartBody:
    """A part of a file, hashed when it is made.

    Held in the worker's buffer if it fits; else read again while it is sent, and then hashed once more from the bytes
    that leave: SourceChanged is raised before the last block when they are not the bytes that were announced.
    """

    def __init__(self, source: Source, part: Part, buffer: memoryview, *, md5: bool) -> None:
        self._source = source
        self._part = part
        self._buffer = buffer
        self._held = part.size <= len(buffer)
        self.crc32, self.md5 = self._hash(md5=md5)

    @property
    def size(self) -> int:
        """The part's size."""
        return self._part.size

    def blocks(self) -> Iterator[memoryview]:
        """The part's bytes from the first one, in blocks of at most BLOCK."""
        return self._from_buffer() if self._held else self._from_file()

    def read_at(self, position: int, size: int) -> bytes:
        """A copy of a stretch of the part."""
        size = max(0, min(size, self._part.size - position))
        if self._held:
            return bytes(self._buffer[position : position + size])
        copy = bytearray(size)
        self._source.read_into(memoryview(copy), self._part.offset + position)
        return bytes(copy)

    def _hash(self, *, md5: bool) -> tuple[int, bytes | None]:
        if not self._held:
            return self._source.digest(self._part, self._buffer[:BLOCK], md5=md5)
        view = self._buffer[: self._part.size]
        self._source.read_into(view, self._part.offset)
        return crc32(view), hashlib.md5(view, usedforsecurity=False).digest() if md5 else None

    def _from_buffer(self) -> Iterator[memoryview]:
        for start in range(0, self._part.size, BLOCK):
            yield self._buffer[start : min(start + BLOCK, self._part.size)]

    def _from_file(self) -> Iterator[memoryview]:
        """The last block leaves only when all bytes are known to be right: a body that lacks it is never accepted."""
        crc, done = 0, 0
        for block in self._source.blocks(self._part, self._buffer[:BLOCK]):
            crc = crc32(block, crc)
            done += len(block)
            if done == self._part.size and crc != self.crc32:
                raise SourceChanged(f"{printable(self._source.path)} changed while part {self._part.number} was sent")
            yield block


class MeteredBody:
    """Counts what leaves, takes it back when it leaves again, and looks for a stop order between blocks."""

    def __init__(self, inner: Body, meter: Meter, check: Callable[[], None]) -> None:
        self._inner = inner
        self._meter = meter
        self._check = check
        self._counted = 0

    @property
    def size(self) -> int:
        """As of the inner body."""
        return self._inner.size

    def blocks(self) -> Iterator[memoryview]:
        """The inner blocks; ``check`` may raise before any of them."""
        self.take_back()
        for block in self._inner.blocks():
            self._check()
            self._counted += len(block)
            self._meter.add_sent(len(block))
            yield block

    def take_back(self) -> None:
        """What was counted so far did not arrive."""
        self._meter.rewind(self._counted)
        self._counted = 0

    def read_at(self, position: int, size: int) -> bytes:
        """As of the inner body."""
        return self._inner.read_at(position, size)
