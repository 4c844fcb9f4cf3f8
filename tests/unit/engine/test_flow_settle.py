"""What an object proves about a request of ours: its mark, its version, its bytes; and what it costs to find out."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from orbit_airflow.engine.errors import InvalidRequest, RequestContext, TargetExists, Unavailable
from orbit_airflow.engine.model import Checksum, ChecksumType, ObjectAttributes, ObjectInfo, Part
from orbit_airflow.engine.source import SourceFile
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import ABSENT, PART, Bench, Killed, data_of
from tests.unit.engine.test_testing_stores import _Body

SIZE = 5 * PART
GATEWAY = Unavailable("gateway", RequestContext(status=500, code="InternalError"))
TUESDAY = ObjectAttributes(metadata=(("night", "tuesday"),), storage_class="GLACIER")


def _foreign(bench: Bench, data: bytes) -> None:
    digests = PartDigests(zlib.crc32(data))
    bench.memory.put(bench.ref, _Body(data), digests, ObjectAttributes(), if_none_match=False)


def _abort_all(bench: Bench) -> None:
    for upload in bench.memory.uploads():
        bench.memory.abort(bench.ref, upload.upload_id)


@pytest.mark.parametrize(("size", "operation"), [(100, "put"), (SIZE, "create")])
def test_an_intent_never_takes_yesterday_s_identical_object_for_its_own(
    bench: Bench, size: int, operation: Any
) -> None:
    """Nothing was asked yet: the same bytes under the key are another night's, with other attributes."""
    bench.use(versioned=True)
    data = bench.write(size)
    bench.upload(attributes=ObjectAttributes(metadata=(("night", "monday"),)))
    bench.tokens = bench.fresh_tokens()
    bench.faulty.add(Fault(operation, error=Killed()))
    with pytest.raises(Killed):
        bench.upload(attributes=TUESDAY)
    assert bench.token["phase"] == "intent"
    result = bench.upload(attributes=TUESDAY)
    newest, older = bench.memory.versions(bench.ref)
    assert (result.resumed, result.bytes_sent, bench.stored) == (False, size, data)
    assert (newest.metadata["night"], newest.attributes.storage_class) == ("tuesday", "GLACIER")
    assert older.metadata["night"] == "monday"


def test_a_lost_put_does_not_take_yesterday_s_identical_object_for_its_own(bench: Bench) -> None:
    """A 500 with nothing done: sent again, since the object there has no mark of ours."""
    bench.use(versioned=True)
    data = bench.write(100)
    _foreign(bench, data)
    bench.faulty.add(Fault("put", error=GATEWAY))
    bench.upload(attributes=TUESDAY)
    assert bench.memory.versions(bench.ref)[0].metadata["night"] == "tuesday"


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("again", ["idempotent", "gone"])
def test_an_upload_that_is_gone_when_it_is_to_be_repaired_is_settled(bench: Bench, replace: bool, again: Any) -> None:
    """Complete was done, its answer lost, and the repeated one says InvalidPart: the object carries our mark."""
    bench.use(versioned=True, complete_again=again)
    data = bench.write(SIZE)
    refused = InvalidRequest("x", RequestContext("complete", status=400, code="InvalidPart"))
    unseen = Fault("head", nth=1 if replace else 3, error=ABSENT)
    faults = [Fault("complete", when="after"), unseen, Fault("complete", nth=2, error=refused)]
    bench.faulty.add(*faults)
    result = bench.upload(replace=replace)
    bench.settled(data)
    assert [fault for _, fault in bench.faulty.fired] == faults
    assert "comparing and repairing" in bench.notices
    assert (bench.sent, result.size) == (SIZE, SIZE)


@pytest.mark.parametrize("size", [100, SIZE])
def test_a_finished_object_that_was_overtaken_is_still_ours(bench: Bench, size: int) -> None:
    """Its version is there; the newer one is another writer's wish, and stays on top."""
    bench.use(versioned=True)
    bench.write(size)
    first = bench.upload()
    _foreign(bench, b"newer")
    result = bench.upload()
    assert (result.resumed, result.bytes_sent, result.version_id) == (True, 0, first.version_id)
    assert bench.stored == b"newer"
    assert len(bench.memory.versions(bench.ref)) == 2


def test_a_finished_object_that_was_overwritten_for_good_is_uploaded_again(bench: Bench) -> None:
    """Without versions, what is overtaken is gone."""
    data = bench.write(SIZE)
    bench.upload()
    _foreign(bench, data_of(SIZE, 5))
    assert bench.upload().bytes_sent == SIZE
    bench.settled(data)


def test_an_old_mark_on_a_rewritten_file_s_key_is_no_integrity_error(bench: Bench) -> None:
    """Killed behind Put, the file rewritten at the same size, one 500: the new bytes are sent, and said so."""
    bench.write(500)
    bench.faulty.add(Fault("put", when="after", error=Killed()))
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    data = bench.write(500, seed=5)
    bench.faulty.add(Fault("put", error=GATEWAY))
    bench.upload()
    bench.settled(data)


def test_an_old_mark_on_a_rewritten_file_s_key_is_a_taken_target(bench: Bench) -> None:
    """With replace=False the object of the old file stays, and no IntegrityError is made of it."""
    old = bench.write(500)
    bench.faulty.add(Fault("put", when="after", error=Killed()))
    with pytest.raises(Killed):
        bench.upload(replace=False)
    bench.faulty.clear()
    bench.write(500, seed=5)
    with pytest.raises(TargetExists):
        bench.upload(replace=False)
    assert bench.stored == old


