"""The bytes of parts and objects, in files, so that memory stays bounded."""

import hashlib
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.model_server.checksums import Block

BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Blob:
    """Stored bytes; a blob without a path was verified and thrown away, and reads as zeros."""

    path: Path | None
    size: int

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of [start, stop) in blocks."""
        if self.path is None:
            for at in range(start, stop, BLOCK):
                yield bytes(min(BLOCK, stop - at))
            return
        with self.path.open("rb") as file:
            file.seek(start)
            while start < stop:
                block = file.read(min(BLOCK, stop - start))
                if not block:
                    raise OSError(f"stored bytes are missing in {self.path}")
                start += len(block)
                yield block

    def flip(self, offset: int) -> None:
        """Invert one bit of the stored byte at `offset`."""
        if self.path is None:
            raise ValueError("a server that discards bytes has none to flip")
        with self.path.open("r+b") as file:
            file.seek(offset)
            value = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([value ^ 1]))

    def md5(self) -> bytes:
        """The MD5 of the stored bytes, really read."""
        digest = hashlib.md5()
        for block in self.blocks(0, self.size):
            digest.update(block)
        return digest.digest()

    def delete(self) -> None:
        """Remove the file; a reader that has it open keeps its bytes."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class BlobWriter:
    """Takes the bytes of one blob; `finish` gives the blob, `abandon` removes what was written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None if path is None else path.open("xb", buffering=0)
        self._size = 0

    def write(self, block: Block) -> None:
        self._size += len(block)
        view = memoryview(block)
        while self._file is not None and len(view):
            view = view[self._file.write(view) :]

    def finish(self) -> Blob:
        if self._file is not None:
            self._file.close()
        return Blob(self._path, self._size)

    def abandon(self) -> None:
        self.finish().delete()


class BlobStore:
    """Gives out writers on fresh files of one directory."""

    def __init__(self, directory: Path, *, discard: bool = False) -> None:
        self._directory = directory
        self._discard = discard
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def discards(self) -> bool:
        """Whether bytes are thrown away after they were verified."""
        return self._discard

    def create(self) -> BlobWriter:
        """A writer for a new blob."""
        with self._lock:
            number = next(self._numbers)
        return BlobWriter(None if self._discard else self._directory / f"blob-{number:08d}")

    def copy_of(self, content: "Content") -> tuple[Blob, str]:
        """All bytes of the content in one new blob, and their MD5."""
        writer, digest = self.create(), hashlib.md5()
        for block in content.blocks(0, content.size):
            digest.update(block)
            writer.write(block)
        return writer.finish(), digest.hexdigest()


@dataclass(frozen=True)
class Content:
    """The bytes of an object: its blobs one after the other."""

    blobs: tuple[Blob, ...] = ()

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs)

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of [start, stop) of the whole, in blocks."""
        base = 0
        for blob in self.blobs:
            first, last = max(start - base, 0), min(stop - base, blob.size)
            if first < last:
                yield from blob.blocks(first, last)
            base += blob.size

    def flip(self, offset: int) -> None:
        """Invert one bit of the byte at `offset` of the whole."""
        for blob in self.blobs:
            if offset < blob.size:
                blob.flip(offset)
                return
            offset -= blob.size
        raise ValueError("there is no byte at this offset")

    def delete(self) -> None:
        """Remove all blobs."""
        for blob in self.blobs:
            blob.delete()
