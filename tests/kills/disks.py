"""``python -m tests.kills.disks``: a power cut at every file-system call; a disk that is full, and one that fails.

Needs root. The file system is an ext4 in an image behind a loop device. What the image holds at an instant is what a
disk would hold if the power went out at it: dirty pages of the mounted file system are not in it. The copy is mounted
(its log is replayed), and the promise is judged there: the target's name means complete, right bytes; and every range
that the journal speaks of is on the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orbit_airflow.engine.digests import crc_algorithm
from orbit_airflow.engine.journal import read_journal
from orbit_airflow.engine.partial import PART, hidden_name, left_overs
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.target import Target
from tests.kills.down import Scene
from tests.kills.down_campaign import stage
from tests.kills.syscalls import FILE_CALLS, available, failing_at, killed_at
from tests.kills.tries import Attach, Workplace, run_try
from tests.kills.verdict import Shape
from tests.model_server import ModelProcess

KIB = 1024
IMAGE_BYTES = 64 * KIB * KIB
MAX_CALLS = 60
# What a disk does to whoever syncs or writes.
FAILURES = (
    ("fdatasync", "EIO", "1"), ("fdatasync", "EIO", "2+"), ("fsync", "EIO", "1+"), ("fdatasync", "ENOSPC", "2+"),
    ("pwrite64", "ENOSPC", "2+"), ("pwrite64", "EDQUOT", "1+"), ("pwrite64", "EIO", "2"), ("write", "ENOSPC", "1"),
    ("fallocate", "ENOSPC", "1"), ("fallocate", "EOPNOTSUPP", "1+"), ("ftruncate", "EFBIG", "1"),
    ("rename,renameat,renameat2,link,linkat", "EROFS", "1"), ("link,linkat", "EPERM", "1+"), ("fchmod", "EPERM", "1"),
)  # fmt: skip


@dataclass(frozen=True)
class Disk:
    """An image and where it is mounted."""

    image: Path
    mounted: Path


def main() -> int:
    """Run all three."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills.disks", description=__doc__)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--part-size", type=int, default=1024 * KIB)
    arguments = parser.parse_args()
    if os.geteuid() != 0 or not available():
        sys.exit("mounting a loop device and tracing need root and strace")
    shape = Shape(arguments.parts, arguments.part_size)
    with tempfile.TemporaryDirectory(prefix="orbit-disks-") as home:
        directory = Path(home)
        with ModelProcess("--min-part-size", str(shape.part_size), "--bucket", "campaign:versioned") as server:
            from tests.kills.__main__ import workplace

            place = workplace(2, shape, server, directory)
            scene = replace(stage(place, shape, "disks/object.bin"), folder=directory / "disk" / "target")
            faults = [*_power_cuts(place, scene), *_failures(place, scene), *_full(place, scene)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def _power_cuts(place: Workplace, scene: Scene) -> list[str]:
    faults, cuts, started = [], 0, time.monotonic()
    for calls in FILE_CALLS:
        for nth in range(1, MAX_CALLS):
            with _disk(place.directory, IMAGE_BYTES) as disk:
                _begin(place, scene)
                log = place.directory / "strace.log"
                attach: Attach = lambda pid: killed_at(pid, calls, nth, log)  # noqa: E731, B023
                if not run_try(place, scene.work, None, 1, attach).killed:
                    break
                cut = disk.image.with_suffix(".cut")
                shutil.copyfile(disk.image, cut)
            cuts += 1
            faults += [f"power cut at {calls} number {nth}: {fault}" for fault in _after_the_cut(place, scene, cut)]
    # And behind a success: what was called done must be there.
    with _disk(place.directory, IMAGE_BYTES) as disk:
        _begin(place, scene)
        done = run_try(place, scene.work, None, 1)
        cut = disk.image.with_suffix(".cut")
        shutil.copyfile(disk.image, cut)
    with _mounted(cut, scene.folder.parent):
        if done.result is None or not scene.target.exists():
            faults.append(f"power cut behind a success: the file is gone ({done.error})")
        faults += scene.faults()
    seconds = time.monotonic() - started
    print(f"power cut at {cuts} system calls and behind a success: {len(faults)} faults, {seconds:.0f} s")
    return faults


def _after_the_cut(place: Workplace, scene: Scene, cut: Path) -> list[str]:
    """What the disk holds, and what the next try makes of it."""
    with _mounted(cut, scene.folder.parent):
        faults = scene.faults() if scene.folder.exists() else []
        scene.folder.mkdir(exist_ok=True)
        faults += _false_claims(scene)
        place.server.reset()
        again = run_try(place, scene.work, None, 2)
        if again.result is None:
            return [*faults, f"the next try failed: {again.error}"]
        return [*faults, *scene.faults()]


def _false_claims(scene: Scene) -> list[str]:
    """Ranges that a journal speaks of and that are not on the disk."""
    faults = []
    with Target(str(scene.target)) as target:
        for nonce in left_overs(target):
            found = read_journal(target, nonce)
            part = scene.folder / hidden_name(target, nonce, PART)
            if found is None or not found.ranges or found.proof is not None:
                continue
            if not part.exists() or part.stat().st_ino != found.header.ino:
                continue
            algorithm, data = crc_algorithm(found.header.algorithm), part.read_bytes()
            plan = PartPlan(found.header.size, found.header.range_size)
            for index, crc in found.ranges.items():
                piece = plan.part(index + 1)
                if algorithm is None or algorithm.update(data[piece.offset : piece.offset + piece.size], 0) != crc:
                    faults.append(f"the journal claims range {index}, which is not on the disk")
    return faults


def _failures(place: Workplace, scene: Scene) -> list[str]:
    """A typed error or a right file; and the next try, on a disk that is well, ends well."""
    faults = []
    for calls, error, when in FAILURES:
        with _disk(place.directory, IMAGE_BYTES):
            _begin(place, scene)
            log = place.directory / "strace.log"
            attach: Attach = lambda pid: failing_at(pid, calls, error, when, log)  # noqa: E731, B023
            first = run_try(place, scene.work, None, 1, attach)
            name = f"{error} from {calls.split(',')[0]} ({when})"
            said = _said(first.error) if first.result is None else "a right file"
            print(f"  {name:<36} {said}")
            faults += [f"{name}: {fault}" for fault in scene.faults()]
            if first.result is None and not said.startswith(("TargetError", "SyncFailed", "DiskFull", "TargetBusy")):
                faults.append(f"{name}: no typed error but {first.error}")
            again = run_try(place, scene.work, None, 2)
            faults += [f"{name}: then {again.error}"] if again.result is None else scene.faults()
    return faults


def _full(place: Workplace, scene: Scene) -> list[str]:
    """A disk that has no room for the object says so before a byte moves, and works once it has."""
    with _disk(place.directory, 16 * KIB * KIB) as disk:
        _begin(place, scene)
        ballast = disk.mounted / "ballast"
        free = shutil.disk_usage(disk.mounted).free
        ballast.write_bytes(bytes(max(0, free - scene.size // 2)))
        first = run_try(place, scene.work, None, 1)
        asked = len(place.server.records("GetObject"))
        print(f"  {'a full disk':<36} {_said(first.error)}; {asked} GETs")
        ballast.unlink()
        again = run_try(place, scene.work, None, 2)
        faults = [] if _said(first.error).startswith("DiskFull") and not asked else [f"a full disk: {first}"]
        return faults + ([f"a disk with room again: {again.error}"] if again.result is None else scene.faults())


def _said(error: object) -> str:
    text = error.get("text", "") if isinstance(error, dict) else str(error)
    return text.splitlines()[-1][:110] if text else ""


def _begin(place: Workplace, scene: Scene) -> None:
    scene.folder.mkdir()
    scene.seen_partial.clear()
    shutil.rmtree(place.directory / "tokens", ignore_errors=True)
    place.server.reset()


@contextmanager
def _disk(directory: Path, size: int) -> Iterator[Disk]:
    """A new ext4 of ``size`` bytes, mounted."""
    image = directory / "disk.img"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    with _mounted(image, directory / "disk"):
        yield Disk(image, directory / "disk")


@contextmanager
def _mounted(image: Path, where: Path) -> Iterator[None]:
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


if __name__ == "__main__":
    sys.exit(main())
