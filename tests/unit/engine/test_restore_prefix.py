"""What a prefix needs to be as it was: every history of a few events, against what the key showed then."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.restore_prefix import Action, plan_restore
from orbit_airflow.engine.versioning import ListedVersion

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _history(key: str, events: str) -> list[ListedVersion]:
    """Newest first, one event a minute around noon: "v" writes, "d" deletes, "|" is noon itself."""
    start = -events.index("|")
    made = [
        ListedVersion(
            key=key, version_id=f"{at}", is_latest=False, size=0 if event == "d" else 1, delete_marker=event == "d",
            last_modified=NOON + timedelta(minutes=start + at + (0 if start + at < 0 else 1)),
        )
        for at, event in enumerate(events.replace("|", ""))
    ]  # fmt: skip
    return made[::-1]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("v|", Action.LEAVE),
        ("|v", Action.DELETE),
        ("v|v", Action.COPY),
        ("v|d", Action.UNDELETE),
        ("v|dd", Action.UNDELETE),
        ("v|vd", Action.COPY),
        ("vd|", Action.LEAVE),
        ("vd|v", Action.DELETE),
        ("vd|vd", Action.LEAVE),
        ("vd|d", Action.LEAVE),
        ("|vd", Action.LEAVE),
        ("d|", Action.LEAVE),
    ],
)
def test_the_cheapest_way_back(events: str, expected: Action) -> None:
    """Nothing is written where the key shows already what it showed."""
    (planned,) = plan_restore(_history("k", events), NOON)
    assert planned.action is expected


@pytest.mark.parametrize("before", ["".join(e) for n in range(4) for e in itertools.product("vd", repeat=n)])
@pytest.mark.parametrize("after", ["".join(e) for n in range(4) for e in itertools.product("vd", repeat=n)])
def test_done_as_planned_the_key_shows_what_it_showed(before: str, after: str) -> None:
    """For every history of up to three events on each side of noon."""
    listed = _history("k", f"{before}|{after}")
    if not listed:
        assert list(plan_restore(listed, NOON)) == []
        return
    (planned,) = plan_restore(listed, NOON)
    then = [item for item in listed if item.last_modified is not None and item.last_modified <= NOON][:1]
    wanted = then[0].version_id if then and not then[0].delete_marker else None
    rest = [item for item in listed if item.version_id not in planned.markers]
    shows = rest[0].version_id if rest and not rest[0].delete_marker else None
    if planned.action is Action.COPY:
        shows = planned.wanted.version_id if planned.wanted is not None else None
    elif planned.action is Action.DELETE:
        shows = None
    assert shows == wanted
    assert bool(planned.markers) is (planned.action is Action.UNDELETE)
    assert planned.current == listed[0]


def test_keys_are_told_apart_and_keep_their_order() -> None:
    """One action each."""
    listed = [*_history("a", "v|v"), *_history("ab", "v|"), *_history("b", "|v")]
    assert [(item.key, item.action) for item in plan_restore(listed, NOON)] == [
        ("a", Action.COPY),
        ("ab", Action.LEAVE),
        ("b", Action.DELETE),
    ]


def test_the_very_second_counts_as_there() -> None:
    """Times are whole seconds."""
    at_noon = ListedVersion(key="k", version_id="1", is_latest=True, last_modified=NOON)
    assert [item.action for item in plan_restore([at_noon], NOON)] == [Action.LEAVE]


def test_a_moment_needs_a_time_zone() -> None:
    """Two in the morning of whom?"""
    with pytest.raises(ConfigError, match="time zone"):
        list(plan_restore([], datetime(2026, 1, 1)))  # noqa: DTZ001 - that is the point


def test_a_key_of_many_versions_needs_no_memory() -> None:
    """A hundred thousand versions of one key, read as they come."""

    def many() -> Iterator[ListedVersion]:
        for at in range(100_000):
            moment = NOON + timedelta(seconds=50_000 - at)
            yield ListedVersion(key="k", version_id=str(at), is_latest=at == 0, last_modified=moment)

    tracemalloc.start()
    try:
        (planned,) = plan_restore(many(), NOON)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert planned.wanted is not None
    assert planned.wanted.version_id == "50000"
    assert peak < 200_000
