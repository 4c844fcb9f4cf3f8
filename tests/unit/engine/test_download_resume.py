"""Downloads that were killed, and what the next try makes of what it finds."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.errors import (
    ConfigError,
    ConnectionLost,
    DiskFull,
    IntegrityError,
    ObjectChanged,
    Paused,
    RequestContext,
    TargetBusy,
    TargetError,
)
from orbit_airflow.engine.events import TransferStarted
from orbit_airflow.engine.model import Integrity
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, DictTokens, Killed, NoTokensKept, data_of

SIZE = 8 * PART + 100


@pytest.mark.parametrize("request_number", range(1, 11))
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "no tokens"])
def test_a_killed_download_continues(bench: Bench, request_number: int, when: Any, tokens: bool) -> None:
    """At any request: the next try fetches only what is not written down, with or without a token."""
    data = bench.store(data_of(SIZE))
    if not tokens:
        bench.tokens = NoTokensKept()
    bench.die_downloading(request_number, when)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
    # The first request is the HEAD; each range that was whole stays.
    whole = max(0, request_number - 2)
    assert result.bytes_saved == min(whole * PART, SIZE)
    assert result.bytes_received == SIZE - result.bytes_saved
    assert result.resumed is (whole > 0)
    assert bench.hidden == []


def test_the_start_tells_what_was_found(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    bench.die_downloading(6)
    bench.download()
    (started,) = bench.seen(TransferStarted)
    assert (started.parts_found, started.bytes_found) == (4, 4 * PART)


def cut(path: Path) -> None:
    os.truncate(path, 3 * PART + 5)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[PART + 7] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def swap(path: Path) -> None:
    """The same bytes in another file."""
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    twin.chmod(0o600)
    twin.replace(path)


def delete(path: Path) -> None:
    path.unlink()


def to_link(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(victim)


def second_name(path: Path) -> None:
    os.link(path, path.with_name("hard"))


@pytest.mark.parametrize("harm", [cut, flip, grow, swap, delete, to_link, second_name])
def test_what_was_done_to_the_part_file_is_found_out(bench: Bench, harm: Callable[[Path], None]) -> None:
    """The bytes themselves are the witness; a file that was exchanged is not used at all."""
    data = bench.store(data_of(SIZE))
    bench.die_downloading(7)
    harm(bench.part_file)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
    kept = {"cut": 3 * PART, "flip": 4 * PART, "grow": 5 * PART}.get(harm.__name__, 0)
    assert result.bytes_saved == kept
    if harm is to_link:
        assert (bench.folder / "victim").read_bytes() == b"precious"
    if harm is second_name:
        assert (bench.folder / "hard").read_bytes() != data


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(5).randbytes(300))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def forged(path: Path) -> None:
    """A line with another CRC than the range has, well-formed."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b",1,", b",2,"), *lines[3:]]))


@pytest.mark.parametrize(("harm", "kept"), [(torn, 4), (garbage, 0), (empty, 0), (forged, 1), (delete, 0)])
def test_a_journal_is_believed_line_by_line(bench: Bench, harm: Callable[[Path], None], kept: int) -> None:
    data = bench.store(data_of(SIZE))
    bench.die_downloading(7)
    harm(bench.journal_file)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == kept * PART
    assert bench.hidden == []


