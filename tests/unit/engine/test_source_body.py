"""The file: what is refused, what is noticed, and bytes that are hashed as they are sent."""

from __future__ import annotations

import hashlib
import os
import socket
import zlib
from pathlib import Path

import pytest

from orbit_airflow.engine import body as body_module
from orbit_airflow.engine.body import BUFFER_LIMIT, MeteredBody, PartBody, buffer_for
from orbit_airflow.engine.errors import Paused, SourceChanged, SourceError
from orbit_airflow.engine.events import Meter, no_reporter
from orbit_airflow.engine.model import MIB, Part
from orbit_airflow.engine.source import BLOCK, SourceFile
from tests.unit.engine.bench import data_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 3 MiB and a bit."""
    found = tmp_path / "data.bin"
    found.write_bytes(data_of(3 * MIB + 7))
    return found


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """By name, not by a read error."""
    with pytest.raises(SourceError, match="is a directory"):
        SourceFile(str(tmp_path))


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    """Without waiting for a writer."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(SourceError, match="is a FIFO"):
        SourceFile(str(fifo))


def test_a_device_is_refused() -> None:
    """/dev/zero has no end."""
    with pytest.raises(SourceError, match="is a device"):
        SourceFile("/dev/zero")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    """It cannot even be opened."""
    name = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(name)
        with pytest.raises(SourceError):
            SourceFile(name)


def test_proc_files_are_refused() -> None:
    """They claim no bytes and have some."""
    with pytest.raises(SourceError, match="claims 0 bytes"):
        SourceFile("/proc/self/status")


def test_a_missing_file_gets_a_hint(tmp_path: Path) -> None:
    """The usual reason is another worker's disk."""
    with pytest.raises(SourceError, match="right on this worker"):
        SourceFile(str(tmp_path / "nothing"))


def test_a_name_cannot_write_log_lines(tmp_path: Path) -> None:
    """Escaped in the message."""
    with pytest.raises(SourceError) as caught:
        SourceFile(str(tmp_path / "a\nb"))
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    """No bytes, a CRC of 0."""
    (tmp_path / "empty").touch()
    with SourceFile(str(tmp_path / "empty")) as source:
        assert (source.size, source.whole_digest(md5=True)) == (0, (0, hashlib.md5(b"").digest()))


