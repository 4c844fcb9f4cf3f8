"""OrbitS3DownloadOperator in the real task runner, against the strict S3 server."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowTaskTimeout

from orbit_airflow.engine import download_job, finished, salvage
from orbit_airflow.engine.errors import IntegrityTooWeak, ObjectChanged, Paused, TargetExists, Unavailable
from orbit_airflow.engine.model import Integrity
from orbit_airflow.engine.options import DownloadOptions
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.operators.download import OrbitS3DownloadOperator
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeComms
from tests.airflow.test_upload_runs import brief_waits, wait_until
from tests.model_server import Fault, ModelServer, ServerProfile
from tests.model_server.conftest import client_of

__all__ = ["brief_waits"]

RunTry = Callable[..., Try]
RESULT_KEYS = {
    "uri", "bucket", "key", "version_id", "path", "etag", "size", "checksum", "integrity", "duration", "resumed",
    "bytes_received", "bytes_saved", "try_number",
}  # fmt: skip
DATA = os.urandom(MIB) * 8
RANGE = MIB


@pytest.fixture
def put(s3: ModelServer) -> Callable[..., str | None]:
    """``put(key)``: an object with a CRC32; its version id. The server's log begins behind it."""

    def do(key: str, data: bytes = DATA, *, bucket: str = BUCKET, **kwargs: Any) -> str | None:
        answer = client_of(s3).put_object(Bucket=bucket, Key=key, Body=data, **{"ChecksumAlgorithm": "CRC32", **kwargs})
        s3.reset()
        version: str | None = answer.get("VersionId")
        return version

    return do


def download(dag: Any, path: Path, key: str, **kwargs: Any) -> OrbitS3DownloadOperator:
    with dag:
        return OrbitS3DownloadOperator(
            **{
                "task_id": "down", "local_path": str(path), "source_bucket": BUCKET, "source_key": key, "retries": 3,
                "chunk_size": RANGE, "parallel_operations": 2, **kwargs,
            }
        )  # fmt: skip


def result_of(comms: FakeComms) -> dict[str, Any]:
    value: dict[str, Any] = comms.xcoms[("down", -1, "return_value")]
    return value


def progress_of(comms: FakeComms) -> dict[str, Any]:
    value: dict[str, Any] = comms.xcoms[("down", -1, "orbit_progress")]
    return value


def slow_down(s3: ModelServer) -> None:
    """Every range takes half a second and more: eight of them on two connections, two seconds."""
    s3.inject(Fault(operation="GetObject", action="delay", stage="before", seconds=0.5, times=None))


def break_one(s3: ModelServer) -> None:
    """The sixth request for a range, and all after it, fail."""
    s3.inject(Fault(operation="GetObject", action="error", status=500, nth=6, times=None))


