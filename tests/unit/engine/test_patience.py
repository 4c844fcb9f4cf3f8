"""Outages on a clock of our own: a transfer waits them out, asks seldom, tells once, and gives up when it said."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from orbit_airflow.engine import engine_over
from orbit_airflow.engine.errors import (
    AccessDenied,
    CircuitOpen,
    ConnectionLost,
    NotFound,
    OrbitError,
    Paused,
    RequestContext,
    Throttled,
    Unavailable,
)
from orbit_airflow.engine.events import Notice, Retrying
from orbit_airflow.engine.model import UploadResult
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.stores import patient
from orbit_airflow.engine.stores.patient import Patience
from orbit_airflow.testing import Fault
from orbit_airflow.testing.faults import Operation
from tests.unit.engine.bench import PART, Bench

SIZE = 8 * PART + 100
REFUSED = ConnectionLost("connection refused", RequestContext(sent=False))
RESET = ConnectionLost("connection reset")
BROKEN = Unavailable("InternalError", RequestContext(status=500))
BUSY = Throttled("SlowDown", RequestContext(status=503))
CALM = RetryPolicy(jitter_factor=0.0)


class Outage:
    """A store that fails from the ``nth`` request on, for so many seconds; it notes when it was asked."""

    def __init__(
        self, bench: Bench, seconds: float, error: OrbitError, *, nth: int = 1, operation: Operation = "*"
    ) -> None:
        self._bench = bench
        self._seconds = seconds
        self._error = error
        self.began: float | None = None
        self.asked: list[float] = []
        bench.faulty.add(Fault(operation, nth=nth, times=None, call=self._strike))

    def _strike(self) -> None:
        now = self._bench.time.now
        if self.began is None:
            self.began = now
        if now - self.began < self._seconds:
            self.asked.append(now - self.began)
            raise self._error

    @property
    def per_minute(self) -> Counter[int]:
        """Requests in each minute of the outage."""
        return Counter(int(second // 60) for second in self.asked)


def _upload(bench: Bench, *, cancel: Any = None, **settings: Any) -> UploadResult:
    config = bench.config(**{"outage_patience": 600.0, "retry": CALM, **settings})
    engine = engine_over(bench.faulty, config, rng=random.Random(3), clock=bench.time)
    stop = cancel or bench.cancellation()
    return engine.upload(
        bench.path, bench.ref, UploadOptions(), tokens=bench.tokens, reporter=bench.events.append, cancel=stop
    )


def _warnings(bench: Bench) -> list[str]:
    return [event.message for event in bench.seen(Notice) if "not well" in event.message]


def _ends(bench: Bench) -> list[str]:
    return [event.message for event in bench.seen(Notice) if "answers again" in event.message]


@pytest.mark.parametrize("error", [REFUSED, RESET, BROKEN, BUSY])
@pytest.mark.parametrize("workers", [1, 4])
def test_an_outage_in_the_middle_costs_no_part(bench: Bench, error: OrbitError, workers: int) -> None:
    """Five minutes without a store: the upload waits and goes on with its upload id; every part went once."""
    bench.workers = workers
    data = bench.write(SIZE)
    out = Outage(bench, 300.0, error, nth=5)
    _upload(bench)
    bench.settled(data)
    assert len(bench.asked("create")) == 1
    assert bench.sent == SIZE
    assert out.began is not None


@pytest.mark.parametrize("workers", [1, 4, 16])
@pytest.mark.parametrize("error", [REFUSED, BUSY])
def test_the_whole_transfer_asks_seldom(bench: Bench, error: OrbitError, workers: int) -> None:
    """At most 60 requests in any minute of an outage, the first attempts of all workers included."""
    bench.workers = workers
    bench.write(32 * PART)
    out = Outage(bench, 500.0, error, nth=5)
    _upload(bench)
    assert max(out.per_minute.values()) <= 60
    assert all(count <= 16 for minute, count in out.per_minute.items() if minute >= 2)


@pytest.mark.parametrize("seconds", [60.0, 200.0, 500.0])
def test_a_store_that_is_back_is_found_soon(bench: Bench, seconds: float) -> None:
    """Within an eighth of the time it was out, plus jitter; at the most 33 s."""
    bench.workers = 1
    bench.write(SIZE)
    out = Outage(bench, seconds, REFUSED, nth=5)
    _upload(bench)
    assert out.began is not None
    late = bench.time.now - out.began - seconds
    assert late <= min(33.0, 0.15 * seconds + 1)


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_an_outage_is_told_once(bench: Bench, workers: int) -> None:
    """One warning with the reason when it begins and one line when it ends, not one per worker or per pause."""
    bench.workers = workers
    bench.write(32 * PART)
    Outage(bench, 300.0, REFUSED, nth=5)
    _upload(bench)
    assert len(_warnings(bench)) == len(_ends(bench)) == 1
    assert "connection refused" in _warnings(bench)[0]
    assert "600 s" in _warnings(bench)[0]


@pytest.mark.parametrize("error", [REFUSED, BROKEN, BUSY])
def test_the_patience_ends(bench: Bench, error: OrbitError) -> None:
    """Then the request's own error comes out, with what was waited and what is kept; the next try continues."""
    data = bench.write(SIZE)
    out = Outage(bench, 10_000.0, error, nth=5)
    with pytest.raises(type(error), match=r"Waited 12\d s for the store.*keeps") as caught:
        _upload(bench, outage_patience=120.0)
    assert isinstance(caught.value, type(error))
    assert out.asked[-1] <= 130
    assert len(_warnings(bench)) == 1
    assert _ends(bench) == []
    bench.faulty.clear()
    assert _upload(bench).resumed
    bench.settled(data)
    assert bench.sent == SIZE


