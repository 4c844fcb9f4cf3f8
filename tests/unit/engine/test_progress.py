"""Events reach those who read them, and nobody who reads can hurt a transfer. Threads meet at events, never by luck."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine.errors import ConfigError, Unavailable
from orbit_airflow.engine.events import (
    BatchProgress,
    Meter,
    Notice,
    Progress,
    Retrying,
    TransferCompleted,
    TransferEvent,
    TransferFailed,
    TransferStarted,
    no_reporter,
)
from orbit_airflow.engine.progress import (
    DetachedReporter,
    OperationReporter,
    ProgressAggregator,
    ProgressReporter,
    reporting_to,
)
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, FakeTime

LONG = 30.0
STARTED = TransferStarted(key="k", total_bytes=100, operation_id="op1")
COMPLETED = TransferCompleted(key="k", total_bytes=100, duration=1.0, operation_id="op1")
FAILED = TransferFailed(key="k", error="no", operation_id="op1")


def moved(done: int) -> Progress:
    return Progress(total_bytes=100, bytes_done=done, operation_id="op1")


class Gate:
    """A reporter that stops in its first event until the test opens it."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.seen: list[TransferEvent] = []

    def __call__(self, event: TransferEvent, /) -> None:
        self.entered.set()
        assert self.open.wait(LONG)
        self.seen.append(event)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Opened in the end, whatever the test did, so that its thread ends."""
    closed = Gate()
    yield closed
    closed.open.set()


def test_a_channel_keeps_the_order_and_ends_when_it_is_closed() -> None:
    """Everything that was reported before the end is read."""
    reporter, receiver = ProgressReporter.channel()
    with reporter:
        for event in (STARTED, moved(50), COMPLETED):
            reporter(event)
    assert list(receiver) == [STARTED, moved(50), COMPLETED]
    assert receiver.recv() is None


def test_a_reader_may_wait_on_another_thread() -> None:
    """The guide's form: a task of its own reads while the transfer runs."""
    reporter, receiver = ProgressReporter.channel()
    read: list[TransferEvent] = []
    thread = threading.Thread(target=lambda: read.extend(receiver))
    thread.start()
    reporter.report(STARTED)
    reporter.report(COMPLETED)
    reporter.close()
    thread.join(LONG)
    assert read == [STARTED, COMPLETED]


def test_waiting_has_an_end() -> None:
    """No event in time is a TimeoutError, which is not the end of the channel."""
    reporter, receiver = ProgressReporter.channel()
    with pytest.raises(TimeoutError):
        receiver.recv(timeout=0)
    reporter(STARTED)
    assert receiver.recv(timeout=0) == STARTED


def test_a_full_channel_drops_the_oldest_figures() -> None:
    """The newest ones stay, and the reader is told how many are missing."""
    reporter, receiver = ProgressReporter.channel(maxsize=4)
    reporter(STARTED)
    for done in range(10):
        reporter(moved(done))
    reporter(COMPLETED)
    reporter.close()
    assert receiver.dropped == 8
    assert list(receiver) == [STARTED, moved(8), moved(9), COMPLETED]


def test_figures_go_before_words() -> None:
    """A notice is lost only when there is no figure left to lose."""
    reporter, receiver = ProgressReporter.channel(maxsize=2)
    for event in (Notice("one"), moved(1), BatchProgress(completed=1, total=2, succeeded=1, failed=0), Notice("two")):
        reporter(event)
    reporter(Retrying("PutObject", 1, 0.1, "reset"))
    reporter.close()
    assert list(receiver) == [Notice("two"), Retrying("PutObject", 1, 0.1, "reset")]


