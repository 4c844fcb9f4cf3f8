"""Workers: the first error wins, a stop order ends all, and nobody is forgotten."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator

import pytest

from orbit_airflow.engine.errors import Paused
from orbit_airflow.engine.runner import Cancellation, run_all
from tests.unit.engine.bench import Killed


def test_all_work_is_done_once() -> None:
    """Every item, whichever worker takes it."""
    results = run_all(range(500), lambda _, item: item * 2, workers=7, cancel=Cancellation())
    assert sorted(results) == [item * 2 for item in range(500)]


def test_no_work_is_no_result() -> None:
    """An empty stream ends at once."""
    assert run_all([], lambda _, item: item, workers=3, cancel=Cancellation()) == []


def test_work_is_taken_as_it_is_needed() -> None:
    """The stream is read one item per free worker: a plan of 10,000 parts is not spread out in memory."""
    taken: list[int] = []
    seen_at_first: list[int] = []

    def stream() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    def do(_: int, item: int) -> None:
        if item == 0:
            seen_at_first.append(len(taken))

    run_all(stream(), do, workers=1, cancel=Cancellation())
    assert seen_at_first == [1]


def test_the_first_error_wins() -> None:
    """It comes out as it is, and no new work begins."""
    error, done = ValueError("first"), []

    def do(_: int, item: int) -> None:
        if item == 3:
            raise error
        done.append(item)

    with pytest.raises(ValueError, match="first") as caught:
        run_all(range(1000), do, workers=1, cancel=Cancellation())
    assert caught.value is error
    assert done == [0, 1, 2]


def test_an_error_of_the_stream_is_an_error_of_the_run() -> None:
    """The stream may ask a store for its pages."""

    def stream() -> Iterator[int]:
        yield 1
        raise ValueError("page")

    with pytest.raises(ValueError, match="page"):
        run_all(stream(), lambda _, item: item, workers=2, cancel=Cancellation())


def test_the_process_s_end_is_passed_on() -> None:
    """A BaseException of a worker reaches the main thread."""

    def do(_: int, item: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        run_all([1, 2, 3], do, workers=2, cancel=Cancellation())


def test_the_first_error_halts_the_others() -> None:
    """Work in progress that looks at the halt ends early, and its Paused does not hide the error."""
    halt, started = Cancellation(), threading.Event()

    def do(_: int, item: int) -> None:
        if item == 0:
            started.wait(5)
            raise ValueError("first")
        started.set()
        while True:
            halt.sleep(0.01)

    with pytest.raises(ValueError, match="first"):
        run_all([0, 1], do, workers=2, cancel=Cancellation(), halt=halt)
    assert halt.cancelled


def test_a_stop_order_ends_the_run() -> None:
    """With Paused and its reason; the rest of the work is not begun."""
    cancel, done = Cancellation(), []

    def do(_: int, item: int) -> None:
        done.append(item)
        if item == 5:
            cancel.cancel("told so")

    with pytest.raises(Paused, match="told so"):
        run_all(range(1000), do, workers=1, cancel=cancel)
    assert done == [0, 1, 2, 3, 4, 5]


def test_an_error_behind_a_stop_order_is_still_told() -> None:
    """Only Paused gives way to the stop order's own."""
    cancel = Cancellation()

    def do(_: int, item: int) -> None:
        cancel.cancel()
        raise ValueError("real")

    with pytest.raises(ValueError, match="real"):
        run_all([1], do, workers=1, cancel=cancel)


def test_a_worker_that_hangs_is_left_behind() -> None:
    """After a stop order the main thread waits half a second, and says that somebody was left."""
    cancel, release = Cancellation(), threading.Event()

    def do(_: int, item: int) -> None:
        cancel.cancel()
        release.wait(30)

    with pytest.raises(Paused):
        run_all([1], do, workers=1, cancel=cancel)
    assert cancel.left_behind
    release.set()


def test_nobody_is_left_behind_otherwise() -> None:
    """Neither on success nor on an error."""
    cancel = Cancellation()
    run_all(range(20), lambda _, item: item, workers=4, cancel=cancel)
    assert not cancel.left_behind


def test_workers_know_the_caller_s_context() -> None:
    """Their log lines belong to the task."""
    name = contextvars.ContextVar("name", default="nobody")
    name.set("task")
    assert run_all([1, 2], lambda _, item: name.get(), workers=2, cancel=Cancellation()) == ["task", "task"]


def test_workers_are_daemons_by_name() -> None:
    """They die with the process, and a stack dump tells whose they are."""
    seen = run_all(
        [1], lambda _, item: (threading.current_thread().daemon, threading.current_thread().name),
        workers=1, cancel=Cancellation(), name="orbit-x",
    )  # fmt: skip
    assert seen == [(True, "orbit-x-0")]


def test_the_first_order_counts() -> None:
    """A second stop order changes neither reason nor kind."""
    cancel = Cancellation()
    cancel.cancel("first", orphaned=True)
    cancel.cancel("second")
    assert cancel.orphaned
    with pytest.raises(Paused, match="first"):
        cancel.check()


def test_a_wait_ends_with_the_order() -> None:
    """An hour's wait is over when the order comes."""
    cancel = Cancellation()
    threading.Timer(0.01, cancel.cancel).start()
    with pytest.raises(Paused):
        cancel.sleep(3600)


def test_without_an_order_a_wait_is_a_wait() -> None:
    """And checking does nothing."""
    cancel = Cancellation()
    cancel.sleep(0.001)
    cancel.check()
    assert not cancel.cancelled
