"""Downloads on disks, in directories and beside neighbours that are not as one would wish."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    OrbitError,
    RequestContext,
    TargetBusy,
    TargetError,
    TargetExists,
)
from orbit_airflow.engine.model import Integrity, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import DownloadOptions
from orbit_airflow.engine.partial import PartialFile, left_overs
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.engine.target import Target
from orbit_airflow.testing import Fault
from tests.bodies import BytesBody
from tests.unit.engine.bench import PART, REF, Bench, DictTokens, Killed, data_of

SIZE = 8 * PART + 100


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def dying_once(name: str, monkeypatch: pytest.MonkeyPatch, *, after: bool = False) -> None:
    """The process dies at its next such system call."""
    real: Callable[..., Any] = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        if after:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(os, name, call)


def failing(error: int) -> Callable[..., Any]:
    def call(*args: object, **kwargs: object) -> None:
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize("umask", [0o002, 0o000, 0o022])
def test_killed_between_its_new_mode_and_its_name_the_file_is_found_again(
    bench: Bench, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group's umask makes the part file writable for others just before the end; it is ours all the same."""
    data = bench.store(data_of(SIZE))
    earlier = os.umask(umask)
    try:
        dying_once("fsync", monkeypatch)
        with pytest.raises(Killed):
            bench.download()
        assert stat.S_IMODE(bench.part_file.stat().st_mode) == 0o666 & ~umask
        result = bench.download()
    finally:
        os.umask(earlier)
    assert bench.target.read_bytes() == data
    assert (result.bytes_received, result.bytes_saved) == (0, SIZE)
    assert bench.hidden == []


def test_a_part_file_that_others_may_write_is_ours_alone_again(bench: Bench) -> None:
    """While bytes go into it, whatever somebody did to the directory meanwhile."""
    bench.store(data_of(SIZE))
    bench.die_downloading(5)
    bench.part_file.chmod(0o666)
    seen: list[int] = []
    bench.on("get", lambda: seen.append(stat.S_IMODE(bench.part_file.stat().st_mode)))
    assert bench.download().bytes_saved == 3 * PART
    assert seen == [0o600]


def test_where_files_belong_to_somebody_else_left_overs_are_ours_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS with root_squash makes root's files nobody's: what is made now has the same owner."""
    data = bench.store(data_of(SIZE))
    bench.die_downloading(5)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 3 * PART
    assert bench.hidden == []


def test_where_every_file_has_one_mode_left_overs_are_ours_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFS, FAT and shared folders of virtual machines show 0777 for all."""
    bench.store(data_of(SIZE))
    bench.die_downloading(5)
    real = os.fstat

    def all_alike(fd: int) -> os.stat_result:
        found = real(fd)
        if not stat.S_ISREG(found.st_mode):
            return found
        values: list[Any] = list(found)
        values[0] |= 0o777
        return os.stat_result(values, {name: getattr(found, name) for name in ("st_mtime_ns", "st_blocks")})

    monkeypatch.setattr(os, "fstat", all_alike)
    assert bench.download().bytes_saved == 3 * PART
    assert bench.hidden == []


def test_what_is_really_somebody_elses_is_left_alone(bench: Bench) -> None:
    """Neither believed nor removed, its journal neither: its owner may be writing it."""
    data = bench.store(data_of(SIZE))
    bench.die_downloading(5)
    left = [bench.part_file, bench.journal_file]
    for path in left:
        os.chown(path, 4242, 4242)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 0
    assert bench.hidden == sorted(left)


def test_a_device_number_that_a_reboot_changed_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS, btrfs and device mapper give another one; the inode and the bytes decide."""
    bench.store(data_of(SIZE))
    bench.die_downloading(5)
    real = PartialFile.__init__

    def elsewhere(self: PartialFile, *args: Any) -> None:
        real(self, *args)
        self.dev += 1

    monkeypatch.setattr(PartialFile, "__init__", elsewhere)
    assert bench.download().bytes_saved == 3 * PART


def test_a_file_system_that_does_not_know_its_size_is_not_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """FUSE without statfs answers zeros for everything."""
    data = bench.store(data_of(SIZE))
    real = os.fstatvfs

    def unknown(fd: int) -> os.statvfs_result:
        values = list(real(fd))
        values[2:8] = [0] * 6
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "fstatvfs", unknown)
    bench.download()
    assert bench.target.read_bytes() == data


@pytest.mark.parametrize("replace", [True, False])
def test_a_name_that_the_server_gave_although_it_says_no_is_a_success(
    bench: Bench, replace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a rename or link whose answer was lost, and then says ENOENT or EEXIST of its own work."""
    data = bench.store(data_of(SIZE))
    name, error = ("replace", errno.ENOENT) if replace else ("link", errno.EEXIST)
    real: Callable[..., Any] = getattr(os, name)

    def twice(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, name, twice)
    bench.download(replace=replace)
    assert bench.target.read_bytes() == data
    assert bench.hidden == []


