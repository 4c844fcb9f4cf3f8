"""Complete: lost answers, answers that say nothing, and parts that are not ours."""

from __future__ import annotations

from typing import Any, Literal

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
    Unavailable,
)
from orbit_airflow.engine.model import Integrity, ObjectAttributes, Part, WriteReceipt
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, data_of
from tests.unit.engine.test_testing_stores import _Body

SIZE = 4 * PART + 3
LOST = ConnectionLost("lost", RequestContext("complete"))
GATEWAY = Unavailable("gateway", RequestContext("complete", status=500))


@pytest.mark.parametrize("error", [LOST, GATEWAY])
@pytest.mark.parametrize("again", ["idempotent", "gone"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_answer_is_settled(
    bench: Bench, again: Literal["idempotent", "gone"], error: OrbitError, times: int
) -> None:
    """The object is there: a success, without a second version, whether the store repeats its answer or not."""
    bench.use(complete_again=again, versioned=True)
    data = bench.write(SIZE)
    bench.faulty.add(Fault("complete", when="after", times=times, error=error))
    result = bench.upload()
    bench.settled(data)
    assert result.integrity is Integrity.FULL_CRC
    assert result.version_id == bench.memory.versions(bench.ref)[0].version_id


def test_a_lost_answer_and_then_412_is_our_own_object(bench: Bench) -> None:
    """The condition that we set ourselves is broken by our own first try."""
    data = bench.write(SIZE)
    refused = PreconditionFailed("412", RequestContext("complete", status=412))
    bench.faulty.add(Fault("complete", when="after"), Fault("complete", nth=2, error=refused))
    bench.upload(replace=False)
    bench.settled(data)


def test_412_without_an_object_of_ours_is_a_taken_target(bench: Bench) -> None:
    """Somebody else was first: their object stays, our parts go."""
    bench.write(SIZE)
    bench.on("complete", lambda: _foreign_object(bench, SIZE))
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert bench.stored == data_of(SIZE, 99)
    assert bench.memory.uploads() == []


def _foreign_object(bench: Bench, size: int) -> None:
    bench.memory.put(bench.ref, _Body(data_of(size, 99)), PartDigests(), ObjectAttributes(), if_none_match=False)


@pytest.mark.parametrize("again", ["idempotent", "gone"])
def test_an_empty_etag_behind_the_work_is_no_failure(bench: Bench, again: Literal["idempotent", "gone"]) -> None:
    """The object is found by its mark."""
    bench.use(complete_again=again)
    data = bench.write(SIZE)
    bench.faulty.add(Fault("complete", when="after", answer=WriteReceipt("")))
    bench.upload()
    bench.settled(data)


def test_a_200_that_did_nothing_is_no_success(bench: Bench) -> None:
    """Complete is sent again, and the object is there in the end."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("complete", answer=WriteReceipt("")))
    bench.upload()
    bench.settled(data)
    assert bench.sent == SIZE


def test_a_200_that_never_does_anything_is_an_error(bench: Bench) -> None:
    """Never a success without an object; the parts are kept."""
    bench.write(SIZE)
    bench.faulty.add(Fault("complete", times=None, answer=WriteReceipt("")))
    with pytest.raises(Unavailable, match="keeps"):
        bench.upload()
    assert bench.memory.objects == {}
    assert len(bench.memory.uploads()) == 1


def test_a_foreign_object_of_equal_size_is_not_taken_for_ours(bench: Bench) -> None:
    """The answer is lost with nothing done, and another writer's object lies there."""
    bench.use(versioned=True)
    data = bench.write(SIZE)
    _foreign_object(bench, SIZE)
    bench.faulty.add(Fault("complete", error=LOST, times=None))
    with pytest.raises(ConnectionLost):
        bench.upload()
    bench.faulty.clear()
    bench.upload()
    assert bench.stored == data
    assert bench.memory.uploads() == []


def test_a_complete_still_at_work_is_waited_for(bench: Bench) -> None:
    """The upload is gone and the object comes a few seconds later: no second version is written."""
    bench.use(versioned=True, complete_again="gone")
    data = bench.write(SIZE)
    bench.faulty.add(Fault("complete", when="after"))
    hidden = Fault("head", times=3, error=_not_found())
    bench.faulty.add(hidden)
    bench.upload()
    bench.settled(data)


def _not_found() -> OrbitError:
    from orbit_airflow.engine.errors import NotFound

    return NotFound("404", RequestContext("head", status=404, code="404"))


def test_a_denied_complete_keeps_the_parts(bench: Bench) -> None:
    """A missing kms:Decrypt shows hours later; the next try sends nothing again."""
    data = bench.write(SIZE)
    denied = AccessDenied("kms:Decrypt", RequestContext("complete", status=403, code="AccessDenied"))
    bench.faulty.add(Fault("complete", error=denied))
    with pytest.raises(AccessDenied, match=r"keeps 8195 bytes.*the next try continues it"):
        bench.upload()
    result = bench.upload()
    bench.settled(data)
    assert (result.bytes_sent, result.bytes_saved, result.parts_found) == (0, SIZE, 5)


@pytest.mark.parametrize(
    "profile", [{}, {"full_object": False}, {"checksums": False}], ids=["full", "composite", "none"]
)
def test_a_foreign_part_never_becomes_part_of_the_object(bench: Bench, profile: dict[str, Any]) -> None:
    """Another writer overwrites part 2 between its upload and Complete: repaired, with and without checksums."""
    bench.use(**profile)
    data = bench.write(SIZE)
    bench.on("complete", lambda: _overwrite_part(bench, 2))
    bench.upload()
    bench.settled(data)
    assert len(bench.asked("complete")) == 2
    assert "repairing" in bench.notices


def _overwrite_part(bench: Bench, number: int) -> None:
    (upload,) = bench.memory.uploads(bench.ref)
    junk = data_of(PART, 77)
    import zlib

    crc = None if bench.token["checksum_algorithm"] is None else zlib.crc32(junk)
    part = Part(number, (number - 1) * PART, PART)
    bench.memory.upload_part(bench.ref, upload.upload_id, part, _Body(junk), PartDigests(crc))


def test_a_part_that_is_overwritten_again_and_again_is_an_integrity_error(bench: Bench) -> None:
    """Bounded: then it is told, and nothing is visible."""
    bench.write(SIZE)
    bench.on("complete", lambda: _overwrite_part(bench, 2), times=None)
    with pytest.raises(IntegrityError, match="did not help"):
        bench.upload()
    assert bench.memory.objects == {}
    assert len(bench.asked("complete")) == 3


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge"])
def test_parts_that_the_store_disputes_are_compared(bench: Bench, code: str) -> None:
    """And Complete is sent again."""
    data = bench.write(SIZE)
    refused = InvalidRequest("x", RequestContext("complete", status=400, code=code))
    bench.faulty.add(Fault("complete", error=refused))
    bench.upload()
    bench.settled(data)
    assert bench.sent == SIZE


def test_another_refusal_stands(bench: Bench) -> None:
    """Not everything is about parts."""
    bench.write(SIZE)
    refused = InvalidRequest("x", RequestContext("complete", status=400, code="InvalidArgument"))
    bench.faulty.add(Fault("complete", error=refused))
    with pytest.raises(InvalidRequest):
        bench.upload()
    assert len(bench.asked("complete")) == 0


def test_a_checksum_that_the_store_disputes_is_compared(bench: Bench) -> None:
    """BadDigest on Complete: the parts are listed and compared before anything is said."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("complete", error=ChecksumRefused("x", RequestContext("complete", status=400))))
    bench.upload()
    bench.settled(data)
    assert len(bench.asked("list_parts")) == 1


def test_an_answer_with_another_checksum_is_an_integrity_error(bench: Bench) -> None:
    """Never a success when the store says that it holds other bytes."""
    from orbit_airflow.engine.model import Checksum

    bench.write(SIZE)
    bench.faulty.add(Fault("complete", when="after", answer=WriteReceipt("e", None, Checksum("CRC32", "AAAAAA=="))))
    with pytest.raises(IntegrityError):
        bench.upload()


def test_an_overtaken_object_is_told(bench: Bench) -> None:
    """Another writer replaces the object right behind Complete: ours was complete, and theirs stays."""
    bench.use(full_object=False)
    bench.write(SIZE)
    bench.on("complete", lambda: _foreign_object(bench, SIZE), when="after")
    result = bench.upload()
    assert result.integrity is Integrity.PART_CRC
    assert bench.stored == data_of(SIZE, 99)
    assert "another writer" in bench.notices


@pytest.mark.parametrize(("checksums", "error"), [(True, IntegrityError), (False, Unavailable)])
@pytest.mark.parametrize("size", [SIZE, 9 * PART])
def test_an_answer_about_another_object_is_no_success(
    bench: Bench, checksums: bool, error: type[OrbitError], size: int
) -> None:
    """200 with the ETag of an object that lies there: not the MD5 of our parts, and HEAD shows no mark of ours.

    Theirs stays as it is, and the next try, which finds the upload gone, begins anew.
    """
    bench.use(checksums=False)
    data = bench.write(SIZE)
    _foreign_object(bench, size)
    theirs = bench.memory.objects[bench.ref].etag

    def aborted() -> None:
        for upload in bench.memory.uploads():
            bench.memory.abort(bench.ref, upload.upload_id)

    bench.faulty.add(Fault("complete", call=aborted, answer=WriteReceipt(theirs)))
    with pytest.raises(error) as caught:
        bench.upload(verify_checksums=checksums)
    assert type(caught.value) is error
    assert bench.stored == data_of(size, 99)
    bench.faulty.clear()
    bench.upload(verify_checksums=checksums)
    bench.settled(data)


def test_a_marked_object_of_another_size_is_an_integrity_error(bench: Bench) -> None:
    """The store says that it is ours, and it is not what was sent."""
    bench.use(full_object=False)
    bench.write(SIZE)

    def shortened() -> None:
        attributes = ObjectAttributes(metadata=(("orbit-upload", bench.token["mark"]),))
        bench.memory.put(bench.ref, _Body(b"short"), PartDigests(), attributes, if_none_match=False)

    bench.on("complete", shortened, when="after")
    with pytest.raises(IntegrityError, match=f"has 5 bytes, {SIZE} were sent"):
        bench.upload()
