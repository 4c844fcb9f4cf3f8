"""The file that is uploaded: opened once, read by position, and fenced against change.

Nothing here shares a file position or maps the file (a truncated map is a SIGBUS). A short read is an error at once,
never a wait for bytes that will not come.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Protocol, Self

from orbit_airflow.engine.checksums import crc32
from orbit_airflow.engine.errors import SourceChanged, SourceError, printable
from orbit_airflow.engine.model import MIB, Part

# What is read at once, and what is given to the socket at once.
BLOCK = MIB


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What a stat says about a file. Equal means: the same bytes (ctime cannot be set back); different means: look."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int

    @classmethod
    def of(cls, result: os.stat_result) -> SourceIdentity:
        """The identity that a stat result shows."""
        return cls(result.st_size, result.st_mtime_ns, result.st_ctime_ns, result.st_ino, result.st_dev)

    def to_list(self) -> list[int]:
        """As the token stores it."""
        return list(astuple(self))


class Source(Protocol):
    """What an upload reads from; see SourceFile for what each name means."""

    path: str
    identity: SourceIdentity
    just_written: bool

    @property
    def size(self) -> int:
        """Bytes."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def lend(self) -> None:
        """Some thread may outlive the transfer with this source in its hands."""

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset``."""

    def change(self) -> str | None:
        """What differs from the opening; None when nothing does."""

    def settle(self) -> None:
        """Take what is there now as the source."""

    def digest(
        self, part: Part, buffer: memoryview, *, md5: bool, check: Callable[[], None] | None = None
    ) -> tuple[int, bytes | None]:
        """CRC32 (and MD5) of a part."""

    def whole_digest(self, *, md5: bool, check: Callable[[], None] | None = None) -> tuple[int, bytes | None]:
        """CRC32 (and MD5) of everything."""

    def blocks(self, part: Part, buffer: memoryview) -> Iterator[memoryview]:
        """The part, block by block."""


class SourceBytes:
    """Bytes in memory as a source. They cannot change their size; should somebody write into them while they are sent,
    their body notices as it does for a file.
    """

    just_written = False

    def __init__(self, data: memoryview) -> None:
        self.path = f"<{len(data)} bytes>"
        self.identity = SourceIdentity(len(data), 0, 0, 0, 0)
        self._data = data

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self._data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """There is nothing to close."""

    def lend(self) -> None:
        """There is nothing to keep open."""

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset``."""
        view[:] = self._data[offset : offset + len(view)]

    def change(self) -> None:
        """Nothing can be told from the outside."""

    def settle(self) -> None:
        """There is nothing to take note of."""

    def digest(
        self, part: Part, buffer: memoryview, *, md5: bool, check: Callable[[], None] | None = None
    ) -> tuple[int, bytes | None]:
        """CRC32 (and MD5) of a part, in place."""
        del buffer, check
        view = self._data[part.offset : part.offset + part.size]
        return crc32(view), hashlib.md5(view, usedforsecurity=False).digest() if md5 else None

    def whole_digest(self, *, md5: bool, check: Callable[[], None] | None = None) -> tuple[int, bytes | None]:
        """CRC32 (and MD5) of all of them."""
        return self.digest(Part(1, 0, self.size), self._data, md5=md5, check=check)

    def blocks(self, part: Part, buffer: memoryview) -> Iterator[memoryview]:
        """The part in copies of the buffer's size."""
        for done in range(0, part.size, len(buffer)):
            view = buffer[: min(len(buffer), part.size - done)]
            self.read_into(view, part.offset + done)
            yield view


