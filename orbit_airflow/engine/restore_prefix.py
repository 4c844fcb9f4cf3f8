"""What has to be done to a prefix so that it is as it was at a moment. Decisions only; no request is made here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.versioning import ListedVersion


class Action(StrEnum):
    """What to do with a key.

    ``undelete``: take the delete markers off, the wanted version lies right below them. ``copy``: copy the wanted
    version onto the key. ``delete``: lay a delete marker, it was not there. ``leave``: it is as it was.
    """

    UNDELETE = "undelete"
    COPY = "copy"
    DELETE = "delete"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAction:
    """One key's. ``wanted`` is the version that the key showed at the moment (None: none), ``current`` what it shows
    now (a marker, or None for neither): what an undo puts back. ``markers``: for an undelete, newest first.
    """

    key: str
    action: Action
    wanted: ListedVersion | None = None
    current: ListedVersion | None = None
    markers: tuple[str, ...] = ()


def plan_restore(listed: Iterable[ListedVersion], as_of: datetime) -> Iterator[PlannedAction]:
    """One action per key, from a listing of versions (keys in order, within a key the newest first).

    Memory is that of one key's newest delete markers, whatever the number of its versions. By the store's times, in
    whole seconds: what was written in the very second of ``as_of`` counts as there. ConfigError for a moment without a
    time zone. The time of an object of parts is, on S3, when its upload began. A version that was removed for good
    cannot be wanted: what lies below it is.
    """
    if as_of.tzinfo is None:
        raise ConfigError(f"a moment needs a time zone, got {as_of!r}")
    for key, versions in groupby(listed, key=lambda item: item.key):
        yield _decided(key, versions, as_of)


def _decided(key: str, versions: Iterator[ListedVersion], as_of: datetime) -> PlannedAction:
    current: ListedVersion | None = None
    wanted: ListedVersion | None = None
    shown: ListedVersion | None = None
    markers: list[str] = []
    for item in versions:
        current = current or item
        if shown is None and item.delete_marker:
            markers.append(item.version_id)
        elif shown is None:
            shown = item
        if item.last_modified is not None and item.last_modified <= as_of:
            wanted = item
            break
    # The rest of the key is skipped by groupby.
    there = wanted is not None and not wanted.delete_marker
    deleted = current is None or current.delete_marker
    if not there:
        return PlannedAction(key=key, action=Action.LEAVE if deleted else Action.DELETE, current=current)
    if wanted == current:
        return PlannedAction(key=key, action=Action.LEAVE, wanted=wanted, current=current)
    if deleted and wanted == shown:
        return PlannedAction(key=key, action=Action.UNDELETE, wanted=wanted, current=current, markers=tuple(markers))
    return PlannedAction(key=key, action=Action.COPY, wanted=wanted, current=current)
