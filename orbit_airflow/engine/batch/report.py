"""The report of a batch: one JSON line per key, in a local file or as objects in a store, page by page.

A file is append-only: what a killed try wrote behind its last saved cursor is cut off, and written again. In a store
each page is an object of its own below ``run-<id>/``, which the next try of the run writes again under the same name.
``begin`` notes the keys of a page before it is worked on, for sources that cannot name them again. A note is a list of
what to delete, so nobody's but its own run's is ever read as one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.token import MAX_WINDOW
from orbit_airflow.engine.errors import ConfigError, NotFound, SourceError, TargetError
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import KeyPrefix, ObjectRef

Write = Callable[[ObjectRef, bytes], object]
Read = Callable[[ObjectRef], bytes]
# What a run's objects lie below, with its id.
RUN_PART = "run-"
_BEGUN = "begun"


class Report(Protocol):
    """Where outcomes go. Pages finish in their order."""

    @property
    def place(self) -> str | None:
        """Its path or address."""

    def open(self, run: str, size: int, *, fresh: bool) -> bool:
        """Make it ready for a run (an id; "": of a time when runs had none); ``size`` bytes of it are to stay. False
        when so many are not there any more. ``fresh``: what was noted before is of no use.
        """

    def begin(self, number: int, entries: Sequence[KeyEntry]) -> None:
        """Note the keys of a page that is about to begin."""

    def begun(self, number: int, count: int) -> tuple[KeyEntry, ...] | None:
        """The ``count`` noted keys of a page of this run; None when there is no such note."""

    def finish(self, number: int, outcomes: Iterable[KeyOutcome]) -> int:
        """Write a page's lines; returns the report's size."""

    def close(self, *, done: bool) -> None:
        """Nothing more comes; ``done``: no note is needed any more."""


class NoReport:
    """For batches whose counts and first errors are enough."""

    place = None

    def open(self, run: str, size: int, *, fresh: bool) -> bool:
        """Nothing is kept."""
        del run, fresh
        return size == 0

    def begin(self, number: int, entries: Sequence[KeyEntry]) -> None:
        """Nothing is noted."""
        del number, entries

    def begun(self, number: int, count: int) -> tuple[KeyEntry, ...] | None:
        """Nothing was noted."""
        del number, count
        return None

    def finish(self, number: int, outcomes: Iterable[KeyOutcome]) -> int:
        """Nothing is kept."""
        del number, outcomes
        return 0

    def close(self, *, done: bool) -> None:
        """There is nothing to close."""
        del done


class FileReport:
    """A local file; notes are small files in ``<path>.pages``. TargetError when the disk refuses."""

    def __init__(self, path: str) -> None:
        self.place: str | None = os.path.abspath(path)
        self._path = os.path.abspath(path)
        self._notes = self._path + ".pages"
        self._fd = -1
        self._run = ""

    def open(self, run: str, size: int, *, fresh: bool) -> bool:
        """Cut what is behind ``size``."""
        self._run = run
        if fresh:
            shutil.rmtree(self._notes, ignore_errors=True)
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            there = os.fstat(self._fd).st_size
            os.ftruncate(self._fd, min(size, there))
        except OSError as exc:
            raise TargetError(f"the report {self._path} cannot be written: {exc.strerror}") from exc
        return there >= size

    def begin(self, number: int, entries: Sequence[KeyEntry]) -> None:
        """Whole or not at all: a note that was cut off by a kill is no note."""
        try:
            os.makedirs(self._notes, exist_ok=True)
            # A page's note is needed until a cursor behind the page was saved, which is so once its place in the
            # window was given to another one, and that one was saved.
            _forget(self._note(number - MAX_WINDOW - 1))
            with open(self._note(number) + ".new", "wb") as file:
                file.write(_note(entries, self._run))
            os.replace(self._note(number) + ".new", self._note(number))
        except OSError as exc:
            raise TargetError(f"the report's note {self._note(number)} cannot be written: {exc.strerror}") from exc

    def begun(self, number: int, count: int) -> tuple[KeyEntry, ...] | None:
        """As noted."""
        try:
            with open(self._note(number), "rb") as file:
                noted = _Note.read(file.read(), self._note(number))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise SourceError(f"the report's note {self._note(number)} cannot be read: {exc.strerror}") from exc
        return noted.entries if noted.begun_by(self._run) and len(noted.entries) == count else None

    def finish(self, number: int, outcomes: Iterable[KeyOutcome]) -> int:
        """Append."""
        del number
        data = memoryview("".join(outcome.line() for outcome in outcomes).encode())
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            return os.fstat(self._fd).st_size
        except OSError as exc:
            raise TargetError(f"the report {self._path} cannot be written: {exc.strerror}") from exc

    def close(self, *, done: bool) -> None:
        """On the disk, whatever happens to the machine now."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
        if done:
            shutil.rmtree(self._notes, ignore_errors=True)

    def _note(self, number: int) -> str:
        return os.path.join(self._notes, f"{number:09d}.json")


