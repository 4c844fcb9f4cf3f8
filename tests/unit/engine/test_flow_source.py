"""The file changes under the upload, or between two tries: an object is one snapshot of it, or there is none."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from orbit_airflow.engine.errors import Disposition, RestartsExhausted, SourceChanged, SourceError
from orbit_airflow.engine.model import MIB
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, Killed, data_of

SIZE = 6 * PART + 7
Deed = Callable[[Bench], None]


def append(bench: Bench) -> None:
    with bench.path.open("ab") as file:
        file.write(b"more")


def truncate(bench: Bench) -> None:
    os.truncate(bench.path, PART + 1)


def write(bench: Bench) -> None:
    with bench.path.open("r+b") as file:
        file.write(b"other bytes")


def write_quietly(bench: Bench) -> None:
    before = bench.path.stat()
    write(bench)
    os.utime(bench.path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(bench: Bench) -> None:
    other = bench.folder / "new"
    other.write_bytes(data_of(SIZE, 5))
    other.replace(bench.path)


def touch(bench: Bench) -> None:
    bench.path.chmod(0o600 if bench.path.stat().st_mode & 0o077 else 0o644)


def copy_onto(bench: Bench) -> None:
    other = bench.folder / "copy"
    other.write_bytes(bench.path.read_bytes())
    other.replace(bench.path)


CHANGES: list[Deed] = [append, truncate, write, write_quietly, replace]
SAME: list[Deed] = [touch, copy_onto]


@pytest.mark.parametrize("deed", CHANGES)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_change_during_the_upload_fails_it(bench: Bench, deed: Deed, workers: int) -> None:
    """At each part: SourceChanged, nothing visible, and no part kept; or else one snapshot, never a mixture."""
    for part in range(1, 8):
        bench.use()
        bench.tokens = bench.fresh_tokens()
        bench.write(SIZE)
        bench.workers = workers
        bench.faulty.add(Fault("upload_part", nth=part, when="after", call=lambda: deed(bench)))
        raised: SourceChanged | None = None
        try:
            bench.upload()
        except SourceChanged as error:
            raised = error
        if raised is not None:
            assert raised.disposition is Disposition.FAIL
            assert bench.memory.objects == {}
            assert bench.memory.uploads() == []
        else:
            # With several workers the changed bytes may be read for the first time after the change: one snapshot.
            assert workers > 1
            assert bench.stored == bench.path.read_bytes()


@pytest.mark.parametrize("deed", CHANGES)
def test_a_change_during_the_upload_restarts_it_on_request(bench: Bench, deed: Deed) -> None:
    """The object is the file as it is now, whole."""
    bench.write(SIZE)
    bench.on("upload_part", lambda: deed(bench), when="after")
    bench.upload(on_source_change="restart")
    bench.settled(bench.path.read_bytes())


@pytest.mark.parametrize("deed", SAME)
def test_the_same_bytes_are_no_change(bench: Bench, deed: Deed) -> None:
    """A chmod, or a copy of the file onto itself, costs a second reading and no sending."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", nth=3, when="after", call=lambda: deed(bench)))
    bench.upload()
    bench.settled(data)
    assert bench.sent == SIZE


@pytest.mark.parametrize("deed", CHANGES)
def test_a_small_file_that_changes_is_one_snapshot(bench: Bench, deed: Deed) -> None:
    """It is read once and sent from memory: the object is what the file was, or the upload fails."""
    bench.part_size = 8 * PART
    data = bench.write(SIZE)
    bench.on("put", lambda: deed(bench))
    try:
        bench.upload()
    except SourceChanged:
        return
    assert bench.stored == data


def test_restarts_are_bounded(bench: Bench) -> None:
    """A file that never stands still ends the task, not the day."""
    bench.write(SIZE)
    seeds = iter(range(100, 200))
    bench.faulty.add(
        Fault("upload_part", times=None, when="after", call=lambda: bench.path.write_bytes(data_of(SIZE, next(seeds))))
    )
    bench.workers = 1
    with pytest.raises(RestartsExhausted, match="2 restarts"):
        bench.upload(on_source_change="restart", max_restarts=2)
    assert len(bench.asked("create")) == 3
    assert bench.memory.uploads() == []
    assert bench.memory.objects == {}


