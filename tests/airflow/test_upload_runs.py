"""The operator in the real task runner, against the strict S3 server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.errors import AccessDenied, Paused, Unavailable
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
PART = 5 * MIB
RESULT_KEYS = {
    "uri", "bucket", "key", "version_id", "etag", "size", "checksum", "integrity", "duration", "resumed",
    "bytes_sent", "bytes_saved", "try_number",
}  # fmt: skip


@pytest.fixture(autouse=True)
def brief_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits ten seconds for a state store that a test has broken."""
    from orbit_airflow.durable import tokens

    monkeypatch.setattr(tokens.TaskStateTokenStore.__init__, "__kwdefaults__", {"load_wait": 3.0, "save_wait": 1.0})


def upload(dag: Any, path: Path, key: str, **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{
                "task_id": "up", "filename": str(path), "dest_bucket": BUCKET, "dest_key": key, "retries": 3,
                "parallel_operations": 2, **kwargs,
            }
        )  # fmt: skip


def result_of(comms: FakeComms, task_id: str = "up", index: int = -1) -> dict[str, Any]:
    value: dict[str, Any] = comms.xcoms[(task_id, index, "return_value")]
    return value


def stored(server: ModelServer, key: str) -> bytes:
    (version,) = server.versions(BUCKET, key)
    return version.read()


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_success_returns_small_json_and_shows_the_end(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(12 * MIB)
    ended = run_try(upload(dag, path, "ok/dump.tar"))
    assert ended.state == "success", ended.error
    result = result_of(comms)
    assert set(result) == RESULT_KEYS
    assert result["uri"] == f"s3://{BUCKET}/ok/dump.tar"
    assert result["size"] == result["bytes_sent"] == 12 * MIB
    assert result["integrity"] == "full-crc"
    assert result["checksum"].startswith("CRC32:")
    assert (result["resumed"], result["bytes_saved"], result["try_number"]) == (False, 0, 1)
    assert stored(s3, "ok/dump.tar") == path.read_bytes()
    progress = comms.xcoms[("up", -1, "orbit_progress")]
    assert progress["phase"] == "done"
    assert progress["parts_total"] == progress["parts_done"] == 3
    assert progress["percentage"] == 100.0


def test_the_second_try_sends_only_what_is_missing(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile, lines: list[tuple[str, str]]
) -> None:
    """Part 4 of 6 fails for good in try 1; try 2 compares the others and sends what the store does not have."""
    path = make_file(6 * PART)
    s3.inject(Fault(operation="UploadPart", part_number=4, action="error", status=500, times=None))
    op = upload(dag, path, "resumed.tar")
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", Unavailable)
    (open_upload,) = s3.open_uploads(BUCKET)
    kept = sum(open_upload.parts.values())
    assert kept >= PART

    s3.reset()
    second = run_try(op, 2)
    assert second.state == "success", second.error
    result = result_of(comms)
    assert (result["resumed"], result["bytes_saved"], result["try_number"]) == (True, kept, 2)
    assert s3.bytes_received("UploadPart") == result["bytes_sent"] == 6 * PART - kept
    assert stored(s3, "resumed.tar") == path.read_bytes()
    assert comms.xcoms[("up", -1, "orbit_progress")]["resumed_from"] == kept
    found = kept // PART
    assert any(f"found {found} of 6 parts" in text and f"sending {6 - found}" in text for _, text in lines)
    assert any("is complete" in text and "saved by resuming" in text for _, text in lines)


def test_on_kill_stops_within_three_seconds_and_the_state_is_saved(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """A real SIGTERM to this process, as the supervisor sends it."""
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)
    op = upload(dag, path, "killed.tar")
    asked: list[float] = []

    def kill() -> None:
        wait_until(lambda: any(sum(item.parts.values()) for item in s3.open_uploads(BUCKET)))
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    ended = run_try(op, 1)
    took = time.monotonic() - asked[0]
    killer.join()
    assert isinstance(ended.error, Paused)
    assert ended.state == "up_for_retry"
    assert took < 3
    (token,) = comms.state.values()
    assert token["phase"] == "started"
    assert comms.xcoms[("up", -1, "orbit_progress")]["phase"] == "paused"
    s3.reset()
    s3.set_rate_limit(None)
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") < 8 * PART
    assert stored(s3, "killed.tar") == path.read_bytes()


def test_a_stop_does_not_wait_for_a_request_that_hangs(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Complete may take minutes; the task ends all the same, and the next try asks what became of it."""
    path = make_file(2 * PART)
    s3.inject(Fault(operation="CompleteMultipartUpload", action="delay", stage="before", seconds=6.0))
    op = upload(dag, path, "slow-complete.tar")

    def kill() -> None:
        wait_until(lambda: bool(s3.records("CompleteMultipartUpload")))
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    started = time.monotonic()
    ended = run_try(op, 1)
    killer.join()
    assert isinstance(ended.error, Paused)
    assert time.monotonic() - started < 5
    (token,) = comms.state.values()
    assert token["phase"] == "completing"
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") == 0
    assert stored(s3, "slow-complete.tar") == path.read_bytes()


def test_a_kill_before_execute_is_not_forgotten(
    dag: Any, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    op = upload(dag, make_file(1024), "never.tar")
    op.on_kill()
    ti = type("TI", (), {"try_number": 1, "xcom_push": staticmethod(lambda *_: None)})()
    from airflow.sdk.bases.operator import ExecutorSafeguard

    ExecutorSafeguard.test_mode = True
    try:
        with pytest.raises(Paused):
            op.execute({"ti": ti})
    finally:
        ExecutorSafeguard.test_mode = False
    assert s3.versions(BUCKET, "never.tar") == []


def test_execution_timeout_stops_the_threads_and_keeps_the_state(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """SIGALRM raises in the main thread; the next try goes on."""
    from airflow.sdk.exceptions import AirflowTaskTimeout

    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)
    op = upload(dag, path, "timeout.tar", execution_timeout=timedelta(seconds=4))
    started = time.monotonic()
    first = run_try(op, 1)
    assert isinstance(first.error, AirflowTaskTimeout)
    assert first.state == "up_for_retry"
    assert time.monotonic() - started < 7
    assert not [thread for thread in threading.enumerate() if thread.name == "orbit-checkpoint"]
    (token,) = comms.state.values()
    assert token["phase"] == "started"
    s3.reset()
    s3.set_rate_limit(None)
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") < 8 * PART
    assert result_of(comms)["resumed"] is True


def test_an_orphan_stops_by_itself_and_aborts_nothing(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """The supervisor dies in the middle: every request to it raises, no signal comes."""
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)
    dead = threading.Event()

    def trouble(name: str, message: Any) -> None:
        if dead.is_set() and name in ("SetTaskStateStore", "SetXCom"):
            raise BrokenPipeError

    comms.trouble = trouble

    def die() -> None:
        wait_until(lambda: any(sum(item.parts.values()) for item in s3.open_uploads(BUCKET)))
        dead.set()

    killer = threading.Thread(target=die)
    killer.start()
    ended = run_try(upload(dag, path, "orphan.tar"), 1)
    killer.join()
    assert isinstance(ended.error, Paused)
    assert "supervisor is gone" in str(ended.error)
    assert s3.records("AbortMultipartUpload") == []
    assert [item.key for item in s3.open_uploads(BUCKET)].count("orphan.tar") == 1


def test_a_hanging_and_failing_api_does_not_stop_the_bytes(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile, lines: list[tuple[str, str]]
) -> None:
    """After the first token every write hangs and then fails: the upload completes, and the last state is kept."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    path = make_file(4 * PART)
    failures: list[str] = []
    sick_since: list[float] = []

    def trouble(name: str, message: Any) -> None:
        if name not in ("SetTaskStateStore", "SetXCom") or not comms.state:
            return
        # From the first token on: a busy machine may take its time until then.
        sick_since.append(time.monotonic())
        if sick_since[-1] < sick_since[0] + 5.0:
            failures.append(name)
            time.sleep(1.5)
            detail = {"status_code": 503, "message": "database is away"}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))

    comms.trouble = trouble
    s3.set_rate_limit(4 * MIB)
    ended = run_try(upload(dag, path, "sick-api.tar"), 1)
    assert ended.state == "success", ended.error
    assert failures
    assert stored(s3, "sick-api.tar") == path.read_bytes()
    (token,) = comms.state.values()
    assert token["phase"] == "done"
    told = [text for level, text in lines if level == "warning" and "checkpoint could not be made" in text]
    assert 1 <= len(told) <= 2


