"""Copies through this machine: faults on either side, kills, the pace, and what is proved."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, CopyOptions, TransferEngine
from orbit_airflow.engine.batch.scratch import scratch
from orbit_airflow.engine.batch.streaming import StreamedCopy
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import AccessDenied, ConnectionLost, RequestContext, TargetError, Throttled
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, sent

PART = 1024
DATA = bytes(range(256)) * 24
LIMITS = StoreLimits(min_part_size=PART)
SOURCE, TARGET = ObjectRef(BUCKET, "a"), ObjectRef("there", "to/a")
KEPT = ObjectAttributes(
    metadata=(("colour", "blue"),),
    tags=(("t", "1"),),
    content_type="a/b",
    storage_class="STANDARD_IA",
    extra_args=(
        ("CacheControl", "no-store"),
        ("Expires", datetime(2030, 1, 1, tzinfo=UTC)),
        ("WebsiteRedirectLocation", "/other"),
    ),
)
ALONE = BatchConfig(retry_delay=0, max_concurrent=1, page_keys=10)


class Killed(BaseException):
    """What no ``except Exception`` sees."""


class Lakes:
    """A store that is read and another one that is written, both with a script of faults."""

    def __init__(self, folder: Path, **target: Any) -> None:
        self.source = MemoryStore(versioned=False)
        self.target = MemoryStore(versioned=True, min_part_size=PART, **target)
        self.reading, self.writing = FaultyStore(self.source), FaultyStore(self.target)
        self.folder, self.tokens = folder, DictTokens()
        self.put(DATA)

    def put(self, data: bytes, attributes: ObjectAttributes = KEPT, key: str = "a") -> None:
        digests = PartDigests()
        self.source.put(ObjectRef(BUCKET, key), BytesBody(data), digests, attributes, if_none_match=False)

    def engines(self) -> tuple[TransferEngine, TransferEngine]:
        settings: dict[str, Any] = {"limits": LIMITS, "chunk_size": 2 * PART, "parallel_operations": 2}
        return engine_on(self.reading, **settings), engine_on(self.writing, **settings)

    def run(self, config: BatchConfig = ALONE, keys: list[str] | None = None, **more: Any) -> Any:
        reader, writer = self.engines()
        work = StreamedCopy(
            bucket=BUCKET, dest_bucket="there", dest_prefix="to/", reader=reader, writer=writer,
            directory=str(self.folder), **more,
        )  # fmt: skip
        return reader.batch.run(work, keys or ["a"], config, BatchRun(tokens=self.tokens))

    def right(self, data: bytes = DATA) -> bool:
        """One version with these bytes, no open upload, nothing on the disk, no state but the batch's."""
        assert self.target.read(TARGET) == data
        assert not self.target.uploads()
        assert not list(self.folder.iterdir())
        assert [token["op"] for token in self.tokens.kept.values()] == ["batch"]
        return len(self.target.versions(TARGET)) == 1


@pytest.fixture
def lakes(tmp_path: Path) -> Lakes:
    return Lakes(tmp_path)


def test_all_that_a_copy_can_keep_is_kept(lakes: Lakes) -> None:
    """Headers, Expires, redirect, class, metadata, tags; the mark of the upload is added."""
    assert lakes.run().successful == 1
    assert lakes.right()
    had, got = lakes.source.head(SOURCE), lakes.target.head(TARGET)
    assert (got.headers, got.storage_class) == (had.headers, "STANDARD_IA")
    assert got.metadata_value("colour") == "blue"
    assert lakes.target.get_tags(TARGET) == KEPT.tags


@pytest.mark.parametrize("times", [1, 2, None])
def test_a_source_that_is_replaced_while_it_is_read(lakes: Lakes, times: int | None) -> None:
    """It is copied as it is then, whole; or the key fails, when that never ends. Never a mixture of two."""
    count = 0

    def replaced() -> None:
        nonlocal count
        count += 1
        lakes.put(bytes([count]) * len(DATA))

    lakes.reading.add(Fault("get", nth=2, times=times, call=replaced))
    result = lakes.run()
    if times is None:
        assert (result.failed, result.errors[0].code) == (1, "PreconditionFailed")
        assert not lakes.target.objects
    else:
        assert result.successful == 1
        assert lakes.right(bytes([count]) * len(DATA))