@pytest.mark.parametrize("choice", ["fail", "restart"])
def test_a_file_that_grows_behind_its_complete_is_a_new_upload(bench: Bench, choice: Any) -> None:
    """The old file's object is there and carries our mark: that transfer is over, and nothing has changed under it."""
    bench.use(versioned=True)
    old = bench.write(SIZE)
    bench.faulty.add(Fault("complete", when="after", error=Killed()))
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    with bench.path.open("ab") as file:
        file.write(b"more")
    bench.upload(on_source_change=choice)
    assert bench.stored == old + b"more"
    assert len(bench.memory.versions(bench.ref)) == 2
    assert bench.memory.uploads() == []


@pytest.mark.parametrize(("takes", "asked"), [(10.0, 1), (4.0, 3)])
def test_all_attempts_at_complete_share_one_deadline(bench: Bench, takes: float, asked: int) -> None:
    """timeout_seconds bounds the wait for the object, not each of so many waits."""
    bench.write(SIZE)
    bench.settings = {"timeout_seconds": 10.0, "max_retries": 9}
    slow = Fault("complete", times=None, call=lambda: bench.time.sleep(takes), error=GATEWAY)
    bench.faulty.add(slow)
    with pytest.raises(Unavailable, match="keeps"):
        bench.upload()
    assert len(bench.faulty.fired) == asked


def test_quick_failures_of_complete_are_all_tried(bench: Bench) -> None:
    """The deadline ends nothing before its time: max_retries counts as ever."""
    bench.write(SIZE)
    bench.settings = {"max_retries": 6}
    bench.faulty.add(Fault("complete", times=None, error=GATEWAY))
    with pytest.raises(Unavailable):
        bench.upload()
    assert len(bench.faulty.fired) == 7


def test_a_throttled_complete_is_not_multiplied(bench: Bench) -> None:
    """It is repeated where all requests are repeated, and the flow does not do that over again."""
    from orbit_airflow.engine.errors import Throttled

    bench.write(SIZE)
    bench.settings = {"max_retries": 3}
    busy = Throttled("x", RequestContext(status=503, code="SlowDown"))
    bench.faulty.add(Fault("complete", times=None, error=busy))
    with pytest.raises(Throttled):
        bench.upload()
    assert len(bench.faulty.fired) == 4


def _whole_readings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Each reading of the whole file by one thread: whether its MD5 was wanted."""
    readings: list[bool] = []
    real = SourceFile.digest

    def counted(self: SourceFile, part: Part, buffer: memoryview, *, md5: bool, check: Any = None) -> Any:
        if part.size == self.size:
            readings.append(md5)
        return real(self, part, buffer, md5=md5, check=check)

    monkeypatch.setattr(SourceFile, "digest", counted)
    return readings


def _completing_and_gone(bench: Bench) -> None:
    """Complete's fate is unknown, the upload is gone, and another writer's object of this size lies there."""
    bench.write(SIZE)
    bench.faulty.add(Fault("complete", error=Killed()))
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    bench.path.chmod(0o600 if bench.path.stat().st_mode & 0o077 else 0o644)
    _abort_all(bench)
    _foreign(bench, data_of(SIZE, 9))
    bench.settings = {"settle_seconds": 60.0}


def test_the_file_is_read_once_however_often_the_key_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a terabyte takes hours to hash: once per stat, not once per poll."""
    _completing_and_gone(bench)
    readings = _whole_readings(monkeypatch)
    bench.upload()
    assert len(bench.asked("head")) > 10
    assert len(readings) == 1


def test_a_checksum_that_cannot_be_computed_costs_no_reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """CRC64NVME is what AWS gives to everybody else's objects: nothing to compare the file with."""
    _completing_and_gone(bench)
    theirs = bench.memory.objects[bench.ref]
    checksum = Checksum("CRC64NVME", "AAAAAAAAAAA=", ChecksumType.FULL_OBJECT)
    shown = ObjectInfo(bench.ref, SIZE, theirs.etag, checksum=checksum)
    bench.faulty.add(Fault("head", times=None, answer=shown))
    readings = _whole_readings(monkeypatch)
    bench.upload()
    assert readings == []


def test_a_taken_target_promises_no_kept_parts(bench: Bench) -> None:
    """They were aborted: the error must not say that the next try continues."""
    bench.write(SIZE)
    bench.on("complete", lambda: _foreign(bench, b"theirs"))
    with pytest.raises(TargetExists) as caught:
        bench.upload(replace=False)
    assert "keeps" not in str(caught.value)
    assert "continues" not in str(caught.value)
    assert bench.memory.uploads() == []


@pytest.mark.parametrize("part_size", [1, 1023, 1024**3])
def test_a_part_size_that_cannot_be_is_a_clean_start(bench: Bench, part_size: int) -> None:
    """A hand has edited the state: the object arrives, in a bounded number of requests, and no try fails for it."""
    bench.settings = {"limits": _limits()}
    data = bench.write(SIZE)
    bench.die(4)
    bench.edit_token(part_size=part_size)
    result = bench.upload()
    assert bench.stored == data
    assert (result.resumed, bench.token["part_size"]) == (False, PART)
    assert len(bench.asked("list_parts")) <= 1


def _limits() -> Any:
    from orbit_airflow.engine.plan import StoreLimits

    return StoreLimits(min_part_size=1024, max_part_size=1024 * PART, part_size_step=1024)


def test_a_part_size_that_needs_too_many_parts_is_a_clean_start(bench: Bench) -> None:
    """Larger than the least one, and still more than 10,000 parts."""
    from orbit_airflow.engine.plan import StoreLimits

    data = bench.write(40 * PART)
    bench.settings = {"limits": StoreLimits(min_part_size=1024, part_size_step=1024, max_parts=50)}
    bench.die(4)
    bench.edit_token(part_size=1024)
    bench.upload()
    assert bench.stored == data