def test_without_a_state_store_it_works_with_one_warning(
    dag: Any, comms: FakeComms, s3: ModelServer, make_file: MakeFile, lines: list[tuple[str, str]]
) -> None:
    from airflow.sdk.bases.operator import ExecutorSafeguard

    op = upload(dag, make_file(6 * MIB), "plain.tar")
    ti = type("TI", (), {"try_number": 1, "xcom_push": staticmethod(lambda *_: None)})()
    ExecutorSafeguard.test_mode = True
    try:
        result = op.execute({"ti": ti})
    finally:
        ExecutorSafeguard.test_mode = False
    assert result["size"] == 6 * MIB
    assert [text for level, text in lines if level == "warning" and "state store" in text] == [
        "there is no task state store here: if this try is interrupted, the next one starts anew"
    ]


@pytest.mark.parametrize("garbage", ["text", 7, [], {"schema": 99}, {"schema": 1, "op": "upload", "target": "x"}])
def test_garbage_in_the_state_is_a_clean_start_with_a_warning(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile, garbage: Any,
    lines: list[tuple[str, str]],
) -> None:  # fmt: skip
    path = make_file(6 * MIB)
    op = upload(dag, path, "edited.tar", replace=True)
    assert run_try(op, 1).state == "success"
    (key,) = comms.state
    comms.state[key] = garbage
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") == 6 * MIB
    assert any(level == "warning" and "the saved state is not used" in text for level, text in lines)


