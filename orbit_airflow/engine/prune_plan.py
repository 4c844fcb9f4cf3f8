"""Which old versions may go, and what they all cost. Decisions and sums; no request is made here.

A key's newest entry is what it shows: a version, or a delete marker that hides all below it. Neither is ever chosen,
and so no key shows anything else afterwards. An entry is as old as its successor: it has been out of sight since then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.versioning import ListedVersion

# The ages by which the sums are told, in days: up to so many, and "older".
AGES = (1, 7, 30, 90, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What stays of what nothing shows: the newest ``keep_last`` versions of each key (the shown one counts, markers do
    not), and what has been out of sight for less than ``older_than``. What both would let go goes.
    """

    keep_last: int | None = None
    older_than: timedelta | None = None

    def __post_init__(self) -> None:
        last, age = self.keep_last, self.older_than
        if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 1):
            raise ConfigError(f"keep_last is a whole number from 1, got {last!r}")
        if age is not None and (not isinstance(age, timedelta) or age < timedelta(0)):
            raise ConfigError(f"older_than is a timedelta, got {age!r}")

    @property
    def chooses(self) -> bool:
        """False when everything stays."""
        return self.keep_last is not None or self.older_than is not None

    def lets_go(self, newer_versions: int, age: timedelta | None) -> bool:
        """True for an entry below so many versions of its key, out of sight for so long (None: nobody knows)."""
        if not self.chooses or (self.keep_last is not None and newer_versions < self.keep_last):
            return False
        return self.older_than is None or (age is not None and age >= self.older_than)


@dataclass(slots=True)
class Sum:
    """So many entries with so many bytes."""

    count: int = 0
    bytes: int = 0

    def add(self, item: ListedVersion) -> None:
        """One more."""
        self.count += 1
        self.bytes += item.size

    def summary(self) -> dict[str, int]:
        """As JSON values."""
        return {"count": self.count, "bytes": self.bytes}


@dataclass(slots=True, kw_only=True)
class VersionCosts:
    """What a prefix's versions cost. ``shown``: versions that their keys show. ``old``: versions that nothing shows, of
    which ``by_age`` tells how long (days) they have been out of sight. ``markers``: delete markers, of which ``hiding``
    are what their key shows; ``lone`` ones of these hide nothing any more. ``prunable``: what the rules let go.
    """

    keys: int = 0
    shown: Sum = field(default_factory=Sum)
    old: Sum = field(default_factory=Sum)
    by_age: dict[str, Sum] = field(default_factory=lambda: {name: Sum() for name in (*map(_up_to, AGES), "older")})
    markers: int = 0
    hiding: int = 0
    lone: int = 0
    prunable: Sum = field(default_factory=Sum)

    def summary(self) -> dict[str, Any]:
        """As JSON values, small enough for an XCom."""
        return {
            "keys": self.keys, "shown": self.shown.summary(), "old": self.old.summary(),
            "old_by_age": {name: found.summary() for name, found in self.by_age.items()},
            "markers": self.markers, "hiding_markers": self.hiding, "lone_markers": self.lone,
            "prunable": self.prunable.summary(),
        }  # fmt: skip


def prunable(
    listed: Iterable[ListedVersion], keep: Keep, now: datetime, costs: VersionCosts
) -> Iterator[ListedVersion]:
    """The entries that may go, from a listing of versions (keys in order, within a key the newest first); ``costs`` is
    added to on the way. Constant memory.
    """
    for _, versions in groupby(listed, key=lambda item: item.key):
        yield from _of_key(versions, keep, now, costs)


def _of_key(
    versions: Iterator[ListedVersion], keep: Keep, now: datetime, costs: VersionCosts
) -> Iterator[ListedVersion]:
    costs.keys += 1
    newest = next(versions)
    costs.markers += newest.delete_marker
    costs.hiding += newest.delete_marker
    if not newest.delete_marker:
        costs.shown.add(newest)
    above, seen = newest, int(not newest.delete_marker)
    for item in versions:
        age = None if above.last_modified is None else now - above.last_modified
        costs.markers += item.delete_marker
        if not item.delete_marker:
            costs.old.add(item)
            costs.by_age[_age_name(age)].add(item)
        if keep.lets_go(seen, age):
            costs.prunable.add(item)
            yield item
        seen += not item.delete_marker
        above = item
    costs.lone += newest.delete_marker and above is newest


def _up_to(days: int) -> str:
    return f"up to {days} days"


def _age_name(age: timedelta | None) -> str:
    """An unknown age is told among the oldest: nothing is known to be younger."""
    if age is None:
        return "older"
    return next((_up_to(days) for days in AGES if age <= timedelta(days=days)), "older")
