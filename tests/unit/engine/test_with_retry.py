"""``with_retry`` for any callable, the policy's fields, the budget, and what the retrying store tells."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from orbit_airflow.engine import BackoffStrategy, CircuitBreaker, RetryPolicy, with_retry
from orbit_airflow.engine.errors import (
    AccessDenied,
    CircuitOpen,
    ClockSkewed,
    ConfigError,
    ConnectionLost,
    CredentialsExpired,
    NotFound,
    Paused,
    RequestContext,
    RestartsExhausted,
    Throttled,
    Unavailable,
)
from orbit_airflow.engine.events import Retrying, TransferEvent
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.resilience.breaker import CircuitBreakerConfig
from orbit_airflow.engine.resilience.budget import CAPACITY, RetryBudget
from orbit_airflow.engine.resilience.outcome import outage, repeatable, surely_undone
from orbit_airflow.engine.stores.retrying import RetryingStore
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.bench import FakeTime

LOST = ConnectionLost("reset")
REF = ObjectRef("bucket", "key")


class Flaky:
    """Fails so many times, then returns."""

    def __init__(self, times: int, error: BaseException = LOST) -> None:
        self.calls = 0
        self._times = times
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return "done"


def _never(_: float) -> NoReturn:
    raise AssertionError("no wait is due")


def test_the_presets_have_the_guide_s_fields() -> None:
    """The breaker comes with ``network`` alone: 5 failures, 60 s; every backoff is exponential by 2.0."""
    used = {name: RetryPolicy.named(name).use_circuit_breaker for name in ("fast", "slow", "network")}
    assert used == {"fast": False, "slow": False, "network": True}
    assert RetryPolicy.network().breaker_config == CircuitBreakerConfig(failure_threshold=5, timeout=60.0)
    assert RetryPolicy.fast().breaker_config is None
    assert {RetryPolicy.named(name).backoff for name in used} == {BackoffStrategy.exponential(2.0)}


def test_the_guide_s_own_policy_can_be_said() -> None:
    """All of its fields, by its names."""
    policy = RetryPolicy(
        max_attempts=5,
        initial_delay=0.1,
        max_delay=30.0,
        backoff=BackoffStrategy.exponential(3.0),
        jitter_factor=0.0,
        use_circuit_breaker=True,
        circuit_breaker_threshold=7,
        circuit_breaker_timeout=20.0,
    )
    delays = [policy.delay(attempt, LOST, random.Random(1)) for attempt in range(1, 8)]
    assert delays == pytest.approx([0.1, 0.3, 0.9, 2.7, 8.1, 24.3, 30.0])
    assert policy.breaker_config == CircuitBreakerConfig(failure_threshold=7, timeout=20.0)
    assert policy.multiplier == 3.0


@pytest.mark.parametrize("multiplier", [0.9, -1.0, float("nan")])
def test_a_backoff_never_shrinks(multiplier: float) -> None:
    """Nor is it no number."""
    with pytest.raises(ConfigError, match="not a backoff"):
        BackoffStrategy.exponential(multiplier)


def test_a_call_is_repeated_until_it_returns() -> None:
    """With the policy's delays, on the given sleep."""
    slept: list[float] = []
    call = Flaky(2)
    policy = RetryPolicy(max_attempts=3, jitter_factor=0.0)
    assert with_retry(policy, call, sleep=slept.append) == "done"
    assert slept == [0.1, 0.2]


def test_the_last_error_comes_out_as_it_is() -> None:
    """When the attempts are spent: the very object."""
    call = Flaky(99)
    with pytest.raises(ConnectionLost) as caught:
        with_retry(RetryPolicy.fast(), call, sleep=lambda _: None)
    assert caught.value is LOST
    assert call.calls == 3


@pytest.mark.parametrize(
    "error",
    [NotFound("x"), AccessDenied("x"), Paused("x"), CircuitOpen.after(1.0), ValueError("x"), KeyboardInterrupt()],
)
def test_what_cannot_pass_by_itself_is_not_repeated(error: BaseException) -> None:
    """4xx, stop orders, open breakers and everything that is not the engine's."""
    call = Flaky(1, error)
    with pytest.raises(type(error)):
        with_retry(RetryPolicy.network(), call, sleep=_never)
    assert call.calls == 1


@pytest.mark.parametrize("error", [Throttled("x"), Unavailable("x"), CredentialsExpired("x"), RestartsExhausted("x")])
def test_what_may_pass_is_repeated(error: BaseException) -> None:
    """All errors whose disposition is RETRY."""
    assert with_retry(RetryPolicy.fast(), Flaky(2, error), sleep=lambda _: None) == "done"


def test_a_caller_may_say_what_is_worth_repeating() -> None:
    """Any exception, then."""
    call = Flaky(2, TimeoutError("slow"))
    retryable: Callable[[BaseException], bool] = lambda error: isinstance(error, TimeoutError)  # noqa: E731
    assert with_retry(RetryPolicy.fast(), call, sleep=lambda _: None, retryable=retryable) == "done"


def test_a_store_s_delay_is_honoured() -> None:
    """Retry-After is a lower bound here, too."""
    slept: list[float] = []
    with_retry(RetryPolicy.fast(), Flaky(1, Throttled("x", RequestContext(retry_after=9.0))), sleep=slept.append)
    assert slept == [9.0]


