"""The watchdog: what it cuts, what it leaves alone, and the life of its thread."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from orbit_airflow.engine.stores.watchdog import Watch, Watchdog, bytes_moved


class _Line:
    """A connection whose kernel counters a test moves."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.sock: socket.socket | None = self.ours
        self.moved: int | None = 0

    def is_shut(self) -> bool:
        self.theirs.settimeout(0.05)
        try:
            return self.theirs.recv(1) == b""
        except TimeoutError:
            return False


class _Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def line() -> Any:
    made = _Line()
    yield made
    made.ours.close()
    made.theirs.close()


def _made(line: _Line, stall: float = 10.0, rate: int = 100) -> tuple[Watchdog, Watch, _Time]:
    clock = _Time()
    dog = Watchdog(stall, rate, clock=clock, moved=lambda sock: line.moved if sock is not None else None)
    dog.wake = lambda: None  # type: ignore[method-assign]  # these tests look by themselves
    return dog, dog.watch(line), clock


def test_a_silent_line_is_cut_after_the_stall_time_and_not_before(line: _Line) -> None:
    dog, watch, clock = _made(line)
    watch.arm()
    for clock.now in (0.0, 5.0, 9.9):
        assert dog.look() == 1
    assert not line.is_shut()
    clock.now = 10.0
    dog.look()
    assert line.is_shut()
    with pytest.raises(TimeoutError, match="0 bytes moved"):
        watch.raise_if_cut()


def test_a_dripping_line_is_cut(line: _Line) -> None:
    """A byte a second is 10 in the window, and 1000 must move."""
    dog, watch, clock = _made(line)
    watch.arm()
    for second in range(11):
        clock.now, line.moved = float(second), second
        dog.look()
    assert watch.cut is not None


def test_a_slow_line_is_left_alone(line: _Line) -> None:
    """Just the minimum rate, for an hour."""
    dog, watch, clock = _made(line)
    watch.arm()
    for second in range(0, 3600, 5):
        clock.now, line.moved = float(second), second * 101
        dog.look()
    assert watch.cut is None


def test_a_line_that_waits_for_nothing_is_left_alone(line: _Line) -> None:
    """Between reads and between blocks the worker may take its time."""
    dog, watch, clock = _made(line)
    watch.disarm(watch.arm())
    for clock.now in (0.0, 100.0, 200.0):
        assert dog.look() == 0
    assert watch.cut is None


def test_each_wait_has_its_own_window_and_limit(line: _Line) -> None:
    """A Complete may be silent for longer; a new wait begins at its own start."""
    dog, watch, clock = _made(line)
    watch.arm()
    dog.look()
    clock.now = 9.0
    watch.arm(limit=300.0)
    dog.look()
    clock.now = 300.0
    dog.look()
    assert watch.cut is None
    clock.now = 309.0
    dog.look()
    assert watch.cut is not None


def test_an_old_wait_does_not_end_a_newer_one(line: _Line) -> None:
    """A connection may serve another thread before the first has finished with it."""
    _, watch, _ = _made(line)
    first = watch.arm()
    watch.arm()
    watch.disarm(first)
    assert watch.armed


def test_what_cannot_be_counted_is_left_to_the_socket(line: _Line) -> None:
    """Not connected, or not TCP."""
    dog, watch, clock = _made(line)
    line.moved = None
    watch.arm()
    for clock.now in (0.0, 100.0):
        dog.look()
    assert watch.cut is None
    assert not watch.sees()
    assert bytes_moved(line.ours) is None
    assert bytes_moved(None) is None


def test_the_kernel_counts_both_directions() -> None:
    """Bytes acknowledged by the other side and bytes received."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        with theirs:
            before = bytes_moved(ours)
            ours.sendall(b"x" * 1000)
            assert len(theirs.recv(2000)) == 1000
            theirs.sendall(b"y" * 77)
            assert len(ours.recv(100)) == 77
            assert before is not None
            assert bytes_moved(ours) == before + 1077


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "orbit-watchdog"]


def _until(condition: Any) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_thread_lives_as_long_as_somebody_waits(line: _Line) -> None:
    """None before the first wait, one for many waits, none soon after the last, and again one for the next."""
    before = len(_threads())
    dog = Watchdog(0.2, 1)
    watch = dog.watch(line)
    assert len(_threads()) == before
    phase = watch.arm()
    watch.arm()
    assert len(_threads()) == before + 1
    watch.disarm(phase + 1)
    _until(lambda: len(_threads()) == before)
    watch.disarm(watch.arm())
    assert len(_threads()) == before + 1
    dog.close()
    assert len(_threads()) == before
    dog.close()
