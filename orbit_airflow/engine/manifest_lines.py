"""An object as a file that is read from its beginning, and lines that cannot eat the memory."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from typing import IO

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError, Network, OrbitError, SourceError
from orbit_airflow.engine.model import MIB, ByteRange, ObjectRef
from orbit_airflow.engine.store import ObjectStream

# A key has 1,024 bytes, at most nine times as many percent-encoded and quoted; no honest line is as long as this.
MAX_LINE = 64 * 1024
_CHUNK = MIB


class ObjectReader(io.RawIOBase):
    """An object, pinned to the ETag that it has when it is opened. A body that breaks off is continued where it broke,
    as often as the policy says; PreconditionFailed when the object was replaced meanwhile.
    """

    def __init__(self, call: Call, ref: ObjectRef) -> None:
        super().__init__()
        self._call = call
        self._ref = ref
        info = call.store.head(ref)
        self._etag, self._size, self._position = info.etag, info.size, 0
        self._stream: ObjectStream | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """By new requests."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """The next read begins there."""
        base = (0, self._position, self._size)[whence]
        self._drop()
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Some bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position, _CHUNK)
        if wanted <= 0:
            return 0
        for attempt in range(1, self._call.config.policy.max_attempts + 1):
            try:
                count = self._opened().read_into(view[:wanted])
            except Network as exc:
                self._drop()
                if attempt == self._call.config.policy.max_attempts:
                    raise
                self._call.pause(attempt, exc)
            else:
                self._position += count
                return count
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _opened(self) -> ObjectStream:
        if self._stream is None:
            span = ByteRange(self._position, self._size) if self._position else None
            self._stream = self._call.store.get(self._ref, span, if_match=self._etag)
        return self._stream

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Give the connection back."""
        self._drop()
        super().close()


def check_md5(call: Call, file: IO[bytes], place: str, wanted: str) -> None:
    """ConfigError unless the bytes of ``file`` have the MD5 ``wanted`` (hex). Then ``file`` is at its beginning."""
    found = hashlib.md5(usedforsecurity=False)
    while data := file.read(_CHUNK):
        call.cancel.check()
        found.update(data)
    if found.hexdigest() != wanted.strip().lower():
        raise ConfigError(f"{place} has the MD5 {found.hexdigest()} and not {wanted!r:.60}, as the inventory says")
    file.seek(0)


# What reading, unpacking and decoding raise of their own; gzip's BadGzipFile and some of Arrow's are OSErrors.
UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def unreadable(what: str, exc: Exception) -> OrbitError:
    """The engine's error for one of UNREADABLE: SourceError when the disk failed, ConfigError for bad content."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return SourceError(f"{what} cannot be read: {exc.strerror}")
    return ConfigError(f"{what} cannot be unpacked or read: {exc}")


def bounded_lines(file: IO[bytes], place: str) -> Iterator[str]:
    """The lines as text, each with its line end. ConfigError, naming the line, for one that is too long, is no UTF-8,
    or when the file is no gzip, is damaged, or ends too early; SourceError when the disk fails.
    """
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE + 1)
        except UNREADABLE as exc:
            raise unreadable(f"line {number} of {place}", exc) from exc
        if not line:
            return
        if len(line) > MAX_LINE:
            raise ConfigError(f"line {number} of {place} is longer than {MAX_LINE} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as exc:
            raise ConfigError(f"line {number} of {place} is not valid UTF-8") from exc
