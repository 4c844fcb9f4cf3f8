"""The downloads of the campaign, and their judge."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time

from orbit_airflow.engine import ObjectRef, UploadOptions, open_engine
from tests.kills.down import Scene, harm
from tests.kills.plan import Run, draw_downloads
from tests.kills.syscalls import FILE_CALLS, available, killed_at
from tests.kills.tries import Attach, Try, Workplace, run_try
from tests.kills.verdict import Shape, Verdict

BUCKET = "campaign"
KEY = "down/object.bin"
MAX_FINAL_TRIES = 3
# The system calls of a small download are enough: the path is the same for a large one.
SMALL_PARTS = 5
MAX_CALLS = 200


def downloads(places: dict[int, Workplace], shape: Shape, runs: int, seed: int, only: int | None) -> list[Verdict]:
    """Killed at requests, tokens and random instants."""
    scene = stage(places[4], shape)
    typical = _typical_seconds(places[4], scene)
    print(f"a download that nobody kills takes {typical:.2f} s")
    verdicts, started = [], time.monotonic()
    for run in draw_downloads(runs, seed, shape.parts, typical):
        if only is not None and run.number != only:
            continue
        verdicts.append(_judge(run, places[run.workers], scene))
        for fault in verdicts[-1].faults:
            print(
                f"run {run.number} ({run.workers} workers, {[kill.label for kill in run.kills]}, {run.harm}): {fault}"
            )
    print(f"{len(verdicts)} runs in {time.monotonic() - started:.0f} s")
    return verdicts


def at_system_calls(place: Workplace, shape: Shape) -> list[Verdict]:
    """Killed as it enters every single call of every kind that makes, fills, names and removes files."""
    if not available():
        sys.exit("the system calls need strace (apt-get install strace)")
    scene = stage(place, shape, "down/small.bin")
    verdicts, started = [], time.monotonic()
    for calls in FILE_CALLS:
        for nth in range(1, MAX_CALLS):
            verdict = _at_call(place, scene, calls, nth)
            if verdict is None:
                break
            verdicts.append(verdict)
            for fault in verdict.faults:
                print(f"{calls} number {nth}: {fault}")
    print(f"{len(verdicts)} system calls in {time.monotonic() - started:.0f} s")
    return verdicts


def stage(place: Workplace, shape: Shape, key: str = KEY) -> Scene:
    """An object with a checksum over all its bytes, and an empty directory."""
    source = place.directory / "object.bin"
    source.write_bytes(os.urandom(shape.size))
    ref = ObjectRef(BUCKET, key)
    open_engine(place.config, client=place.janitor).upload(source, ref, UploadOptions())
    digest = hashlib.sha256(source.read_bytes()).digest()
    source.unlink()
    return Scene(ref, place.directory / "target", shape.size, digest, shape.part_size)


def _typical_seconds(place: Workplace, scene: Scene) -> float:
    seconds = []
    for number in range(3):
        _clear(place, scene)
        done = run_try(place, scene.work, None, number + 1)
        if done.result is None:
            sys.exit(f"not even a download that nobody kills works: {done.error}")
        seconds.append(done.seconds)
    return sorted(seconds)[1]


def _clear(place: Workplace, scene: Scene) -> None:
    shutil.rmtree(scene.folder, ignore_errors=True)
    scene.folder.mkdir()
    shutil.rmtree(place.directory / "tokens", ignore_errors=True)
    scene.seen_partial.clear()
    place.server.reset()


def _judge(run: Run, place: Workplace, scene: Scene) -> Verdict:
    _clear(place, scene)
    tries: list[Try] = []
    excused = 0
    faults: list[str] = []
    with scene.watched():
        for kill in run.kills:
            tries.append(run_try(place, scene.work, kill, len(tries) + 1))
            faults += scene.faults()
            if tries[-1].result is not None:
                break
            excused += harm(scene, run.harm, place.directory / "tokens")
        faults += _finish(place, scene, tries)
    return _verdict(run, place, scene, tries, faults, excused)


def _finish(place: Workplace, scene: Scene, tries: list[Try]) -> list[str]:
    """Until it succeeds, and once more behind the success: a task may die after it, and Airflow runs it again."""
    for _ in range(MAX_FINAL_TRIES):
        tries.append(run_try(place, scene.work, None, len(tries) + 1))
        if tries[-1].result is not None:
            break
    again = run_try(place, scene.work, None, len(tries) + 1)
    if again.result is None or again.result["received"]:
        return [f"a rerun after success: {again.result or again.error}"]
    return []


def _verdict(run: Run, place: Workplace, scene: Scene, tries: list[Try], faults: list[str], excused: int) -> Verdict:
    faults = [*faults, *(f"try {number}: {item.error}" for number, item in enumerate(tries, 1) if item.error)]
    again = max(0, _asked_for(place, scene) - scene.size)
    result = tries[-1].result
    if result is None:
        return Verdict(run, sum(item.killed for item in tries), again, (*faults, "never succeeded"))
    faults += scene.faults()
    if not scene.target.exists():
        faults.append("success, and no file")
    if result["integrity"] != "full-crc":
        faults.append(f"proof is only {result['integrity']}")
    if scene.hidden:
        faults.append(f"left behind: {[path.name for path in scene.hidden]}")
    kills = sum(item.killed for item in tries)
    allowed = kills * run.workers * scene.part_size + excused
    if again > allowed:
        faults.append(f"fetched {again / scene.part_size:.1f} ranges again, {allowed / scene.part_size:.1f} allowed")
    return Verdict(run, kills, max(0, again - excused), tuple(faults))


def _asked_for(place: Workplace, scene: Scene) -> int:
    """The bytes of all ranges that were asked for: what a killed request would have brought counts as a whole."""
    return sum(record.bytes_sent for record in place.server.records("GetObject", scene.ref.key))


def _at_call(place: Workplace, scene: Scene, calls: str, nth: int) -> Verdict | None:
    _clear(place, scene)
    log = place.directory / "strace.log"
    attach: Attach = lambda pid: killed_at(pid, calls, nth, log)  # noqa: E731
    with scene.watched():
        tries = [run_try(place, scene.work, None, 1, attach)]
        if not tries[0].killed:
            return None
        faults = scene.faults()
        faults += _finish(place, scene, tries)
    run = Run(nth, place.config.parallel_operations, (), "none", f"at {calls.split(',')[0]}")
    return _verdict(run, place, scene, tries, faults, 0)