def test_what_took_the_part_files_name_is_not_published(bench: Bench) -> None:
    """Somebody who may write to the directory exchanges the hidden file during the download."""
    bench.store(data_of(SIZE))
    bench.workers = 1

    def exchange() -> None:
        part = bench.part_file
        part.rename(bench.folder / "aside")
        part.write_bytes(b"evil")

    bench.on("get", exchange)
    with pytest.raises(TargetError, match="changed by somebody else"):
        bench.download()
    assert not bench.target.exists()


@pytest.mark.parametrize("how", ["renamed", "link", "removed", "covered"])
def test_a_directory_that_is_not_where_it_was_is_an_error_and_no_success(bench: Bench, how: str) -> None:
    """The file would not be at its path: nothing gets the name, and nothing is written behind the link."""
    bench.store(data_of(SIZE))
    bench.workers = 1
    home, outside = bench.folder / "home", bench.folder / "outside"
    home.mkdir()
    outside.mkdir()
    bench.target = home / "restored.bin"

    def move() -> None:
        if how == "removed":
            shutil.rmtree(home)
            return
        home.rename(bench.folder / "moved")
        if how == "link":
            home.symlink_to(outside)
        elif how == "covered":
            home.mkdir()

    bench.on("get", move)
    with pytest.raises(TargetError, match="nothing was made visible"):
        bench.download()
    assert not bench.target.exists()
    assert not (bench.folder / "moved" / "restored.bin").exists()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("error", [AccessDenied("no", RequestContext("GetObject", "bucket", "key", status=403))])
def test_what_fails_before_a_range_is_there_leaves_no_reserved_room(bench: Bench, error: OrbitError) -> None:
    """HEAD is allowed and GET is not: nobody will ever finish that file, and it has the object's whole size."""
    bench.store(data_of(SIZE))
    bench.faulty.add(Fault("get", times=None, error=error))
    with pytest.raises(AccessDenied):
        bench.download()
    assert bench.hidden == []


