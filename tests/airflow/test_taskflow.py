"""A hook's transfer inside a ``@task``, in the real task runner: as durable as the operator, and as quick to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowTaskTimeout

from orbit_airflow.durable.ambient import running_task
from orbit_airflow.engine import adopt
from orbit_airflow.engine.errors import Paused, Unavailable
from orbit_airflow.engine.events import TransferCompleted, TransferEvent
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.hooks.s3 import OrbitS3Hook
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeComms
from tests.airflow.test_upload_runs import PART, brief_waits, stored, wait_until
from tests.model_server import Fault, ModelServer

__all__ = ["brief_waits"]

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
OPTIONS = {"parallel_operations": 2}


def in_task(dag: Any, function: Callable[[], Any], **kwargs: Any) -> Any:
    """The operator that ``@task`` makes of a function."""
    with dag:
        made: Any = task(task_id="up", retries=3, **kwargs)(function)()
    return made.operator


def send(path: Path, key: str, **kwargs: Any) -> dict[str, Any]:
    """What an author writes into a ``@task``."""
    result = OrbitS3Hook(orbit_options=OPTIONS).upload(path, key, BUCKET, **kwargs)
    return {"sent": result.bytes_sent, "saved": result.bytes_saved, "resumed": result.resumed}


def progress_of(comms: FakeComms) -> dict[str, Any]:
    shown: dict[str, Any] = comms.xcoms[("up", -1, "orbit_progress")]
    return shown


def kept_of(s3: ModelServer, key: str) -> int:
    """How many bytes the open uploads of the key have."""
    return sum(sum(item.parts.values()) for item in s3.open_uploads(BUCKET) if item.key == key)


def sigterm_once(true: Callable[[], int]) -> tuple[threading.Thread, list[float]]:
    """A real SIGTERM to this process, as the supervisor sends it, and when it was sent."""
    sent: list[float] = []

    def kill() -> None:
        wait_until(lambda: bool(true()))
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    return killer, sent


def test_the_second_try_sends_only_what_is_missing(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Nobody gave the hook a token store: it found the task's, and its XCom and log."""
    path = make_file(6 * PART)
    s3.inject(Fault(operation="UploadPart", part_number=4, action="error", status=500, times=None))
    op = in_task(dag, lambda: send(path, "flow.tar"))
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", Unavailable)
    (token,) = comms.state.values()
    assert token["phase"] == "started"
    assert progress_of(comms)["phase"] == "failed"
    kept = kept_of(s3, "flow.tar")

    s3.reset()
    second = run_try(op, 2)
    assert second.state == "success", second.error
    result = comms.xcoms[("up", -1, "return_value")]
    assert result == {"sent": 6 * PART - kept, "saved": kept, "resumed": True}
    assert s3.bytes_received("UploadPart") == 6 * PART - kept
    assert stored(s3, "flow.tar") == path.read_bytes()
    shown = progress_of(comms)
    assert (shown["phase"], shown["resumed_from"], shown["try_number"]) == ("done", kept, 2)
    assert "transfers" not in shown