@pytest.mark.parametrize("phase", ["started", "publishing", "done"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("replace_target", [True, False], ids=["replace", "keep"])
@pytest.mark.parametrize("lost", [True, False], ids=["token lost", "token kept"])
def test_killed_around_a_save_of_the_token(
    bench: Bench, phase: str, when: str, replace_target: bool, lost: bool
) -> None:
    """publishing/after and done/before are on both sides of the rename; the last try finds the truth in all of them."""
    data = bench.store(data_of(SIZE))
    tokens = Dying(phase, when)
    bench.tokens = tokens
    with pytest.raises(Killed):
        bench.download(replace=replace_target)
    visible = phase == "done"
    assert bench.target.exists() is visible
    bench.tokens = DictTokens() if lost else tokens.survivor()
    bench.memory.requests.clear()
    result = bench.download(replace=replace_target)
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
    assert result.bytes_received == (0 if phase != "started" else SIZE)
    assert (bench.asked("get") == []) is (phase != "started")
    assert bench.hidden == []


class Dying(DictTokens):
    """Dies right before or right after it keeps a phase."""

    def __init__(self, phase: str, when: str) -> None:
        super().__init__()
        self._at = (phase, when)

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Killed is no Exception, so that no guard catches it."""
        if (token["phase"], "before") == self._at:
            raise Killed
        super().save(key, token)
        if (token["phase"], "after") == self._at:
            raise Killed
        return True

    def survivor(self) -> DictTokens:
        """What is kept, without the knife."""
        twin = DictTokens()
        twin.kept = dict(self.kept)
        return twin


def test_a_rerun_after_success_transfers_nothing(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    first = bench.download()
    bench.memory.requests.clear()
    again = bench.download()
    assert bench.asked("get") == []
    assert (again.resumed, again.bytes_saved, again.integrity) == (True, SIZE, first.integrity)


def test_a_rerun_after_success_believes_bytes_and_not_time_stamps(bench: Bench) -> None:
    """A copy of the file (restored, touched) is the file; one other byte makes it another one."""
    data = bench.store(data_of(SIZE))
    bench.download()
    swap(bench.target)
    bench.memory.requests.clear()
    assert bench.download().bytes_received == 0
    flip(bench.target)
    assert bench.download().bytes_received == SIZE
    assert bench.target.read_bytes() == data


def test_a_rerun_after_success_finds_out_that_the_object_is_another_one(bench: Bench) -> None:
    """A cleared task wants the object as it is now."""
    bench.store(data_of(SIZE, 1))
    bench.download()
    data = bench.store(data_of(SIZE, 2))
    assert bench.download().bytes_received == SIZE
    assert bench.target.read_bytes() == data


def test_a_rerun_after_success_needs_no_object(bench: Bench) -> None:
    """What was fetched and proved stays so, although the object was deleted since."""
    data = bench.store(data_of(SIZE))
    bench.download()
    bench.memory.delete(bench.ref)
    result = bench.download()
    assert result.bytes_received == 0
    assert bench.target.read_bytes() == data


def test_an_object_that_was_replaced_between_tries_ends_the_download(bench: Bench) -> None:
    """Nothing of the old one is mixed in; the run after that begins with the new one."""
    bench.store(data_of(SIZE, 1))
    bench.die_downloading(5)
    data = bench.store(data_of(SIZE, 2))
    with pytest.raises(ObjectChanged, match="since an earlier try"):
        bench.download()
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 0
    assert bench.hidden == []


def test_an_object_that_was_replaced_between_tries_is_fetched_anew_if_so_wished(bench: Bench) -> None:
    bench.store(data_of(SIZE, 1))
    bench.die_downloading(5)
    data = bench.store(data_of(SIZE, 2))
    result = bench.download(on_object_change="restart")
    assert bench.target.read_bytes() == data
    assert result.bytes_received == SIZE


def test_with_versions_the_download_goes_on_with_the_one_that_it_began(bench: Bench) -> None:
    """A newer version does not make the old one's bytes vanish: the result is one snapshot, and names it."""
    bench.use(versioned=True)
    data = bench.store(data_of(SIZE, 1))
    bench.die_downloading(5)
    bench.store(data_of(SIZE, 2))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 3 * PART
    assert result.version_id is not None


@pytest.mark.parametrize("change", ["fail", "restart"])
def test_an_object_that_is_replaced_meanwhile_is_never_mixed(bench: Bench, change: Any) -> None:
    bench.workers = 1
    bench.store(data_of(SIZE, 1))
    new = data_of(SIZE, 2)
    bench.faulty.add(Fault("get", nth=4, when="before", call=lambda: bench.store(new)))
    if change == "fail":
        with pytest.raises(ObjectChanged, match="while it was downloaded"):
            bench.download()
        assert not bench.target.exists()
        assert bench.hidden == []
    else:
        bench.download(on_object_change="restart")
        assert bench.target.read_bytes() == new


def test_a_body_that_breaks_off_goes_on_where_it_broke(bench: Bench) -> None:
    """Not at the range's beginning; and lines that die again and again do not end it while bytes come."""
    bench.workers, bench.part_size = 1, 4 * 1024 * 1024
    size = 4 * 1024 * 1024
    data = bench.store(data_of(size))
    lost = ConnectionLost("cut", RequestContext("GetObject", "bucket", "key"))
    bench.faulty.add(Fault("get", times=3, when="during", error=lost, blocks=1))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_received == size


def test_wrong_bytes_are_fetched_again_once_and_then_an_error(bench: Bench) -> None:
    """The CRC over all bytes decides; nothing is left of what was wrong."""
    bench.store(data_of(SIZE))
    info = bench.memory.head(bench.ref)
    assert info.checksum is not None
    wrong = replace(info, checksum=replace(info.checksum, value="AAAAAA=="))
    bench.faulty.add(Fault("head", times=None, when="after", answer=wrong))
    with pytest.raises(IntegrityError, match="the object's CRC32 is AAAAAA=="):
        bench.download()
    assert len(bench.asked("get")) == 2 * 9
    assert not bench.target.exists()
    assert bench.hidden == []


def test_two_transfers_of_one_target_do_not_meet(bench: Bench) -> None:
    """The one that comes second is told so at once, and disturbs nothing."""
    data = bench.store(data_of(SIZE))
    bench.workers = 1
    seen: list[BaseException] = []

    def second() -> None:
        bench.faulty.clear()
        with pytest.raises(TargetBusy) as caught:
            bench.engine().download(bench.ref, bench.target)
        seen.append(caught.value)

    bench.on("get", second)
    bench.download()
    assert len(seen) == 1
    assert bench.target.read_bytes() == data
    assert bench.hidden == []


def test_a_part_file_that_somebody_holds_is_not_touched(bench: Bench) -> None:
    """An earlier try that lost its supervisor may still be writing."""
    bench.store(data_of(SIZE))
    bench.die_downloading(5)
    part = bench.part_file
    with part.open("r+b") as zombie:
        fcntl.flock(zombie, fcntl.LOCK_EX)
        with pytest.raises(TargetBusy):
            bench.download()
    assert bench.download().bytes_saved == 3 * PART


def test_another_hosts_try_is_spoken_of_and_begun_again(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    bench.die_downloading(5)
    for path in bench.hidden:
        path.unlink()
    bench.edit_token(host="elsewhere/0123456789ab")
    result = bench.download()
    assert result.bytes_saved == 0
    assert "another host (elsewhere/0123456789ab)" in bench.notices
    assert "shared_storage=True" in bench.notices


def test_a_stop_order_keeps_what_is_there(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    bench.workers = 1
    cancel = bench.cancellation()
    bench.faulty.add(Fault("get", nth=4, when="before", call=cancel.cancel))
    with pytest.raises(Paused):
        bench.download(cancel=cancel)
    result = bench.download()
    assert result.bytes_saved == 3 * PART


def test_left_overs_of_another_object_do_not_pile_up(bench: Bench) -> None:
    """Yesterday's failed download of the same path: its part file is removed, its bytes are not used."""
    bench.store(data_of(SIZE, 1))
    bench.die_downloading(5)
    bench.tokens = DictTokens()
    bench.ref = replace(bench.ref, key="folder/today.bin")
    data = bench.store(data_of(SIZE, 2))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 0
    assert bench.hidden == []


def test_a_failed_sync_makes_the_part_file_worthless(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of a lost page once: nothing is believed of a file whose sync failed."""
    data = bench.store(data_of(SIZE))

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(TargetError, match="failed while it was synced") as caught:
            bench.download()
    assert not caught.value.is_retryable
    assert bench.hidden == []
    bench.download()
    assert bench.target.read_bytes() == data


def test_a_disk_that_fills_up_keeps_what_was_written_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bench.store(data_of(SIZE))
    bench.workers = 1
    real, calls = os.pwrite, []

    def full(fd: int, view: Any, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, view, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFull, match="make room") as caught:
            bench.download()
    assert caught.value.is_retryable
    result = bench.download()
    assert result.bytes_saved == 3 * PART
    assert bench.target.read_bytes() == data


@pytest.mark.parametrize("offset", [0, 1, PART, 3 * PART + 9, SIZE])
@pytest.mark.parametrize("honest", [True, False])
def test_an_offset_is_used_only_as_far_as_it_can_be_proved(bench: Bench, offset: int, honest: bool) -> None:
    """The guide's download_file_resumable: a wrong beginning costs a second fetch, never a wrong file."""
    data = bench.store(data_of(SIZE))
    bench.target.write_bytes(data[:offset] if honest else bytes(offset))
    result = bench.engine().download_file_resumable(bench.ref, bench.target, offset, cancel=bench.cancellation())
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
    whole = SIZE if offset == SIZE else offset // PART * PART
    if honest:
        assert result.bytes_saved == whole
    assert bench.hidden == []


def test_an_offset_beyond_the_file_or_the_object_is_refused(bench: Bench) -> None:
    bench.store(data_of(SIZE))
    bench.target.write_bytes(b"x" * 10)
    with pytest.raises(ConfigError, match="offset is 11"):
        bench.engine().download_file_resumable(bench.ref, bench.target, 11)
    assert bench.target.read_bytes() == b"x" * 10


def test_an_offset_that_nothing_could_prove_is_not_used(bench: Bench) -> None:
    bench.settings["verify_checksums"] = False
    data = bench.store(data_of(SIZE))
    bench.target.write_bytes(bytes(4 * PART))
    result = bench.engine().download_file_resumable(bench.ref, bench.target, 4 * PART)
    assert bench.target.read_bytes() == data
    assert result.bytes_received == SIZE
