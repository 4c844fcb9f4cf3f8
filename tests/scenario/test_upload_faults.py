"""The upload faults under which other tools report success on nothing, lose the work, or hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from orbit_airflow.engine import UploadResult
from orbit_airflow.engine.errors import (
    AccessDenied,
    IntegrityError,
    Network,
    SourceChanged,
    StoreError,
    TargetExists,
    UploadGone,
)
from orbit_airflow.engine.model import Integrity, Part
from orbit_airflow.engine.store import PartDigests
from tests.bodies import BytesBody
from tests.model_server import Fault, ServerProfile
from tests.scenario.conftest import BUCKET, PART, Stage

Upload = Callable[..., UploadResult]


def assert_right(stage: Stage, result: UploadResult, integrity: Integrity = Integrity.FULL_CRC) -> None:
    """One version with the file's bytes, nothing left open, and the proof that was promised."""
    assert stage.versions() == [stage.path.read_bytes()]
    assert stage.open_uploads() == 0
    assert result.integrity is integrity


@pytest.mark.parametrize("repeat", ["idempotent", "gone"])
@pytest.mark.parametrize("action", ["reset", "fin", "hang"])
def test_a_complete_whose_answer_is_lost_is_settled(stage: Stage, upload: Upload, repeat: str, action: str) -> None:
    """The object is there; whether the store repeats its answer or says NoSuchUpload, the upload is a success."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, complete_repeat=repeat))  # type: ignore[arg-type]
    stage.server.inject(Fault(operation="CompleteMultipartUpload", stage="after", action=action))  # type: ignore[arg-type]
    assert_right(stage, upload())


@pytest.mark.parametrize("action", ["answer_200_error", "answer_200_empty", "empty_etag"])
def test_a_complete_with_a_hollow_answer_is_settled(stage: Stage, upload: Upload, action: str) -> None:
    """200 with an error body, with no body, with an empty ETag, the work done: the object decides."""
    stage.server.inject(Fault(operation="CompleteMultipartUpload", stage="after", action=action))  # type: ignore[arg-type]
    assert_right(stage, upload())


@pytest.mark.parametrize("action", ["answer_200_error", "answer_200_empty"])
def test_a_hollow_answer_to_a_complete_that_was_not_done_is_no_success(
    stage: Stage, upload: Upload, action: str
) -> None:
    """200 with an error or nothing in it, and no object: Complete is sent again."""
    stage.server.inject(Fault(operation="CompleteMultipartUpload", stage="before", action=action))  # type: ignore[arg-type]
    assert_right(stage, upload())


def test_a_store_that_only_pretends_to_complete_is_an_error(stage: Stage, upload: Upload) -> None:
    """200 and an empty body for ever: no success, and the parts are kept for the next try, which succeeds."""
    stage.server.inject(
        Fault(operation="CompleteMultipartUpload", stage="before", action="answer_200_empty", times=None)
    )
    with pytest.raises(Network):
        upload()
    assert stage.versions() == []
    stage.server.clear_faults()
    result = upload()
    assert_right(stage, result)
    assert result.bytes_sent == 0


@pytest.mark.parametrize("action", ["reset", "hang", "error"])
def test_a_create_whose_answer_is_lost_leaves_no_orphan(stage: Stage, upload: Upload, action: str) -> None:
    """The lost upload is found by key, initiator and time, and aborted; all other clients leave it."""
    stage.server.inject(
        Fault(operation="CreateMultipartUpload", stage="after", action=action, status=500)  # type: ignore[arg-type]
    )
    assert_right(stage, upload())


def test_a_part_whose_answer_is_lost_is_sent_again(stage: Stage, upload: Upload) -> None:
    """One part travels twice, and nothing else."""
    stage.server.inject(Fault(operation="UploadPart", stage="after", action="reset", part_number=3))
    assert_right(stage, upload())
    assert stage.server.bytes_received("UploadPart") == stage.path.stat().st_size + PART


@pytest.mark.parametrize("stage_of", ["before", "mid", "after"])
@pytest.mark.parametrize("action", ["reset", "fin", "error"])
def test_a_part_that_fails_once_costs_one_part(stage: Stage, upload: Upload, stage_of: str, action: str) -> None:
    """Before, in the middle of and after its work: the same part again."""
    fault = Fault(operation="UploadPart", stage=stage_of, action=action, part_number=2, status=503, code="SlowDown")  # type: ignore[arg-type]
    stage.server.inject(fault)
    assert_right(stage, upload())


def test_a_part_that_fails_for_ever_keeps_the_others(stage: Stage, upload: Upload) -> None:
    """The error says what is kept; the next try sends only what is missing."""
    stage.server.inject(Fault(operation="UploadPart", part_number=4, status=503, code="SlowDown", times=None))
    with pytest.raises(StoreError, match="keeps"):
        upload(stage.engine(parallel_operations=1))
    assert stage.open_uploads() == 1
    stage.server.clear_faults()
    result = upload()
    assert_right(stage, result)
    assert result.resumed
    assert result.bytes_saved == 3 * PART


@pytest.mark.parametrize("code", ["ExpiredToken", "AccessDenied", "InvalidAccessKeyId"])
def test_refused_credentials_keep_the_parts(stage: Stage, upload: Upload, code: str) -> None:
    """What a person can mend does not cost the work: no abort is even tried."""
    stage.server.inject(Fault(operation="UploadPart", nth=3, status=403, code=code, times=None))
    with pytest.raises(AccessDenied, match="keeps"):
        upload(stage.engine(parallel_operations=1))
    assert not stage.server.records("AbortMultipartUpload")
    stage.server.clear_faults()
    result = upload()
    assert_right(stage, result)
    assert result.bytes_saved == 2 * PART


def test_a_store_that_accepts_and_never_answers_is_given_up(stage: Stage, upload: Upload) -> None:
    """Each attempt ends after the stall time; the error comes within attempts x (stall + delay)."""
    stage.server.inject(Fault(operation="UploadPart", action="hang", times=None))
    started = time.monotonic()
    with pytest.raises(Network):
        upload(stage.engine(stall_timeout=0.3, max_retries=1))
    assert time.monotonic() - started < 10
    stage.server.clear_faults()
    assert_right(stage, upload())


def test_a_store_that_stops_reading_is_given_up(stage: Stage, upload: Upload) -> None:
    """The send itself has a limit: no byte for the stall time ends the attempt."""
    stage.path.write_bytes(os.urandom(64 * PART))
    stage.server.inject(Fault(operation="UploadPart", action="stop_reading", part_number=1, times=1))
    result = upload(stage.engine(chunk_size=32 * PART, stall_timeout=0.5))
    assert_right(stage, result)


def test_a_redirect_to_another_host_is_not_followed(stage: Stage, upload: Upload) -> None:
    """A key signed for one host does not travel to another one."""
    elsewhere = Fault(operation="UploadPart", action="redirect", location="http://127.0.0.1:9/x", times=None)
    stage.server.inject(elsewhere)
    with pytest.raises(StoreError):
        upload()
    assert stage.versions() == []


def test_a_file_truncated_while_it_is_uploaded_is_an_error_at_once(stage: Stage, upload: Upload) -> None:
    """No hang, no short body, nothing visible, and the worthless parts are gone."""

    def truncate(_: object) -> None:
        os.truncate(stage.path, PART + 1)

    stage.server.inject(Fault(operation="UploadPart", action="callback", callback=truncate, part_number=1))
    with pytest.raises(SourceChanged):
        upload(stage.engine(parallel_operations=1))
    assert stage.versions() == []
    assert stage.open_uploads() == 0


@pytest.mark.parametrize("change", ["write", "append", "rename"])
@pytest.mark.parametrize("policy", ["fail", "restart"])
def test_a_file_changed_while_it_is_uploaded_never_becomes_a_mixture(
    stage: Stage, upload: Upload, change: str, policy: str
) -> None:
    """Either an error with nothing visible, or one snapshot: the new file."""

    def alter(_: object) -> None:
        if change == "write":
            with stage.path.open("r+b") as file:
                file.write(b"changed" * 100)
        elif change == "append":
            with stage.path.open("ab") as file:
                file.write(b"more")
        else:
            other = stage.path.with_suffix(".new")
            other.write_bytes(os.urandom(5 * PART + 1000))
            other.replace(stage.path)

    stage.server.inject(Fault(operation="UploadPart", action="callback", callback=alter, part_number=4))
    engine = stage.engine(parallel_operations=2)
    if policy == "fail":
        with pytest.raises(SourceChanged):
            upload(engine)
        assert stage.versions() == []
        assert stage.open_uploads() == 0
    else:
        assert_right(stage, upload(engine, on_source_change="restart"))


def test_a_chmod_while_it_is_uploaded_changes_nothing(stage: Stage, upload: Upload) -> None:
    """A different stat is a doubt; the same bytes end it."""
    stage.server.inject(
        Fault(operation="UploadPart", action="callback", callback=lambda _: stage.path.chmod(0o600), part_number=2)
    )
    assert_right(stage, upload())
    assert "comparing its bytes" in stage.notices()


def test_an_upload_aborted_by_somebody_is_started_again_once(stage: Stage, upload: Upload) -> None:
    """UploadGone, and no object of ours: a new upload, the right object."""

    def abort(_: object) -> None:
        (upload_id,) = stage.upload_ids()
        stage.store().abort(stage.ref, upload_id)

    stage.server.inject(Fault(operation="UploadPart", action="callback", callback=abort, part_number=3))
    assert_right(stage, upload())
    assert "starting again" in stage.notices()


def test_an_object_that_is_there_is_never_replaced(stage: Stage, upload: Upload) -> None:
    """replace=False, small and large: TargetExists, the old object untouched, no upload left."""
    first = upload()
    stage.path.write_bytes(os.urandom(3 * PART))
    for content in (os.urandom(3 * PART), b"small"):
        stage.path.write_bytes(content)
        with pytest.raises(TargetExists):
            upload(replace=False, resume=False)
    assert [version.etag for version in stage.server.versions(BUCKET, stage.ref.key)] == [first.etag]
    assert stage.open_uploads() == 0


def test_a_writer_who_comes_first_at_the_last_moment_wins(stage: Stage, upload: Upload) -> None:
    """If-None-Match goes with Complete: an object that appears between our look and our Complete stays."""
    other = stage.path.with_suffix(".other")
    other.write_bytes(b"first!")

    def race(_: object) -> None:
        stage.engine().upload(other, stage.ref)

    stage.server.inject(Fault(operation="CompleteMultipartUpload", action="callback", callback=race))
    with pytest.raises(TargetExists):
        upload(replace=False)
    assert stage.versions() == [b"first!"]
    assert stage.open_uploads() == 0


@pytest.mark.parametrize("size", [10, 3 * PART])
def test_our_own_lost_write_is_not_taken_for_somebody_elses(stage: Stage, upload: Upload, size: int) -> None:
    """412 on the repetition of a conditional write whose answer was lost: the object carries our mark."""
    stage.path.write_bytes(os.urandom(size))
    for operation in ("PutObject", "CompleteMultipartUpload"):
        stage.server.inject(Fault(operation=operation, stage="after", action="reset"))
    stage.server.set_profile(ServerProfile(min_part_size=PART, complete_repeat="gone"))
    assert_right(stage, upload(replace=False))


def test_a_foreign_part_in_our_upload_is_found_and_replaced(stage: Stage, upload: Upload) -> None:
    """Somebody overwrites a part between its upload and Complete: the checksums catch it, the part is sent again."""

    def overwrite(_: object) -> None:
        (upload_id,) = stage.upload_ids()
        body = BytesBody(os.urandom(PART))
        stage.store().upload_part(stage.ref, upload_id, Part(2, PART, PART), body, PartDigests(body.crc32))

    stage.server.inject(Fault(operation="CompleteMultipartUpload", action="callback", callback=overwrite))
    assert_right(stage, upload())
    assert "comparing and repairing" in stage.notices()


def test_bytes_that_never_arrive_whole_are_an_integrity_error(stage: Stage, upload: Upload) -> None:
    """BadDigest again and again: said as what it is, after reading the source anew."""
    stage.server.inject(Fault(operation="UploadPart", part_number=2, status=400, code="BadDigest", times=None))
    with pytest.raises(IntegrityError, match="never arrived"):
        upload()
    assert len([r for r in stage.server.records("UploadPart") if r.part_number == 2]) == 3


def test_a_store_without_checksums_is_proved_by_md5(stage: Stage, upload: Upload) -> None:
    """A store like Ceph 16: no CRCs, an empty ETag on Complete, and the proof says md5."""
    profile = ServerProfile(min_part_size=PART, flexible_checksums=False, empty_complete_etag=True)
    stage.server.set_profile(profile)
    assert_right(stage, upload(), Integrity.MD5)


def test_a_store_that_knows_only_composite_checksums_says_part_crc(stage: Stage, upload: Upload) -> None:
    """FULL_OBJECT was asked, COMPOSITE was given: the proof is that of the parts."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, full_object_checksums=False))
    assert_right(stage, upload(), Integrity.PART_CRC)


