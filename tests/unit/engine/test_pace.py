"""The pace of a batch: so many at once, so many per second, and all together slower when the store says so."""

from __future__ import annotations

import threading

import pytest

from orbit_airflow.engine.errors import InvalidRequest, OperationTimeout, RequestContext, Throttled
from orbit_airflow.engine.resilience.pace import Pace


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-4)


def _pace(clock: Clock, most: int = 4, rate: float | None = None) -> Pace:
    return Pace(most, rate, sleep=clock.sleep, clock=clock)


def _throttled(retry_after: float | None = None) -> None:
    raise Throttled("slow down", RequestContext(retry_after=retry_after))


def test_a_rate_is_kept() -> None:
    """Over any stretch of time; a pause is not made up for."""
    clock = Clock()
    pace = _pace(clock, rate=10)
    for _ in range(30):
        pace.call(lambda: None)
    assert 2.8 <= clock.now - 100 <= 3.1
    clock.now += 60
    before = clock.now
    for _ in range(20):
        pace.call(lambda: None)
    assert clock.now - before >= 1.8


def test_a_slowdown_stops_everybody_for_as_long_as_it_says() -> None:
    """Or for a second."""
    for asked, rested in ((None, 1.0), (7.0, 7.0)):
        clock = Clock()
        pace = _pace(clock)
        with pytest.raises(Throttled):
            pace.call(lambda asked=asked: _throttled(asked))  # type: ignore[misc]
        pace.call(lambda: None)
        assert clock.now - 100 == pytest.approx(rested, abs=0.1)
        assert pace.slowed == 1


def test_the_rate_goes_below_what_was_borne_and_grows_again() -> None:
    """Against a store that takes 50 per second: few are refused, and the speed comes back."""
    clock = Clock()
    pace, served, refused = _pace(clock, most=1), list[float](), 0

    def serve() -> None:
        clock.now += 0.001
        while served and served[0] <= clock.now - 1:
            served.pop(0)
        if len(served) >= 50:
            _throttled()
        served.append(clock.now)

    for _ in range(3000):
        try:
            pace.call(serve)
        except Throttled:
            refused += 1
    assert refused <= 60
    assert 3000 / (clock.now - 100) >= 35


def test_at_most_so_many_run_at_once() -> None:
    """Real threads, one gate."""
    running, highest, lock = [0], [0], threading.Lock()
    pace = Pace(3, None, sleep=threading.Event().wait)  # type: ignore[arg-type]
    barrier = threading.Event()

    def work() -> None:
        with lock:
            running[0] += 1
            highest[0] = max(highest[0], running[0])
        barrier.wait(0.02)
        with lock:
            running[0] -= 1

    threads = [threading.Thread(target=pace.call, args=(work,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert highest[0] == 3
    assert pace.requests == 12


def test_an_error_gives_the_place_back() -> None:
    """Whatever it is; and it slows nobody down."""
    clock = Clock()
    pace = _pace(clock, most=1)

    def fail() -> None:
        raise InvalidRequest("made up")

    for _ in range(3):
        with pytest.raises(InvalidRequest):
            pace.call(fail)
    assert clock.now == 100


def test_nothing_begins_behind_a_deadline() -> None:
    """Of the thread that has it."""
    clock = Clock()
    pace = _pace(clock)
    pace.until(105)
    pace.call(lambda: None)
    clock.now = 105
    with pytest.raises(OperationTimeout):
        pace.call(lambda: None)
    pace.until(None)
    pace.call(lambda: None)
