"""Tokens and journals that somebody, or a disk, has changed: never a wrong success, never a file that is not ours.

300 mutants; ``ORBIT_MUTANTS=10000`` makes it as many.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orbit_airflow.engine.errors import OrbitError
from orbit_airflow.engine.model import DownloadResult, Integrity
from tests.unit.engine.bench import PART, Bench, DictTokens, Killed, data_of

SIZE = 5 * PART + 77
DATA = data_of(SIZE)
MUTANTS = int(os.environ.get("ORBIT_MUTANTS", "300")) // 2
CHANGING = settings(
    max_examples=MUTANTS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

numbers = st.sampled_from([-1, 0, 1, SIZE, SIZE + 1, 2**31, 2**63, 2**64, 2**70]) | st.integers(-5, 2**33)
paths = st.sampled_from(["../victim", "/etc/passwd", "..", "", "a/b", "0123456789abcdef", "../../x\0", "A" * 16])
words = st.sampled_from(["started", "publishing", "done", "full-crc", "part-crc", "md5", "size+etag", "CRC32", "SHA1"])
leaves = st.none() | st.booleans() | numbers | paths | words | st.floats() | st.text(max_size=20)
values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=3)
FIELDS = (
    "schema", "op", "target", "etag", "size", "version_id", "host", "nonce", "phase", "try_number", "integrity", "file",
)  # fmt: skip
OF_FILE = ("dev", "ino", "mtime_ns", "ctime_ns", "algorithm", "crc")
OF_HEADER = ("schema", "target", "etag", "size", "range_size", "algorithm", "host", "dev", "ino", "version_id")


class Stage:
    """A directory with precious neighbours, and a download that came so far."""

    def __init__(self, folder: Path, came_to: str, *, checksum: bool) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "victim").write_bytes(b"precious")
        (self.home / "neighbour.bin").write_bytes(b"precious")
        (self.home / ".neighbour.bin.0123456789abcdef.orbit-part").write_bytes(b"precious")
        self.folder = folder
        self.bench = bench = Bench(self.home)
        bench.object_checksum = checksum
        bench.store(DATA)
        if came_to == "done":
            bench.download()
        elif came_to == "publishing":
            bench.tokens = _Dying()
            with pytest.raises(Killed):
                bench.download()
            tokens = DictTokens()
            tokens.kept = bench.tokens.kept
            bench.tokens = tokens
        else:
            bench.die_downloading(4)

    def others(self) -> dict[str, bytes]:
        """Every file that is not this target's."""
        ours = (".restored.bin.", "restored.bin")
        found = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(ours))
        return {str(path): path.read_bytes() for path in found}

    def judge(self, *, foreign: bool = False) -> None:
        """One more try: the object's bytes under the name, or one of our errors, and everything else as it was.

        ``foreign``: what is left says that it is of another host, and is left alone.
        """
        before, bench = self.others(), self.bench
        held = bench.target.read_bytes() if bench.target.exists() else None
        try:
            result: DownloadResult | None = bench.download()
        except OrbitError as exc:
            event(type(exc).__name__)
            result = None
        assert self.others() == before
        if result is None:
            assert (bench.target.read_bytes() if bench.target.exists() else None) in (held, DATA)
            return
        event("resumed" if result.bytes_saved else "anew")
        assert bench.target.read_bytes() == DATA
        provable = {Integrity.MD5, Integrity.SIZE_ETAG}
        assert result.integrity in (provable | {Integrity.FULL_CRC} if bench.object_checksum else provable)
        assert foreign or bench.hidden == [self.home / ".neighbour.bin.0123456789abcdef.orbit-part"]


class _Dying(DictTokens):
    """Dies when it has kept "publishing"."""

    def save(self, key: str, token: dict[str, Any]) -> bool:
        super().save(key, token)
        if token["phase"] == "publishing":
            raise Killed
        return True


@CHANGING
@given(
    came_to=st.sampled_from(["started", "publishing", "done"]),
    checksum=st.booleans(),
    changes=st.dictionaries(st.sampled_from(FIELDS), values, max_size=3),
    of_file=st.dictionaries(st.sampled_from(OF_FILE), values, max_size=3),
    gone=st.sets(st.sampled_from(FIELDS), max_size=1),
    harm=st.sampled_from(["none", "flip", "zeros", "delete", "shorter"]),
)
def test_a_mutant_token_makes_no_wrong_success(
    came_to: str,
    checksum: bool,
    changes: dict[str, Any],
    of_file: dict[str, Any],
    gone: set[str],
    harm: str,
) -> None:
    """And the file that it speaks of may have been changed as well."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), came_to, checksum=checksum)
        bench, (key,) = stage.bench, stage.bench.tokens.kept  # type: ignore[attr-defined]  # a DictTokens
        token = bench.token
        if isinstance(token["file"], dict):
            token["file"] |= of_file
        token |= changes
        for name in gone:
            token.pop(name, None)
        bench.tokens.kept[key] = json.dumps(token)  # type: ignore[attr-defined]  # a DictTokens
        if came_to == "done":
            _harm(bench.target, harm)
        stage.judge()


@CHANGING
@given(
    came_to=st.sampled_from(["started", "publishing", "published"]),
    checksum=st.booleans(),
    header=st.dictionaries(st.sampled_from(OF_HEADER), values, max_size=2),
    lines=st.lists(st.lists(leaves, max_size=4) | values, max_size=3),
    at=st.integers(0, 8),
    noise=st.binary(max_size=30),
    cut=st.integers(0, 400),
    harm=st.sampled_from(["none", "flip", "zeros", "shorter"]),
)
def test_a_mutant_journal_makes_no_wrong_success(
    came_to: str,
    checksum: bool,
    header: dict[str, Any],
    lines: list[Any],
    at: int,
    noise: bytes,
    cut: int,
    harm: str,
) -> None:
    """Its lines have right CRCs, so that they are read; the part file, or the file itself, may be harmed as well."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), came_to.replace("published", "publishing"), checksum=checksum)
        bench = stage.bench
        bench.tokens = DictTokens()
        part = next(path for path in bench.hidden if path.name.startswith(".restored") and path.suffix == ".orbit-part")
        journal = part.with_suffix(".orbit-journal")
        known = [json.loads(line.partition(b" ")[2]) for line in journal.read_bytes().splitlines()]
        known[0] |= header
        known[min(at, len(known)) : min(at, len(known))] = lines
        content = b"".join(_line(item) for item in known) + noise
        journal.write_bytes(content[: len(content) - cut] if cut < 100 else content)
        if came_to == "published":
            part.rename(bench.target)
        _harm(bench.target if came_to == "published" else part, harm)
        stage.judge(foreign="host" in header)


def _line(value: object) -> bytes:
    text = json.dumps(value).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _harm(path: Path, harm: str) -> None:
    """In place: the inode stays."""
    data = bytearray(path.read_bytes())
    if harm == "delete":
        path.unlink()
    elif harm == "flip":
        data[len(data) // 2] ^= 1
        _rewrite(path, data)
    elif harm == "zeros":
        _rewrite(path, bytearray(len(data)))
    elif harm == "shorter":
        os.truncate(path, len(data) // 2)


def _rewrite(path: Path, data: bytearray) -> None:
    found = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    # The file system's clock is coarse: not in the same tick as the try that finished.
    while path.stat().st_ctime_ns == found.st_ctime_ns:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
