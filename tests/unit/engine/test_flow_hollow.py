"""200 and nothing behind it: an answer is a success only when it proves the bytes, or the object is there."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from orbit_airflow.engine.errors import InvalidRequest, OrbitError, RequestContext, StoreError, Unavailable
from orbit_airflow.engine.model import Integrity, ObjectAttributes, WriteReceipt
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from orbit_airflow.testing.faults import Operation
from tests.unit.engine.bench import HIDDEN, PART, Bench, data_of
from tests.unit.engine.test_testing_stores import _Body

SIZE = 4 * PART + 3


def _foreign(bench: Bench, size: int) -> None:
    data = data_of(size, 99)
    bench.memory.put(bench.ref, _Body(data), PartDigests(zlib.crc32(data)), ObjectAttributes(), if_none_match=False)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("checksums", [True, False])
def test_a_put_without_an_etag_and_without_an_object_is_no_success(
    bench: Bench, checksums: bool, replace: bool
) -> None:
    """HEAD says 404: whatever answered, it was no store."""
    bench.use(checksums=checksums)
    bench.write(500)
    bench.faulty.add(Fault("put", times=None, answer=WriteReceipt("")))
    with pytest.raises(Unavailable):
        bench.upload(replace=replace)
    assert bench.memory.objects == {}


def test_a_put_without_an_etag_whose_object_is_hidden_is_no_success(bench: Bench) -> None:
    """HEAD says 403: nothing proves that anything was stored."""
    bench.write(500)
    bench.faulty.add(Fault("put", times=None, answer=WriteReceipt("")), Fault("head", times=None, error=HIDDEN))
    with pytest.raises(StoreError):
        bench.upload()
    assert bench.memory.objects == {}


@pytest.mark.parametrize("checksums", [True, False])
def test_a_put_without_an_etag_over_a_foreign_object_is_no_success(bench: Bench, checksums: bool) -> None:
    """Somebody else's object of the same size lies there, and is not ours."""
    bench.use(checksums=checksums)
    bench.write(500)
    _foreign(bench, 500)
    bench.faulty.add(Fault("put", times=None, answer=WriteReceipt("")))
    with pytest.raises(StoreError):
        bench.upload()
    assert bench.stored == data_of(500, 99)


def test_a_put_whose_etag_was_lost_is_found_by_its_mark(bench: Bench) -> None:
    """The work was done: one version, and the ETag that HEAD shows."""
    bench.use(versioned=True)
    data = bench.write(500)
    bench.faulty.add(Fault("put", when="after", answer=WriteReceipt("")))
    result = bench.upload()
    bench.settled(data)
    assert result.etag == bench.memory.objects[bench.ref].etag


@pytest.mark.parametrize("options", [{}, {"verify_checksums": False}])
def test_a_put_with_an_opaque_etag_and_without_an_object_is_no_success(bench: Bench, options: dict[str, Any]) -> None:
    """Size and ETag are all that is known, and there is no object."""
    bench.use(checksums=False, opaque_etags=True)
    bench.write(500)
    bench.faulty.add(Fault("put", times=None, answer=WriteReceipt("W/opaque")))
    with pytest.raises(Unavailable, match="there is no object"):
        bench.upload(**options)


@pytest.mark.parametrize("options", [{}, {"verify_checksums": False}])
def test_a_complete_with_an_opaque_etag_and_without_an_object_is_no_success(
    bench: Bench, options: dict[str, Any]
) -> None:
    """HEAD says 404, and nothing in the answer speaks of our bytes; the parts are kept."""
    bench.use(checksums=False, opaque_etags=True)
    bench.write(SIZE)
    bench.faulty.add(Fault("complete", times=None, answer=WriteReceipt("W/opaque-5")))
    with pytest.raises(Unavailable, match=r"there is no object.*keeps"):
        bench.upload(**options)
    assert bench.memory.objects == {}
    assert len(bench.memory.uploads()) == 1