def test_what_follows_a_lost_patience_does_not_wait_again(bench: Bench) -> None:
    """The clean-up of a transfer that gave up asks once more and ends."""
    bench.write(SIZE)
    out = Outage(bench, 10_000.0, BROKEN, nth=5, operation="complete")
    bench.faulty.add(Fault("complete", times=None, error=BROKEN), Fault("head", times=None, error=BROKEN))
    with pytest.raises(Unavailable):
        _upload(bench, outage_patience=100.0)
    assert out.asked == []
    assert bench.time.now - 1_800_000_000 < 150


def test_zero_is_off(bench: Bench) -> None:
    """The error comes at once, as it always did."""
    bench.write(SIZE)
    Outage(bench, 10_000.0, REFUSED, nth=5)
    with pytest.raises((ConnectionLost, CircuitOpen)):
        _upload(bench, outage_patience=0.0)
    assert bench.time.now - 1_800_000_000 < 30
    assert _warnings(bench) == []


@pytest.mark.parametrize("seconds", [200.0])
@pytest.mark.parametrize("error", [REFUSED, BUSY])
def test_an_outage_from_the_first_request_on_is_waited_out(bench: Bench, seconds: float, error: OrbitError) -> None:
    """A Create that was surely not done waits like any other request."""
    data = bench.write(SIZE)
    Outage(bench, seconds, error)
    _upload(bench)
    bench.settled(data)
    assert len(bench.asked("create")) == 1


@pytest.mark.parametrize("size", [10, SIZE])
def test_lost_answers_of_an_outage_do_not_use_up_the_attempts(bench: Bench, size: int) -> None:
    """What became of a Create or a PutObject whose answer was lost is asked of the store, and asking waits."""
    data = bench.write(size)
    Outage(bench, 400.0, RESET)
    _upload(bench)
    bench.settled(data)


