"""Requests that fail: repeated when that can help, never done twice unknowingly, and nothing lost."""

from __future__ import annotations

import pytest

from orbit_airflow.engine.errors import (
    AccessDenied,
    ChecksumRefused,
    ConnectionLost,
    IntegrityError,
    InvalidRequest,
    OrbitError,
    PreconditionFailed,
    RequestContext,
    TargetExists,
    Throttled,
    Unavailable,
    WriteConflict,
)
from orbit_airflow.engine.events import Progress, Retrying
from orbit_airflow.engine.model import Integrity, ObjectAttributes
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from orbit_airflow.testing.faults import Operation
from tests.unit.engine.bench import PART, Bench, data_of
from tests.unit.engine.test_testing_stores import _Body

SIZE = 5 * PART + 1
GATEWAY = Unavailable("gateway", RequestContext(status=500))
BUSY = Throttled("busy", RequestContext(status=503))
BAD = ChecksumRefused("BadDigest", RequestContext(status=400, code="BadDigest"))


@pytest.mark.parametrize("error", [ConnectionLost("reset"), GATEWAY, BUSY])
@pytest.mark.parametrize("operation", ["create", "upload_part", "complete"])
def test_three_failures_are_overcome(bench: Bench, operation: Operation, error: OrbitError) -> None:
    """max_retries is 3: the fourth attempt succeeds."""
    data = bench.write(SIZE)
    bench.workers = 1
    bench.faulty.add(Fault(operation, times=3, error=error))
    bench.upload()
    bench.settled(data)


@pytest.mark.parametrize("operation", ["create", "upload_part", "complete"])
def test_four_failures_are_an_error_and_keep_the_parts(bench: Bench, operation: Operation) -> None:
    """The attempts are spent; the next try goes on with what is there."""
    data = bench.write(SIZE)
    bench.workers = 1
    bench.faulty.add(Fault(operation, times=4, error=GATEWAY))
    with pytest.raises(Unavailable):
        bench.upload()
    assert len(bench.faulty.fired) == 4
    assert bench.asked("abort") == []
    bench.upload()
    bench.settled(data)
    assert bench.sent == SIZE


@pytest.mark.parametrize("retries", [0, 1, 6])
def test_max_retries_counts_repetitions(bench: Bench, retries: int) -> None:
    """Per request; attempts are one more."""
    bench.write(SIZE)
    bench.workers = 1
    bench.settings = {"max_retries": retries}
    bench.faulty.add(Fault("upload_part", times=None, error=GATEWAY))
    with pytest.raises(Unavailable):
        bench.upload()
    assert len(bench.faulty.fired) == retries + 1


def test_repetitions_are_told(bench: Bench) -> None:
    """Operation, attempt, delay, part."""
    bench.write(SIZE)
    bench.workers = 1
    bench.faulty.add(Fault("upload_part", part_number=2, times=2, error=GATEWAY))
    bench.upload()
    told = [(event.operation, event.attempt, event.part_number) for event in bench.seen(Retrying)]
    assert told == [("UploadPart", 1, 2), ("UploadPart", 2, 2)]
    assert [event.delay for event in bench.seen(Retrying)] == pytest.approx([0.1, 0.2], rel=0.11)
    assert bench.time.slept == [event.delay for event in bench.seen(Retrying)]


def test_retry_after_is_obeyed(bench: Bench) -> None:
    """The store said 17 seconds."""
    bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", error=Throttled("x", RequestContext(status=503, retry_after=17.0))))
    bench.upload()
    assert 17.0 in bench.time.slept


@pytest.mark.parametrize(
    "error", [AccessDenied("x"), InvalidRequest("x"), AccessDenied("x", RequestContext(code="ExpiredToken"))]
)
def test_what_cannot_pass_is_an_error_at_once_and_keeps_the_parts(bench: Bench, error: OrbitError) -> None:
    """A person can mend credentials; then the parts are still there."""
    data = bench.write(SIZE)
    bench.workers = 1
    bench.faulty.add(Fault("upload_part", nth=3, error=error))
    with pytest.raises(type(error), match="the next try continues it"):
        bench.upload()
    assert bench.time.slept == []
    bench.upload()
    bench.settled(data)
    assert bench.sent == SIZE


def test_a_body_that_breaks_is_sent_from_its_first_byte(bench: Bench) -> None:
    """And progress takes back what did not arrive."""
    data = bench.write(SIZE)
    bench.workers = 1
    bench.on("upload_part", lambda: bench.time.sleep(1), times=None)
    bench.faulty.add(Fault("upload_part", part_number=3, when="during"))
    result = bench.upload()
    bench.settled(data)
    assert result.bytes_sent == SIZE + PART
    assert max(event.bytes_done for event in bench.seen(Progress)) <= SIZE


