"""The checkpoint thread's rules, one round at a time, with a fake clock."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from orbit_airflow.durable.checkpoint import Checkpoint, why_orphaned
from orbit_airflow.durable.tokens import TaskStateTokenStore
from orbit_airflow.engine.runner import Cancellation
from tests.airflow.fakes import FakeClock, RecordingLog


class Bench:
    """A checkpoint whose rounds are made by hand."""

    def __init__(self) -> None:
        self.clock, self.log, self.cancel = FakeClock(), RecordingLog(), Cancellation()
        self.ppid = 42
        self.checkpoint = Checkpoint(
            self.cancel, self.log, every=5.0, retry_after=2.0, clock=self.clock, parent=lambda: self.ppid
        )
        self.written: list[Any] = []
        self.broken: BaseException | None = None

    def write(self, value: Any) -> Any:
        def call() -> None:
            if self.broken is not None:
                raise self.broken
            self.written.append(value)

        return call

    def round(self, seconds: float = 0.0, *, last: bool = False) -> list[Any]:
        self.clock.advance(seconds)
        before = len(self.written)
        self.checkpoint.step(last=last)
        return self.written[before:]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def api_error(status: int | None, message: str) -> AirflowRuntimeError:
    detail = {"status_code": status, "message": message, "detail": {"reason": "not_found", "message": message}}
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


def test_snapshots_coalesce_to_the_newest_and_wait_for_their_time(bench: Bench) -> None:
    """A snapshot goes out at once when none did before, and then at most every five seconds, the newest only."""
    bench.checkpoint.show("p", bench.write(1))
    assert bench.round() == [1]
    for value in (2, 3, 4):
        bench.checkpoint.show("p", bench.write(value))
    assert bench.round(4.9) == []
    assert bench.round(0.2) == [4]
    assert bench.round(60) == []


def test_milestones_are_written_at_once_in_order_and_before_snapshots(bench: Bench) -> None:
    bench.checkpoint.show("p", bench.write("snapshot"))
    bench.checkpoint.keep("a", bench.write("first"))
    bench.checkpoint.keep("b", bench.write("second"))
    assert bench.round() == ["first", "second", "snapshot"]


def test_a_milestone_snapshot_does_not_wait(bench: Bench) -> None:
    bench.checkpoint.show("p", bench.write(1))
    bench.round()
    bench.checkpoint.show("p", bench.write("end"), at_once=True)
    assert bench.round(0.1) == ["end"]


def test_a_failed_write_stays_and_is_tried_again_until_something_newer_comes(bench: Bench) -> None:
    """It is logged once per kind, whatever the number of failures."""
    bench.broken = api_error(503, "no database")
    assert bench.checkpoint.keep("t", bench.write("old")) is False
    for _ in range(5):
        assert bench.round(2.1) == []
    assert len(bench.log.texts("warning")) == 1
    bench.checkpoint.keep("t", bench.write("new"))
    bench.broken = None
    assert bench.round() == ["new"]
    assert bench.round(10) == []
    assert not bench.cancel.cancelled


def test_a_failed_write_is_not_repeated_before_its_time(bench: Bench) -> None:
    bench.broken = OSError("disk")
    bench.checkpoint.keep("t", bench.write(1))
    bench.round()
    bench.broken = None
    assert bench.round(1.9) == []
    assert bench.round(0.2) == [1]


def test_keep_says_true_only_when_the_value_is_written(bench: Bench) -> None:
    bench.checkpoint.start()
    try:
        assert bench.checkpoint.keep("t", bench.write(1), wait=5.0) is True
        assert bench.written == [1]
    finally:
        bench.checkpoint.close()


@pytest.mark.parametrize("error", [BrokenPipeError(), EOFError(), ConnectionResetError()])
def test_a_broken_channel_means_orphaned(bench: Bench, error: BaseException) -> None:
    bench.broken = error
    bench.checkpoint.keep("t", bench.write(1))
    bench.round()
    assert bench.cancel.cancelled
    assert bench.cancel.orphaned
    bench.broken = None
    assert bench.round(100, last=True) == []


def test_a_new_parent_means_orphaned(bench: Bench) -> None:
    """SIGKILL of the supervisor alone: nobody says so, but the process is adopted."""
    bench.round()
    assert not bench.cancel.cancelled
    bench.ppid = 1
    bench.round()
    assert bench.cancel.orphaned
    assert "adopted" in bench.log.texts("warning")[0]


@pytest.mark.parametrize(
    ("error", "orphaned"),
    [
        (api_error(404, "Task instance 0199 not found"), True),
        (api_error(409, "conflict"), True),
        (api_error(410, "gone"), True),
        (api_error(404, "Not Found"), False),
        (api_error(500, "Internal Server Error"), False),
        (api_error(None, "connection refused"), False),
        (TimeoutError(), False),
        (ValueError("None"), False),
    ],
)
def test_only_the_servers_own_word_about_the_task_instance_counts(error: BaseException, orphaned: bool) -> None:
    """A route that an older server lacks answers 404, too, and must not stop a transfer."""
    assert (why_orphaned(error) is not None) is orphaned


def test_the_last_round_writes_everything_whatever_its_time(bench: Bench) -> None:
    bench.checkpoint.show("p", bench.write(1))
    bench.round()
    bench.checkpoint.show("p", bench.write(2))
    assert bench.round(last=True) == [2]


def test_close_is_bounded_while_the_supervisor_hangs() -> None:
    """A thread that waits for an answer is left behind after the time that was given."""
    released, entered = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        released.wait(30)

    checkpoint = Checkpoint(Cancellation(), RecordingLog())
    checkpoint.start()
    checkpoint.keep("t", hang)
    assert entered.wait(5)
    assert checkpoint.close(leave=0.2) is False
    released.set()


def test_ask_gives_up_when_told_to_stop_and_otherwise_tries_again(bench: Bench) -> None:
    answers = iter([OSError("first"), {"a": 1}])

    def read() -> object:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    checkpoint = Checkpoint(bench.cancel, bench.log, retry_after=0.01)
    checkpoint.start()
    try:
        assert checkpoint.ask(read, wait=10) == (True, {"a": 1})
        bench.cancel.cancel()
        started = time.monotonic()
        checkpoint.ask(lambda: 1, wait=10)
        assert time.monotonic() - started < 1
    finally:
        checkpoint.close()


class DictStore:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


def test_tokens_are_saved_loaded_and_dropped(bench: Bench) -> None:
    store = DictStore()
    checkpoint = Checkpoint(bench.cancel, bench.log)
    tokens = TaskStateTokenStore(store, checkpoint)
    checkpoint.start()
    try:
        assert tokens.load("orbit:x") is None
        assert tokens.save("orbit:x", {"phase": "intent", "n": 2**40}) is True
        assert tokens.load("orbit:x") == {"phase": "intent", "n": 2**40}
        tokens.drop("orbit:x")
        assert store.values == {}
    finally:
        assert checkpoint.close() is True


def test_a_token_that_is_not_kept_in_time_is_kept_later(bench: Bench) -> None:
    """save() gives up waiting, the checkpoint does not give up trying."""
    store = DictStore()
    tokens = TaskStateTokenStore(store, bench.checkpoint, save_wait=0.0)
    assert tokens.save("k", {"a": 1}) is False
    bench.round()
    assert store.values == {"k": {"a": 1}}


def test_a_drop_overtakes_a_save_that_still_waits(bench: Bench) -> None:
    store = DictStore()
    tokens = TaskStateTokenStore(store, bench.checkpoint, save_wait=0.0)
    tokens.save("k", {"a": 1})
    tokens.drop("k")
    bench.round()
    assert store.values == {}


def test_a_state_store_that_hangs_is_complained_about_once() -> None:
    log, released = RecordingLog(), threading.Event()
    checkpoint = Checkpoint(Cancellation(), log)
    checkpoint.start()
    for _ in range(3):
        assert checkpoint.keep("orbit:x", lambda: released.wait(30), wait=0.1) is False
    released.set()
    assert checkpoint.close() is True
    assert len(log.texts("warning")) == 1
    assert "orbit:x is not saved" in log.texts("warning")[0]
