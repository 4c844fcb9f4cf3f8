"""When a request is repeated, after how long, and how many bytes may leave: with clocks and dice of our own."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from orbit_airflow.engine.errors import (
    ChecksumRefused,
    ConfigError,
    ConnectionLost,
    InvalidRequest,
    NotFound,
    Paused,
    RequestContext,
    Throttled,
    Unavailable,
    UploadGone,
    WriteConflict,
)
from orbit_airflow.engine.resilience.limits import BandwidthLimiter, Permits
from orbit_airflow.engine.resilience.outcome import outcome_unknown, repeatable, surely_undone
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.runner import Cancellation
from tests.unit.engine.bench import FakeTime

STEADY = RetryPolicy(max_attempts=5, initial_delay=0.1, max_delay=5.0, jitter_factor=0.0)
LOST = ConnectionLost("x")


class _Dice(random.Random):
    """Always the same number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


def test_the_presets_are_the_guide_s() -> None:
    """Fast 3/0.05/1, slow 5/0.2/10, network 5/0.1/5."""
    presets = [RetryPolicy.named(name) for name in ("fast", "slow", "network")]
    figures = [(preset.max_attempts, preset.initial_delay, preset.max_delay) for preset in presets]
    assert figures == [(3, 0.05, 1.0), (5, 0.2, 10.0), (5, 0.1, 5.0)]
    assert {(preset.multiplier, preset.jitter_factor) for preset in presets} == {(2.0, 0.1)}


def test_the_default_is_network() -> None:
    """What a policy is without a word."""
    assert RetryPolicy() == RetryPolicy.network()


def test_delays_double_up_to_the_limit() -> None:
    """Exactly, without jitter; also for absurd attempt numbers."""
    delays = [STEADY.delay(attempt, LOST, random.Random(1)) for attempt in (1, 2, 3, 4, 5, 6, 7, 8, 10**6)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_seeded_dice_give_the_same_delays() -> None:
    """Base * (1 + 0.1 * (2r - 1)) with the r of the given dice."""
    twin = random.Random(42)
    expected = [min(0.1 * 2**n, 5.0) * (1 + 0.1 * (2 * twin.random() - 1)) for n in range(6)]
    dice = random.Random(42)
    assert [RetryPolicy.network().delay(n, LOST, dice) for n in range(1, 7)] == pytest.approx(expected)


@pytest.mark.parametrize(("dice", "delay"), [(0.0, 0.09), (0.5, 0.1), (0.9999999, 0.11)])
def test_jitter_is_ten_percent_either_way(dice: float, delay: float) -> None:
    """No more, no less."""
    assert RetryPolicy.network().delay(1, LOST, _Dice(dice)) == pytest.approx(delay)


def test_a_throttled_request_waits_a_second() -> None:
    """Unless the policy's longest delay is shorter."""
    short = RetryPolicy(max_delay=0.3, jitter_factor=0)
    assert STEADY.delay(1, Throttled("x"), random.Random(1)) == 1.0
    assert short.delay(1, Throttled("x"), random.Random(1)) == 0.3


def test_retry_after_is_a_lower_bound() -> None:
    """The store's own delay wins when it is longer, also over the policy's longest one."""
    patient = Throttled("x", RequestContext(retry_after=12.0))
    hasty = Throttled("x", RequestContext(retry_after=0.01))
    assert STEADY.delay(1, patient, random.Random(1)) == 12.0
    assert STEADY.delay(1, hasty, random.Random(1)) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial_delay": -1},
        {"initial_delay": 2.0, "max_delay": 1.0},
        {"backoff": 2.0},
        {"max_attempts": float("nan")},
        {"circuit_breaker_threshold": 0},
        {"circuit_breaker_timeout": 0.0},
        {"jitter_factor": 1.5},
        {"jitter_factor": -0.1},
    ],
)
def test_a_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    """When it is built."""
    with pytest.raises(ConfigError, match="not a retry policy"):
        RetryPolicy(**wrong)


def test_an_unknown_preset_is_refused() -> None:
    """With the names that there are."""
    with pytest.raises(ConfigError, match="fast, slow, network"):
        RetryPolicy.named("eager")


def _run(failures: int, error: BaseException, policy: RetryPolicy = STEADY) -> tuple[str, list[float], list[Any]]:
    slept: list[float] = []
    told: list[Any] = []
    calls = [0]

    def call() -> str:
        calls[0] += 1
        if calls[0] <= failures:
            raise error
        return "done"

    result = policy.run(
        call,
        retryable=repeatable,
        sleep=slept.append,
        rng=random.Random(1),
        on_retry=lambda attempt, delay, exc: told.append((attempt, delay, exc)),
    )
    return result, slept, told


def test_the_loop_sleeps_what_it_says() -> None:
    """Each wait is announced with attempt, delay and reason, and done by the given sleep."""
    result, slept, told = _run(3, LOST)
    assert result == "done"
    assert slept == [0.1, 0.2, 0.4]
    assert told == [(1, 0.1, LOST), (2, 0.2, LOST), (3, 0.4, LOST)]