@pytest.mark.parametrize("part", [1, 6])
def test_a_part_s_lost_answer_is_sent_again(bench: Bench, part: int) -> None:
    """The last one sent under a number wins: no harm."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("upload_part", part_number=part, when="after"))
    bench.upload()
    bench.settled(data)


@pytest.mark.parametrize("size", [100, SIZE])
def test_refused_bytes_are_read_again(bench: Bench, size: int) -> None:
    """BadDigest twice: the third reading is right."""
    data = bench.write(size)
    bench.workers = 1
    bench.faulty.add(Fault("put" if size == 100 else "upload_part", times=2, error=BAD))
    bench.upload()
    bench.settled(data)
    assert "reading them again" in bench.notices


@pytest.mark.parametrize("size", [100, SIZE])
def test_bytes_that_are_always_refused_are_an_integrity_error(bench: Bench, size: int) -> None:
    """Memory, disk or line are not sound: said after three readings, and nothing is visible."""
    bench.write(size)
    bench.workers = 1
    operation: Operation = "put" if size == 100 else "upload_part"
    bench.faulty.add(Fault(operation, times=None, error=BAD))
    with pytest.raises(IntegrityError):
        bench.upload()
    assert len(bench.faulty.fired) == 3
    assert bench.memory.objects == {}


@pytest.mark.parametrize("error", [ConnectionLost("lost"), GATEWAY])
def test_a_small_upload_s_lost_answer_is_settled(bench: Bench, error: OrbitError) -> None:
    """One HEAD, no second version."""
    bench.use(versioned=True)
    data = bench.write(100)
    bench.faulty.add(Fault("put", when="after", error=error))
    result = bench.upload()
    bench.settled(data)
    assert (result.integrity, len(bench.asked("put"))) == (Integrity.FULL_CRC, 1)


def test_a_small_upload_that_did_not_arrive_is_sent_again(bench: Bench) -> None:
    """The store is asked first."""
    data = bench.write(100)
    bench.faulty.add(Fault("put", when="during"))
    bench.upload()
    bench.settled(data)
    assert [request.operation for request in bench.memory.requests] == ["put", "head", "put"]


def test_a_throttled_small_upload_is_sent_again_unasked(bench: Bench) -> None:
    """503 means that nothing was done."""
    data = bench.write(100)
    bench.faulty.add(Fault("put", times=2, error=BUSY))
    bench.upload()
    bench.settled(data)
    assert bench.asked("head") == []


@pytest.mark.parametrize("size", [0, 100, SIZE])
def test_replace_false_writes_a_new_key(bench: Bench, size: int) -> None:
    """Nothing is there: it goes through, on both ways."""
    data = bench.write(size)
    bench.upload(replace=False)
    bench.settled(data)


@pytest.mark.parametrize("size", [0, 100, SIZE])
def test_replace_false_never_overwrites(bench: Bench, size: int) -> None:
    """TargetExists before a byte is sent; theirs stays, nothing of ours remains."""
    _foreign(bench)
    bench.write(size)
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert bench.stored == b"theirs"
    assert bench.sent == len(b"theirs")
    assert bench.memory.uploads() == []


def _foreign(bench: Bench, data: bytes = b"theirs") -> None:
    bench.memory.put(bench.ref, _Body(data), PartDigests(), ObjectAttributes(), if_none_match=False)


@pytest.mark.parametrize("size", [100, SIZE])
def test_replace_false_holds_at_the_last_moment(bench: Bench, size: int) -> None:
    """Somebody else is faster between our look and our write: If-None-Match goes with the request that counts."""
    bench.write(size)
    bench.on("put" if size == 100 else "complete", lambda: _foreign(bench))
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert bench.stored == b"theirs"
    assert bench.memory.uploads() == []


def test_412_on_our_own_repeated_put_is_a_success(bench: Bench) -> None:
    """The first one had arrived; the second was refused because of it."""
    data = bench.write(100)
    refused = PreconditionFailed("412", RequestContext(status=412))
    bench.faulty.add(Fault("put", when="after", error=refused))
    bench.upload(replace=False)
    bench.settled(data)


def test_replace_false_a_second_time_is_the_same_success(bench: Bench) -> None:
    """Our own object, our own token."""
    data = bench.write(SIZE)
    bench.upload(replace=False)
    assert bench.upload(replace=False).resumed
    bench.settled(data)


def test_replace_false_by_another_transfer_is_refused(bench: Bench) -> None:
    """The same bytes, another token: not ours."""
    bench.write(SIZE)
    bench.upload(replace=False)
    bench.tokens = bench.fresh_tokens()
    with pytest.raises(TargetExists):
        bench.upload(replace=False)


def test_replace_true_overwrites(bench: Bench) -> None:
    """The default."""
    _foreign(bench, data_of(SIZE, 9))
    data = bench.write(SIZE)
    bench.upload()
    bench.settled(data)


@pytest.mark.parametrize("size", [100, SIZE])
def test_a_write_conflict_may_pass(bench: Bench, size: int) -> None:
    """409 ConditionalRequestConflict: another conditional write was in flight, and is over."""
    data = bench.write(size)
    bench.faulty.add(Fault("put" if size == 100 else "complete", error=WriteConflict("x", RequestContext(status=409))))
    bench.upload(replace=False)
    bench.settled(data)


def test_a_store_that_refuses_checksums_is_used_without(bench: Bench) -> None:
    """Create with checksums is a 501 there: MD5 per part instead."""
    bench.use(checksums=False)
    data = bench.write(SIZE)
    unknown = InvalidRequest(
        "x-amz-checksum-algorithm is not implemented", RequestContext(status=501, code="NotImplemented")
    )
    bench.faulty.add(Fault("create", error=unknown))
    result = bench.upload()
    bench.settled(data)
    assert result.integrity is Integrity.MD5


@pytest.mark.parametrize(("size", "operation"), [(100, "put"), (SIZE, "create")])
def test_a_denied_beginning_is_not_repeated(bench: Bench, size: int, operation: Operation) -> None:
    """Only an unknown outcome is asked about, and only what may pass is sent again."""
    bench.write(size)
    bench.faulty.add(Fault(operation, times=None, error=AccessDenied("x", RequestContext(status=403))))
    with pytest.raises(AccessDenied):
        bench.upload()
    assert len(bench.faulty.fired) == 1
    assert bench.time.slept == []