def test_an_impossible_offset_leaves_no_reserved_room(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    bench.target.write_bytes(b"four")
    with pytest.raises(ConfigError, match="offset is 5"):
        bench.engine().download_file_resumable(REF, bench.target, 5)
    assert bench.hidden == []


def test_what_lies_in_the_way_afterwards_does_not_make_a_failure_of_a_success(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clearing up is a courtesy: the file has its name, and the token says done."""
    data = bench.store(data_of(SIZE))
    real, done = os.fsync, []

    def synced(fd: int) -> None:
        real(fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            done.append(fd)
            monkeypatch.setattr(os, "scandir", failing(errno.EIO))

    monkeypatch.setattr(os, "fsync", synced)
    bench.download()
    assert done
    assert bench.target.read_bytes() == data


def test_a_range_that_the_disk_cannot_read_is_fetched_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad block under an earlier try's bytes does not end all later tries."""
    data = bench.store(data_of(SIZE))
    bench.die_downloading(6)
    real, bad = os.preadv, [True]

    def unreadable(fd: int, buffers: Any, offset: int) -> int:
        if offset == PART and bad:
            bad.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", unreadable)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 3 * PART


def test_a_forked_child_does_not_keep_the_lock(bench: Bench) -> None:
    """A lock goes with the open file, and a child that was forked meanwhile holds that, too."""
    with Target(str(bench.target)) as target:
        first = PartialFile.new(target, 10)
        twin = os.dup(first._fd)
        first.close()
        try:
            again = PartialFile.reopen(target, first.nonce)
            assert again is not None
            again.close()
        finally:
            os.close(twin)


@pytest.mark.parametrize("call", ["write", "ftruncate", "fstatvfs", "lstat", "preadv", "fdatasync", "fsync", "link"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.ESTALE])
@pytest.mark.parametrize("resumed", [True, False])
def test_whatever_the_disk_says_is_one_of_our_errors_and_leaks_nothing(
    bench: Bench, call: str, error: int, resumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each try's own beginning and in its middle: typed, no descriptor kept, and the next try succeeds."""
    data = bench.store(data_of(SIZE))
    if resumed:
        bench.die_downloading(5)
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(error))
        try:
            bench.download(replace=call != "link")
        except OrbitError as exc:
            told: OrbitError | None = exc
        else:
            told = None
    # What cannot be read is fetched again, a new file reads nothing, and a file that is there needs no new room.
    harmless = {"preadv", "fstatvfs" if resumed else "preadv"}
    assert isinstance(told, TargetError) is (call not in harmless)
    assert descriptors() == before
    bench.download()
    assert bench.target.read_bytes() == data


def test_a_lock_that_fails_leaks_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.store(data_of(SIZE))
    before = descriptors()
    monkeypatch.setattr("fcntl.flock", failing(errno.EIO))
    with pytest.raises(TargetError, match="cannot lock"):
        bench.download()
    assert descriptors() == before
    assert bench.hidden == []


@pytest.mark.parametrize("path", ["a\ud800b", "\udcff\ud800/x"])
def test_a_path_that_no_file_system_can_name_is_refused(bench: Bench, path: str) -> None:
    """Half of a surrogate pair."""
    bench.store(data_of(PART))
    with pytest.raises(TargetError):
        bench.engine().download(bench.ref, path)


def test_two_dots_behind_a_link_are_the_kernels_affair(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """``link/../file`` is beside what the link leads to, as for ``open``."""
    data = bench.store(data_of(PART))
    deep = bench.folder / "deep" / "er"
    deep.mkdir(parents=True)
    (bench.folder / "link").symlink_to(deep)
    path = f"{bench.folder}/link/../restored.bin"
    result = bench.engine().download(bench.ref, path)
    assert (bench.folder / "deep" / "restored.bin").read_bytes() == data
    assert Path(result.path).read_bytes() == data


def test_without_a_working_directory_a_relative_path_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = bench.folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(TargetError):
        bench.engine().download(bench.ref, "relative.bin")


def test_a_neighbours_hidden_files_are_no_left_overs(bench: Bench) -> None:
    """Of a target whose name begins like this one's."""
    with Target(str(bench.folder / "x.0123456789abcdef")) as other, Target(str(bench.folder / "x")) as target:
        part = PartialFile.new(other, 1)
        assert left_overs(target) == ()
        assert left_overs(other) == (part.nonce,)
        part.discard()
        part.close()


def test_a_file_system_without_links_does_not_replace_either(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT: replace=False holds at the very end, too."""
    bench.store(data_of(SIZE))
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    real = Target.occupant

    def late(self: Target) -> os.stat_result | None:
        found = real(self)
        if bench.hidden and not bench.target.exists() and bench.asked("get"):
            bench.target.write_bytes(b"somebody else's")
        return found

    monkeypatch.setattr(Target, "occupant", late)
    with pytest.raises(TargetExists):
        bench.download(replace=False)
    assert bench.target.read_bytes() == b"somebody else's"


def test_a_stopped_download_does_not_speak_of_uploads(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    cancel = bench.cancellation()
    cancel.cancel()
    with pytest.raises(OrbitError) as caught:
        bench.download(cancel=cancel)
    assert "upload" not in str(caught.value)


def test_two_engines_with_different_chunks_share_one_left_over(bench: Bench) -> None:
    """The journal's ranges rule, as a token's part size does."""
    data = bench.store(data_of(SIZE))
    bench.die_downloading(6)
    result = bench.download(chunk_size=3 * PART)
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 4 * PART


def test_a_live_transfer_is_not_disturbed_by_a_strangers_try(bench: Bench) -> None:
    """Another object to the same path while the first one is on its way: refused, nothing removed."""
    data = bench.store(data_of(SIZE))
    bench.workers = 1
    other = ObjectRef(REF.bucket, "folder/other.bin")

    def second() -> None:
        bench.faulty.clear()
        bench.memory.put(other, BytesBody(b"other"), PartDigests(), ObjectAttributes(), if_none_match=False)
        with pytest.raises(TargetBusy):
            bench.engine().download(other, bench.target, DownloadOptions(), tokens=DictTokens())

    bench.on("get", second)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
