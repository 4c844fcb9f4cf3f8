"""The circuit breaker, on a clock of our own: a state machine against a plain model, and threads that never queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orbit_airflow.engine.errors import (
    AccessDenied,
    CircuitOpen,
    ConfigError,
    ConnectionLost,
    NotFound,
    Paused,
    RequestContext,
    Throttled,
    Unavailable,
)
from orbit_airflow.engine.resilience.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    State,
    forget_breakers,
    shared_breaker,
)
from tests.unit.engine.bench import FakeTime

ILL = [ConnectionLost("reset"), Unavailable("500"), ConnectionLost("refused", RequestContext(sent=False))]
WELL = [NotFound("404"), AccessDenied("403")]
SILENT = [
    Throttled("slow"),
    Paused("stop"),
    KeyboardInterrupt(),
    ValueError("bug"),
    AccessDenied("no credentials", RequestContext(sent=False)),
]


def _raising(error: BaseException) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


def _state(breaker: CircuitBreaker) -> State:
    """As a call, since mypy takes a property for a constant."""
    return breaker.state


def _fail(breaker: CircuitBreaker, times: int = 1, error: BaseException = ILL[0]) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            breaker.call(_raising(error))


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def breaker(time: FakeTime) -> CircuitBreaker:
    return CircuitBreaker(clock=time)


def test_the_defaults_are_the_guide_s() -> None:
    """5 failures, 60 s, 2 successes."""
    config = CircuitBreaker().config
    assert (config.failure_threshold, config.timeout, config.success_threshold) == (5, 60.0, 2)


def test_it_opens_closes_and_opens(breaker: CircuitBreaker, time: FakeTime) -> None:
    """Five failures open it, after a minute it is half open, two successes close it; one failure opens it again."""
    _fail(breaker, 4)
    assert _state(breaker) is State.CLOSED
    _fail(breaker)
    assert _state(breaker) is State.OPEN
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(lambda: "never asked")
    assert refused.value.context.retry_after == 60.0
    time.now += 60
    assert (breaker.state, breaker.is_open) == (State.HALF_OPEN, False)
    assert breaker.call(lambda: "one") == "one"
    assert _state(breaker) is State.HALF_OPEN
    assert breaker.call(lambda: "two") == "two"
    assert _state(breaker) is State.CLOSED
    _fail(breaker, 5)
    time.now += 60
    _fail(breaker)
    assert breaker.is_open


@pytest.mark.parametrize("error", [*WELL, *SILENT])
def test_what_is_not_the_store_s_fault_never_opens_it(breaker: CircuitBreaker, error: BaseException) -> None:
    """4xx, throttling, stop orders, bugs and missing credentials pass, as often as they come."""
    _fail(breaker, 50, error)
    assert _state(breaker) is State.CLOSED


@pytest.mark.parametrize("error", WELL)
def test_a_4xx_shows_that_the_store_is_well(breaker: CircuitBreaker, error: BaseException) -> None:
    """It ends a row of failures as a success does."""
    _fail(breaker, 4)
    _fail(breaker, 1, error)
    _fail(breaker, 4)
    assert _state(breaker) is State.CLOSED


@pytest.mark.parametrize("error", SILENT)
def test_silence_does_not_end_a_row_of_failures(breaker: CircuitBreaker, error: BaseException) -> None:
    """A stop order between two failures says nothing about the store."""
    _fail(breaker, 4)
    _fail(breaker, 1, error)
    _fail(breaker, 1)
    assert breaker.is_open


@pytest.mark.parametrize("error", SILENT)
def test_a_probe_that_dies_gives_its_place_back(breaker: CircuitBreaker, time: FakeTime, error: BaseException) -> None:
    """Also when it was stopped, interrupted or throttled: the next one may ask at once."""
    _fail(breaker, 5)
    time.now += 60
    _fail(breaker, 1, error)
    assert _state(breaker) is State.HALF_OPEN
    breaker.call(lambda: None)
    breaker.call(lambda: None)
    assert _state(breaker) is State.CLOSED


def test_only_one_probe_at_a_time(breaker: CircuitBreaker, time: FakeTime) -> None:
    """While it is under way everybody else is refused."""
    _fail(breaker, 5)
    time.now += 60

    def probe() -> str:
        with pytest.raises(CircuitOpen):
            breaker.call(lambda: "second probe")
        return "probe"

    assert breaker.call(probe) == "probe"


def test_a_probe_that_never_comes_back_loses_its_place(breaker: CircuitBreaker, time: FakeTime) -> None:
    """After the timeout another one may ask; what the lost one reports later is not counted."""
    _fail(breaker, 5)
    time.now += 60

    def stuck() -> NoReturn:
        time.now += 59
        with pytest.raises(CircuitOpen):
            breaker.call(lambda: "too early")
        time.now += 1
        breaker.call(lambda: None)
        breaker.call(lambda: None)
        assert _state(breaker) is State.CLOSED
        raise ILL[0]

    for _ in range(5):
        with pytest.raises(ConnectionLost):
            breaker.call(stuck)
        assert _state(breaker) is State.CLOSED
        _fail(breaker, 5)
        time.now += 60


def test_a_request_from_before_the_outage_does_not_close_it(breaker: CircuitBreaker, time: FakeTime) -> None:
    """Only probes count once it is open."""

    def slow() -> str:
        _fail(breaker, 5)
        return "answered at last"

    breaker.call(slow)
    assert breaker.is_open


def test_somebody_who_paces_himself_may_ask_an_open_one(breaker: CircuitBreaker, time: FakeTime) -> None:
    """Twice well closes it before its time; ill leaves it as it is; a 404 is a good answer."""
    _fail(breaker, 5)
    with pytest.raises(ConnectionLost):
        breaker.attend(_raising(ILL[0]))
    time.now += 59
    assert breaker.is_open
    asked: list[int] = []

    def missing() -> None:
        asked.append(1)
        raise NotFound("404")

    breaker.attend(missing)
    assert (breaker.state, len(asked)) == (State.CLOSED, 2)
    breaker.attend(missing)
    assert len(asked) == 3


def test_an_ill_answer_to_the_second_question_opens_it_again(breaker: CircuitBreaker) -> None:
    """One good answer is not enough."""
    _fail(breaker, 5)
    answers = iter([None, ILL[1]])

    def call() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    with pytest.raises(Unavailable):
        breaker.attend(call)
    assert breaker.is_open


def test_eight_calls_are_inside_at_once(breaker: CircuitBreaker) -> None:
    """No lock is held around a call: eight threads meet at a barrier in the middle of their calls."""
    barrier = threading.Barrier(8, timeout=10)
    met: list[int] = []
    threads = [threading.Thread(target=lambda: met.append(breaker.call(lambda: barrier.wait()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(met) == list(range(8))


def test_failures_of_many_threads_are_counted_once_each() -> None:
    """Eighty failures of eight threads against a threshold of eighty: the last one opens it."""
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=80))
    threads = [threading.Thread(target=_fail, args=(breaker, 10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.is_open


@pytest.mark.parametrize(
    "wrong", [{"failure_threshold": 0}, {"success_threshold": 0}, {"timeout": 0.0}, {"timeout": -1.0}]
)
def test_a_wrong_breaker_is_refused(wrong: dict[str, float]) -> None:
    """When it is built."""
    with pytest.raises(ConfigError, match="not a circuit breaker"):
        CircuitBreakerConfig(**wrong)  # type: ignore[arg-type]


def test_a_bucket_s_breaker_is_shared_in_the_process() -> None:
    """One per endpoint and bucket; tests may forget them."""
    forget_breakers()
    one = shared_breaker("http://a", "bucket")
    assert shared_breaker("http://a", "bucket") is one
    assert shared_breaker("http://a", "other") is not one
    assert shared_breaker("http://b", "bucket") is not one
    forget_breakers()
    assert shared_breaker("http://a", "bucket") is not one


class BreakerMachine(RuleBasedStateMachine):
    """The breaker beside a model of three counters. Calls overlap: ``begin`` leaves one inside, ``end`` ends it."""

    @initialize(failures=st.integers(1, 4), successes=st.integers(1, 3))
    def build(self, failures: int, successes: int) -> None:
        self.time = FakeTime(0.0)
        self.config = CircuitBreakerConfig(failure_threshold=failures, timeout=10.0, success_threshold=successes)
        self.breaker = CircuitBreaker(self.config, clock=self.time)
        self.state, self.failures, self.successes, self.opened_at = State.CLOSED, 0, 0, 0.0

    def _tick(self) -> None:
        if self.state is State.OPEN and self.time.now - self.opened_at >= 10.0:
            self.state, self.successes = State.HALF_OPEN, 0

    def _model(self, error: BaseException | None) -> None:
        ill, well = error in ILL, error is None or error in WELL
        if self.state is State.HALF_OPEN and ill:
            self.state, self.opened_at, self.failures = State.OPEN, self.time.now, 0
        elif self.state is State.HALF_OPEN and well:
            self.successes += 1
            if self.successes >= self.config.success_threshold:
                self.state, self.failures = State.CLOSED, 0
        elif self.state is State.CLOSED and (ill or well):
            self.failures = self.failures + 1 if ill else 0
            if self.failures >= self.config.failure_threshold:
                self.state, self.opened_at, self.failures = State.OPEN, self.time.now, 0

    @rule(error=st.sampled_from([None, *ILL, *WELL, *SILENT]))
    def request(self, error: BaseException | None) -> None:
        """One request from its beginning to its end; inside of a probe, everybody else is refused."""
        self._tick()
        called: list[State] = []

        def call() -> None:
            called.append(self.breaker.state)
            if self.state is State.HALF_OPEN:
                with pytest.raises(CircuitOpen):
                    self.breaker.call(lambda: None)
            if error is not None:
                raise error

        try:
            self.breaker.call(call)
            outcome: BaseException | None = None
        except BaseException as exc:
            outcome = exc
        if self.state is State.OPEN:
            assert isinstance(outcome, CircuitOpen)
            assert called == []
            left = outcome.context.retry_after
            assert left == pytest.approx(max(0.1, 10.0 - (self.time.now - self.opened_at)))
        else:
            assert outcome is error
            assert called == [self.state]
            self._model(error)

    @rule(error=st.sampled_from([None, *ILL, *WELL]))
    def late_answer(self, error: BaseException | None) -> None:
        """A request that was let in before the breaker opened, and ends behind it, changes nothing any more."""
        self._tick()
        if self.state is not State.CLOSED:
            return

        def slow() -> None:
            for _ in range(self.config.failure_threshold - self.failures):
                self.request(ILL[0])
            if error is not None:
                raise error

        outcome: BaseException | None = None
        try:
            self.breaker.call(slow)
        except BaseException as exc:
            outcome = exc
        assert outcome is error

    @rule(error=st.sampled_from([None, *ILL, *WELL, SILENT[0]]))
    def attended(self, error: BaseException | None) -> None:
        """Asked in any state, until it is closed."""
        self._tick()
        if self.state is State.OPEN and (error is None or error in WELL):
            self.state, self.successes = State.HALF_OPEN, 0
        if error is None or error in WELL:
            self.breaker.attend(_raising(error) if error is not None else lambda: None)
            self.state, self.failures, self.successes = State.CLOSED, 0, 0
            return
        with pytest.raises(type(error)):
            self.breaker.attend(_raising(error))
        if self.state is not State.OPEN:
            self._model(error)

    @precondition(lambda self: hasattr(self, "time"))
    @rule(seconds=st.sampled_from([0.5, 3.0, 9.9, 10.0, 25.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.time.now += seconds

    @invariant()
    def same(self) -> None:
        """The breaker's state is the model's."""
        if hasattr(self, "time"):
            self._tick()
            assert self.breaker.state is self.state
            assert self.breaker.is_open is (self.state is State.OPEN)


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
