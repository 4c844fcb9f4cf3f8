"""``on_progress``: a DAG author's own function beside the XCom and the log, which can do no harm."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.events import Progress, TransferCompleted, TransferEvent, TransferFailed, TransferStarted
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
HEARD: list[TransferEvent] = []


def hear(event: TransferEvent) -> None:
    """A function of a module, as a DAG's would be."""
    HEARD.append(event)


def upload(dag: Any, path: Path, **kwargs: Any) -> OrbitS3UploadOperator:
    HEARD.clear()
    with dag:
        return OrbitS3UploadOperator(
            **{
                "task_id": "up",
                "filename": str(path),
                "dest_bucket": BUCKET,
                "dest_key": "p",
                "replace": True,
                **kwargs,
            }
        )


def test_the_function_is_given_the_events(dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile) -> None:
    ended = run_try(upload(dag, make_file(11 * MIB), on_progress=hear))
    assert ended.state == "success"
    assert isinstance(HEARD[0], TransferStarted)
    assert isinstance(HEARD[-1], TransferCompleted)
    assert len({event.operation_id for event in HEARD}) == 1
    assert comms.xcoms[("up", -1, "orbit_progress")]["phase"] == "done"


def test_the_function_hears_of_a_failure(
    dag: Any, run_try: RunTry, s3: ModelServer, comms: FakeComms, make_file: MakeFile
) -> None:
    s3.inject(Fault(operation="PutObject", action="error", status=403, code="AccessDenied", times=None))
    ended = run_try(upload(dag, make_file(100), on_progress=hear))
    assert ended.state == "failed"
    assert isinstance(HEARD[-1], TransferFailed)
    assert "AccessDenied" in HEARD[-1].error


def test_a_function_that_raises_harms_nothing(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile, lines: list[tuple[str, str]]
) -> None:
    def broken(event: TransferEvent) -> None:
        raise ValueError("broken")

    ended = run_try(upload(dag, make_file(11 * MIB), on_progress=broken))
    assert ended.state == "success"
    assert any("is complete" in text for _, text in lines)
    assert comms.xcoms[("up", -1, "orbit_progress")]["phase"] == "done"


def test_a_function_that_blocks_holds_nothing(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile, lines: list[tuple[str, str]]
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def blocked(event: TransferEvent) -> None:
        entered.set()
        gate.wait(60)

    try:
        ended = run_try(upload(dag, make_file(11 * MIB), on_progress=blocked))
        assert entered.is_set()
        assert not gate.is_set()
    finally:
        gate.set()
    assert ended.state == "success"
    assert comms.xcoms[("up", -1, "orbit_progress")]["phase"] == "done"


def test_the_hook_takes_a_function_too(comms: FakeComms, make_file: MakeFile) -> None:
    heard, told = list[TransferEvent](), list[TransferEvent]()
    OrbitS3Hook("aws_default").upload(make_file(100), "h", BUCKET, reporter=told.append, on_progress=heard.append)
    assert heard == told
    assert isinstance(heard[-1], TransferCompleted)


def test_it_is_a_function_or_nothing(dag: Any) -> None:
    with pytest.raises(TypeError, match="on_progress is a function or None, got str"):
        upload(dag, Path("/x"), on_progress="print")


def test_it_is_no_template_and_stays_out_of_the_dags_json(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    upload(dag, Path("/x"), on_progress=hear)
    assert "on_progress" not in OrbitS3UploadOperator.template_fields
    text = json.dumps(DagSerialization.to_dict(dag))
    assert "on_progress" not in text
    assert "HEARD" not in text


def test_a_mapped_task_may_have_one(dag: Any) -> None:
    """Airflow writes the source of a partial's functions into the DAG's JSON; nothing ever runs that text."""
    from airflow.serialization.serialized_objects import DagSerialization

    with dag:
        OrbitS3UploadOperator.partial(task_id="m", dest_bucket=BUCKET, on_progress=hear).expand(
            filename=["/a", "/b"], dest_key=["a", "b"]
        )
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert again.get_task("m").is_mapped


def test_events_travel() -> None:
    """A function may send them to another process."""
    event = Progress(total_bytes=10, bytes_done=5, operation_id="x")
    assert pickle.loads(pickle.dumps(event)) == event