def test_no_descriptor_is_lost(tmp_path: Path) -> None:
    """Neither by refusals nor by uploads."""
    (tmp_path / "x").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with SourceFile(str(tmp_path / "x")):
            pass
        with pytest.raises(SourceError):
            SourceFile(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lent_file_stays_open(path: Path) -> None:
    """A thread that was left behind must not read from a number that is somebody else's by now."""
    with SourceFile(str(path)) as source:
        fd = source._fd
        source.lend()
    assert os.fstat(fd).st_size == path.stat().st_size
    os.close(fd)


def test_a_short_read_is_an_error_at_once(path: Path) -> None:
    """The file ends before the stretch does."""
    with SourceFile(str(path)) as source:
        os.truncate(path, MIB)
        with pytest.raises(SourceChanged, match=f"ends now at {MIB}"):
            source.read_into(memoryview(bytearray(100)), MIB - 50)


def test_the_digest_is_of_the_stretch(path: Path) -> None:
    """CRC32 and MD5 of exactly the part's bytes, in blocks smaller than it."""
    data = path.read_bytes()[1000:2_000_000]
    with SourceFile(str(path)) as source:
        digest = source.digest(Part(1, 1000, len(data)), memoryview(bytearray(4096)), md5=True)
    assert digest == (zlib.crc32(data), hashlib.md5(data).digest())


def test_an_untouched_file_has_not_changed(path: Path) -> None:
    """Reading it is no change."""
    with SourceFile(str(path)) as source:
        source.whole_digest(md5=False)
        assert source.change() is None


@pytest.mark.parametrize("deed", ["append", "truncate", "write", "replace", "delete", "mtime restored", "chmod"])
def test_every_deed_is_noticed(path: Path, deed: str) -> None:
    """Also one whose mtime was set back: the ctime cannot be."""
    with SourceFile(str(path)) as source:
        seen = path.stat()
        _do(path, deed)
        if deed == "mtime restored":
            os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        assert source.change()


def _do(path: Path, deed: str) -> None:
    if deed == "append":
        with path.open("ab") as file:
            file.write(b"x")
    elif deed == "truncate":
        os.truncate(path, 10)
    elif deed in ("write", "mtime restored"):
        with path.open("r+b") as file:
            file.write(b"changed")
    elif deed == "replace":
        other = path.with_suffix(".new")
        other.write_bytes(path.read_bytes())
        other.replace(path)
    elif deed == "delete":
        path.unlink()
    else:
        path.chmod(0o600 if path.stat().st_mode & 0o077 else 0o644)


def test_settling_takes_the_present_stat(path: Path) -> None:
    """After its bytes were compared the file is itself again."""
    with SourceFile(str(path)) as source:
        _do(path, "chmod")
        source.settle()
        assert source.change() is None


def test_a_small_part_is_held(path: Path) -> None:
    """Sent from memory: a change behind the hashing cannot reach the wire."""
    data = path.read_bytes()
    with SourceFile(str(path)) as source:
        body = PartBody(source, Part(1, 5, 2 * MIB), buffer_for(2 * MIB), md5=True)
        _do(path, "write")
        sent = b"".join(bytes(block) for block in body.blocks())
    assert sent == data[5 : 5 + 2 * MIB]
    assert (body.crc32, body.md5) == (zlib.crc32(sent), hashlib.md5(sent).digest())


@pytest.mark.parametrize("held", [True, False])
def test_a_body_begins_anew_each_time(path: Path, held: bool) -> None:
    """Twice, and half in between: always from the first byte, from any position for a signer."""
    data = path.read_bytes()
    with SourceFile(str(path)) as source:
        buffer = buffer_for(3 * MIB + 7) if held else memoryview(bytearray(BLOCK))
        body = PartBody(source, Part(1, 0, 3 * MIB + 7), buffer, md5=False)
        next(iter(body.blocks()))
        assert b"".join(bytes(block) for block in body.blocks()) == data
        assert b"".join(bytes(block) for block in body.blocks()) == data
        assert (body.read_at(MIB, 10), body.read_at(3 * MIB + 5, 99)) == (data[MIB : MIB + 10], data[-2:])
        assert body.read_at(10 * MIB, 5) == b""


def test_a_large_part_that_changed_between_its_two_readings_is_caught(path: Path) -> None:
    """Behind the last block, so that the store cannot have the whole of it."""
    with SourceFile(str(path)) as source:
        body = PartBody(source, Part(1, 0, 3 * MIB + 7), memoryview(bytearray(BLOCK)), md5=False)
        _do(path, "mtime restored")
        with pytest.raises(SourceChanged, match="part 1"):
            list(body.blocks())


def test_a_large_part_that_shrinks_is_caught(path: Path) -> None:
    """No waiting for bytes that will not come."""
    with SourceFile(str(path)) as source:
        body = PartBody(source, Part(1, 0, 3 * MIB + 7), memoryview(bytearray(BLOCK)), md5=False)
        os.truncate(path, MIB)
        with pytest.raises(SourceChanged):
            list(body.blocks())


def test_memory_is_bounded() -> None:
    """One part up to 16 MiB, else one block."""
    sizes = {size: len(buffer_for(size)) for size in (0, 1, BUFFER_LIMIT, BUFFER_LIMIT + 1, 5 * 1024 * MIB)}
    assert sizes == {0: 1, 1: 1, BUFFER_LIMIT: BUFFER_LIMIT, BUFFER_LIMIT + 1: BLOCK, 5 * 1024 * MIB: BLOCK}
    assert body_module.BUFFER_LIMIT == 16 * MIB


def _metered(path: Path, check: object = None) -> tuple[MeteredBody, Meter]:
    source = SourceFile(str(path))
    meter = Meter(2 * source.size, no_reporter)  # above what can be done, so that nothing is cut off
    body = PartBody(source, Part(1, 0, source.size), buffer_for(source.size), md5=False)
    return MeteredBody(body, meter, check if callable(check) else lambda: None), meter


def test_a_body_sent_again_is_counted_once(path: Path) -> None:
    """What left twice was sent twice, and is done once."""
    body, meter = _metered(path)
    next(iter(body.blocks()))
    assert sum(len(block) for block in body.blocks()) == body.size
    assert meter.snapshot().bytes_done == body.size
    assert meter.sent == body.size + BLOCK


def test_a_failed_body_is_taken_back(path: Path) -> None:
    """Nothing of it is done."""
    body, meter = _metered(path)
    list(body.blocks())
    body.take_back()
    body.take_back()
    assert meter.snapshot().bytes_done == 0


def test_a_stop_order_acts_between_blocks(path: Path) -> None:
    """Not only between parts."""
    orders = iter([None, None, Paused("stop")])

    def check() -> None:
        order = next(orders)
        if order:
            raise order

    body, meter = _metered(path, check)
    with pytest.raises(Paused):
        list(body.blocks())
    assert meter.sent == 2 * BLOCK