def test_a_store_that_will_not_list_uploads_costs_one_line(stage: Stage, upload: Upload) -> None:
    """403 on ListMultipartUploads: the orphan of a lost Create stays, the upload goes on."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, list_uploads_denied=True))
    stage.server.inject(Fault(operation="CreateMultipartUpload", stage="after", action="reset"))
    upload()
    assert stage.versions() == [stage.path.read_bytes()]
    assert stage.notices().count("could not look for") == 1


def test_more_parts_than_a_page_are_all_found(stage: Stage, upload: Upload) -> None:
    """ListParts pages of three: the resumed upload sends only what is missing."""
    stage.path.write_bytes(os.urandom(20 * PART))
    stage.server.set_profile(ServerProfile(min_part_size=PART, max_parts_page=3))
    stage.server.inject(Fault(operation="UploadPart", part_number=18, status=403, code="AccessDenied", times=None))
    with pytest.raises(AccessDenied):
        upload(stage.engine(parallel_operations=1))
    stage.server.clear_faults()
    result = upload()
    assert_right(stage, result)
    assert result.parts_found == 17


def test_a_dead_trys_complete_that_is_still_running_is_waited_for(stage: Stage, upload: Upload) -> None:
    """The first try gives up on Complete, the server goes on with it: the next try finds the object, one version."""
    stage.server.inject(Fault(operation="CompleteMultipartUpload", stage="before", action="delay", seconds=1.2))
    with pytest.raises(Network):
        upload(stage.engine(timeout_seconds=0.3, max_retries=0, settle_seconds=0.1))
    result = upload(stage.engine(timeout_seconds=10.0, settle_seconds=10.0))
    assert_right(stage, result)


def test_two_tries_of_one_transfer_at_once_make_one_object(stage: Stage, upload: Upload) -> None:
    """A zombie and its successor work on the same upload: both succeed or fail cleanly, one version."""
    stage.server.inject(Fault(operation="UploadPart", action="hang", part_number=6, seconds=0.5))
    results: list[object] = []

    def zombie() -> None:
        try:
            results.append(upload(stage.engine(parallel_operations=1)))
        except (UploadGone, StoreError) as exc:
            results.append(exc)

    thread = threading.Thread(target=zombie)
    thread.start()
    deadline = time.monotonic() + 10
    while len(stage.server.records("UploadPart")) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    result = upload()
    thread.join(20)
    assert_right(stage, result)
    assert len(results) == 1


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("size", [10, 3 * PART])
def test_credentials_that_may_only_write_are_enough(stage: Stage, upload: Upload, replace: bool, size: int) -> None:
    """HEAD answers 403: the conditions and checksums of the writing requests are the proof, and the state's word is
    enough for the next try, which sends nothing.
    """
    stage.path.write_bytes(os.urandom(size))
    stage.server.inject(Fault(operation="HeadObject", status=403, code="AccessDenied", times=None))
    first = upload(replace=replace)
    assert_right(stage, first)
    before = stage.server.bytes_received()
    again = upload(replace=replace)
    assert_right(stage, again)
    assert (again.resumed, again.bytes_sent, again.etag) == (True, 0, first.etag)
    assert stage.server.bytes_received() == before


@pytest.mark.parametrize("replace", [True, False])
def test_credentials_that_may_only_write_send_nothing_twice_behind_a_death(
    stage: Stage, upload: Upload, replace: bool
) -> None:
    """Complete was done and its answer never seen, here or by the next try: one error that says so, one version."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, complete_repeat="gone"))
    stage.server.inject(Fault(operation="HeadObject", status=403, code="AccessDenied", times=None))
    stage.server.inject(Fault(operation="CompleteMultipartUpload", stage="after", action="reset"))
    for _ in range(2):
        with pytest.raises(AccessDenied, match="cannot be told"):
            upload(replace=replace)
    assert stage.versions() == [stage.path.read_bytes()]
    assert stage.open_uploads() == 0
    assert stage.server.bytes_received("UploadPart") == stage.path.stat().st_size


def test_a_rewrite_that_restores_the_modification_time_is_seen(stage: Stage, upload: Upload) -> None:
    """An mtime can be set back, a ctime cannot: a doubt, and the bytes decide."""

    def rewrite(_: object) -> None:
        before = stage.path.stat()
        with stage.path.open("r+b") as file:
            file.write(b"changed")
        os.utime(stage.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    stage.server.inject(Fault(operation="UploadPart", action="callback", callback=rewrite, part_number=5))
    with pytest.raises(SourceChanged):
        upload(stage.engine(parallel_operations=1))
    assert stage.versions() == []
