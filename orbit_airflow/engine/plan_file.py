"""A plan that is written down before anything is done: JSON lines in a file or an object, made once, never overwritten.

The first line says what the plan is of, the last one that it is whole. A token keeps the plan's digest from before it
has its name until it is done, so that a later try goes on with this very plan, or knows that nothing was begun.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import (
    ConfigError,
    NotFound,
    OrbitError,
    SourceError,
    StateUnavailable,
    TargetError,
    TargetExists,
)
from orbit_airflow.engine.fields import Fields, TokenRejected
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.manifest import ManifestKeys
from orbit_airflow.engine.manifest_lines import bounded_lines
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.token import TokenStore, state_key

SCHEMA = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PlanLines(ManifestKeys):
    """A plan as a source of keys for a batch. ``kind`` is what its first line must say; ``read`` makes an entry of a
    line (ConfigError for one that cannot be).
    """

    kind: str
    read: Callable[[Line], KeyEntry]

    def entries(self, call: Call) -> Iterator[KeyEntry]:
        """The lines between the first and the last. ConfigError names a line that is no plan's."""
        numbered = self.lines(call)
        head = next(numbered, (1, dict[str, Any]()))[1]
        if (head.get("plan"), head.get("schema"), head.get("bucket")) != (self.kind, SCHEMA, self.bucket):
            raise ConfigError(f"{self.place} is no plan of kind {self.kind!r} for bucket {self.bucket!r}")
        count = 0
        for number, line in numbered:
            if "end" in line:
                if line["end"] != count or next(numbered, None) is not None:
                    break
                return
            count += 1
            try:
                entry = self.read(line)
                entry.ref(self.bucket)
            except (ConfigError, KeyError, TypeError, ValueError) as exc:
                raise ConfigError(f"line {number} of {self.place} is not one of a plan: {exc!r}") from exc
            yield entry
        raise ConfigError(f"{self.place} is not whole: its last line does not count {count} lines")

    def lines(self, call: Call) -> Iterator[tuple[int, Line]]:
        """All lines with their numbers."""
        with self._opened(call, self.place) as file:
            for number, text in enumerate(bounded_lines(file, self.place), 1):
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError) as exc:
                    raise ConfigError(f"line {number} of {self.place} is no JSON: {exc}") from exc
                if not isinstance(line, dict):
                    raise ConfigError(f"line {number} of {self.place} is no JSON object")
                yield number, line

    def ends(self, call: Call) -> tuple[Line, Line]:
        """The first line and the last one. NotFound or SourceError when there is no plan."""
        first, last = Line(), Line()
        for number, line in self.lines(call):
            first, last = (line if number == 1 else first), line
        return first, last

    def digest(self, call: Call) -> str | None:
        """Of its bytes; None when there is no such plan."""
        whole = hashlib.sha256()
        try:
            with self._opened(call, self.place) as file:
                while block := file.read(1 << 20):
                    whole.update(block)
        except NotFound as exc:
            if exc.context.code == "NoSuchBucket":
                raise
            return None
        except SourceError:
            if os.path.lexists(self.place):
                raise
            return None
        return whole.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPlace:
    """Where a plan goes, and who keeps in mind that it is there. ``upload`` refuses to replace an object."""

    place: str
    target: str
    tokens: TokenStore
    upload: Callable[[str, ObjectRef], object]

    def __post_init__(self) -> None:
        if not self.place.lower().endswith((".jsonl", ".ndjson")):
            raise ConfigError(f"a plan is JSON lines; its name ends in .jsonl, got {self.place!r}")

    def kept(self, call: Call, lines: PlanLines) -> str | None:
        """Where an earlier try's plan is, if there is one: it must be used. SourceError when it was changed."""
        try:
            data = self.tokens.load(state_key(self.target))
        except OrbitError:
            raise
        except Exception as exc:
            raise StateUnavailable(f"the plan's saved state could not be read ({type(exc).__name__})") from exc
        if data is None:
            return None
        try:
            place, digest = _known(data, self.target)
        except TokenRejected as exc:
            call.notice(f"an earlier try's state is not used: {exc.message}")
            return None
        found = _at(lines, place).digest(call)
        if found is None:
            return None
        if found != digest:
            raise SourceError(f"the plan {place} is not the one that an earlier try made; it was changed or replaced")
        return place

    def write(
        self, head: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], tail: Callable[[], Mapping[str, Any]]
    ) -> str:
        """Make the plan: all lines into a hidden file, its digest into the token, then its name. Returns its place.

        ``tail`` is asked behind the last line for what the end of the plan says. TargetExists when something has the
        name already: it may be the only way back from an earlier restore.
        """
        remote = ObjectRef.parse(self.place) if self.place[:5].lower() == "s3://" else None
        place = self.place if remote else os.path.abspath(self.place)
        try:
            fd, name = tempfile.mkstemp(
                prefix=".orbit-", suffix=".jsonl", dir=None if remote else os.path.dirname(place)
            )
        except OSError as exc:
            raise TargetError(f"the plan {place} cannot be written: {exc.strerror}") from exc
        try:
            digest = _written(fd, {"schema": SCHEMA, **head}, lines, tail)
            if remote is None and os.path.lexists(place):
                raise TargetExists(f"{place} exists; a plan is never overwritten, choose another name")
            self.tokens.save(state_key(self.target), _token(self.target, place, digest))
            if remote is not None:
                self.upload(name, remote)
            else:
                _named(name, place)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)
        return place


def _at(lines: PlanLines, place: str) -> PlanLines:
    return PlanLines(bucket=lines.bucket, place=place, format="jsonl", kind=lines.kind, read=lines.read)


def _written(
    fd: int, head: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], tail: Callable[[], Mapping[str, Any]]
) -> str:
    """All of it, on the disk; its digest."""
    whole, count = hashlib.sha256(), 0
    with os.fdopen(fd, "wb") as file:

        def put(line: Mapping[str, Any]) -> None:
            data = json.dumps({name: value for name, value in line.items() if value is not None}).encode() + b"\n"
            whole.update(data)
            file.write(data)

        try:
            put(head)
            for line in lines:
                count += 1
                put(line)
            put({"end": count, **tail()})
            file.flush()
            os.fsync(file.fileno())
        except OSError as exc:
            raise TargetError(f"the plan cannot be written: {exc.strerror}") from exc
    return whole.hexdigest()


def _named(name: str, place: str) -> None:
    """Never over something else, whoever else is at it."""
    try:
        os.link(name, place)
    except FileExistsError as exc:
        raise TargetExists(f"{place} exists; a plan is never overwritten, choose another name") from exc
    except OSError as exc:
        raise TargetError(f"the plan {place} cannot be written: {exc.strerror}") from exc


def _token(target: str, place: str, digest: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "op": "plan", "target": target, "place": place, "digest": digest}


def _known(data: object, target: str) -> tuple[str, str]:
    fields = Fields(data)
    if (fields.whole("schema"), fields.get("op", str), fields.get("target", str)) != (SCHEMA, "plan", target):
        raise TokenRejected("the state is none of this plan, or of another version")
    return str(fields.get("place", str)), fields.matching("digest", _DIGEST)