def test_attributes_are_of_the_bytes(lakes: Lakes) -> None:
    """A source that was replaced between the look and the reading is looked at again."""
    theirs = ObjectAttributes(metadata=(("colour", "red"),))
    lakes.reading.add(Fault("head", nth=2, call=lambda: lakes.put(DATA[::-1], theirs)))
    assert lakes.run().successful == 1
    assert lakes.right(DATA[::-1])
    assert lakes.target.head(TARGET).metadata_value("colour") == "red"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("get", when="during", blocks=0),
        Fault("get", when="during", nth=2),
        Fault("get", nth=1, times=2),
        Fault("head", nth=1),
    ],
)
def test_a_cut_reading_is_continued(lakes: Lakes, fault: Fault) -> None:
    """The range that broke off is asked for again, and nothing else."""
    lakes.reading.add(fault)
    assert lakes.run().successful == 1
    assert lakes.right()
    assert sent(lakes.source, "get") <= 5


@pytest.mark.parametrize(
    "fault",
    [
        Fault("create"),
        Fault("create", when="after"),
        Fault("upload_part", when="during"),
        Fault("upload_part", nth=2, when="after"),
        Fault("complete"),
        Fault("complete", when="after"),
        Fault("upload_part", error=Throttled("slow", RequestContext(code="SlowDown", retry_after=0.0))),
    ],
)
def test_a_failed_writing_is_repeated(lakes: Lakes, fault: Fault) -> None:
    """One version comes of it."""
    lakes.writing.add(fault)
    assert lakes.run().successful == 1
    assert lakes.right()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_refused_connection_fails_the_key_and_says_so(lakes: Lakes, side: str) -> None:
    """Both sides' refusals are outcomes; the other key, which is there, is copied."""
    lakes.put(b"small", key="b")
    store = lakes.reading if side == "source" else lakes.writing
    store.add(Fault("get" if side == "source" else "create", times=None, error=AccessDenied("no right")))
    result = lakes.run(keys=["a", "b"])
    assert result.errors[0].key == "a"
    assert "no right" in result.errors[0].message
    assert result.failed == (2 if side == "source" else 1)
    assert not list(lakes.folder.iterdir())


def test_an_outage_of_the_target_is_told_from_a_bad_key(lakes: Lakes) -> None:
    """The source answers all the while: it is the target's store that is asked, and it is out, so the batch ends."""
    lakes.writing.add(Fault("*", times=None, error=ConnectionLost("down", RequestContext("put", "there"))))
    with pytest.raises(ConnectionLost, match="Waited 0 s"):
        lakes.run(keys=["a", "a2"])
    lakes.writing.clear()
    assert lakes.run(keys=["a"]).successful == 1


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("nth", range(1, 14))
def test_a_killed_copy_continues(lakes: Lakes, side: str, nth: int) -> None:
    """At any request of either side: one version, no orphan upload, nothing left on the disk."""
    store = lakes.reading if side == "source" else lakes.writing
    # Behind the kill nothing more leaves the process.
    dead = [Fault("*", nth=nth, when="after", error=Killed()), Fault("*", nth=nth + 1, times=None, error=Killed())]
    store.add(*dead)
    with suppress(Killed):
        lakes.run()
    store.clear()
    assert lakes.run().successful == 1
    assert lakes.right()


def test_parts_that_are_there_are_not_sent_again(lakes: Lakes) -> None:
    """Also when the file is another one: it is fetched, and compared."""
    lakes.writing.add(Fault("upload_part", nth=3, error=Killed()), Fault("*", nth=5, times=None, error=Killed()))
    with pytest.raises(Killed):
        lakes.run()
    lakes.writing.clear()
    kept = sum(len(upload.parts) for upload in lakes.target.uploads())
    lakes.target.requests.clear()
    assert lakes.run().successful == 1
    assert lakes.right()
    assert sent(lakes.target, "upload_part") == 3 - kept


def test_a_copy_that_is_there_is_not_made_again(lakes: Lakes) -> None:
    """Small ones, which equal MD5s prove."""
    lakes.put(b"small")
    lakes.writing.add(Fault("put", when="after", error=Killed()))
    with pytest.raises(Killed):
        lakes.run()
    lakes.target.requests.clear()
    assert lakes.run().successful == 1
    assert sent(lakes.target, "put") == 0


def test_somebody_elses_object_is_not_the_copy(lakes: Lakes) -> None:
    """Of the same size and metadata, written since: nothing proves it, so it is copied."""
    lakes.writing.add(Fault("create", error=Killed()))
    with pytest.raises(Killed):
        lakes.run()
    lakes.writing.clear()
    lakes.target.put(TARGET, BytesBody(bytes(len(DATA))), PartDigests(), KEPT, if_none_match=False)
    assert lakes.run().successful == 1
    assert lakes.target.read(TARGET) == DATA