class ObjectReport:
    """Objects below ``s3://bucket/prefix/run-<id>/``, so that no two runs share any: a page of lines each. Until a page
    has ended its object holds the note.
    """

    def __init__(self, place: str, write: Write, read: Read) -> None:
        self._base = report_prefix(place)
        self._prefix = self._base.prefix
        self._run = ""
        self._write = write
        self._read = read

    @property
    def place(self) -> str | None:
        """With the run's part once that is known."""
        return f"s3://{self._base.bucket}/{self._prefix}"

    def open(self, run: str, size: int, *, fresh: bool) -> bool:
        """There is nothing to cut: a page is written again under its name."""
        del size, fresh
        self._run = run
        self._prefix = f"{self._base.prefix}{RUN_PART}{run}/" if run else self._base.prefix
        return True

    def begin(self, number: int, entries: Sequence[KeyEntry]) -> None:
        """In place of the page."""
        self._write(self._page(number), _note(entries, self._run))

    def begun(self, number: int, count: int) -> tuple[KeyEntry, ...] | None:
        """As noted, or from the finished page's lines: what is below the run's own prefix is the run's."""
        try:
            entries = _Note.read(self._read(self._page(number)), self._page(number).uri).entries
        except NotFound:
            return None
        return entries if len(entries) == count else None

    def finish(self, number: int, outcomes: Iterable[KeyOutcome]) -> int:
        """One object."""
        data = "".join(outcome.line() for outcome in outcomes).encode()
        if data:
            self._write(self._page(number), data)
        return 0

    def close(self, *, done: bool) -> None:
        """Every page is there already."""
        del done

    def _page(self, number: int) -> ObjectRef:
        return ObjectRef(self._base.bucket, f"{self._prefix}page-{number:09d}.jsonl")


def report_prefix(place: str) -> KeyPrefix:
    """What ``s3://bucket/prefix`` means, with or without a slash at its end: the runs' prefixes lie directly below."""
    first = ObjectRef.parse(place if not place.endswith("/") else place + "-")
    return KeyPrefix(first.bucket, first.key.removesuffix("-") if place.endswith("/") else first.key + "/")


def is_remote(place: str | None) -> TypeGuard[str]:
    """True for a report in a store."""
    return place is not None and place[:5].lower() == "s3://"


def report_at(place: str | None, write: Write, read: Read) -> Report:
    """The report at a path or ``s3://bucket/prefix/``; None is none."""
    if place is None:
        return NoReport()
    if not place:
        raise ConfigError("report is a path, s3://bucket/prefix/, or None")
    return ObjectReport(place, write, read) if is_remote(place) else FileReport(place)


def _note(entries: Sequence[KeyEntry], run: str) -> bytes:
    lines = ({"key": e.key, "version_id": e.version_id, "outcome": _BEGUN, "run": run} for e in entries)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class _Note:
    """A page's lines as keys, and what they say of themselves."""

    entries: tuple[KeyEntry, ...]
    said: frozenset[tuple[str, str]]

    def begun_by(self, run: str) -> bool:
        """True when each of its lines is that run's."""
        return self.said <= {(_BEGUN, run)}

    @classmethod
    def read(cls, data: bytes, place: str) -> _Note:
        try:
            rows = [json.loads(line) for line in data.splitlines()]
            entries = tuple(KeyEntry(row["key"], row.get("version_id")) for row in rows)
            for entry in entries:
                entry.ref("bucket")
            said = frozenset((str(row.get("outcome")), str(row.get("run", ""))) for row in rows)
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as exc:
            raise SourceError(f"the report's note {place} is not readable: {exc!r}") from exc
        return cls(entries, said)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