def test_one_lost_create_is_no_outage(bench: Bench) -> None:
    """Its flow settles it by itself: no pause, no word of an outage."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("create", error=RESET))
    _upload(bench)
    bench.settled(data)
    assert _warnings(bench) == []
    assert max(bench.time.slept) < 1


def test_a_large_body_is_not_sent_to_a_store_that_is_out(bench: Bench) -> None:
    """The store is asked with a HEAD first: parts go only when that is answered."""
    bench.workers = 1
    bench.write(SIZE)
    Outage(bench, 300.0, REFUSED, nth=5)
    _upload(bench)
    struck = Counter(operation for operation, _ in bench.faulty.fired)
    during = [request.operation for request in bench.memory.requests]
    assert struck["head"] > 10
    assert during.count("upload_part") == 9


def test_a_store_that_answers_heads_only_is_given_up_in_time(bench: Bench) -> None:
    """HEAD is well, parts are not: the patience counts from the first failure all the same."""
    bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", nth=3, times=None, error=BROKEN))
    with pytest.raises(Unavailable, match="Waited"):
        _upload(bench, outage_patience=100.0)
    assert bench.time.now - 1_800_000_000 < 140
    assert len(_warnings(bench)) <= 3


def test_one_part_that_fails_for_ever_is_given_up_in_time(bench: Bench) -> None:
    """Its own patience is not renewed by the success of the others."""
    bench.workers = 4
    bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", times=None, part_number=4, error=BUSY))
    with pytest.raises(Throttled, match="Waited"):
        _upload(bench, outage_patience=100.0)
    assert bench.time.now - 1_800_000_000 < 200


def test_the_turns_go_round(bench: Bench) -> None:
    """A request that always fails does not take every turn: who came first asks first."""
    patience = Patience(seconds=600.0, probe=lambda ref: None, rng=random.Random(1), clock=bench.time)
    out = patient.Outage(patience, bench.cancellation(), bench.events.append)
    out.fails(BUSY)
    assert out.turn(None)[0] is patient.Turn.OURS
    order: list[str] = []

    def wait_for_a_turn(name: str) -> threading.Thread:
        def work() -> None:
            assert out.turn(None)[0] is patient.Turn.OURS
            order.append(name)
            out.end_turn()

        before = len(out._queue)
        thread = threading.Thread(target=work)
        thread.start()
        while len(out._queue) == before:
            pass
        return thread

    waiting = [wait_for_a_turn(name) for name in ("other", "third", "the one who failed")]
    out.end_turn()
    for thread in waiting:
        thread.join()
    assert order == ["other", "third", "the one who failed"]


def test_only_one_asks_and_all_go_on_when_it_is_over(bench: Bench) -> None:
    """While one has the turn nobody else gets one; the first good answer frees everybody."""
    patience = Patience(seconds=600.0, probe=lambda ref: None, rng=random.Random(1), clock=bench.time)
    out = patient.Outage(patience, bench.cancellation(), bench.events.append)
    out.fails(BUSY)
    turn, number = out.turn(None)
    assert turn is patient.Turn.OURS
    freed: list[patient.Turn] = []
    waiting = [threading.Thread(target=lambda: freed.append(out.turn(None)[0])) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while len(out._queue) < 3:
        pass
    assert freed == []
    out.over(number)
    for thread in waiting:
        thread.join()
    assert freed == [patient.Turn.FREE] * 3


def test_an_answer_from_before_the_outage_does_not_end_it(bench: Bench) -> None:
    """A part that was on its way when the store went down may still be acknowledged."""
    patience = Patience(seconds=600.0, probe=lambda ref: None, rng=random.Random(1), clock=bench.time)
    out = patient.Outage(patience, bench.cancellation(), bench.events.append)
    _, before = out.turn(None)
    out.fails(BUSY)
    out.over(before)
    assert out.turn(None)[0] is patient.Turn.OURS


@pytest.mark.parametrize("error", [AccessDenied("no", RequestContext(status=403)), NotFound("no bucket")])
def test_an_answer_of_a_well_store_is_never_waited_for(bench: Bench, error: OrbitError) -> None:
    """What a person must mend is said at once."""
    bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", nth=3, times=None, error=error))
    with pytest.raises(type(error)):
        _upload(bench)
    assert _warnings(bench) == []


def test_a_stop_order_ends_the_waiting(bench: Bench) -> None:
    """In the pause: Paused, and the parts are kept."""
    bench.write(SIZE)
    cancel = bench.cancellation()

    def outage() -> None:
        if bench.time.now > 1_800_000_100:
            cancel.cancel()
        raise REFUSED

    bench.faulty.add(Fault("*", nth=5, times=None, call=outage))
    with pytest.raises(Paused):
        _upload(bench, cancel=cancel)
    assert bench.time.now < 1_800_000_200
    assert len(bench.memory.uploads()) == 1


def test_a_store_s_own_delay_is_kept_to(bench: Bench) -> None:
    """Retry-After of 25 s: no request comes earlier than that after a throttled one."""
    bench.workers = 1
    bench.write(SIZE)
    told = Throttled("SlowDown", RequestContext(status=503, retry_after=25.0))
    out = Outage(bench, 200.0, told, nth=5)
    _upload(bench)
    gaps = [later - earlier for earlier, later in zip(out.asked, out.asked[1:], strict=False)]
    assert min(gaps) >= 25.0


def test_the_breaker_s_refusals_are_waited_for_and_never_seen(bench: Bench) -> None:
    """It opens after five failures of the workers, and the one who asks closes it again."""
    bench.workers = 4
    data = bench.write(32 * PART)
    out = Outage(bench, 100.0, BROKEN, nth=5)
    _upload(bench, retry=RetryPolicy(max_attempts=8), max_retries=None)
    bench.settled(data)
    assert sum(second < 5 for second in out.asked) <= 16
    assert len(_ends(bench)) == 1


def test_without_patience_an_open_breaker_is_an_error(bench: Bench) -> None:
    """CircuitOpen says when to come back; the task's retry continues."""
    bench.workers = 1
    bench.write(SIZE)
    Outage(bench, 10_000.0, BROKEN, nth=5)
    with pytest.raises(CircuitOpen) as caught:
        _upload(bench, outage_patience=0.0, max_retries=9)
    assert caught.value.context.retry_after is not None
    assert "keeps" in str(caught.value)
    assert len(bench.seen(Retrying)) == 5