def test_the_last_error_is_raised_as_it_is() -> None:
    """Behind five attempts and four waits."""
    with pytest.raises(ConnectionLost) as caught:
        _run(5, LOST)
    assert caught.value is LOST


def test_what_cannot_pass_is_not_repeated() -> None:
    """One attempt, no wait."""
    refused = InvalidRequest("x")
    with pytest.raises(InvalidRequest):
        _run(1, refused)


def test_a_stop_in_the_wait_ends_the_loop() -> None:
    """What the sleep raises comes out."""

    def stopped(_: float) -> None:
        raise KeyboardInterrupt

    def fail() -> None:
        raise LOST

    with pytest.raises(KeyboardInterrupt):
        STEADY.run(fail, retryable=repeatable, sleep=stopped, rng=random.Random(1))


_UNSENT = ConnectionLost("x", RequestContext(sent=False))
_BARE_503 = Unavailable("x", RequestContext(status=503, code="503"))
_OWN_503 = Unavailable("x", RequestContext(status=503, code="ServiceUnavailable"))
_SLOW_DOWN = Throttled("x", RequestContext(status=503, code="SlowDown"))
_500 = Unavailable("x", RequestContext(status=500))


@pytest.mark.parametrize(
    ("error", "repeat", "undone", "unknown"),
    [
        (LOST, True, False, True),
        (_UNSENT, True, True, False),
        (_500, True, False, True),
        (_BARE_503, True, False, True),
        (_OWN_503, True, True, False),
        (_SLOW_DOWN, True, True, False),
        (Throttled("x"), True, True, False),
        (WriteConflict("x"), True, True, False),
        (ChecksumRefused("x"), False, False, False),
        (UploadGone("x"), False, False, False),
        (NotFound("x"), False, False, False),
        (InvalidRequest("x"), False, False, False),
        (ValueError("x"), False, False, False),
    ],
)
def test_what_an_error_says_about_the_effect(error: BaseException, repeat: bool, undone: bool, unknown: bool) -> None:
    """May be repeated as it is, was surely not done, may have been done."""
    assert (repeatable(error), surely_undone(error), outcome_unknown(error)) == (repeat, undone, unknown)


def test_bandwidth_is_a_rate() -> None:
    """A hundred takes of 100 bytes at 1,000 per second need ten seconds, less the tenth in the bucket."""
    time = FakeTime()
    limiter = BandwidthLimiter(1000, clock=time, sleep=time.sleep)
    start = time.now
    for _ in range(100):
        limiter.take(100)
    assert time.now - start == pytest.approx(9.9, abs=0.11)


def test_a_pause_is_not_made_up_for() -> None:
    """Behind an hour of silence there is one tenth of a second's worth, not an hour's."""
    time = FakeTime()
    limiter = BandwidthLimiter(1000, clock=time, sleep=time.sleep)
    time.now += 3600
    start = time.now
    for _ in range(20):
        limiter.take(100)
    assert time.now - start >= 1.7


def test_threads_share_the_rate() -> None:
    """Waits of several threads add up: nobody is let through twice."""
    waits: list[float] = []
    limiter = BandwidthLimiter(1000, clock=lambda: 0.0, sleep=waits.append)
    threads = [threading.Thread(target=limiter.take, args=(100,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(waits) == pytest.approx(0.7)


@pytest.mark.parametrize("rate", [0, -5])
def test_no_rate_is_refused(rate: int) -> None:
    """Zero would be for ever."""
    with pytest.raises(ValueError, match="positive"):
        BandwidthLimiter(rate)


def _go_on() -> None:
    """No stop order."""


def test_permits_come_back_on_every_way_out() -> None:
    """Also with an exception."""
    permits = Permits(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), permits.one(_go_on):
            raise ValueError("x")
    with permits.one(_go_on):
        pass


def test_no_more_than_the_permits_at_once() -> None:
    """Eight threads, two permits: never three inside."""
    permits, lock, inside, most = Permits(2), threading.Lock(), [0], [0]
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        for _ in range(50):
            with permits.one(_go_on):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 2


def test_a_stop_order_ends_the_wait_for_a_permit() -> None:
    """The one who holds it may take minutes."""
    permits, waits = Permits(1), [0]

    def check() -> None:
        waits[0] += 1
        if waits[0] == 2:
            raise Paused("stop")

    with permits.one(_go_on), pytest.raises(Paused), permits.one(check):
        raise AssertionError("there is only one permit")
    with permits.one(_go_on):
        pass


def test_a_stop_order_ends_the_wait_for_bandwidth() -> None:
    """The transfer's own sleep is used, and what it raises comes out."""
    limiter, cancel = BandwidthLimiter(1000), Cancellation()
    limiter.take(100_000, lambda _: None)
    cancel.cancel("stop")
    with pytest.raises(Paused):
        limiter.take(100, cancel.sleep)
