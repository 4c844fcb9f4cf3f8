"""The guide's verbs over a store in memory: lost answers, broken bodies, wrong bytes, addresses, memory."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from orbit_airflow.engine.compose import engine_over
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionLost,
    IntegrityError,
    NotFound,
    ObjectDeleted,
    Paused,
    PreconditionFailed,
    TargetExists,
    Unavailable,
)
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    Integrity,
    KeyPrefix,
    ListedObject,
    ListResult,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
)
from orbit_airflow.engine.options import CopyOptions, EngineConfig, UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.read import proof_of
from orbit_airflow.engine.resilience.limits import BandwidthLimiter, Permits
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import ListRequest, PartDigests
from orbit_airflow.engine.stores.limited import LimitedStore
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody

REF = ObjectRef("bucket", "folder/key")
QUICK = replace(RetryPolicy.fast(), initial_delay=0.0, max_delay=0.0)


def _engine(memory: MemoryStore, *faults: Fault, **config: Any) -> TransferEngine:
    settings = EngineConfig(bucket="bucket", retry=QUICK, **config)
    return engine_over(FaultyStore(memory, faults), settings, rng=random.Random(1))


def _asked(memory: MemoryStore) -> list[str]:
    return [request.operation for request in memory.requests]


@pytest.mark.parametrize("size", [0, 5, 17 * 1024 * 1024])
def test_bytes_arrive_in_one_put(size: int) -> None:
    """Whatever the part size is, from bytes, bytearray or a view of wider items."""
    memory, data = MemoryStore(), random.Random(1).randbytes(size)
    result = _engine(memory).upload_bytes(memoryview(bytearray(data)), "folder/key")
    assert memory.read(REF) == data
    assert (result.integrity, result.bytes_sent, _asked(memory)) == (Integrity.FULL_CRC, size, ["put"])


def test_a_lost_answer_to_bytes_is_settled_by_the_mark() -> None:
    """On a versioned bucket there is one version, and one put."""
    memory = MemoryStore(versioned=True)
    _engine(memory, Fault("put", when="after")).upload_bytes(b"bytes", REF)
    assert len(memory.versions(REF)) == 1
    assert _asked(memory) == ["put", "head"]


def test_too_many_bytes_are_refused_before_any_request() -> None:
    """The limit of one PutObject."""
    memory = MemoryStore()
    with pytest.raises(ConfigError, match="at most 10 bytes"):
        _engine(memory, limits=StoreLimits(max_put_size=10)).upload_bytes(b"x" * 11, REF)
    assert memory.requests == []


def test_a_body_that_breaks_off_is_fetched_again() -> None:
    """From its beginning; the bytes are whole."""
    memory, data = MemoryStore(), random.Random(1).randbytes(3_000_000)
    engine = _engine(memory, Fault("get", when="during", blocks=1, times=2))
    engine.upload_bytes(data, REF)
    assert engine.download_bytes(REF) == data
    assert _asked(memory).count("get") == 3


def test_a_body_that_always_breaks_off_is_an_error() -> None:
    """After as many attempts as the policy has."""
    memory = MemoryStore()
    engine = _engine(memory, Fault("get", when="during", blocks=0, times=None), max_retries=2)
    engine.upload_bytes(b"bytes", REF)
    with pytest.raises(ConnectionLost):
        engine.download_bytes(REF)
    assert _asked(memory).count("get") == 3


def test_a_stop_order_ends_a_read() -> None:
    """Paused, at the next block."""
    memory, cancel = MemoryStore(), Cancellation()
    engine = _engine(memory, Fault("get", when="during", blocks=1, call=cancel.cancel))
    engine.upload_bytes(b"x" * 3_000_000, REF)
    with pytest.raises(Paused):
        engine.download_bytes(REF, cancel=cancel)


def test_wrong_bytes_are_never_returned() -> None:
    """An answer that claims another checksum than its bytes have, for ever: IntegrityError after three readings."""
    memory = MemoryStore()
    engine = _engine(memory)
    engine.upload_bytes(b"bytes", REF)
    kept = memory._versions["bucket", "folder/key"]
    kept[0] = replace(kept[0], data=b"bytez")
    with pytest.raises(IntegrityError, match="CRC32"):
        engine.download_bytes(REF)
    assert _asked(memory).count("get") == 3
    assert _engine(memory, verify_checksums=False).download_bytes(REF) == b"bytez"


@pytest.mark.parametrize(
    ("etag", "checksum", "extra", "expected"),
    [
        ("x-1", Checksum("CRC32", "y/Q5Jg=="), {}, Integrity.FULL_CRC),
        ("x-1", Checksum("SHA256", "FeKw08M4kV6XH4wYq9qJQyLCCVjvRuHhvtgzsMDE4uU="), {}, IntegrityError),
        ("x-1", Checksum("CRC64NVME", "rosUhgp5mIg="), {}, Integrity.FULL_CRC),
        ("x-1", Checksum("CRC64NVME", "rosUhgp5mIk="), {}, IntegrityError),
        ("x-1", Checksum("CRC32C", "4waSgw=="), {}, Integrity.FULL_CRC),
        ("x-1", Checksum("CRC32C", "y/Q5Jg=="), {}, IntegrityError),
        ("x-1", Checksum("CRC32", "y/Q5Jg==-1", ChecksumType.COMPOSITE), {}, Integrity.SIZE_ETAG),
        ("x-1", Checksum("XXHASH3", "AAAA"), {}, Integrity.SIZE_ETAG),
        ("25f9e794323b453885f5181f1b624d0b", Checksum("XXHASH3", "AAAA"), {}, Integrity.MD5),
        ("25f9e794323b453885f5181f1b624d0b", None, {}, Integrity.MD5),
        ("0" * 32, None, {}, IntegrityError),
        ("0" * 32, None, {"server_side_encryption": "aws:kms"}, Integrity.SIZE_ETAG),
        ("0" * 32, None, {"customer_key": True}, Integrity.SIZE_ETAG),
        ("opaque etag", None, {}, Integrity.SIZE_ETAG),
    ],
)
def test_the_proof_is_as_strong_as_the_store_allows(
    etag: str, checksum: Checksum | None, extra: dict[str, Any], expected: Any
) -> None:
    """Unknown algorithms and opaque ETags prove nothing; known ones must hold."""
    info = ObjectInfo(REF, 9, etag, checksum=checksum, **extra)
    if isinstance(expected, Integrity):
        assert proof_of(b"123456789", info) is expected
    else:
        with pytest.raises(expected):
            proof_of(b"123456789", info)


def test_a_delete_marker_is_no_object() -> None:
    """Exists is False, get_metadata says that it was deleted, and a version is still there."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory)
    version = engine.upload_bytes(b"bytes", REF).version_id
    assert engine.delete(REF).delete_marker is True
    assert engine.exists(REF) is False
    with pytest.raises(ObjectDeleted):
        engine.get_metadata(REF)
    assert engine.download_bytes(REF, version_id=version) == b"bytes"