def test_an_empty_budget_is_said_and_waited_for(bench: Bench) -> None:
    """500 tokens are 100 repetitions of throttled requests; what comes out of the retries then is waited for."""
    bench.workers = 1
    data = bench.write(SIZE)
    Outage(bench, 250.0, BUSY, nth=5)
    _upload(bench, retry=RetryPolicy(max_attempts=101, max_delay=1.0, jitter_factor=0.0), max_retries=None)
    bench.settled(data)
    assert len(bench.seen(Retrying)) == 100
    assert len(_warnings(bench)) == 1


def test_an_empty_budget_without_patience_is_an_error_with_a_note(bench: Bench) -> None:
    """The class is the last error's."""
    bench.write(SIZE)
    Outage(bench, 10_000.0, BROKEN, nth=5)
    with pytest.raises(Unavailable, match="retry budget is used up"):
        _upload(bench, outage_patience=0.0, max_retries=100, retry=RetryPolicy(use_circuit_breaker=False))


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_complete_waits_as_well(bench: Bench, fault: Any) -> None:
    """Also when it was done before the store went away: one version, the right bytes."""
    data = bench.write(SIZE)
    until: list[float] = []

    def strike() -> None:
        until.append(bench.time.now + 200) if not until else None
        if bench.time.now < until[0]:
            raise RESET

    bench.faulty.add(Fault("complete", times=None, when=fault, call=strike))
    later: Callable[[], None] = lambda: strike() if until else None  # noqa: E731
    bench.faulty.add(Fault("head", times=None, call=later), Fault("list_parts", times=None, call=later))
    _upload(bench)
    bench.settled(data)
