"""Downloads that nothing disturbs, and what they refuse before a byte moves."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import datetime
from pathlib import Path

import pytest

from orbit_airflow.engine.errors import (
    ConfigError,
    IntegrityTooWeak,
    NotFound,
    TargetError,
    TargetExists,
)
from orbit_airflow.engine.events import TransferCompleted, TransferDirection, TransferStarted
from orbit_airflow.engine.model import Integrity
from tests.unit.engine.bench import PART, Bench, data_of


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 7 * PART + 13])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_file_is_the_object(bench: Bench, size: int, workers: int) -> None:
    """Whatever the size: the bytes, the proof, one HEAD, each byte fetched once, nothing left behind."""
    bench.workers = workers
    data = bench.store(data_of(size))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
    assert (result.size, result.bytes_received, result.bytes_saved) == (size, size, 0)
    assert not result.resumed
    assert result.path == str(bench.target)
    assert bench.hidden == []
    assert len(bench.asked("head")) == 1
    assert bench.token["phase"] == "done"


def test_the_events_say_which_way(bench: Bench) -> None:
    """The plan and the end are those of a download."""
    bench.store(data_of(3 * PART))
    bench.download()
    (started,) = bench.seen(TransferStarted)
    (completed,) = bench.seen(TransferCompleted)
    assert started.direction is TransferDirection.DOWNLOAD
    assert (started.parts, started.part_size, started.parts_found) == (3, PART, 0)
    assert completed.bytes_sent == 3 * PART
    assert completed.integrity is Integrity.FULL_CRC


def test_without_a_checksum_the_md5_counts_and_is_not_called_more(bench: Bench) -> None:
    """An object that was put with no checksum has its MD5 as ETag."""
    bench.object_checksum = False
    data = bench.store(data_of(3 * PART + 5))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.MD5
    assert result.etag == hashlib.md5(data).hexdigest()


def test_with_checksums_off_nothing_is_claimed(bench: Bench) -> None:
    bench.store(data_of(3 * PART))
    assert bench.download(verify_checksums=False).integrity is Integrity.SIZE_ETAG


def test_a_proof_that_cannot_come_is_refused_before_a_byte_moves(bench: Bench) -> None:
    bench.object_checksum = False
    bench.store(data_of(3 * PART))
    with pytest.raises(IntegrityTooWeak, match="md5 can be proved, full-crc is required; nothing was fetched"):
        bench.download(require_integrity="full-crc")
    assert bench.asked("get") == []
    assert bench.hidden == []


def test_the_mode_is_what_the_umask_leaves_or_what_was_said(bench: Bench) -> None:
    bench.store(data_of(PART))
    earlier = os.umask(0o027)
    try:
        bench.download()
        assert stat.S_IMODE(bench.target.stat().st_mode) == 0o640
        bench.download(file_mode=0o600, resume=False)
    finally:
        os.umask(earlier)
    assert stat.S_IMODE(bench.target.stat().st_mode) == 0o600


def test_the_part_file_is_nobody_elses_business_while_it_grows(bench: Bench) -> None:
    """0600, hidden, in the target's own directory; the target's name is not there yet."""
    bench.store(data_of(4 * PART))
    seen: list[tuple[str, int]] = []

    def look() -> None:
        path = bench.part_file
        seen.append((path.name, stat.S_IMODE(path.stat().st_mode)))
        assert not bench.target.exists()

    bench.on("get", look)
    bench.download()
    ((name, mode),) = seen
    assert name.startswith(".restored.bin.")
    assert mode == 0o600


def test_keep_mtime_gives_the_objects_time(bench: Bench) -> None:
    bench.store(data_of(PART))
    result = bench.download(keep_mtime=True)
    assert isinstance(result.last_modified, datetime)
    assert int(bench.target.stat().st_mtime) == int(result.last_modified.timestamp())


def test_a_missing_object_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.download()
    assert bench.hidden == []
    assert not bench.target.exists()


def test_more_than_max_size_is_refused_before_a_byte_moves(bench: Bench) -> None:
    bench.store(data_of(3 * PART))
    with pytest.raises(ConfigError, match="max_size"):
        bench.download(max_size=PART)
    assert bench.asked("get") == []


def test_a_file_that_is_there_is_not_replaced_unless_it_may_be(bench: Bench) -> None:
    data = bench.store(data_of(3 * PART))
    bench.target.write_bytes(b"mine")
    with pytest.raises(TargetExists, match="replace is False"):
        bench.download(replace=False)
    assert bench.target.read_bytes() == b"mine"
    assert bench.asked("get") == []
    bench.download()
    assert bench.target.read_bytes() == data


def test_a_file_that_has_the_objects_bytes_already_is_a_success_without_replacing(bench: Bench) -> None:
    """With replace=False, too: what is there is what was wanted, and the checksum proves it."""
    data = bench.store(data_of(3 * PART))
    bench.target.write_bytes(data)
    result = bench.download(replace=False)
    assert result.resumed
    assert result.bytes_received == 0
    assert result.integrity is Integrity.FULL_CRC
    assert bench.asked("get") == []


def test_a_file_of_the_same_size_that_nothing_can_prove_is_not_taken_for_the_object(bench: Bench) -> None:
    bench.store(data_of(3 * PART))
    bench.target.write_bytes(data_of(3 * PART))
    with pytest.raises(TargetExists):
        bench.download(replace=False, verify_checksums=False)


def test_a_file_that_appears_during_the_download_is_not_replaced(bench: Bench) -> None:
    """replace=False holds at the very end, too; what was fetched is kept."""
    bench.store(data_of(4 * PART))
    bench.on("get", lambda: bench.target.write_bytes(b"somebody else's"))
    with pytest.raises(TargetExists):
        bench.download(replace=False)
    assert bench.target.read_bytes() == b"somebody else's"
    assert bench.part_file.stat().st_size == 4 * PART


@pytest.mark.parametrize("kind", ["directory", "symlink", "dangling", "fifo"])
def test_what_is_no_file_is_neither_replaced_nor_written_through(bench: Bench, kind: str) -> None:
    bench.store(data_of(PART))
    victim = bench.folder / "victim"
    if kind == "directory":
        bench.target.mkdir()
    elif kind == "fifo":
        os.mkfifo(bench.target)
    else:
        if kind == "symlink":
            victim.write_bytes(b"precious")
        bench.target.symlink_to(victim)
    with pytest.raises(TargetError):
        bench.download()
    assert bench.asked("get") == []
    assert victim.exists() is (kind == "symlink")
    if kind == "symlink":
        assert victim.read_bytes() == b"precious"


def test_a_missing_directory_is_an_error_unless_it_may_be_made(bench: Bench) -> None:
    """It may be a mount that is missing."""
    data = bench.store(data_of(PART))
    bench.target = bench.folder / "not" / "there" / "file.bin"
    with pytest.raises(TargetError, match="create_parents"):
        bench.download()
    bench.download(create_parents=True)
    assert bench.target.read_bytes() == data


@pytest.mark.parametrize("path", ["", "/", "name/", ".", "..", "a\0b", "x" * 256])
def test_a_path_that_cannot_be_a_file_is_refused(bench: Bench, path: str) -> None:
    bench.store(data_of(PART))
    with pytest.raises(TargetError):
        bench.engine().download(bench.ref, path)


def test_a_name_of_255_bytes_leaves_room_for_the_hidden_ones(bench: Bench) -> None:
    data = bench.store(data_of(2 * PART))
    bench.target = bench.folder / ("ä" * 127 + "x")
    bench.download()
    assert bench.target.read_bytes() == data
    assert bench.hidden == []


def test_a_disk_without_room_is_found_out_before_a_byte_moves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system says how much there is; nothing is left behind."""
    bench.store(data_of(3 * PART))
    real = os.fstatvfs

    def tiny(fd: int) -> os.statvfs_result:
        values = list(real(fd))
        values[4] = 0
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "fstatvfs", tiny)
    with pytest.raises(TargetError, match="has 0 left") as caught:
        bench.download()
    assert caught.value.is_retryable
    assert bench.asked("get") == []
    assert bench.hidden == []


def test_a_relative_path_is_below_the_working_directory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bench.store(data_of(PART))
    monkeypatch.chdir(bench.folder)
    result = bench.engine().download(bench.ref, "relative.bin")
    assert result.path == str(Path.cwd() / "relative.bin")
    assert (bench.folder / "relative.bin").read_bytes() == data