def test_existence_that_may_not_be_asked_is_an_error() -> None:
    """A 403 is neither yes nor no."""
    with pytest.raises(AccessDenied):
        _engine(MemoryStore(), Fault("head", error=AccessDenied("403"))).exists(REF)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_to_delete_lays_one_marker(when: Any) -> None:
    """The key is looked at before the request is sent again."""
    memory = MemoryStore(versioned=True)
    engine = _engine(memory, Fault("delete", when=when, error=Unavailable("500")))
    engine.upload_bytes(b"bytes", REF)
    assert engine.delete(REF).delete_marker is True
    assert [item.deleted for item in memory.versions(REF)] == [True, False]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_to_copy_makes_one_version(when: Any) -> None:
    """Whether the store had done it or not."""
    memory, target = MemoryStore(versioned=True), ObjectRef("bucket", "copy")
    engine = _engine(memory, Fault("copy", when=when, error=Unavailable("500")))
    engine.upload_bytes(b"bytes", REF)
    result = engine.copy_object(REF, target)
    assert len(memory.versions(target)) == 1
    assert (result.integrity, result.version_id) == (Integrity.FULL_CRC, memory.versions(target)[0].version_id)


@pytest.mark.parametrize("ours", [True, False])
def test_a_taken_key_behind_a_lost_answer_is_looked_at(ours: bool) -> None:
    """With replace=False the second 412 may be our own copy's, or a stranger's object."""
    memory, target = MemoryStore(), ObjectRef("bucket", "copy")
    engine = _engine(memory, Fault("copy", when="after" if ours else "before", error=Unavailable("500")))
    if not ours:
        stranger = _engine(memory)
        engine = _engine(
            memory, Fault("copy", call=lambda: stranger.upload_bytes(b"other", target), error=Unavailable("500"))
        )
    _engine(memory).upload_bytes(b"bytes", REF)
    if ours:
        assert engine.copy_object(REF, target, CopyOptions(replace=False)).integrity is Integrity.FULL_CRC
    else:
        with pytest.raises(TargetExists):
            engine.copy_object(REF, target, CopyOptions(replace=False))
        assert memory.read(target) == b"other"


