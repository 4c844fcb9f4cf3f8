"""The store's time: learnt once, by many threads together, and from what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from orbit_airflow.engine.stores.clock import StoreClock, is_skewed

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ZERO = timedelta(0)


def _clock() -> StoreClock:
    return StoreClock(lambda: NOW)


def _refused(code: str = "RequestTimeTooSkewed", ahead: float = 1200.0, date: str | None = None) -> dict[str, Any]:
    shown = date if date is not None else format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    return {"Error": {"Code": code}, "ResponseMetadata": {"HTTPHeaders": {"date": shown}}}


def test_one_answer_teaches_all_who_were_refused_with_the_old_time() -> None:
    """Each of them signs again; a refusal of the new time is final."""
    clock = _clock()
    assert clock.corrected_by(_refused(), ZERO)
    assert clock.corrected_by(_refused(ahead=1201.0), ZERO)
    assert clock.offset == timedelta(seconds=1200)
    assert clock.now() == NOW + timedelta(seconds=1200)
    assert not clock.corrected_by(_refused(ahead=5000.0), clock.offset)
    assert clock.offset == timedelta(seconds=1200)


@pytest.mark.parametrize(
    ("answer", "taught"),
    [
        (_refused("403", 1200), True),
        (_refused("403", -1200), True),
        (_refused("403", 30), False),
        (_refused("AccessDenied", 1200), False),
        (_refused("403", date=""), False),
        (_refused(date="yesterday"), False),
        ({}, False),
    ],
)
def test_only_a_refusal_about_time_teaches(answer: dict[str, Any], taught: bool) -> None:
    """By its code, or a HEAD's plain 403 with a Date far away; without a Date nobody knows."""
    assert _clock().corrected_by(answer, ZERO) is taught


def test_both_times_are_told() -> None:
    answer = _refused()
    assert _clock().times(answer) == (
        "this worker's clock says 2026-03-04 05:06:07 UTC, the store's 2026-03-04 05:26:07 UTC"
    )
    assert _clock().times({}).endswith("the store's nothing")
    assert is_skewed(answer)
    assert not is_skewed({})