EVENTS = st.one_of(
    st.sampled_from([STARTED, COMPLETED, FAILED, Notice("n")]), st.integers(0, 100).map(moved), st.just(moved(7))
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 8))
def test_starts_and_ends_are_never_lost(events: list[TransferEvent], maxsize: int) -> None:
    """Whatever comes: in order, bounded but for starts and ends, and none of those is missing."""
    reporter, receiver = ProgressReporter.channel(maxsize)
    for event in events:
        reporter(event)
    reporter.close()
    read = list(receiver)
    kept = (TransferStarted, TransferCompleted, TransferFailed)
    assert [event for event in read if isinstance(event, kept)] == [e for e in events if isinstance(e, kept)]
    assert len(read) + receiver.dropped == len(events)
    assert len(read) <= max(maxsize, sum(isinstance(event, kept) for event in events))
    rest = iter(events)
    assert all(event in rest for event in read)


def test_a_closed_channel_ignores_what_comes() -> None:
    """A worker that is left behind may report after the end."""
    reporter, receiver = ProgressReporter.channel()
    reporter.close()
    reporter(STARTED)
    assert list(receiver) == []


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, True])
def test_a_channel_holds_at_least_one_event(maxsize: int) -> None:
    """Zero would mean unbounded to some readers and nothing to others."""
    with pytest.raises(ConfigError, match="maxsize"):
        ProgressReporter.channel(maxsize)


def test_a_reporter_that_blocks_does_not_hold_the_upload(bench: Bench, gate: Gate) -> None:
    """The upload is over, and its object there, while its reporter still sits in the first event."""
    data = bench.write(6 * PART)
    result = bench.engine().upload(bench.path, bench.ref, reporter=gate)
    assert gate.entered.is_set()
    assert gate.seen == []
    assert bench.stored == data
    assert result.bytes_sent == len(data)


def test_a_reporter_that_blocks_holds_no_worker(gate: Gate) -> None:
    """Eight workers report at once; all of them get through while the reporter is stuck."""
    time, meeting = FakeTime(), threading.Barrier(8)
    operation = OperationReporter(gate)
    meter = Meter(8000, operation, clock=time, every=0.0)
    operation(STARTED)
    assert gate.entered.wait(LONG)

    def work() -> None:
        meeting.wait(LONG)
        for _ in range(1000):
            meter.add_sent(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads)
    assert meter.snapshot().bytes_done == 8000
    assert gate.seen == []


def test_a_slow_reporter_still_sees_start_and_end(gate: Gate) -> None:
    """It misses figures, and nothing else."""
    slow = DetachedReporter(gate, maxsize=3)
    slow(STARTED)
    assert gate.entered.wait(LONG)
    for done in range(50):
        slow(moved(done))
    slow(COMPLETED)
    assert slow.close(timeout=0) is False
    gate.open.set()
    assert slow.close(timeout=LONG) is True
    assert gate.seen == [STARTED, moved(48), moved(49), COMPLETED]


def test_everything_is_told_before_the_upload_returns(bench: Bench) -> None:
    """A quick reporter needs no waiting by its user."""
    bench.write(3 * PART)
    bench.upload()
    assert isinstance(bench.events[0], TransferStarted)
    assert isinstance(bench.events[-1], TransferCompleted)


def test_all_events_of_one_transfer_carry_one_operation_id(bench: Bench) -> None:
    """Those of the retries, too; another call has another id."""
    bench.write(4 * PART)
    bench.faulty.add(Fault("upload_part", nth=2, times=1, error=Unavailable("500")))
    bench.upload()
    first = {event.operation_id for event in bench.events}
    assert bench.seen(Retrying)
    assert len(first) == 1
    assert "" not in first
    bench.events.clear()
    bench.tokens = bench.fresh_tokens()
    bench.upload()
    assert first.isdisjoint(event.operation_id for event in bench.events)


def test_the_end_tells_the_rates(bench: Bench) -> None:
    """One part a second: average and peak are of this try's bytes."""
    bench.workers = 1
    bench.write(4 * PART)
    bench.on("upload_part", lambda: bench.time.sleep(1.0), times=None)
    bench.upload()
    (end,) = bench.seen(TransferCompleted)
    assert end.stats.avg_throughput_mbps() == pytest.approx(PART / 2**20)
    assert end.stats.peak_throughput_mbps() >= end.stats.avg_throughput_mbps()


