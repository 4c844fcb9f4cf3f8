"""The versioning verbs over a store in memory, and what its answers cannot say."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orbit_airflow.engine.compare import Decision, decided
from orbit_airflow.engine.compose import engine_over
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionLost,
    InvalidRequest,
    NotFound,
    ObjectDeleted,
    Paused,
    Unavailable,
    WriteConflict,
)
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import Checksum, ChecksumType, ObjectAttributes, ObjectInfo, ObjectRef, WriteReceipt
from orbit_airflow.engine.options import CopyOptions, EngineConfig, UploadOptions
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import CopyRequest
from orbit_airflow.engine.versioning import ListedVersion, VersioningState, VersionsPage, in_order
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore

REF = ObjectRef("bucket", "key")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUICK = replace(RetryPolicy.fast(), initial_delay=0.0, max_delay=0.0)


def _engine(memory: MemoryStore, *faults: Fault, **config: Any) -> TransferEngine:
    settings = EngineConfig(bucket="bucket", retry=QUICK, outage_patience=0, **config)
    return engine_over(FaultyStore(memory, faults), settings, rng=random.Random(1))


def _versions(engine: TransferEngine, *bodies: bytes) -> list[str]:
    return [engine.upload_bytes(body, REF).version_id or "" for body in bodies]


def _entry(version_id: str, seconds: int = 0, *, latest: bool = False, marker: bool = False) -> ListedVersion:
    return ListedVersion(
        key="key", version_id=version_id, is_latest=latest, last_modified=NOW + timedelta(seconds=seconds),
        size=0 if marker else 1, delete_marker=marker,
    )  # fmt: skip


def _ids(entries: Iterable[ListedVersion]) -> list[str]:
    return [item.version_id for item in entries]


def test_the_stores_order_decides_within_a_second() -> None:
    """Times are whole seconds: three writes in one have no other order than the document's."""
    written = [_entry("c", latest=True), _entry("m", marker=True), _entry("a")]
    assert _ids(in_order(written)) == ["c", "m", "a"]


def test_an_order_that_contradicts_the_times_is_mended() -> None:
    """Of stores that write all versions and then all markers; what is latest is first whatever its time."""
    written = [_entry("c", 3), _entry("a", 1), _entry("m2", 3, latest=True, marker=True), _entry("m1", 2, marker=True)]
    assert _ids(in_order(written)) == ["m2", "c", "m1", "a"]


def test_markers_written_before_all_versions_are_put_in_their_place() -> None:
    """Of stores that write all markers first; an order that the times allow is not touched."""
    written = [_entry("m1", 2, marker=True), _entry("c", 3, latest=True), _entry("b", 1)]
    assert _ids(in_order(written)) == ["c", "m1", "b"]
    same = [_entry("m1", 1, marker=True), _entry("c", 1, latest=True)]
    assert _ids(in_order(same)) == ["c", "m1"]
    right = [_entry("m2", latest=True, marker=True), _entry("m1", marker=True), _entry("b"), _entry("a")]
    assert _ids(in_order(right)) == ["m2", "m1", "b", "a"]


def test_the_time_of_an_object_of_parts_misleads_nobody() -> None:
    """It is when the upload began: a version may look older than those below it."""
    written = [_entry("c", 9, latest=True), _entry("parts", 1), _entry("b", 5), _entry("m", 4, marker=True)]
    assert _ids(in_order(written)) == ["c", "parts", "b", "m"]
    among = [_entry("c", 9, latest=True), _entry("m", 2, marker=True), _entry("parts", 8), _entry("a", 5)]
    assert _ids(in_order(among)) == ["c", "m", "parts", "a"]


def test_keys_are_in_the_order_of_their_bytes() -> None:
    """Not of code units, and each key's versions together."""
    written = [replace(_entry(key), key=key) for key in ("\U0001f642", "\uff5e", "b", "a")]
    assert [item.key for item in in_order(written)] == ["a", "b", "\uff5e", "\U0001f642"]


class EndlessVersions(MemoryStore):
    """Page after page of versions, or the same one again and again."""

    def __init__(self, pages: int, *, circles: bool = False) -> None:
        super().__init__()
        self.pages = pages
        self.circles = circles

    def list_versions(self, request: Any) -> VersionsPage:
        """Never stored."""
        number = int(request.after[1]) + 1 if request.after else 0
        number = number % 2 if self.circles else number
        entries = tuple(replace(_entry(f"{number}-{at}"), key=request.where.prefix or "k") for at in range(100))
        return VersionsPage(entries, ("k", str(number)) if number + 1 < self.pages else None)


