"""The store's clock, learnt from the Date of a refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from orbit_airflow.engine.options import Credentials, EngineConfig
from orbit_airflow.engine.stores.client import make_client
from orbit_airflow.engine.stores.skew import StoreClock, correct_clock

HERE = datetime(2026, 9, 17, 12, 0, tzinfo=UTC)
STAMP = "20260917T120000Z"


def _clock() -> StoreClock:
    return StoreClock(lambda: HERE.timestamp())


def test_nothing_is_shifted_before_an_answer_says_so() -> None:
    assert _clock().shifted(STAMP) == STAMP


@pytest.mark.parametrize(
    ("store", "stamp"),
    [
        (datetime(2026, 9, 17, 12, 20, tzinfo=UTC), "20260917T122000Z"),
        (datetime(2026, 9, 16, 23, 59, 59, tzinfo=UTC), "20260916T235959Z"),
        (datetime(1970, 1, 1, tzinfo=UTC), "19700101T000000Z"),
    ],
)
def test_the_difference_is_added(store: datetime, stamp: str) -> None:
    """Ahead, behind, and far off."""
    clock = _clock()
    clock.learn(format_datetime(store, usegmt=True))
    assert clock.shifted(STAMP) == stamp


def test_late_refusals_do_not_add_up() -> None:
    """Thirty workers are refused at once; the correction is made once."""
    clock = _clock()
    for _ in range(30):
        clock.learn("Thu, 17 Sep 2026 13:00:00 GMT")
    assert clock.offset == 3600


@pytest.mark.parametrize("date", ["", "soon", "Thu, 99 Foo 2026 99:00:00 GMT", "Thu, 17 Sep 2026 12:03:00 GMT"])
def test_what_is_no_date_or_no_skew_changes_nothing(date: str) -> None:
    """A refusal for another reason comes with nearly our own time."""
    clock = _clock()
    clock.learn(date)
    assert clock.offset == 0


def test_a_client_of_two_engines_is_corrected_once() -> None:
    """Two corrections would be as wrong as none."""
    keys = Credentials(access_key="a", secret_key="b")
    client = make_client(EngineConfig(region="us-east-1", credentials=keys))
    assert correct_clock(client) is correct_clock(client)
