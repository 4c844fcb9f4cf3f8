"""Figures that stay honest, and reporters that can do no harm."""

from __future__ import annotations

import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine.events import (
    BatchProgress,
    GuardedReporter,
    Meter,
    Notice,
    Progress,
    ThroughputTracker,
    TransferEvent,
    TransferStats,
    no_reporter,
)
from orbit_airflow.engine.model import MIB
from tests.unit.engine.bench import FakeTime


def _meter(total: int = 100, every: float = 0.5) -> tuple[Meter, list[TransferEvent], FakeTime]:
    time, events = FakeTime(), list[TransferEvent]()
    return Meter(total, events.append, clock=time, every=every), events, time


def test_found_and_sent_make_done() -> None:
    """What an earlier try left counts, and so does what leaves now."""
    meter, _, _ = _meter()
    meter.add_found(40)
    meter.add_sent(10)
    meter.part_done()
    seen = meter.snapshot()
    assert (seen.bytes_done, seen.bytes_sent, seen.bytes_found, seen.parts_done) == (50, 10, 40, 2)
    assert seen.percentage == 50.0


def test_a_part_sent_again_does_not_count_twice() -> None:
    """Taken back from what is done, and kept in what has travelled."""
    meter, _, _ = _meter()
    meter.add_sent(30)
    meter.rewind(30)
    meter.add_sent(30)
    seen = meter.snapshot()
    assert (seen.bytes_done, seen.bytes_sent) == (30, 60)


def test_done_never_exceeds_the_total() -> None:
    """Repairs may send more than the file has."""
    meter, _, _ = _meter(total=50)
    meter.add_found(50)
    meter.add_sent(20)
    assert meter.snapshot().bytes_done == 50


def test_an_empty_object_is_done_at_once() -> None:
    """No division by zero."""
    assert _meter(total=0)[0].snapshot().percentage == 100.0


def test_progress_is_throttled() -> None:
    """One event per half second, however many blocks leave."""
    meter, events, time = _meter(total=10_000)
    for _ in range(1000):
        time.sleep(0.01)
        meter.add_sent(1)
    assert 19 <= len(events) <= 20
    assert all(isinstance(event, Progress) for event in events)


def test_rate_and_eta_follow_the_clock() -> None:
    """10 bytes per second, 60 left: 6 seconds."""
    meter, _, time = _meter(total=100)
    for _ in range(4):
        time.sleep(1)
        meter.add_sent(10)
    seen = meter.snapshot()
    assert seen.rate_bps == pytest.approx(10)
    assert seen.eta_secs == pytest.approx(6)


def test_the_rate_forgets() -> None:
    """Only the last ten seconds count."""
    time = FakeTime()
    tracker = ThroughputTracker(window=10, clock=time)
    tracker.update(10**9)
    for _ in range(30):
        time.sleep(1)
        tracker.update(5 * 10**6)
    assert tracker.throughput_mbps() == pytest.approx(5, rel=0.2)


def test_the_eta_counts_towards_the_total() -> None:
    """As in the guide: ``eta`` is given the size of the whole, what is counted already included."""
    time = FakeTime()
    tracker = ThroughputTracker(clock=time)
    time.sleep(1)
    tracker.update(1 * MIB)
    assert tracker.throughput_mbps() == pytest.approx(1)
    assert tracker.eta(10 * MIB) == pytest.approx(9)
    assert tracker.eta(1 * MIB) == 0.0
    assert tracker.eta(0) == 0.0


def test_standing_still_has_no_eta() -> None:
    """None, not infinity."""
    time = FakeTime()
    tracker = ThroughputTracker(clock=time)
    time.sleep(5)
    assert (tracker.rate(), tracker.eta(10)) == (0.0, None)


def test_the_rate_is_never_negative() -> None:
    """Not even when more is taken back than the window saw."""
    time = FakeTime()
    tracker = ThroughputTracker(clock=time)
    time.sleep(1)
    tracker.update(-50)
    time.sleep(1)
    assert tracker.rate() == 0.0


@given(
    st.lists(st.tuples(st.sampled_from(["sent", "rewind", "found"]), st.integers(0, 60)), max_size=40),
    st.integers(0, 100),
)
def test_figures_are_honest_whatever_happens(steps: list[tuple[str, int]], total: int) -> None:
    """Done stays within the total, the percentage within 100, and what has travelled never becomes less."""
    meter, _, time = _meter(total=total)
    sent = 0
    for step, size in steps:
        time.sleep(0.1)
        {"sent": meter.add_sent, "rewind": meter.rewind, "found": meter.add_found}[step](size)
        seen = meter.snapshot()
        assert 0 <= seen.bytes_done <= total
        assert 0.0 <= seen.percentage <= 100.0
        assert seen.bytes_sent >= sent
        assert seen.rate_bps >= 0.0
        sent = seen.bytes_sent


def test_the_stats_are_the_guides() -> None:
    """10 MB in 10 seconds are 1 MB per second; a peak that nobody measured is the average."""
    stats = TransferStats(10_485_760, 10.0)
    assert (stats.avg_throughput_mbps(), stats.peak_throughput_mbps()) == (1.0, 1.0)
    assert TransferStats(10_485_760, 10.0, 3.0 * MIB).peak_throughput_mbps() == 3.0
    assert TransferStats(10_485_760, 10.0, 0.5 * MIB).peak_throughput_mbps() == 1.0
    assert TransferStats(0, 0.0).avg_throughput_mbps() == 0.0


def test_the_meter_remembers_the_peak() -> None:
    """A burst, then a trickle: the peak is the burst's."""
    meter, events, time = _meter(total=1000)
    for size in (10, 90, 1, 1):
        time.sleep(1)
        meter.add_sent(size)
    assert meter.peak_bps == max(event.rate_bps for event in events if isinstance(event, Progress)) == 50.0
    assert _meter()[0].peak_bps is None


def test_a_batch_has_a_percentage() -> None:
    """Of its objects, ended well or not."""
    assert BatchProgress(completed=5, total=20, succeeded=4, failed=1).percentage == 25.0
    assert BatchProgress(completed=0, total=0, succeeded=0, failed=0).percentage == 100.0


def test_many_threads_count_right() -> None:
    """The meter is shared by all workers."""
    meter, _, _ = _meter(total=10**9)

    def work() -> None:
        for _ in range(1000):
            meter.add_sent(2)
            meter.rewind(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (meter.sent, meter.snapshot().bytes_done) == (16_000, 8_000)


def test_a_reporter_that_raises_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    """Logged once; every later event is still offered to it."""
    seen = []

    def broken(event: TransferEvent) -> None:
        seen.append(event)
        raise ValueError("broken")

    guarded = GuardedReporter(broken)
    with caplog.at_level(logging.WARNING):
        guarded(Notice("one"))
        guarded(Notice("two"))
    assert len(seen) == 2
    assert len(caplog.records) == 1


def test_a_stop_passes_the_guard() -> None:
    """Only Exceptions are held back: KeyboardInterrupt is not the reporter's to swallow."""

    def stopped(event: TransferEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GuardedReporter(stopped)(Notice("x"))


def test_no_reporter_takes_all() -> None:
    """The default."""
    no_reporter(Notice("x"))