def test_the_aggregator_tells_everybody(caplog: pytest.LogCaptureFixture, gate: Gate) -> None:
    """One blocks, one raises: the channel and the callable get every event all the same."""
    heard: list[TransferEvent] = []
    reporter, receiver = ProgressReporter.channel()

    def broken(event: TransferEvent) -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.WARNING):
        aggregator = ProgressAggregator([gate, broken, heard.append])
        aggregator.add_reporter(reporter)
        for event in (STARTED, moved(1), COMPLETED):
            aggregator.report(event)
        assert aggregator.close(timeout=0.0) is False
        gate.open.set()
        assert aggregator.close(timeout=LONG) is True
    assert [receiver.recv(timeout=0) for _ in range(3)] == heard == gate.seen == [STARTED, moved(1), COMPLETED]
    assert [record.getMessage() for record in caplog.records] == [
        "the progress reporter raised; the transfer goes on without it"
    ]


def test_an_aggregator_is_a_reporter_and_may_grow(bench: Bench) -> None:
    """Those who come later hear what comes later; the engine takes the aggregator as it is."""
    early, late = list[TransferEvent](), list[TransferEvent]()
    bench.write(100)
    with ProgressAggregator([early.append]) as aggregator:
        aggregator.report(STARTED)
        aggregator.add_reporter(late.append)
        bench.engine().upload(bench.path, bench.ref, reporter=aggregator)
    assert early[0] is STARTED
    assert late == early[1:]
    assert isinstance(late[-1], TransferCompleted)


def test_an_aggregator_leaves_channels_open() -> None:
    """They belong to those who made them."""
    reporter, receiver = ProgressReporter.channel()
    with ProgressAggregator([reporter]):
        pass
    reporter(STARTED)
    assert receiver.recv(timeout=0) == STARTED


def test_two_readers_of_one_upload_do_not_wait_for_each_other(gate: Gate) -> None:
    """What ``on_progress`` does is nothing to the reporter beside it."""
    heard: list[TransferEvent] = []
    done = threading.Event()

    def reporter(event: TransferEvent) -> None:
        heard.append(event)
        if event is COMPLETED:
            done.set()

    with reporting_to(reporter, gate) as told:
        told(STARTED)
        assert gate.entered.wait(LONG)
        told(COMPLETED)
        assert done.wait(LONG)
        gate.open.set()
    assert heard == gate.seen == [STARTED, COMPLETED]


def test_one_reader_needs_no_aggregator() -> None:
    """Whoever is alone is handed through; the engine keeps it apart anyway."""
    heard: list[TransferEvent] = []
    with reporting_to(no_reporter, heard.append) as told:
        told(STARTED)
    with reporting_to(heard.append, None) as told:
        told(COMPLETED)
    assert heard == [STARTED, COMPLETED]


def test_the_reporter_runs_in_its_makers_context() -> None:
    """Log lines of a task find their task."""
    name = contextvars.ContextVar("name", default="nobody")
    name.set("task")
    heard: list[str] = []
    reporter = DetachedReporter(lambda event: heard.append(name.get()))
    reporter(STARTED)
    assert reporter.close(timeout=LONG)
    assert heard == ["task"]


def test_no_thread_left_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A worker at its limit of threads uploads without telling."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reporter = DetachedReporter(no_reporter)
    with caplog.at_level(logging.WARNING):
        reporter(STARTED)
        reporter(COMPLETED)
    assert reporter.close() is True
    assert len(caplog.records) == 1


def test_a_reporter_may_close_itself() -> None:
    """It would wait for itself otherwise."""
    answers: list[bool] = []
    reporter: DetachedReporter = DetachedReporter(lambda event: answers.append(reporter.close(timeout=LONG)))
    reporter(STARTED)
    assert reporter.close(timeout=LONG)
    assert answers == [True]