def hidden(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


def sigterm_when(true: Callable[[], bool]) -> tuple[threading.Thread, list[float]]:
    sent: list[float] = []

    def kill() -> None:
        wait_until(true)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    return killer, sent


def test_success_returns_small_json_and_shows_the_end(
    dag: Any, comms: FakeComms, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("ok.tar")
    ended = run_try(download(dag, tmp_path / "got.tar", "ok.tar"))
    assert ended.state == "success", ended.error
    result = result_of(comms)
    assert set(result) == RESULT_KEYS
    assert (result["uri"], result["path"]) == (f"s3://{BUCKET}/ok.tar", str(tmp_path / "got.tar"))
    assert result["size"] == result["bytes_received"] == len(DATA)
    assert (result["integrity"], result["checksum"][:6]) == ("full-crc", "CRC32:")
    assert (result["resumed"], result["bytes_saved"], result["try_number"]) == (False, 0, 1)
    assert (tmp_path / "got.tar").read_bytes() == DATA
    assert hidden(tmp_path) == []
    progress = progress_of(comms)
    assert (progress["phase"], progress["parts_total"], progress["percentage"]) == ("done", 8, 100.0)


def test_the_second_try_fetches_only_what_is_missing(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path,
    lines: list[tuple[str, str]],
) -> None:  # fmt: skip
    """The journal beside the file says what is there; nothing has the file's name until it is whole."""
    put("resumed.tar")
    break_one(s3)
    op = download(dag, tmp_path / "got.tar", "resumed.tar")
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", Unavailable)
    assert not (tmp_path / "got.tar").exists()
    assert len(hidden(tmp_path)) == 2
    assert progress_of(comms)["phase"] == "failed"

    s3.reset()
    second = run_try(op, 2)
    assert second.state == "success", second.error
    result = result_of(comms)
    saved = result["bytes_saved"]
    assert 3 * RANGE <= saved <= 6 * RANGE
    assert (result["resumed"], result["bytes_received"], result["try_number"]) == (True, len(DATA) - saved, 2)
    assert len(s3.records("GetObject")) == 8 - saved // RANGE
    assert (tmp_path / "got.tar").read_bytes() == DATA
    assert hidden(tmp_path) == []
    assert progress_of(comms)["resumed_from"] == saved
    assert any(f"found {saved // RANGE} of 8" in text for _, text in lines)
    assert any("is complete" in text and "saved by resuming" in text for _, text in lines)


def test_on_kill_stops_within_three_seconds_and_the_next_try_continues(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("killed.tar")
    slow_down(s3)
    op = download(dag, tmp_path / "got.tar", "killed.tar")
    killer, sent = sigterm_when(lambda: len(s3.records("GetObject")) >= 5)
    ended = run_try(op, 1)
    took = time.monotonic() - sent[0]
    killer.join()
    assert isinstance(ended.error, Paused)
    assert (ended.state, took < 3) == ("up_for_retry", True)
    assert progress_of(comms)["phase"] == "paused"
    (token,) = comms.state.values()
    assert (token["op"], token["phase"]) == ("download", "started")
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["bytes_saved"] >= RANGE
    assert (tmp_path / "got.tar").read_bytes() == DATA


def test_execution_timeout_stops_it_and_keeps_what_was_fetched(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("timeout.tar")
    s3.inject(Fault(operation="GetObject", action="delay", stage="before", seconds=1.0, times=None))
    op = download(dag, tmp_path / "got.tar", "timeout.tar", execution_timeout=timedelta(seconds=3))
    started = time.monotonic()
    first = run_try(op, 1)
    assert isinstance(first.error, AirflowTaskTimeout)
    assert time.monotonic() - started < 6
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["bytes_saved"] >= RANGE


def test_a_rerun_after_success_fetches_nothing(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    """As after a clear in Airflow 3.3, which keeps the state; also with replace=False."""
    put("again.tar")
    op = download(dag, tmp_path / "got.tar", "again.tar")
    assert run_try(op, 1).state == "success"
    first, inode = result_of(comms), (tmp_path / "got.tar").stat().st_ino
    s3.reset()
    assert run_try(op, 2).state == "success"
    again = result_of(comms)
    assert {record.operation for record in s3.records()} == {"HeadObject"}
    assert (again["resumed"], again["bytes_received"], again["bytes_saved"]) == (True, 0, len(DATA))
    assert (again["etag"], again["checksum"], again["integrity"]) == (first["etag"], first["checksum"], "full-crc")
    assert (tmp_path / "got.tar").stat().st_ino == inode


def test_a_rerun_sees_that_object_or_file_is_another_one(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    """State present never means the same transfer."""
    put("other.tar")
    op = download(dag, tmp_path / "got.tar", "other.tar", replace=True)
    assert run_try(op, 1).state == "success"
    (tmp_path / "got.tar").write_bytes(b"edited")
    assert run_try(op, 2).state == "success"
    assert (tmp_path / "got.tar").read_bytes() == DATA
    put("other.tar", b"new" * MIB)
    assert run_try(op, 3).state == "success"
    assert (tmp_path / "got.tar").read_bytes() == b"new" * MIB


def test_an_existing_file_is_not_replaced_unless_that_is_said(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("exists.tar")
    (tmp_path / "got.tar").write_bytes(b"mine")
    ended = run_try(download(dag, tmp_path / "got.tar", "exists.tar"))
    assert isinstance(ended.error, TargetExists)
    assert ended.state == "failed"
    assert (tmp_path / "got.tar").read_bytes() == b"mine"
    assert s3.records("GetObject") == []
    ended = run_try(download(dag, tmp_path / "got.tar", "exists.tar", task_id="over", replace=True))
    assert ended.state == "success", ended.error
    assert (tmp_path / "got.tar").read_bytes() == DATA


def test_another_host_starts_again_and_says_so(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, str]],
) -> None:  # fmt: skip
    """The retry runs where the part file is not: a K8s pod, another Celery worker."""
    put("moved.tar")
    break_one(s3)
    here, there = tmp_path / "disk-of-a", tmp_path / "disk-of-b"
    here.mkdir()
    op = download(dag, tmp_path / "disk" / "got.tar", "moved.tar")
    (tmp_path / "disk").symlink_to(here)
    assert run_try(op, 1).state == "up_for_retry"
    assert len(hidden(here)) == 2

    there.mkdir()
    (tmp_path / "disk").unlink()
    (tmp_path / "disk").symlink_to(there)
    for module in (download_job, finished, salvage):
        monkeypatch.setattr(module, "host_id", lambda: "worker-b/000000000000")
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["bytes_received"] == len(DATA)
    assert (there / "got.tar").read_bytes() == DATA
    (told,) = [text for level, text in lines if level == "warning" and "another host" in text]
    assert "starting again" in told
    assert len(hidden(here)) == 2


def test_another_host_continues_on_shared_storage(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put("shared.tar")
    break_one(s3)
    op = download(dag, tmp_path / "got.tar", "shared.tar", shared_storage=True)
    assert run_try(op, 1).state == "up_for_retry"
    for module in (download_job, finished, salvage):
        monkeypatch.setattr(module, "host_id", lambda: "worker-b/000000000000")
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["bytes_saved"] >= 3 * RANGE
    assert (tmp_path / "got.tar").read_bytes() == DATA


def test_templates_name_the_version_and_the_path(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    old = put("x/a//b?c=d#e.tar", b"old" * MIB, bucket="versioned")
    put("x/a//b?c=d#e.tar", b"new" * MIB, bucket="versioned")
    op = download(
        dag,
        Path(f"{tmp_path}/{{{{ params.prefix }}}}.tar"),
        "{{ params.prefix }}/a//b?c=d#e.tar",
        source_bucket="{{ params.bucket }}",
        version_id="{{ params.version }}",
        params={"prefix": "x", "bucket": "versioned", "version": old},
    )
    ended = run_try(op)
    assert ended.state == "success", ended.error
    assert (tmp_path / "x.tar").read_bytes() == b"old" * MIB
    assert result_of(comms)["version_id"] == old


def test_mode_parents_and_requester_pays(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("mode.tar", b"small")
    op = download(
        dag, tmp_path / "new" / "folder" / "got", "mode.tar", create_parents=True, file_mode=0o640,
        extra_args={"RequestPayer": "requester"},
    )  # fmt: skip
    s3.set_profile(ServerProfile(requester_pays=True))
    try:
        ended = run_try(op)
    finally:
        s3.set_profile(ServerProfile())
    assert ended.state == "success", ended.error
    assert stat.S_IMODE((tmp_path / "new" / "folder" / "got").stat().st_mode) == 0o640


def test_a_weak_proof_fails_the_task_before_a_byte_moves(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    """A store that keeps no checksums has an MD5 at best."""
    op = download(dag, tmp_path / "got.tar", "weak.tar", require_integrity="full-crc")
    s3.set_profile(ServerProfile(flexible_checksums=False))
    try:
        put("weak.tar", b"weak" * MIB)
        ended = run_try(op)
    finally:
        s3.set_profile(ServerProfile())
    assert isinstance(ended.error, IntegrityTooWeak)
    assert "md5 can be proved" in str(ended.error)
    assert (ended.state, s3.records("GetObject"), os.listdir(tmp_path)) == ("failed", [], [])


def test_an_object_that_is_replaced_meanwhile_fails_or_restarts(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    """Never a mixture of two objects."""
    fresh = b"\x01" * len(DATA)

    def replace(*_: Any) -> None:
        client_of(s3).put_object(Bucket=BUCKET, Key="changed.tar", Body=fresh, ChecksumAlgorithm="CRC32")

    def overwritten() -> None:
        put("changed.tar")
        s3.inject(Fault(operation="GetObject", action="callback", nth=3, callback=replace))

    overwritten()
    ended = run_try(download(dag, tmp_path / "got.tar", "changed.tar"))
    assert isinstance(ended.error, ObjectChanged)
    assert (ended.state, (tmp_path / "got.tar").exists()) == ("failed", False)
    overwritten()
    op = download(dag, tmp_path / "got.tar", "changed.tar", task_id="down_again", on_object_change="restart")
    assert run_try(op).state == "success"
    assert (tmp_path / "got.tar").read_bytes() == fresh


def test_not_durable_keeps_no_state_and_starts_anew(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("volatile.tar")
    break_one(s3)
    op = download(dag, tmp_path / "got.tar", "volatile.tar", durable=False)
    assert run_try(op, 1).state == "up_for_retry"
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["bytes_received"] == len(DATA)
    assert comms.state == {}
    assert hidden(tmp_path) == []


def test_a_hooks_download_in_a_task_is_as_durable(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("flow.tar")
    break_one(s3)

    with dag:

        @task(task_id="down", retries=3)
        def fetch() -> dict[str, Any]:
            hook = OrbitS3Hook(orbit_options={"parallel_operations": 2})
            chosen = DownloadOptions(chunk_size=RANGE)
            result = hook.download("flow.tar", tmp_path / "got.tar", BUCKET, options=chosen)
            assert result.integrity is Integrity.FULL_CRC
            return {"received": result.bytes_received, "saved": result.bytes_saved}

        made: Any = fetch()
    assert run_try(made.operator, 1).state == "up_for_retry"
    assert [token["op"] for token in comms.state.values()] == ["download"]
    s3.reset()
    assert run_try(made.operator, 2).state == "success"
    result = result_of(comms)
    assert result["saved"] >= 3 * RANGE
    assert result["received"] == len(DATA) - result["saved"]
    assert progress_of(comms)["try_number"] == 2
    s3.reset()
    assert run_try(made.operator, 3).state == "success"
    assert s3.records("GetObject") == []


def test_sigterm_ends_a_hooks_download_too(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("flow-killed.tar")
    slow_down(s3)

    with dag:

        @task(task_id="down", retries=3)
        def fetch() -> int:
            chosen = DownloadOptions(chunk_size=RANGE)
            return OrbitS3Hook().download("flow-killed.tar", tmp_path / "got", BUCKET, options=chosen).bytes_saved

        made: Any = fetch()
    killer, sent = sigterm_when(lambda: len(s3.records("GetObject")) >= 6)
    ended = run_try(made.operator, 1)
    took = time.monotonic() - sent[0]
    killer.join()
    assert isinstance(ended.error, Paused)
    assert took < 3
    s3.reset()
    assert run_try(made.operator, 2).state == "success"
    assert comms.xcoms[("down", -1, "return_value")] >= RANGE
    assert (tmp_path / "got").read_bytes() == DATA


def test_the_decorators_function_names_the_object(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., Any], run_try: RunTry, tmp_path: Path
) -> None:
    put("named.tar", b"small")
    with dag:
        plain: Any = task.orbit_download(task_id="down", local_path=str(tmp_path / "{{ params.f }}"), params={"f": "a"})
        first = plain(lambda: f"s3://{BUCKET}/named.tar")().operator
        full: Any = task.orbit_download(task_id="more")
        second = full(lambda: {"source_key": "named.tar", "source_bucket": BUCKET, "local_path": tmp_path / "b"})()
    assert run_try(first).state == "success"
    assert set(result_of(comms)) == RESULT_KEYS
    assert run_try(second.operator).state == "success"
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"small"


def test_lineage_is_an_object_in_and_a_file_out(
    comms: FakeComms, put: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orbit_airflow.hooks import s3 as module

    seen: list[tuple[str, str, dict[str, str]]] = []

    class Collector:
        def add_input_asset(self, *, context: Any, scheme: str, asset_kwargs: dict[str, str]) -> None:
            seen.append(("in", scheme, asset_kwargs))

        def add_output_asset(self, *, context: Any, scheme: str, asset_kwargs: dict[str, str]) -> None:
            seen.append(("out", scheme, asset_kwargs))

    monkeypatch.setattr(module, "get_hook_lineage_collector", Collector)
    put("line.tar", b"small")
    OrbitS3Hook().download(f"s3://{BUCKET}/line.tar", tmp_path / "got")
    assert seen == [
        ("in", "s3", {"bucket": BUCKET, "key": "line.tar"}), ("out", "file", {"path": str(tmp_path / "got")}),
    ]  # fmt: skip


def test_the_hooks_address_errors_name_the_sources_parameters(
    comms: FakeComms, s3: ModelServer, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="source_bucket is given, so source_key must be a key"):
        OrbitS3Hook().download("s3://b/k", tmp_path / "f", "b")
    with pytest.raises(TypeError, match="without source_bucket, source_key must be a full"):
        OrbitS3Hook().download("k", tmp_path / "f")