def test_a_copy_is_pinned_to_the_source_that_was_looked_at() -> None:
    """A source that is replaced behind the HEAD is PreconditionFailed."""
    memory, target = MemoryStore(), ObjectRef("bucket", "copy")
    writer = _engine(memory)
    writer.upload_bytes(b"first", REF)
    engine = _engine(memory, Fault("copy", call=lambda: writer.upload_bytes(b"other", REF)))
    with pytest.raises(PreconditionFailed):
        engine.copy_object(REF, target)
    with pytest.raises(PreconditionFailed):
        writer.copy_object(REF, target, CopyOptions(if_match="0" * 32))
    assert writer.exists(target) is False


def test_a_copy_keeps_its_class_and_key_and_names_what_is_lost() -> None:
    """S3 alone would make it STANDARD, with the bucket's own encryption."""
    memory, target = MemoryStore(), ObjectRef("other-bucket", "copy")
    attributes = ObjectAttributes(storage_class="GLACIER_IR", server_side_encryption="aws:kms", kms_key_id="key")
    engine = _engine(memory)
    engine.upload_bytes(b"bytes", REF, UploadOptions(attributes=attributes))
    result = engine.copy_object(REF, target)
    info = engine.get_metadata(target)
    assert (result.storage_class, info.storage_class) == ("GLACIER_IR", "GLACIER_IR")
    assert (info.server_side_encryption, info.kms_key_id) == ("aws:kms", "key")
    locked = replace(engine.get_metadata(REF), retention="COMPLIANCE", legal_hold=True)
    faulty = _engine(memory, Fault("head", answer=locked))
    assert faulty.copy_object(REF, target, CopyOptions(storage_class="STANDARD")).not_kept == (
        "retention",
        "legal hold",
    )
    assert engine.get_metadata(target).storage_class is None


def test_a_copy_above_the_limit_names_it() -> None:
    """ConfigError before anything is copied."""
    memory = MemoryStore()
    info = ObjectInfo(REF, 5 * 1024**3 + 1, "etag")
    with pytest.raises(ConfigError, match=r"5 GiB.*copied in parts"):
        _engine(memory, Fault("head", answer=info)).copy_object(REF, "copy")
    assert "copy" not in _asked(memory)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a/b?c#d", ObjectRef("bucket", "a/b?c#d")),
        ("/a", ObjectRef("bucket", "/a")),
        ("s3://other/a//b", ObjectRef("other", "a//b")),
        ("S3://other/a", ObjectRef("other", "a")),
        (ObjectRef("other", "s3://x/y"), ObjectRef("other", "s3://x/y")),
    ],
)
def test_a_target_is_a_key_a_uri_or_a_ref(target: str | ObjectRef, expected: ObjectRef) -> None:
    """One rule for every verb."""
    engine = _engine(MemoryStore())
    assert engine.address(target) == expected
    assert engine.address(target, "v") == replace(expected, version_id="v")