class SourceFile:
    """An open regular file of fixed size. Use as a context manager; SourceError for everything that is not one.

    ``just_written``: an equal stat proves nothing about this file, since its time stamps were too fresh at opening.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = _open_regular(path)
        self.identity = SourceIdentity.of(os.fstat(self._fd))
        self.just_written = _just_written(self.identity, time.time_ns())
        self._lent = False
        self._whole: tuple[SourceIdentity, int, bytes | None] | None = None

    @property
    def size(self) -> int:
        """Bytes, as of the opening."""
        return self.identity.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless a thread that was left behind may still read from it: then it dies with the process.

        A closed number would soon name another file, and that file's bytes would be sent.
        """
        if self._fd >= 0 and not self._lent:
            os.close(self._fd)
        self._fd = -1

    def lend(self) -> None:
        """From now on some thread may outlive the transfer with this file in its hands."""
        self._lent = True

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset``; SourceChanged when the file ends before it."""
        fd, done = self._fd, 0
        while done < len(view):
            try:
                count = os.preadv(fd, [view[done:]], offset + done)
            except OSError as exc:
                raise SourceError(f"cannot read {printable(self.path)} at {offset + done}: {exc}") from exc
            if count == 0:
                raise SourceChanged(
                    f"{printable(self.path)} had {self.size} bytes when it was opened and ends now at {offset + done}"
                )
            done += count

    def change(self) -> str | None:
        """What differs now from the opening, in words; None when the file is certainly the same.

        A difference is a doubt, not a verdict: a chmod changes ctime and no byte.
        """
        now = SourceIdentity.of(os.fstat(self._fd))
        try:
            named = os.stat(self.path)
        except OSError as exc:
            return f"the path no longer opens ({exc.strerror})"
        if (named.st_dev, named.st_ino) != (now.dev, now.ino):
            return "the path names another file now"
        if now != self.identity:
            names = ("size", "mtime", "ctime", "inode", "device")
            differing = zip(names, astuple(self.identity), astuple(now), strict=True)
            return "changed: " + ", ".join(name for name, old, new in differing if old != new)
        return None

    def settle(self) -> None:
        """Take the present stat as the file's identity, after its bytes were found to be the same."""
        self.identity = SourceIdentity.of(os.fstat(self._fd))

    def digest(
        self, part: Part, buffer: memoryview, *, md5: bool, check: Callable[[], None] | None = None
    ) -> tuple[int, bytes | None]:
        """CRC32 (and MD5) of a part, read in blocks through ``buffer``; ``check`` is called before each."""
        crc, digest = 0, hashlib.md5(usedforsecurity=False) if md5 else None
        for block in self.blocks(part, buffer):
            if check is not None:
                check()
            crc = crc32(block, crc)
            if digest is not None:
                digest.update(block)
        return crc, digest.digest() if digest is not None else None

    def whole_digest(self, *, md5: bool, check: Callable[[], None] | None = None) -> tuple[int, bytes | None]:
        """CRC32 (and MD5) of the whole file, read once per stat. ``check`` is called between blocks and may raise."""
        now = SourceIdentity.of(os.fstat(self._fd))
        if self._whole is not None and self._whole[0] == now and (self._whole[2] is not None or not md5):
            return self._whole[1], self._whole[2]
        buffer = memoryview(bytearray(max(1, min(BLOCK, self.size))))
        crc, digest = self.digest(Part(1, 0, self.size), buffer, md5=md5, check=check)
        self._whole = (now, crc, digest)
        return crc, digest

    def blocks(self, part: Part, buffer: memoryview) -> Iterator[memoryview]:
        """The part in blocks of the buffer's size; each is valid until the next one is asked for."""
        done = 0
        while done < part.size:
            view = buffer[: min(len(buffer), part.size - done)]
            self.read_into(view, part.offset + done)
            yield view
            done += len(view)


def _just_written(identity: SourceIdentity, now_ns: int) -> bool:
    """True when the file was written so shortly ago that another write might not change its time stamps any more.

    Linux stamps with the clock of the last tick (up to 10 ms old), some file systems and protocols with whole seconds.
    """
    latest = max(identity.mtime_ns, identity.ctime_ns)
    coarse = latest % 1_000_000_000 == 0
    return now_ns - latest < (2_000_000_000 if coarse else 50_000_000)


def _open_regular(path: str) -> int:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer; it has no effect on the reads of a regular file.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        hint = " (is the path right on this worker?)" if exc.errno == errno.ENOENT else ""
        raise SourceError(f"cannot open {printable(path)}: {exc.strerror}{hint}") from exc
    try:
        result = os.fstat(fd)
        if not stat.S_ISREG(result.st_mode):
            raise SourceError(f"{printable(path)} is {_kind(result.st_mode)}; only regular files can be uploaded")
        if result.st_size == 0 and os.pread(fd, 1, 0):
            raise SourceError(f"{printable(path)} claims 0 bytes but has some (/proc and the like cannot be uploaded)")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")
