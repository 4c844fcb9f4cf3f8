"""The journal beside a part file: which ranges of which object it certainly holds, and their CRCs.

Lines of JSON, each behind its own CRC32, appended and never rewritten: a line that a crash cut is no line. The first
one says what the file is a download of and which inode it has; a file that was copied, restored or swapped is another
one. A range's line is written only after ``fdatasync`` of its bytes. What the lines say is believed of nothing: each
range is hashed again before it counts.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

from orbit_airflow.engine.errors import DiskFull, TargetError, printable
from orbit_airflow.engine.fields import Fields, TokenRejected
from orbit_airflow.engine.model import Integrity
from orbit_airflow.engine.partial import JOURNAL, PartialFile, hidden_name, is_ours_alone
from orbit_airflow.engine.target import Target, failure

SCHEMA = 1
MAX_RANGES = 100_000
# A line of a range has about 60 bytes.
MAX_BYTES = 128 * MAX_RANGES
_U64 = 2**64 - 1
_PROOFS = frozenset(item.value for item in Integrity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a part file is a download of. ``target`` is the transfer's hash, ``host`` where it was written."""

    target: str
    etag: str
    size: int
    range_size: int
    algorithm: str
    host: str
    dev: int
    ino: int
    version_id: str | None = None

    def to_mapping(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"schema": SCHEMA, **{name: getattr(self, name) for name in self.__dataclass_fields__}}

    @classmethod
    def from_mapping(cls, data: object) -> Header:
        """TokenRejected for what is no header of this version."""
        fields = Fields(data)
        if fields.get("schema", int) != SCHEMA:
            raise TokenRejected("the journal was written by another version")
        return cls(
            target=fields.get("target", str),
            etag=fields.get("etag", str),
            size=fields.whole("size"),
            range_size=fields.whole("range_size", 1),
            algorithm=fields.get("algorithm", str),
            host=fields.get("host", str),
            dev=fields.whole("dev", 0, _U64),
            ino=fields.whole("ino", 0, _U64),
            version_id=fields.get("version_id", str, None),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A journal as it was read. ``ranges``: index to CRC; ``proof``: what was proved before the file got its name;
    ``length``: the bytes that made sense.
    """

    header: Header
    ranges: dict[int, int] = field(default_factory=dict)
    proof: Integrity | None = None
    length: int = 0


def read_journal(target: Target, nonce: str) -> Found | None:
    """The journal of a left-over part file; None when it is not there, not of our making, or makes no sense."""
    try:
        content = _content(target, hidden_name(target, nonce, JOURNAL))
        lines, length = _lines(content)
        header = Header.from_mapping(lines[0] if lines else None)
    except (OSError, TokenRejected):
        return None
    count = -(-header.size // header.range_size)
    ranges: dict[int, int] = {}
    proof = None
    for line in lines[1:]:
        match line:
            case ["range", int(index), int(crc)] if 0 <= index < count and 0 <= crc <= _U64:
                ranges[index] = crc
            case ["dropped", int(index)]:
                ranges.pop(index, None)
            case ["proved", str(word)] if word in _PROOFS:
                proof = Integrity(word)
    return Found(header, ranges, proof, length)


def _content(target: Target, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=target.directory)
    with os.fdopen(fd, "rb") as file:
        if not is_ours_alone(target, fd):
            raise TokenRejected("the journal is not of this user's making")
        return file.read(MAX_BYTES)


def _lines(content: bytes) -> tuple[list[Any], int]:
    """The lines whose CRCs hold, up to the first that does not, and where that is."""
    values, length = [], 0
    for line in content.splitlines(keepends=True):
        crc, separator, text = line.removesuffix(b"\n").partition(b" ")
        if not line.endswith(b"\n") or not separator or crc != b"%08x" % zlib.crc32(text):
            break
        try:
            values.append(json.loads(text))
        except (ValueError, RecursionError):
            break
        length += len(line)
    return values, length


def _line(value: object) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


class Journal:
    """An open journal. ``commit`` may be called by many threads: one of them syncs for all that wait."""

    def __init__(self, partial: PartialFile, fd: int) -> None:
        self._partial = partial
        self._fd = fd
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        # The number of the batch that is being collected, and of the last one that is on the disk.
        self._collecting, self._done = 1, 0
        self._syncing = False
        self._broken: TargetError | None = None
        # True when a later try could find a range in it.
        self.holds_ranges = False

    @classmethod
    def new(cls, partial: PartialFile, header: Header) -> Journal:
        """A new one, with its first line."""
        made = cls(partial, _opened(partial, os.O_CREAT | os.O_EXCL))
        try:
            made._append(_line(header.to_mapping()))
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def reopen(cls, partial: PartialFile, found: Found) -> Journal:
        """One that ``read_journal`` has found, without what it did not understand."""
        made = cls(partial, _opened(partial, 0))
        made.holds_ranges = bool(found.ranges)
        try:
            os.ftruncate(made._fd, found.length)
        except OSError as exc:
            made.close()
            raise failure(exc, f"cannot write the journal of {printable(partial.target.path)}") from exc
        return made

    def commit(self, index: int, crc: int) -> None:
        """Return when range ``index`` is on the disk and written down. DiskFull, TargetError.

        After one failed sync nothing is written down any more: the kernel reports a lost page once, so that a later
        sync that succeeds proves nothing.
        """
        with self._changed:
            self._waiting.append((index, crc))
            mine = self._collecting
            while self._broken is None and self._done < mine and self._syncing:
                self._changed.wait()
            if self._broken is not None:
                raise self._broken
            if self._done >= mine:
                return
            self._syncing = True
            batch, self._waiting = self._waiting, []
            self._collecting += 1
        self._lead(batch, mine)

    def _lead(self, batch: list[tuple[int, int]], number: int) -> None:
        # Whatever ends this leaves no waiting thread in the belief that its range is written down.
        error: TargetError | None = TargetError("writing the journal was broken off")
        try:
            self._partial.sync_data()
            self._append(*(_line(["range", index, crc]) for index, crc in batch))
            error, self.holds_ranges = None, True
        except OSError as exc:
            error = SyncFailed.of(exc, self._partial.target)
        except TargetError as exc:
            error = exc
        finally:
            with self._changed:
                self._syncing = False
                self._broken = self._broken or error
                self._done = number
                self._changed.notify_all()
        if error is not None:
            raise error

    def drop(self, index: int) -> None:
        """Range ``index`` is not what was written down."""
        with self._changed:
            # Not to a number that ``close`` has given back.
            self._append(_line(["dropped", index]))

    def proved(self, integrity: Integrity) -> None:
        """All ranges are there and proved; the file gets its name next. On the disk when this returns."""
        self._append(_line(["proved", integrity.value]))
        try:
            os.fdatasync(self._fd)
        except OSError as exc:
            raise SyncFailed.of(exc, self._partial.target) from exc

    def close(self) -> None:
        """Give the number back; not while a thread that was left behind may still write to it."""
        with self._changed:
            if self._syncing or self._fd < 0:
                return
            os.close(self._fd)
            self._fd = -1
            self._broken = self._broken or TargetError("the transfer has ended")

    def _append(self, *lines: bytes) -> None:
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as exc:
            raise failure(exc, f"cannot write the journal of {printable(self._partial.target.path)}") from exc


class SyncFailed(TargetError):
    """The disk did not take what was written (EIO on a sync). The part file is worthless, whatever it seems to hold."""

    @classmethod
    def of(cls, exc: OSError, target: Target) -> TargetError:
        """A full disk is a DiskFull; what was written down before stays true."""
        error = failure(exc, f"the disk of {printable(target.path)} failed while it was synced")
        return error if isinstance(error, DiskFull) else cls(error.message)


def _opened(partial: PartialFile, flags: int) -> int:
    target, name = partial.target, hidden_name(partial.target, partial.nonce, JOURNAL)
    flags |= os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=target.directory)
    except OSError as exc:
        raise failure(exc, f"cannot write beside {printable(target.path)}") from exc


def remove_journal(target: Target, nonce: str) -> None:
    """Remove a journal, if it is there."""
    target.remove(hidden_name(target, nonce, JOURNAL))