def test_the_hook_knows_the_try_so_that_a_lost_state_is_made_good(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """try_number and begun_after are the task's: the upload that try 1 left is found without its token."""
    monkeypatch.setattr(adopt, "QUIET_SECONDS", 0.2)
    path = make_file(6 * PART)
    s3.inject(Fault(operation="UploadPart", part_number=4, action="error", status=500, times=None))
    op = in_task(dag, lambda: send(path, "lost.tar"))
    assert run_try(op, 1).state == "up_for_retry"
    kept = kept_of(s3, "lost.tar")
    comms.state.clear()
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert kept >= PART
    assert s3.bytes_received("UploadPart") == 6 * PART - kept


def test_sigterm_ends_the_task_within_three_seconds_and_keeps_the_parts(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """A ``@task`` has no on_kill: the handler is chained during the transfer, and gone behind it."""
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)
    handlers: list[Any] = []

    def work() -> dict[str, Any]:
        handlers.append(signal.getsignal(signal.SIGTERM))
        try:
            return send(path, "killed.tar")
        finally:
            handlers.append(signal.getsignal(signal.SIGTERM))

    op = in_task(dag, work)
    killed: list[str] = []
    vars(op)["on_kill"] = lambda: killed.append("by Airflow's own handler")
    killer, sent = sigterm_once(lambda: kept_of(s3, "killed.tar"))
    ended = run_try(op, 1)
    took = time.monotonic() - sent[0]
    killer.join()
    assert isinstance(ended.error, Paused)
    assert (ended.state, took < 3) == ("up_for_retry", True)
    assert killed == ["by Airflow's own handler"]
    assert handlers[0] is handlers[1]
    assert progress_of(comms)["phase"] == "paused"
    s3.reset()
    s3.set_rate_limit(None)
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") < 8 * PART
    assert stored(s3, "killed.tar") == path.read_bytes()


def test_a_stopped_task_begins_no_further_transfer(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Also when its code catches the first one's Paused."""
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)

    def work() -> None:
        with pytest.raises(Paused):
            send(path, "first.tar")
        send(path, "second.tar")

    killer, _ = sigterm_once(lambda: kept_of(s3, "first.tar"))
    ended = run_try(in_task(dag, work), 1)
    killer.join()
    assert isinstance(ended.error, Paused)
    assert "before the transfer began" in str(ended.error)
    assert [record for record in s3.records() if record.key == "second.tar"] == []


def test_execution_timeout_stops_it_and_the_next_try_continues(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)
    op = in_task(dag, lambda: send(path, "timeout.tar"), execution_timeout=timedelta(seconds=4))
    started = time.monotonic()
    first = run_try(op, 1)
    assert isinstance(first.error, AirflowTaskTimeout)
    assert time.monotonic() - started < 7
    (token,) = comms.state.values()
    assert token["phase"] == "started"
    s3.reset()
    s3.set_rate_limit(None)
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") < 8 * PART


def test_an_orphan_stops_by_itself_and_aborts_nothing(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)

    def trouble(name: str, message: Any) -> None:
        if name in ("SetTaskStateStore", "SetXCom") and kept_of(s3, "orphan.tar"):
            raise BrokenPipeError

    comms.trouble = trouble
    ended = run_try(in_task(dag, lambda: send(path, "orphan.tar")), 1)
    assert isinstance(ended.error, Paused)
    assert "supervisor is gone" in str(ended.error)
    assert s3.records("AbortMultipartUpload") == []


def test_transfers_one_after_the_other_do_not_collide(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Each has its own state; the XCom shows the newest, and a line for each."""
    paths = [make_file((6 + index) * MIB, f"{index}.tar") for index in range(3)]
    op = in_task(dag, lambda: [send(path, f"row/{path.name}") for path in paths])
    assert run_try(op).state == "success"
    assert len(comms.state) == 3
    shown = progress_of(comms)
    assert (shown["key"], shown["phase"], shown["transfer"]) == ("row/2.tar", "done", 3)
    lines = [(each["transfer"], each["key"], each["phase"], each["bytes_total"]) for each in shown["transfers"]]
    assert lines == [(index + 1, f"row/{index}.tar", "done", (6 + index) * MIB) for index in range(3)]
    for path in paths:
        assert stored(s3, f"row/{path.name}") == path.read_bytes()


def test_transfers_in_threads_of_one_task_do_not_collide(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    paths = [make_file((6 + index) * MIB, f"{index}.tar") for index in range(4)]

    def work() -> list[dict[str, Any]]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda path: send(path, f"pool/{path.name}"), paths))

    op = in_task(dag, work)
    assert run_try(op).state == "success"
    assert len(comms.state) == 4
    assert {token["phase"] for token in comms.state.values()} == {"done"}
    shown = progress_of(comms)
    assert {(each["key"], each["phase"]) for each in shown["transfers"]} == {
        (f"pool/{path.name}", "done") for path in paths
    }
    for path in paths:
        assert stored(s3, f"pool/{path.name}") == path.read_bytes()
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received() == 0


def test_sigterm_reaches_the_transfers_of_all_threads(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Threads cannot have signal handlers; they hear of it by the task's on_kill, which is put back."""
    path = make_file(8 * PART)
    s3.set_rate_limit(4 * MIB)
    errors: list[BaseException] = []

    def one(name: str) -> None:
        try:
            send(path, name)
        except Paused as exc:
            errors.append(exc)
            raise

    def work() -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(one, ("a", "b", "c")))

    op = in_task(dag, work)
    killer, sent = sigterm_once(lambda: kept_of(s3, "a"))
    ended = run_try(op, 1)
    took = time.monotonic() - sent[0]
    killer.join()
    assert isinstance(ended.error, Paused)
    assert (len(errors), took < 4) == (3, True)
    assert "on_kill" not in vars(ended.task)
    assert sorted(token["phase"] for token in comms.state.values()) == ["started"] * 3


def test_execution_timeout_reaches_threads_that_the_main_thread_waits_for(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """The alarm rings in the main thread, whose pool then waits for its threads: they look at the clock."""
    path = make_file(20 * PART)
    s3.set_rate_limit(2 * MIB)

    def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(send, path, "late.tar").result()

    started = time.monotonic()
    ended = run_try(in_task(dag, work, execution_timeout=timedelta(seconds=2)), 1)
    assert isinstance(ended.error, AirflowTaskTimeout)
    assert time.monotonic() - started < 8


def test_not_durable_keeps_no_state_but_shows_itself(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(2 * PART)
    s3.inject(Fault(operation="CompleteMultipartUpload", action="error", status=500, times=None))
    op = in_task(dag, lambda: send(path, "volatile.tar", durable=False))
    assert run_try(op, 1).state == "up_for_retry"
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert s3.bytes_received("UploadPart") == 2 * PART
    assert comms.state == {}
    assert progress_of(comms)["phase"] == "done"


def test_a_task_without_xcoms_gets_none(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(1024)
    assert run_try(in_task(dag, lambda: send(path, "quiet.tar"), do_xcom_push=False)).state == "success"
    assert comms.xcoms == {}
    assert len(comms.state) == 1


def test_who_brings_a_stop_order_manages_everything(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """As in a script: no state, no XCom."""
    path = make_file(6 * MIB)
    assert run_try(in_task(dag, lambda: send(path, "own.tar", cancel=Cancellation()))).state == "success"
    assert comms.state == {}
    assert ("up", -1, "orbit_progress") not in comms.xcoms


def test_the_callers_reporters_hear_beside_the_tasks(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(6 * MIB)
    first: list[TransferEvent] = []
    second: list[TransferEvent] = []
    op = in_task(dag, lambda: send(path, "heard.tar", reporter=first.append, on_progress=second.append))
    assert run_try(op).state == "success"
    assert isinstance(first[-1], TransferCompleted)
    assert isinstance(second[-1], TransferCompleted)
    assert progress_of(comms)["phase"] == "done"


def test_options_of_the_callers_own_try_are_kept(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """A caller who says which try it is, is believed: the token has it."""
    path = make_file(6 * MIB)
    op = in_task(dag, lambda: send(path, "mine.tar", options=UploadOptions(try_number=7)))
    assert run_try(op).state == "success"
    assert [token["try_number"] for token in comms.state.values()] == [7]


def test_a_process_that_the_task_has_forked_leaves_its_supervisor_alone(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry
) -> None:
    """It has the task's context by inheritance, and the same channel: it must not write into it."""
    fork = multiprocessing.get_context("fork")

    def work() -> list[bool]:
        with fork.Pool(1) as pool:
            return [running_task() is not None, pool.apply(_knows_a_task)]

    ended = run_try(in_task(dag, work))
    assert ended.state == "success", ended.error
    assert comms.xcoms[("up", -1, "return_value")] == [True, False]


def _knows_a_task() -> bool:
    return running_task() is not None


def test_outside_of_a_task_it_is_a_scripts_call(comms: FakeComms, s3: ModelServer, make_file: MakeFile) -> None:
    """No task, no state, no other thread, no signal handler."""
    assert running_task() is None
    before = signal.getsignal(signal.SIGTERM)
    path, handlers = make_file(1024), []

    def look(event: TransferEvent) -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))

    assert send(path, "plain.tar", reporter=look)["sent"] == 1024
    assert set(handlers) == {before}
    assert (comms.state, comms.xcoms) == ({}, {})
