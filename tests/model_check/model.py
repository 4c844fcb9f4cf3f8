"""What S3 says a bucket with versions is, as a dict of lists: nothing here has seen the engine's code."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass, field

from orbit_airflow.engine.versioning import VersioningState

NULL = "null"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A version, or (``body`` None) a delete marker. ``at``: in which stretch between two ticks it was written."""

    version_id: str
    body: bytes | None
    at: int
    label: str = ""

    @property
    def marker(self) -> bool:
        """True for a delete marker."""
        return self.body is None

    @property
    def shown(self) -> tuple[str, bool, int, str]:
        """As a listing has it: id, marker, size, ETag."""
        if self.body is None:
            return self.version_id, True, 0, ""
        return self.version_id, False, len(self.body), hashlib.md5(self.body, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Rules:
    """Where servers differ: ``markers_pile_up``: a delete of a deleted key lays one more marker."""

    markers_pile_up: bool = True


@dataclass
class Bucket:
    """Keys and their versions, newest first. Each verb is what S3 documents; ``new_id`` is the id that the server
    chose, used when the bucket gives ids.
    """

    rules: Rules = field(default_factory=Rules)
    state: VersioningState = VersioningState.UNVERSIONED
    now: int = 0
    keys: dict[str, list[Entry]] = field(default_factory=dict)

    def copy(self) -> Bucket:
        """Another one, that may be changed."""
        return deepcopy(self)

    def of(self, key: str) -> list[Entry]:
        """A key's versions and markers."""
        return self.keys.get(key, [])

    def top(self, key: str) -> Entry | None:
        """The newest."""
        return next(iter(self.of(key)), None)

    def current(self, key: str) -> Entry | None:
        """What a GET finds."""
        top = self.top(key)
        return None if top is None or top.marker else top

    def find(self, key: str, version_id: str) -> Entry | None:
        """By its id."""
        return next((item for item in self.of(key) if item.version_id == version_id), None)

    def listing(self) -> list[tuple[str, bool, tuple[str, bool, int, str]]]:
        """All of it, in S3's order."""
        return [
            (key, at == 0, item.shown)
            for key in sorted(self.keys, key=str.encode)
            for at, item in enumerate(self.keys[key])
        ]

    def objects(self) -> list[str]:
        """The keys that show an object."""
        return [key for key in sorted(self.keys, key=str.encode) if self.current(key) is not None]

    def put(self, key: str, body: bytes, label: str, new_id: str | None) -> str:
        """A write, or a copy onto the key. Its id."""
        return self._lay(key, body, label, new_id)

    def delete(self, key: str, new_id: str | None) -> str | None:
        """The marker's id; None where none is laid."""
        if self.state is VersioningState.UNVERSIONED:
            self.keys.pop(key, None)
            return None
        top = self.top(key)
        if top is not None and top.marker and not self.rules.markers_pile_up:
            return None
        return self._lay(key, None, "", new_id)

    def delete_version(self, key: str, version_id: str) -> None:
        """That one for good; nothing when it is not there."""
        self._keep(key, [item for item in self.of(key) if item.version_id != version_id])

    def undelete(self, key: str) -> list[str] | None:
        """The ids of the markers on top, which are gone then; None when no version lies below them."""
        below = [at for at, item in enumerate(self.of(key)) if not item.marker]
        if not below:
            return None
        removed = [item.version_id for item in self.of(key)[: below[0]]]
        self._keep(key, self.of(key)[below[0] :])
        return removed

    def _lay(self, key: str, body: bytes | None, label: str, new_id: str | None) -> str:
        named = self.state is VersioningState.ENABLED
        entry = Entry(version_id=new_id or "" if named else NULL, body=body, at=self.now, label=label)
        self._keep(key, [entry, *(item for item in self.of(key) if named or item.version_id != NULL)])
        return entry.version_id

    def _keep(self, key: str, entries: list[Entry]) -> None:
        if entries:
            self.keys[key] = entries
        else:
            self.keys.pop(key, None)

    def wanted(self, key: str, at: int) -> Entry | None:
        """What the key showed at the end of that stretch, as far as it is still there."""
        return next((item for item in self.of(key) if item.at <= at), None)
