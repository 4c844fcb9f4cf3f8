"""A few runs of the model check in every test run, and that it would see what it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from orbit_airflow.engine.version_verbs import Versions
from orbit_airflow.engine.versioning import ListedVersion
from tests.model_check import machine
from tests.model_check.campaign import check
from tests.model_check.places import opened
from tests.model_check.prefix import Prefix


@pytest.mark.parametrize(("name", "runs"), [("memory", 40), ("model", 3)])
def test_the_engine_does_what_the_dict_does(name: str, runs: int) -> None:
    """Each verb is played, also with somebody else's write in the middle of it."""
    with opened(name) as place:
        done = check(place, runs=runs, steps=25, number=4)
    assert done["runs"] >= runs
    if name == "memory":
        assert {"put", "delete", "restore", "undelete", "delete_version", "compare", "cuts", "stranger"} <= set(done)
        assert {"restore_as_of", "prune", "suspended", "enabled"} <= set(done)


def _undeletes_nothing(self: Versions, target: str) -> None:
    """What an undelete that forgets its work does."""


def _prunes_nothing(self: Prefix, keep_last: int | None, moment: object) -> int:
    return 0


def _turned(self: Versions, prefix: str = "") -> Iterator[ListedVersion]:
    yield from reversed(list(_iter_versions(self, prefix)))


_iter_versions = Versions.iter_versions


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (Versions, "undelete", _undeletes_nothing),
        (Prefix, "prune", _prunes_nothing),
        (Versions, "iter_versions", _turned),
    ],
)
def test_a_broken_engine_is_seen(owner: type, name: str, broken: object) -> None:
    """A verb that does nothing, and a listing in another order."""
    with opened("memory") as place, patch.object(owner, name, broken), pytest.raises(AssertionError):
        check(place, runs=30, steps=25, number=4, shrink=False)


def test_the_shown_story_can_be_played_again() -> None:
    """The same number, the same verbs."""
    with opened("memory") as place:
        assert check(place, runs=3, steps=15, number=9) == check(place, runs=3, steps=15, number=9)
    assert machine.VersionsMachine.done == {}