@pytest.mark.parametrize(("size", "operation"), [(500, "put"), (SIZE, "complete")])
def test_an_opaque_etag_with_a_hidden_object_is_the_answer_s_word(
    bench: Bench, size: int, operation: Operation
) -> None:
    """Write-only credentials at a store without checksums: its answer is all the proof there can be, and is named."""
    bench.use(checksums=False, opaque_etags=True)
    data = bench.write(size)
    bench.faulty.add(Fault("head", times=None, error=HIDDEN))
    assert bench.upload().integrity is Integrity.SIZE_ETAG
    bench.settled(data)


REFUSALS: list[OrbitError] = [
    InvalidRequest("A header you provided implies functionality", RequestContext(status=501, code="NotImplemented")),
    InvalidRequest("x", RequestContext(status=501, code="XNotImplemented")),
    InvalidRequest(
        "Unsupported header 'x-amz-sdk-checksum-algorithm' received for this API call.",
        RequestContext(status=400, code="InvalidArgument"),
    ),
    InvalidRequest("Checksum Type provided is not supported", RequestContext(status=400, code="InvalidRequest")),
]


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("error", REFUSALS)
def test_a_small_upload_whose_checksum_is_refused_goes_with_an_md5(
    bench: Bench, error: OrbitError, retries: int
) -> None:
    """A store that knows no CRC32 headers says so in several ways; it is no failed attempt."""
    bench.use(checksums=False)
    bench.settings = {"max_retries": retries}
    data = bench.write(100)
    bench.faulty.add(Fault("put", error=error))
    result = bench.upload()
    bench.settled(data)
    assert result.integrity is Integrity.MD5
    assert "Content-MD5" in bench.notices


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("error", REFUSALS)
def test_an_upload_whose_checksum_is_refused_goes_with_md5s(bench: Bench, error: OrbitError, retries: int) -> None:
    """Create without checksums, and each part with its MD5."""
    bench.use(checksums=False)
    bench.settings = {"max_retries": retries}
    data = bench.write(SIZE)
    bench.faulty.add(Fault("create", error=error))
    result = bench.upload()
    bench.settled(data)
    assert result.integrity is Integrity.MD5
    assert "trying without" in bench.notices


@pytest.mark.parametrize(("size", "operation"), [(100, "put"), (SIZE, "create")])
@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("the storage class is not valid", RequestContext(status=400, code="InvalidStorageClass")),
        InvalidRequest("x", RequestContext(status=400, code="InvalidArgument")),
        InvalidRequest("x", RequestContext(status=400, code="InvalidRequest")),
    ],
)
def test_another_refusal_does_not_drop_the_checksums(
    bench: Bench, size: int, operation: Operation, error: OrbitError
) -> None:
    """It would not help, and hide what is wrong."""
    bench.write(size)
    bench.faulty.add(Fault(operation, times=None, error=error))
    with pytest.raises(InvalidRequest):
        bench.upload()
    assert len(bench.faulty.fired) == 1
    assert "checksum" not in bench.notices


@pytest.mark.parametrize(("size", "operation"), [(100, "put"), (SIZE, "create")])
def test_a_refusal_of_what_has_no_checksum_is_final(bench: Bench, size: int, operation: Operation) -> None:
    """501 to the request without checksums is about something else."""
    bench.write(size)
    bench.faulty.add(Fault(operation, times=None, error=REFUSALS[0]))
    with pytest.raises(InvalidRequest):
        bench.upload()
    assert len(bench.faulty.fired) == 2


@pytest.mark.parametrize(("size", "operation"), [(100, "put"), (SIZE, "create")])
def test_a_bare_503_is_an_unknown_outcome(bench: Bench, size: int, operation: Operation) -> None:
    """A proxy had passed the request on: no second version, no orphan."""
    bench.use(versioned=True)
    data = bench.write(size)
    bare = Unavailable("Service Unavailable", RequestContext(status=503, code="503"))
    bench.faulty.add(Fault(operation, when="after", error=bare))
    bench.upload()
    bench.settled(data)