def test_a_listing_is_read_page_by_page() -> None:
    """What is not asked for is not fetched."""
    engine = _engine(EndlessVersions(10**9))
    found = engine.versions.iter_versions()
    assert [next(found).version_id for _ in range(3)] == ["0-0", "0-1", "0-2"]
    assert len(list(_engine(EndlessVersions(50)).versions.iter_versions("k"))) == 5000


def test_a_listing_in_circles_is_noticed() -> None:
    """Not after the first billion."""
    with pytest.raises(Unavailable, match="circles"):
        list(_engine(EndlessVersions(10**9, circles=True)).versions.iter_versions())


def test_a_stop_order_ends_a_listing() -> None:
    """Between two pages."""
    cancel = Cancellation()
    found = _engine(EndlessVersions(10**9)).versions.iter_versions(cancel=cancel)
    next(found)
    cancel.cancel()
    with pytest.raises(Paused):
        list(found)


def test_one_keys_listing_ends_behind_it() -> None:
    """A thousand keys that begin with it are not read."""
    memory = MemoryStore(versioned=True, page_size=2)
    engine = _engine(memory)
    _versions(engine, b"1")
    for number in range(10):
        engine.upload_bytes(b"x", f"key{number}")
    before = len(memory.requests)
    assert len(engine.versions.list_object_versions(REF).versions) == 1
    assert len(memory.requests) - before == 1


