"""The fakes that are shipped: scripted faults strike when they say. More of MemoryStore is in the contract suite."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from orbit_airflow.engine.errors import ConnectionLost, InvalidRequest, NotFound, Unavailable, UploadGone
from orbit_airflow.engine.model import KIB, MIB, ObjectAttributes, ObjectRef, Part, WriteReceipt
from orbit_airflow.engine.store import CompleteRequest, PartDigests
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore, RecordedRequest
from tests.bodies import BytesBody

REF = ObjectRef("bucket", "key")


class _Body(BytesBody):
    """Bytes in blocks of 1 KiB."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, block=KIB)


def _put(store: FaultyStore | MemoryStore, data: bytes = b"x" * 4096) -> WriteReceipt:
    return store.put(REF, _Body(data), PartDigests(zlib.crc32(data)), ObjectAttributes(), if_none_match=False)


def test_before_means_that_nothing_was_done() -> None:
    """And the error says that the store never saw it."""
    memory = MemoryStore()
    with pytest.raises(ConnectionLost) as caught:
        _put(FaultyStore(memory, [Fault("put")]))
    assert caught.value.context.sent is False
    assert memory.requests == []


def test_during_means_that_a_part_of_the_body_arrived() -> None:
    """So many blocks, and no object."""
    memory = MemoryStore()
    with pytest.raises(ConnectionLost) as caught:
        _put(FaultyStore(memory, [Fault("put", when="during", blocks=3)]))
    assert caught.value.context.sent is True
    assert memory.requests == [RecordedRequest("put", None, 3 * KIB)]
    assert memory.objects == {}


def test_after_means_that_only_the_answer_is_lost() -> None:
    """The object is there."""
    memory = MemoryStore()
    with pytest.raises(ConnectionLost) as caught:
        _put(FaultyStore(memory, [Fault("put", when="after")]))
    assert caught.value.context.sent is True
    assert memory.read(REF) == b"x" * 4096


def test_a_fault_strikes_the_nth_and_so_many_times() -> None:
    """Requests 2 and 3 of four."""
    store = FaultyStore(MemoryStore(), [Fault("put", nth=2, times=2, error=Unavailable("x"))])
    outcomes = []
    for _ in range(4):
        try:
            _put(store)
            outcomes.append("ok")
        except Unavailable:
            outcomes.append("fault")
    assert outcomes == ["ok", "fault", "fault", "ok"]
    assert len(store.fired) == 2


def test_a_fault_may_be_for_ever_and_for_all() -> None:
    """Until it is cleared."""
    store = FaultyStore(MemoryStore(), [Fault("*", times=None, error=Unavailable("x"))])
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.head(REF)
    store.clear()
    with pytest.raises(NotFound):
        store.head(REF)


def test_an_answer_may_be_replaced() -> None:
    """Instead of the work, or behind it."""
    memory = MemoryStore()
    made_up = WriteReceipt("made up")
    store = FaultyStore(memory, [Fault("put", answer=made_up), Fault("put", nth=2, when="after", answer=made_up)])
    assert _put(store) == made_up
    assert memory.objects == {}
    assert _put(store) == made_up
    assert list(memory.objects) == [REF]


def test_a_call_happens_at_its_moment_and_the_work_goes_on() -> None:
    """Before, in the middle, behind."""
    seen: list[tuple[str, int]] = []
    memory = MemoryStore()
    script = [
        Fault("put", when="before", call=lambda: seen.append(("before", len(memory.objects)))),
        Fault("put", when="during", call=lambda: seen.append(("during", len(memory.objects)))),
        Fault("put", when="after", call=lambda: seen.append(("after", len(memory.objects)))),
    ]
    _put(FaultyStore(memory, script))
    assert seen == [("before", 0), ("during", 0), ("after", 1)]


def test_a_fault_may_be_about_one_part() -> None:
    """Counted by the requests of that part."""
    memory = MemoryStore()
    store = FaultyStore(memory, [Fault("upload_part", part_number=2)])
    upload = store.create(REF, ObjectAttributes(), checksums=False).upload_id
    store.upload_part(REF, upload, Part(1, 0, 3), _Body(b"abc"), PartDigests())
    with pytest.raises(ConnectionLost):
        store.upload_part(REF, upload, Part(2, 3, 3), _Body(b"abc"), PartDigests())
    assert list(memory.uploads()[0].parts) == [1]


@pytest.mark.parametrize(
    "wrong",
    [{"operation": "fetch"}, {"when": "never"}, {"nth": 0}, {"times": 0}, {"operation": "head", "when": "during"}],
)
def test_a_fault_that_could_never_strike_is_refused(wrong: dict[str, object]) -> None:
    """When it is written, not by silence."""
    with pytest.raises(ValueError, match=r"Fault|no such"):
        Fault(**{"operation": "put", **wrong})  # type: ignore[arg-type]  # that is the point


def test_versions_are_kept_newest_first() -> None:
    """And a delete marker hides them."""
    memory = MemoryStore(versioned=True)
    first, second = _put(memory, b"1"), _put(memory, b"2")
    memory.delete(REF)
    assert [item.deleted for item in memory.versions(REF)] == [True, False, False]
    assert memory.objects == {}
    with pytest.raises(NotFound):
        memory.head(REF)
    assert memory.head(ObjectRef("bucket", "key", first.version_id)).etag == first.etag
    assert memory.read(ObjectRef("bucket", "key", second.version_id)) == b"2"


def test_without_versions_there_is_one() -> None:
    """The last one."""
    memory = MemoryStore()
    _put(memory, b"1")
    _put(memory, b"2")
    assert [item.data for item in memory.versions(REF)] == [b"2"]


def _uploaded(memory: MemoryStore, sizes: list[int]) -> CompleteRequest:
    upload = memory.create(REF, ObjectAttributes(), checksums=True).upload_id
    receipts = []
    for number, size in enumerate(sizes, 1):
        data = bytes([number]) * size
        receipts.append(
            memory.upload_part(REF, upload, Part(number, 0, size), _Body(data), PartDigests(zlib.crc32(data)))
        )
    return CompleteRequest(upload, tuple(receipts), sum(sizes), send_part_checksums=True)


def test_small_parts_are_refused() -> None:
    """All but the last have 5 MiB."""
    with pytest.raises(InvalidRequest) as caught:
        _completed([4, 5])
    assert caught.value.context.code == "EntityTooSmall"
    assert _completed([5 * MIB, 4]).etag.endswith("-2")


def _completed(sizes: list[int]) -> WriteReceipt:
    """An upload of these parts, completed."""
    memory = MemoryStore()
    return memory.complete(REF, _uploaded(memory, sizes))


def test_a_repeated_complete_is_answered_again_or_not() -> None:
    """As AWS does, or as the others."""
    for mode in ("idempotent", "gone"):
        memory = MemoryStore(complete_again=mode)
        request = _uploaded(memory, [5])
        first = memory.complete(REF, request)
        if mode == "idempotent":
            assert memory.complete(REF, request) == first
        else:
            with pytest.raises(UploadGone):
                memory.complete(REF, request)


def test_opaque_etags_look_like_md5_and_are_none() -> None:
    """Two writes of one content differ."""
    memory = MemoryStore(opaque_etags=True)
    first, second = _put(memory), _put(memory)
    assert len(first.etag) == 32
    assert len({first.etag, second.etag, hashlib.md5(b"x" * 4096).hexdigest()}) == 3


def test_a_store_may_lack_a_bucket() -> None:
    """Its name says so."""
    with pytest.raises(NotFound) as caught:
        _put(MemoryStore(buckets=["other"]))
    assert caught.value.context.code == "NoSuchBucket"