def test_a_shared_breaker_ends_the_repetition_of_all_who_share_it() -> None:
    """The fifth failure opens it; from then on nobody calls."""
    time = FakeTime()
    breaker = CircuitBreaker(clock=time)
    one, other = Flaky(99), Flaky(99)
    policy = RetryPolicy(max_attempts=4)
    with pytest.raises(ConnectionLost):
        with_retry(policy, one, breaker=breaker, sleep=time.sleep)
    with pytest.raises(CircuitOpen):
        with_retry(policy, other, breaker=breaker, sleep=time.sleep)
    assert (one.calls, other.calls) == (4, 1)
    assert breaker.is_open
    time.now += 60
    assert with_retry(policy, Flaky(0), breaker=breaker, sleep=time.sleep) == "done"


def test_a_budget_is_taken_and_given_back() -> None:
    """14 per repetition, 5 of a throttled request; never below nothing, never above its size."""
    budget = RetryBudget(30)
    assert [budget.take(LOST), budget.take(Throttled("x")), budget.take(LOST)] == [14, 5, 0]
    assert budget.left == 11
    budget.give(14)
    budget.give(1000)
    assert budget.left == 30


def test_threads_never_overdraw_a_budget() -> None:
    """Eight threads take what there is, and no more."""
    budget, taken = RetryBudget(CAPACITY), [0] * 8

    def work(index: int) -> None:
        for _ in range(100):
            taken[index] += budget.take(LOST)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == CAPACITY - budget.left == 35 * 14


class Retrier:
    """A retrying store over a faulty one in memory."""

    def __init__(self, policy: RetryPolicy | None = None, capacity: int = CAPACITY) -> None:
        self.faulty = FaultyStore(MemoryStore())
        self.budget = RetryBudget(capacity)
        self.breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=3))
        self.events: list[TransferEvent] = []
        self.asked: list[str] = []
        self.store = RetryingStore(
            self.faulty,
            policy or RetryPolicy(max_attempts=3),
            sleep=lambda _: None,
            rng=random.Random(1),
            reporter=self.events.append,
            budget=self.budget,
            breaker_for=self._breaker_for,
        )

    def _breaker_for(self, bucket: str) -> CircuitBreaker:
        self.asked.append(bucket)
        return self.breaker


def test_a_repetition_that_succeeds_costs_nothing() -> None:
    """Single failures never empty the budget."""
    retrier = Retrier()
    for _ in range(100):
        retrier.faulty.add(Fault("list_uploads"))
        retrier.store.list_uploads(REF)
    assert retrier.budget.left == CAPACITY


def test_repetitions_that_fail_empty_the_budget() -> None:
    """Two repetitions each; with 30 tokens the second request has none, and says so."""
    retrier = Retrier(RetryPolicy(max_attempts=3), capacity=30)
    retrier.breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=99))
    retrier.faulty.add(Fault("list_uploads", times=None))
    with pytest.raises(ConnectionLost, match=r"Given up after 3 attempts\."):
        retrier.store.list_uploads(REF)
    with pytest.raises(ConnectionLost, match="Not sent again after 1 attempt: the engine's retry budget is used up"):
        retrier.store.list_uploads(REF)
    assert len(retrier.faulty.fired) == 4


def test_an_error_that_is_not_repeated_has_no_note() -> None:
    """One attempt is what everybody expects."""
    with pytest.raises(NotFound) as caught:
        Retrier().store.head(REF)
    assert caught.value.context.notes == ()


def test_every_attempt_goes_through_the_bucket_s_breaker() -> None:
    """Which opens in the middle of one request's attempts and ends them."""
    retrier = Retrier(RetryPolicy(max_attempts=9))
    retrier.faulty.add(Fault("list_uploads", times=None))
    with pytest.raises(CircuitOpen):
        retrier.store.list_uploads(REF)
    assert len(retrier.faulty.fired) == 3
    assert retrier.asked == ["bucket"]
    with pytest.raises(CircuitOpen):
        retrier.store.create(REF, ObjectAttributes(), checksums=False)
    assert len(retrier.faulty.fired) == 3


def test_each_repetition_is_announced_with_its_reason() -> None:
    """Operation, attempt, delay and what went wrong."""
    retrier = Retrier()
    retrier.faulty.add(Fault("list_uploads", error=Throttled("slow down")))
    retrier.store.list_uploads(REF)
    (event,) = retrier.events
    assert isinstance(event, Retrying)
    assert (event.operation, event.attempt, event.reason) == ("ListMultipartUploads", 1, "slow down")
    assert event.delay >= 0.9


@pytest.mark.parametrize(
    ("error", "repeat", "undone", "waits", "waits_if_idempotent"),
    [
        (CircuitOpen.after(5.0), False, True, True, True),
        (ClockSkewed("x"), True, True, False, False),
        (CredentialsExpired("x"), True, True, False, False),
        (Throttled("x"), True, True, True, True),
        (LOST, True, False, False, True),
        (ConnectionLost("x", RequestContext(sent=False)), True, True, True, True),
        (Unavailable("x", RequestContext(status=500)), True, False, False, True),
        (AccessDenied("x"), False, False, False, False),
        (ValueError("x"), False, False, False, False),
    ],
)
def test_what_an_error_asks_for(
    error: BaseException, repeat: bool, undone: bool, waits: bool, waits_if_idempotent: bool
) -> None:
    """To be repeated, to be waited for, and whether it was surely not done."""
    assert (repeatable(error), surely_undone(error)) == (repeat, undone)
    assert outage(error, idempotent=False) is waits
    assert outage(error, idempotent=True) is waits_if_idempotent
