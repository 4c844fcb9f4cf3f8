"""Several processes at one target, a directory that is swapped meanwhile, and what is left after many downloads."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.errors import (
    ConnectionLost,
    Garbled,
    OrbitError,
    RequestContext,
    TargetBusy,
    TargetError,
    TargetExists,
)
from orbit_airflow.engine.model import Integrity
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, DictTokens, data_of

SIZE = 8 * PART + 100
ROUNDS = int(os.environ.get("ORBIT_RACES", "12"))
LEAKS = int(os.environ.get("ORBIT_LEAKS", "100"))
FORK = multiprocessing.get_context("fork")


def racer(
    folder: Path, mine: int, start: Barrier, options: dict[str, Any], told: Callable[[tuple[int, str]], None]
) -> None:
    """One process's download: its own object, told apart by its bytes."""
    bench = Bench(folder)
    bench.store(data_of(SIZE, mine))
    bench.faulty.add(Fault("get", times=None, call=lambda: time.sleep(random.Random(mine).random() / 500)))
    start.wait()
    try:
        result = bench.download(cancel=Cancellation(), **options)
    except OrbitError as exc:
        told((mine, type(exc).__name__))
    else:
        told((mine, result.integrity.value))


def race(folder: Path, seeds: list[int], options: dict[str, Any]) -> dict[int, list[str]]:
    """All at once; what each of them came to."""
    start, answers = FORK.Barrier(len(seeds)), FORK.SimpleQueue()
    workers = [FORK.Process(target=racer, args=(folder, seed, start, options, answers.put)) for seed in seeds]
    for worker in workers:
        worker.start()
    found: dict[int, list[str]] = {}
    for _ in workers:
        seed, word = answers.get()
        found.setdefault(seed, []).append(word)
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    return found


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("same", [True, False], ids=["one object", "different objects"])
def test_of_several_processes_each_succeeds_or_is_told_why_not(
    tmp_path: Path, count: int, replace: bool, same: bool
) -> None:
    """The file is one object's, whole; with replace=False it is the object of everyone that succeeded."""
    for number in range(max(1, ROUNDS // 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        seeds = [1] * count if same else list(range(1, count + 1))
        found = race(folder, seeds, {"replace": replace})
        words = {word for told in found.values() for word in told}
        assert words <= {Integrity.FULL_CRC.value, TargetBusy.__name__, TargetExists.__name__}
        winners = [seed for seed, told in found.items() if Integrity.FULL_CRC.value in told]
        assert winners
        content = (folder / "restored.bin").read_bytes()
        assert content in [data_of(SIZE, seed) for seed in winners]
        if not replace and not same:
            assert len(winners) == 1
        assert [path.name for path in folder.iterdir()] == ["restored.bin"]


def test_a_directory_that_is_swapped_all_the_time_lets_nothing_escape(bench: Bench) -> None:
    """For a link that leads elsewhere, as fast as can be: nothing is made outside, and no success is a lie."""
    data = bench.store(data_of(SIZE))
    home, outside, aside = (bench.folder / name for name in ("home", "outside", "aside"))
    home.mkdir()
    outside.mkdir()
    (outside / "restored.bin").write_bytes(b"precious")
    bench.target = home / "restored.bin"
    swapper = Swapper(home, aside, outside)
    swapper.start()
    words = []
    try:
        for _ in range(40):
            bench.tokens = DictTokens()
            # A directory that is a link when the download begins is the one that is meant.
            bench.on("get", swapper.go.set)
            words.append(word_of(bench))
            swapper.rest()
            assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"restored.bin": b"precious"}
            if words[-1] == "success":
                assert bench.target.read_bytes() == data
                bench.target.unlink()
    finally:
        swapper.end()
    assert swapper.swaps > 40
    assert {"refused"} <= set(words) <= {"refused", "success"}


def word_of(bench: Bench) -> str:
    """What one download comes to."""
    try:
        bench.download()
    except TargetError as exc:
        return "refused" if "nothing was made visible" in exc.message else exc.message
    return "success"


class Swapper(threading.Thread):
    """Exchanges a directory and a link, to and fro, while it is told to; at rest the directory is in its place."""

    def __init__(self, home: Path, aside: Path, outside: Path) -> None:
        super().__init__()
        self.go, self._resting, self._ended = threading.Event(), threading.Event(), False
        self._paths = (home, aside, outside)
        self.swaps = 0

    def run(self) -> None:
        home, aside, outside = self._paths
        while not self._ended:
            if not self.go.is_set():
                self._resting.set()
                self.go.wait(1)
                continue
            home.rename(aside)
            home.symlink_to(outside)
            home.unlink()
            aside.rename(home)
            self.swaps += 1

    def rest(self) -> None:
        """Return when the directory is in its place and stays there."""
        self.go.clear()
        self._resting.clear()
        assert self._resting.wait(10)

    def end(self) -> None:
        """For good."""
        self._ended = True
        self.go.set()
        self.join()


def test_many_downloads_of_which_a_third_fails_leave_nothing(bench: Bench) -> None:
    """Threads, descriptors, hidden files: as before the first one."""
    bench.store(data_of(SIZE))
    bench.workers = 4
    bench.download()
    gc.collect()
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    context = RequestContext("GetObject", "bucket", "key")
    failures = 0
    for number in range(LEAKS):
        bench.faulty.clear()
        bench.tokens = DictTokens()
        if number % 3 == 0:
            error: OrbitError = ConnectionLost("cut", context) if number % 2 else Garbled("nonsense", context)
            bench.faulty.add(Fault("get", nth=1 + number % 9, times=None, error=error))
        try:
            bench.download()
        except OrbitError:
            failures += 1
    bench.faulty.clear()
    bench.download()
    gc.collect()
    assert failures == -(-LEAKS // 3)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
    assert bench.hidden == []
