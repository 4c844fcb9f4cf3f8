"""The main thread's wait: interruptible anywhere, bounded always."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from orbit_airflow.durable.attended import attended
from orbit_airflow.engine.errors import Paused
from orbit_airflow.engine.runner import Cancellation


class Alarm(BaseException):
    """As Airflow's task timeout: not an Exception."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGALRM raises in the main thread."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_it_returns_the_value_and_raises_the_error() -> None:
    assert attended(lambda: 7, Cancellation(), stop_wanted=lambda: False) == 7

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        attended(fail, Cancellation(), stop_wanted=lambda: False)


def test_a_stop_reaches_the_call_and_its_own_end_counts() -> None:
    cancel = Cancellation()

    def work() -> None:
        cancel.sleep(30)

    with pytest.raises(Paused, match="stopped by Airflow"):
        attended(work, cancel, stop_wanted=lambda: True)


def test_a_call_that_finishes_in_spite_of_the_stop_has_finished() -> None:
    cancel = Cancellation()

    def work() -> str:
        while not cancel.cancelled:
            time.sleep(0.01)
        return "done"

    assert attended(work, cancel, stop_wanted=lambda: True) == "done"


def test_a_call_that_does_not_end_is_left_behind() -> None:
    released = threading.Event()
    started = time.monotonic()
    with pytest.raises(Paused, match="request was under way"):
        attended(lambda: released.wait(30), Cancellation(), stop_wanted=lambda: True, leave=0.2)
    assert time.monotonic() - started < 2
    released.set()


def test_an_alarm_stops_the_call_and_goes_on(alarm: None) -> None:
    cancel, ended = Cancellation(), threading.Event()

    def work() -> None:
        try:
            cancel.sleep(30)
        finally:
            ended.set()

    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(Alarm):
        attended(work, cancel, stop_wanted=lambda: False)
    assert ended.wait(1)
    assert cancel.cancelled
