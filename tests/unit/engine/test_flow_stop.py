"""A stop order ends every wait of its transfer, and no other transfer's: in real time, over one shared engine."""

from __future__ import annotations

import threading
import time

import pytest

from orbit_airflow.engine.compose import engine_over
from orbit_airflow.engine.errors import OrbitError, Paused
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench

OTHER = ObjectRef("bucket", "folder/other.bin")
SOON = 2.0


class _Running(threading.Thread):
    """A transfer on a thread of its own, and how it ended."""

    def __init__(self, bench: Bench, engine: TransferEngine, ref: ObjectRef) -> None:
        super().__init__(daemon=True)
        self._bench, self._engine, self._ref = bench, engine, ref
        self.cancel = Cancellation()
        self.error: OrbitError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._engine.upload(self._bench.path, self._ref, cancel=self.cancel)
        except OrbitError as error:
            self.error = error


@pytest.mark.parametrize("size", [500, 3 * PART])
def test_a_stop_order_ends_a_wait_for_a_permit(bench: Bench, size: int) -> None:
    """Another transfer of the engine holds the only one; it goes on, and succeeds."""
    data = bench.write(size)
    entered, released = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        released.wait(20)

    bench.faulty.add(Fault("put" if size == 500 else "upload_part", call=hold))
    engine = engine_over(bench.faulty, bench.config(parallel_operations=1))
    first = _Running(bench, engine, bench.ref)
    assert entered.wait(10)
    second = _Running(bench, engine, OTHER)
    time.sleep(0.2)
    began = time.monotonic()
    second.cancel.cancel("told to stop")
    second.join(10)
    assert time.monotonic() - began < SOON
    assert isinstance(second.error, Paused)
    released.set()
    first.join(10)
    assert first.error is None
    assert bench.stored == data


@pytest.mark.parametrize("chunk", [200 * 1024, 20 * 1024])
def test_a_stop_order_ends_a_wait_for_bandwidth(bench: Bench, chunk: int) -> None:
    """At 1 KiB/s a block's turn comes in a minute."""
    bench.part_size = chunk
    bench.write(100 * 1024)
    running = _Running(bench, engine_over(bench.faulty, bench.config(max_bandwidth=1024)), bench.ref)
    time.sleep(0.3)
    began = time.monotonic()
    running.cancel.cancel("told to stop")
    running.join(10)
    assert time.monotonic() - began < SOON
    assert isinstance(running.error, Paused)
    assert bench.memory.objects == {}