def test_what_a_key_showed_at_a_moment() -> None:
    """A version, a marker, or nothing; the very second counts as there."""
    times = iter(range(1_800_000_000, 1_800_001_000, 10))
    memory = MemoryStore(versioned=True, clock=lambda: float(next(times)))
    engine = _engine(memory)
    (first,) = _versions(engine, b"1")
    marker = engine.delete(REF).version_id
    (second,) = _versions(engine, b"2")
    made = {item.version_id: item.last_modified for item in engine.versions.iter_object_versions(REF)}
    for version in (first, marker, second):
        moment = made[version or ""]
        assert moment is not None
        found = engine.versions.version_at(REF, moment)
        assert found is not None
        assert found.version_id == version
        later = engine.versions.version_at(REF, moment + timedelta(seconds=9))
        assert later is not None
        assert later.version_id == version
    earliest = made[first]
    assert earliest is not None
    assert engine.versions.version_at(REF, earliest - timedelta(seconds=1)) is None
    with pytest.raises(ConfigError, match="time zone"):
        engine.versions.version_at(REF, datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_restoring_what_the_key_shows_does_nothing() -> None:
    """So that a task that is retried makes no second version; unless the options change it."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory)
    first, second = _versions(engine, b"1", b"2")
    assert engine.versions.restore_version(REF, second).changed is False
    done = engine.versions.restore_version(REF, first)
    assert (done.changed, len(memory.versions(REF)), memory.read(REF)) == (True, 3, b"1")
    assert engine.versions.restore_version(REF, done.version_id or "").changed is False
    retiered = engine.versions.restore_version(REF, done.version_id or "", CopyOptions(storage_class="STANDARD_IA"))
    assert (retiered.changed, len(memory.versions(REF))) == (True, 4)


def test_a_deleted_key_is_restored_over_its_marker() -> None:
    """The marker stays in the history, the copy lies over it."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory)
    (first,) = _versions(engine, b"1")
    engine.delete(REF)
    engine.versions.restore_version(REF, first)
    assert [item.deleted for item in memory.versions(REF)] == [False, True, False]


def test_a_marker_and_what_never_was_cannot_be_restored() -> None:
    """ObjectDeleted, NotFound; nothing is written."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory)
    _versions(engine, b"1")
    marker = engine.delete(REF).version_id
    with pytest.raises(ObjectDeleted):
        engine.versions.restore_version(REF, marker or "")
    with pytest.raises(NotFound):
        engine.versions.restore_version(REF, "never")
    assert len(memory.versions(REF)) == 2


def test_an_unversioned_object_is_its_own_null() -> None:
    """There is nothing to restore from, and nothing is done."""
    memory = MemoryStore()
    engine = _engine(memory)
    engine.upload_bytes(b"1", REF)
    assert engine.versions.restore_version(REF, "null").changed is False
    assert _ids(engine.versions.list_object_versions(REF).versions) == ["null"]


def test_null_under_named_versions_is_restored_where_versions_are_kept() -> None:
    """As a version with a name; "null" stays."""
    memory = MemoryStore()
    engine = _engine(memory)
    engine.upload_bytes(b"null", REF)
    engine.versions.enable_versioning()
    _versions(engine, b"1")
    done = engine.versions.restore_version(REF, "null")
    assert memory.read(REF) == b"null"
    assert done.version_id not in (None, "null")
    assert len(memory.versions(REF)) == 3


def test_null_is_never_copied_over_itself() -> None:
    """In a suspended bucket the copy takes the place of its own source, whatever the options allow."""
    memory = MemoryStore()
    engine = _engine(memory)
    engine.upload_bytes(b"null", REF)
    engine.versions.enable_versioning()
    (named,) = _versions(engine, b"1")
    engine.versions.suspend_versioning()
    for allowed in (False, True):
        with pytest.raises(ConfigError, match="over itself"):
            engine.versions.restore_version(REF, "null", overwrite_null=allowed)
    with pytest.raises(ConfigError, match="overwrite_null"):
        engine.versions.restore_version(replace(REF, key="key"), named, CopyOptions(storage_class="STANDARD_IA"))
    assert [item.data for item in memory.versions(REF)] == [b"1", b"null"]


def test_a_bucket_that_does_not_tell_is_taken_for_suspended() -> None:
    """Only where there is something to lose."""
    memory = MemoryStore()
    _engine(memory).upload_bytes(b"null", REF)
    _engine(memory).versions.enable_versioning()
    first, _ = _versions(_engine(memory), b"1", b"2")
    silent = _engine(memory, Fault("get_versioning", times=None, error=AccessDenied("no")))
    with pytest.raises(ConfigError):
        silent.versions.restore_version(REF, first)
    assert silent.versions.restore_version(REF, first, overwrite_null=True).changed is True
    other = replace(REF, key="other")
    version = silent.upload_bytes(b"1", other).version_id
    silent.upload_bytes(b"2", other)
    assert silent.versions.restore_version(other, version or "").changed is True


def test_a_lost_answer_to_a_restore_makes_one_version() -> None:
    """The copy's own promise."""
    memory = MemoryStore(versioned=True)
    first, _ = _versions(_engine(memory), b"1", b"2")
    _engine(memory, Fault("copy", when="after", error=Unavailable("500"))).versions.restore_version(REF, first)
    assert [item.data for item in memory.versions(REF)] == [b"1", b"2", b"1"]


def test_undelete_looks_again_behind_the_last_marker() -> None:
    """Another writer may delete in between; one who does so for ever is told of."""
    memory = MemoryStore(versioned=True)
    plain = _engine(memory)
    (first,) = _versions(plain, b"1")
    plain.delete(REF)
    engine = _engine(memory, Fault("delete", when="after", call=lambda: plain.delete(REF)))
    done = engine.versions.undelete(REF)
    assert (len(done.removed), done.current.version_id, memory.read(REF)) == (2, first, b"1")
    plain.delete(REF)
    with pytest.raises(WriteConflict):
        _engine(memory, Fault("delete", times=None, when="after", call=lambda: plain.delete(REF))).versions.undelete(
            REF
        )


def test_undelete_removes_nothing_when_there_is_nothing_to_show() -> None:
    """Only markers, or not even these."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory)
    engine.delete(REF)
    with pytest.raises(NotFound, match="only delete markers"):
        engine.versions.undelete(REF)
    assert len(memory.versions(REF)) == 1
    with pytest.raises(NotFound, match="no version"):
        engine.versions.undelete("never")


def test_a_marker_named_null_is_taken_off() -> None:
    """In a suspended bucket."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory)
    (first,) = _versions(engine, b"1")
    engine.versions.suspend_versioning()
    assert engine.delete(REF).version_id == "null"
    assert engine.versions.undelete(REF).removed == ("null",)
    assert engine.get_metadata(REF).version_id == first


def _info(etag: str = "e" * 32, size: int = 1, checksum: Checksum | None = None, **more: Any) -> ObjectInfo:
    return ObjectInfo(REF, size, etag, checksum=checksum, **more)


WHOLE, OTHER = Checksum("CRC32", "AAAA"), Checksum("CRC32", "BBBB")
PARTS = Checksum("CRC32", "AAAA-2", ChecksumType.COMPOSITE)
OTHER_PARTS = Checksum("CRC32", "BBBB-2", ChecksumType.COMPOSITE)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (_info(size=1), _info(size=2), (True, Decision.SIZE)),
        (_info(checksum=WHOLE), _info("f" * 32, checksum=WHOLE), (False, Decision.FULL_OBJECT_CHECKSUM)),
        (_info(checksum=WHOLE), _info(checksum=OTHER), (True, Decision.FULL_OBJECT_CHECKSUM)),
        (_info(checksum=PARTS), _info(checksum=PARTS), (False, Decision.COMPOSITE_CHECKSUM)),
        (_info("e" * 32 + "-2", 1, PARTS), _info("f" * 32 + "-2", 1, OTHER_PARTS), (None, Decision.UNDECIDED)),
        (_info(checksum=WHOLE), _info(checksum=Checksum("SHA1", "AAAA")), (False, Decision.ETAG)),
        (_info(), _info("f" * 32), (True, Decision.ETAG)),
        (_info("e" * 32 + "-2"), _info("e" * 32 + "-2"), (False, Decision.ETAG)),
        (_info("e" * 32 + "-2"), _info("f" * 32 + "-3"), (None, Decision.UNDECIDED)),
        (_info(), _info("f" * 32 + "-3"), (None, Decision.UNDECIDED)),
        (_info(server_side_encryption="aws:kms"), _info("f" * 32), (None, Decision.UNDECIDED)),
        (_info(customer_key=True), _info(customer_key=True), (None, Decision.UNDECIDED)),
        (_info("opaque"), _info("other"), (None, Decision.UNDECIDED)),
    ],
)
def test_no_more_is_decided_than_is_known(
    one: ObjectInfo, other: ObjectInfo, expected: tuple[bool | None, Decision]
) -> None:
    """And in either direction."""
    assert decided(one, other) == decided(other, one) == expected