def test_a_finished_upload_sends_nothing_again(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """As after a clear in Airflow 3.3, which keeps the state."""
    op = upload(dag, make_file(6 * MIB), "done.tar")
    assert run_try(op, 1).state == "success"
    first = result_of(comms)
    s3.reset()
    assert run_try(op, 2).state == "success"
    again = result_of(comms)
    assert s3.bytes_received() == 0
    assert {record.operation for record in s3.records()} == {"HeadObject"}
    assert (again["resumed"], again["bytes_sent"], again["bytes_saved"]) == (True, 0, 6 * MIB)
    assert (again["etag"], again["checksum"]) == (first["etag"], first["checksum"])


def test_not_durable_keeps_no_state_and_starts_anew(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    op = upload(dag, make_file(2 * PART), "volatile.tar", durable=False)
    s3.inject(Fault(operation="CompleteMultipartUpload", action="error", status=500, times=None))
    assert run_try(op, 1).state == "up_for_retry"
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") == 2 * PART
    assert comms.state == {}


def test_a_refusal_fails_the_task_at_once(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """OrbitRetryPolicy: three retries are left, and none of them could help."""
    comms.add_connection(
        "wrong", s3.access_key, "not-the-secret", {"endpoint_url": s3.endpoint_url, "region_name": s3.region}
    )
    ended = run_try(upload(dag, make_file(1024), "denied.tar", aws_conn_id="wrong"), 1)
    assert isinstance(ended.error, AccessDenied)
    assert ended.state == "failed"


def test_no_xcom_at_all_when_the_task_wants_none(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    assert run_try(upload(dag, make_file(1024), "quiet.tar", do_xcom_push=False)).state == "success"
    assert comms.xcoms == {}


def test_templates_are_rendered_before_they_are_judged(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(1024)
    op = upload(
        dag,
        path,
        "{{ params.prefix }}/a//b?c=d#e.tar",
        params={"prefix": "x", "class": "STANDARD_IA"},
        storage_class="{{ params['class'] }}",
        metadata={"day": "{{ params.prefix }}"},
        tags={"team": "a&b"},
        content_type="application/x-tar",
    )
    ended = run_try(op)
    assert ended.state == "success", ended.error
    (version,) = s3.versions(BUCKET, "x/a//b?c=d#e.tar")
    assert version.storage_class == "STANDARD_IA"
    assert version.metadata["day"] == "x"
    assert version.content_type == "application/x-tar"


def test_a_wrong_rendered_value_fails_before_a_byte_moves(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    op = upload(dag, make_file(1024), "k", params={"class": "COLD"}, storage_class="{{ params['class'] }}")
    ended = run_try(op)
    assert ended.state == "failed"
    assert "no storage class 'COLD'" in str(ended.error)
    assert s3.records() == []


def test_mapped_tasks_do_not_meet(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    paths = [make_file(6 * MIB, f"part{index}.tar") for index in range(3)]
    with dag:
        mapped = OrbitS3UploadOperator.partial(task_id="up", dest_bucket=BUCKET, retries=1).expand_kwargs(
            [{"filename": str(path), "dest_key": f"mapped/{path.name}"} for path in paths]
        )
    for index in range(3):
        ended = run_try(mapped, 1, map_index=index)
        assert ended.state == "success", ended.error
    assert len(comms.state) == 3
    for index, path in enumerate(paths):
        assert result_of(comms, index=index)["key"] == f"mapped/{path.name}"
        assert stored(s3, f"mapped/{path.name}") == path.read_bytes()