def test_addresses_that_mean_nothing_are_refused() -> None:
    """No bucket, two versions, an empty key, a wrong page size."""
    engine, homeless = _engine(MemoryStore()), engine_over(MemoryStore(), EngineConfig())
    for call in (
        lambda: homeless.address("key"),
        lambda: homeless.list_objects("prefix"),
        lambda: engine.address(replace(REF, version_id="a"), "b"),
        lambda: engine.exists(""),
        lambda: engine.list_objects_paginated("", None, 0),
        lambda: engine.list_objects_paginated("", None, 1001),
        lambda: engine.iter_objects("s3://"),
    ):
        with pytest.raises(ConfigError):
            call()


class EndlessStore(MemoryStore):
    """A million keys that are made when they are listed; with ``circle`` the second page comes again and again."""

    def __init__(self, keys: int, *, circle: bool = False) -> None:
        super().__init__()
        self._keys = keys
        self._circle = circle
        self.pages = 0

    def list_objects(self, request: ListRequest) -> ListResult:
        """One page."""
        self.pages += 1
        start = int(request.token or 0)
        if self._circle:
            start = min(start, request.max_keys)
        stop = min(self._keys, start + request.max_keys)
        objects = tuple(ListedObject(f"key-{number:09}", number, "etag") for number in range(start, stop))
        more = stop < self._keys
        token = f"{stop + self.pages if self._circle else stop}"
        return ListResult(objects, more, token if more else None)


def test_a_million_keys_need_the_memory_of_a_page() -> None:
    """Peak under 4 MiB above the beginning."""
    store = EndlessStore(1_000_000)
    engine = engine_over(store, EngineConfig(bucket="bucket"))
    tracemalloc.start()
    try:
        count = sum(1 for _ in engine.iter_objects())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (count, store.pages) == (1_000_000, 1000)
    assert peak < 4 * 1024 * 1024


def test_a_listing_in_circles_is_noticed() -> None:
    """Fresh tokens, the same page: Unavailable, not a loop without end."""
    with pytest.raises(Unavailable, match="circles"):
        list(engine_over(EndlessStore(10_000, circle=True), EngineConfig(bucket="bucket")).iter_objects())


def test_a_stop_order_ends_a_listing() -> None:
    """Between two pages."""
    cancel = Cancellation()
    found = engine_over(EndlessStore(10_000), EngineConfig()).iter_objects(KeyPrefix("bucket"), cancel=cancel)
    assert next(found).key == "key-000000000"
    cancel.cancel()
    with pytest.raises(Paused):
        list(found)


def test_what_is_not_there_is_not_found() -> None:
    """By every reading verb."""
    engine = _engine(MemoryStore())
    for call in (engine.get_metadata, engine.download_bytes, lambda ref: engine.copy_object(ref, "x")):
        with pytest.raises(NotFound):
            call(REF)


def test_a_stream_holds_its_permit_until_it_is_closed_once() -> None:
    """And gives it back when the store refuses, and never twice."""
    memory = MemoryStore()
    memory.put(REF, BytesBody(b"bytes"), PartDigests(), ObjectAttributes(), if_none_match=False)
    permits = Permits(1)
    store = LimitedStore(memory, permits, BandwidthLimiter(10**9))
    with pytest.raises(NotFound):
        store.get(ObjectRef("bucket", "none"))
    stream, view = store.get(REF), memoryview(bytearray(9))
    assert permits._semaphore.acquire(blocking=False) is False
    assert (stream.read_into(view), bytes(view[:5]), stream.read_into(view)) == (5, b"bytes", 0)
    for _ in range(2):
        stream.close()
    assert permits._semaphore.acquire(blocking=False) is True