@pytest.mark.parametrize("deed", CHANGES)
@pytest.mark.parametrize("choice", ["fail", "restart"])
def test_a_change_between_tries(bench: Bench, deed: Deed, choice: str) -> None:
    """Fails, or becomes the new file's upload; never a mixture."""
    bench.write(SIZE)
    bench.workers = 1
    bench.kill_at(5)
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    deed(bench)
    if choice == "fail":
        with pytest.raises(SourceChanged):
            bench.upload()
        assert bench.memory.objects == {}
        assert bench.memory.uploads() == []
    bench.upload(on_source_change="restart")
    bench.settled(bench.path.read_bytes())


@pytest.mark.parametrize("deed", SAME)
@pytest.mark.parametrize("checksums", [True, False])
def test_the_same_bytes_between_tries_go_on(bench: Bench, deed: Deed, checksums: bool) -> None:
    """A new inode or ctime is looked at, and the parts sent are used; by CRC or by MD5."""
    bench.use(checksums=checksums)
    data = bench.write(SIZE)
    bench.workers = 1
    bench.kill_at(5)
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    deed(bench)
    result = bench.upload()
    bench.settled(data)
    assert (result.parts_found, bench.sent) == (3, SIZE)


def test_a_change_in_what_is_not_sent_yet_between_tries(bench: Bench) -> None:
    """The parts that were sent are the file's present bytes: the upload goes on with the present file."""
    bench.write(SIZE)
    bench.workers = 1
    bench.kill_at(4)
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    with bench.path.open("r+b") as file:
        file.seek(SIZE - 5)
        file.write(b"other")
    bench.upload()
    bench.settled(bench.path.read_bytes())


def test_a_file_deleted_during_the_upload_is_still_one_snapshot(bench: Bench) -> None:
    """What is open is whole: the object is it."""
    data = bench.write(SIZE)
    bench.on("upload_part", bench.path.unlink, when="after")
    bench.upload()
    bench.settled(data)


def test_a_file_deleted_after_done_is_a_success(bench: Bench) -> None:
    """A try that died behind Complete returns the result; the file may be gone, that is what backups are for."""
    data = bench.write(SIZE)
    bench.upload()
    bench.path.unlink()
    result = bench.upload()
    assert (result.resumed, result.bytes_sent) == (True, 0)
    bench.settled(data)


def test_a_file_deleted_before_done_is_an_error(bench: Bench) -> None:
    """Nothing can be finished; the parts are kept, the file may come back."""
    data = bench.write(SIZE)
    bench.kill_at(5)
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    bench.path.unlink()
    with pytest.raises(SourceError):
        bench.upload()
    assert len(bench.memory.uploads()) == 1
    bench.path.write_bytes(data)
    bench.upload()
    bench.settled(data)


def test_a_file_that_changed_after_done_is_uploaded(bench: Bench) -> None:
    """A new run with the old token: the file is another one."""
    bench.write(SIZE)
    bench.upload()
    data = bench.write(SIZE, seed=2)
    assert bench.upload().resumed is False
    bench.settled(data)


@pytest.mark.parametrize("deed", SAME)
def test_a_touched_file_after_done_is_not_uploaded(bench: Bench, deed: Deed) -> None:
    """Its bytes are compared by the CRC in the token."""
    bench.write(SIZE)
    bench.upload()
    deed(bench)
    result = bench.upload()
    assert (result.resumed, bench.sent) == (True, SIZE)


@pytest.mark.parametrize("size", [100, SIZE])
def test_an_object_replaced_after_done_is_uploaded(bench: Bench, size: int) -> None:
    """The token says done, the key holds somebody else's: ours is sent again."""
    data = bench.write(size)
    bench.upload()
    bench.memory.delete(bench.ref)
    bench.upload()
    bench.settled(data)


def test_a_large_part_is_read_twice_and_compared(bench: Bench) -> None:
    """Parts that do not fit the buffer: a change between hashing and sending never becomes an object."""
    bench.settings = {"limits": StoreLimits()}
    bench.part_size = 17 * MIB
    bench.workers = 1
    bench.write(17 * MIB + 5)
    bench.faulty.add(Fault("upload_part", when="during", blocks=2, call=lambda: _change_at(bench, 10 * MIB)))
    with pytest.raises(SourceChanged):
        bench.upload()
    assert bench.memory.objects == {}
    assert bench.memory.uploads() == []


def _change_at(bench: Bench, offset: int) -> None:
    with bench.path.open("r+b") as file:
        file.seek(offset)
        file.write(b"other bytes")


def test_all_workers_share_one_file(bench: Bench) -> None:
    """Read by position: four workers and forty parts, and every byte in its place."""
    bench.workers = 4
    data = bench.write(40 * PART + 3)
    bench.upload()
    bench.settled(data)
