"""What a copy loses is kept or named: of each thing an object can have, by each of the ways in which a batch copies."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig
from orbit_airflow.engine.batch import ChangeStorageClass, Copy, UpdateMetadata
from orbit_airflow.engine.batch.streaming import StreamedCopy
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import ConnectionLost, RequestContext
from orbit_airflow.engine.events import Notice, TransferEvent
from orbit_airflow.engine.model import Checksum, ObjectAttributes, ObjectRef
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, engine_on

PART = 1024
DATA = bytes(range(256)) * 16
ALONE = BatchConfig(retry_delay=0, max_concurrent=1)
SOURCE = ObjectRef(BUCKET, "a")
HAS = ObjectAttributes(
    metadata=(("colour", "blue"),),
    tags=(("t", "1"),),
    content_type="a/b",
    storage_class="ONEZONE_IA",
    server_side_encryption="aws:kms",
    kms_key_id="key-1",
    extra_args=(
        ("CacheControl", "no-store"),
        ("ContentDisposition", "inline"),
        ("ContentEncoding", "identity"),
        ("ContentLanguage", "de"),
        ("Expires", datetime(2030, 1, 1, tzinfo=UTC)),
        ("WebsiteRedirectLocation", "/other"),
    ),
)
WAYS = ("copy", "copy in parts", "class", "class in parts", "metadata", "metadata in parts", "streamed")


class Bench:
    """One object, the store that the copies of it are made in, and the ways to make them."""

    def __init__(self, folder: Path) -> None:
        self.memory = MemoryStore(min_part_size=PART, checksums=False)
        self.store = FaultyStore(self.memory)
        self.folder = folder
        self.memory.put(SOURCE, BytesBody(DATA), PartDigests(), HAS, if_none_match=False)

    def copied(self, way: str, events: list[TransferEvent] | None = None) -> tuple[ObjectRef, tuple[str, ...]]:
        """Where the copy is, and what its outcome names as lost."""
        in_parts = way.endswith("in parts")
        limits = StoreLimits(min_part_size=PART, **({"max_put_size": PART} if in_parts else {}))
        engine = engine_on(self.store, limits=limits)
        made: dict[str, Any] = {
            "copy": Copy(bucket=BUCKET, dest_prefix="to/"),
            "class": ChangeStorageClass(bucket=BUCKET, storage_class="STANDARD_IA"),
            "metadata": UpdateMetadata(bucket=BUCKET, metadata=(("new", "1"),)),
            "streamed": StreamedCopy(
                bucket=BUCKET, dest_prefix="to/", reader=engine, writer=engine, directory=str(self.folder)
            ),
        }
        reporter = events.append if events is not None else lambda event: None
        result = engine.batch.run(made[way.removesuffix(" in parts")], ["a"], ALONE, BatchRun(reporter=reporter))
        assert result.errors == ()
        onto_itself = way.startswith(("class", "metadata"))
        return (SOURCE if onto_itself else ObjectRef(BUCKET, "to/a")), result.results[0].not_preserved


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_all_that_a_request_can_carry_is_kept(bench: Bench, way: str) -> None:
    """Headers with Expires, redirect, metadata, tags, class and KMS key, whichever way the copy is made."""
    had = bench.memory.head(SOURCE)
    target, lost = bench.copied(way)
    got = bench.memory.head(target)
    assert got.headers == had.headers
    assert bench.memory.get_tags(target) == HAS.tags
    assert got.metadata_value("colour") == "blue"
    assert got.storage_class == ("STANDARD_IA" if way.startswith("class") else "ONEZONE_IA")
    if way == "streamed":
        # Keys belong to an account.
        assert (got.kms_key_id, lost) == (None, ("encryption",))
    else:
        assert (got.server_side_encryption, got.kms_key_id, lost) == ("aws:kms", "key-1", ())


@pytest.mark.parametrize("way", WAYS)
def test_locks_are_named(bench: Bench, way: str) -> None:
    """Nobody can hand them on by copying."""
    locked = replace(bench.memory.head(SOURCE), retention="GOVERNANCE", legal_hold=True)
    bench.store.add(Fault("head", answer=locked))
    assert set(bench.copied(way)[1]) >= {"retention", "legal hold"}


@pytest.mark.parametrize("way", [way for way in WAYS if not way.endswith("in parts")])
def test_an_etag_of_parts_is_named(bench: Bench, way: str) -> None:
    """The copy has other parts, or one."""
    item = bench.memory.objects[SOURCE]
    bench.memory._versions[BUCKET, "a"] = [replace(item, etag=f"{'0' * 32}-7")]
    assert "etag" in bench.copied(way)[1]


@pytest.mark.parametrize("way", ["copy", "streamed", "class"])
def test_another_checksum_algorithm_is_named(tmp_path: Path, way: str) -> None:
    """Of a source whose checksum the store, or the upload, does not make."""
    bench = Bench(tmp_path)
    bench.memory._checksums = True
    other = Checksum("SHA256", b64encode(sha256(DATA).digest()).decode())
    item = bench.memory.objects[SOURCE]
    bench.memory._versions[BUCKET, "a"] = [replace(item, checksum=other)]
    assert "checksum algorithm" in bench.copied(way)[1]


@pytest.mark.parametrize("way", WAYS)
def test_what_no_look_shows_is_told_at_the_start(bench: Bench, way: str) -> None:
    """ACLs, which a HEAD does not tell, and the time, which every copy has of its own."""
    events = list[TransferEvent]()
    bench.copied(way, events)
    told = " ".join(event.message for event in events if isinstance(event, Notice))
    assert "ACL is not copied" in told
    assert "Last-Modified" in told


def test_a_second_look_names_the_same(bench: Bench) -> None:
    """A copy whose answer was lost has lost no less."""
    locked = replace(bench.memory.head(SOURCE), retention="GOVERNANCE")
    lost = ConnectionLost("lost", RequestContext("CopyObject", BUCKET))
    bench.store.add(Fault("head", nth=1, answer=locked), Fault("copy", when="after", error=lost))
    assert bench.copied("copy")[1] == ("retention",)