def test_bytes_that_changed_on_the_disk_are_no_success(lakes: Lakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading and writing the file was another one: the checksums of the two differ."""
    upload = TransferEngine.upload

    def spoiled(self: TransferEngine, path: Any, *args: Any, **kwargs: Any) -> Any:
        Path(path).write_bytes(bytes(len(DATA)))
        return upload(self, path, *args, **kwargs)

    lakes.source.put(SOURCE, BytesBody(DATA), _digests(DATA), KEPT, if_none_match=False)
    monkeypatch.setattr(TransferEngine, "upload", spoiled)
    result = lakes.run()
    assert (result.failed, result.errors[0].code) == (1, "IntegrityError")


def _digests(data: bytes) -> PartDigests:
    return PartDigests(crc32=zlib.crc32(data))


def test_the_pace_holds_for_both_sides(lakes: Lakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than max_concurrent requests at once, and the rate counts all of them."""
    keys = [f"k{number}" for number in range(8)]
    for key in keys:
        lakes.put(DATA, key=key)
    begun, running, most, lock = 0, 0, 0, threading.Lock()
    # The first two requests wait for each other: both workers are at it.
    meeting = threading.Barrier(2)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            nonlocal begun, running, most
            with lock:
                begun += 1
                running += 1
                most = max(most, running)
                waits = begun <= 2
            try:
                if waits:
                    meeting.wait(30)
                return call(*args, **kwargs)
            finally:
                with lock:
                    running -= 1

        return asked

    for store in (lakes.source, lakes.target):
        for name in ("head", "get", "put", "create", "upload_part", "complete", "list_parts", "get_tags"):
            monkeypatch.setattr(store, name, counted(getattr(store, name)))
    before = len(lakes.source.requests)
    result = lakes.run(BatchConfig(retry_delay=0, max_concurrent=2, page_keys=10, rate_limit=1000), keys)
    assert (result.successful, most) == (8, 2)
    assert result.requests >= len(lakes.source.requests) - before + len(lakes.target.requests)


@pytest.mark.parametrize(
    ("attributes", "options", "named"),
    [
        (ObjectAttributes(server_side_encryption="aws:kms", kms_key_id="k"), CopyOptions(), ("encryption",)),
        (
            ObjectAttributes(server_side_encryption="aws:kms", kms_key_id="k"),
            CopyOptions(server_side_encryption="AES256"),
            (),
        ),
        (KEPT, CopyOptions(), ()),
    ],
)
def test_what_is_lost_is_named(lakes: Lakes, attributes: Any, options: CopyOptions, named: tuple[str, ...]) -> None:
    """KMS keys belong to an account; whoever chooses an encryption has lost none."""
    lakes.put(b"small", attributes)
    assert lakes.run(options=options).results[0].not_preserved == named


def test_tags_that_may_not_be_read_are_named(lakes: Lakes) -> None:
    """The copy is made without."""
    lakes.reading.add(Fault("get_tags", times=None, error=AccessDenied("no")))
    assert lakes.run().results[0].not_preserved == ("tags",)


def test_the_scratch_directory_is_ours_alone(tmp_path: Path) -> None:
    """The same for the next try; another one while somebody works in it, or where it may be somebody else's."""
    with scratch(str(tmp_path), "n") as one, scratch(str(tmp_path), "n") as other:
        assert one != other
        assert Path(one).stat().st_mode & 0o077 == 0
    assert not list(tmp_path.iterdir())
    Path(one).mkdir(0o755)
    with scratch(str(tmp_path), "n") as third:
        assert third != one
    Path(one).rmdir()
    Path(one).symlink_to(tmp_path)
    with scratch(str(tmp_path), "n") as fourth:
        assert fourth != one
    with pytest.raises(TargetError, match="no directory"), scratch(str(tmp_path / "none"), "n"):
        raise AssertionError("there is none")


def test_a_customers_key_that_nobody_has_is_named(lakes: Lakes) -> None:
    """The copy is encrypted as the target's bucket has it."""
    lakes.put(b"small")
    lakes.reading.add(Fault("head", answer=replace(lakes.source.head(SOURCE), customer_key=True)))
    assert lakes.run().results[0].not_preserved == ("encryption",)