@pytest.mark.parametrize("changed", [None, 0, 2_500_000])
def test_bytes_decide_on_request(changed: int | None) -> None:
    """Where nothing else does; a body that breaks off is fetched again from where it broke."""
    memory = MemoryStore(versioned=True, checksums=False, opaque_etags=True)
    data = random.Random(1).randbytes(2_500_001)
    other = bytearray(data)
    if changed is not None:
        other[changed] ^= 1
    kms = UploadOptions(attributes=ObjectAttributes(server_side_encryption="aws:kms"))
    plain = _engine(memory, verify_checksums=False)
    ids = [plain.upload_bytes(body, REF, kms).version_id or "" for body in (data, bytes(other))]
    engine = _engine(memory, Fault("get", when="during", blocks=1, error=ConnectionLost("reset")))
    assert engine.versions.compare_versions(REF, *ids).content_differs is None
    found = engine.versions.compare_versions(REF, *ids, read_bytes=True)
    assert (found.content_differs, found.decided_by) == (changed is not None, Decision.BYTES)


def test_a_version_equals_itself() -> None:
    """Without a look at its bytes; positive figures mean that the second one is larger and newer."""
    seconds = iter(range(1_800_000_000, 1_800_001_000, 10))
    memory = MemoryStore(versioned=True, checksums=False, opaque_etags=True, clock=lambda: float(next(seconds)))
    engine = _engine(memory)
    first, second = _versions(engine, b"1", b"333")
    same = engine.versions.compare_versions(REF, first, first)
    assert (same.content_differs, same.decided_by, same.size_diff) == (False, Decision.SAME_VERSION, 0)
    there, back = (engine.versions.compare_versions(REF, *ids) for ids in ((first, second), (second, first)))
    assert (there.size_diff, back.size_diff) == (2, -2)
    assert there.time_diff == timedelta(seconds=10)
    assert back.time_diff == timedelta(seconds=-10)


def test_a_bucket_may_be_named() -> None:
    """Else it is the configured one."""
    memory = MemoryStore()
    engine = _engine(memory)
    engine.versions.enable_versioning("other-bucket")
    assert engine.versions.get_versioning_status("other-bucket").enabled is True
    assert engine.versions.get_versioning_status().status is VersioningState.UNVERSIONED


class Short(MemoryStore):
    """Refuses a copy onto the same key, whatever version it is of, unless something is said to change."""

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        if ref.key == request.source.key and not request.replace_metadata:
            raise InvalidRequest("This copy request is illegal because it is trying to copy an object to itself")
        return super().copy(ref, request)


def test_a_restore_that_is_taken_for_a_copy_onto_itself_is_said_otherwise() -> None:
    """With the metadata and tags that it had."""
    memory = Short(versioned=True)
    engine = _engine(memory)
    attributes = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("a", "b"),), content_type="text/x-orbit")
    first = engine.upload_bytes(b"first", REF, UploadOptions(attributes=attributes)).version_id or ""
    engine.upload_bytes(b"second", REF)
    assert engine.versions.restore_version(REF, first).changed is True
    shown = memory.objects[REF]
    assert (shown.data, shown.attributes.tags, shown.attributes.content_type) == (
        b"first",
        (("a", "b"),),
        "text/x-orbit",
    )
    assert ("colour", "blue") in shown.attributes.metadata
