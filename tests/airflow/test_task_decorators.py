"""``@task.orbit_upload`` and ``@task.orbit_download``: a function that says what the operator transfers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from orbit_airflow.engine.errors import ConfigError, Unavailable
from orbit_airflow.operators.retry import OrbitRetryPolicy
from orbit_airflow.operators.taskflow import orbit_download_task, orbit_upload_task
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeComms
from tests.airflow.test_upload_runs import PART, RESULT_KEYS, brief_waits, stored
from tests.model_server import Fault, ModelServer

__all__ = ["brief_waits"]

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]

DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("flow", schedule=None):
    @task.orbit_upload(dest_key="s3://backups/{{ ds }}.tar", replace=True)
    def dump():
        return "/tmp/dump.tar"

    @task.orbit_download(local_path="/tmp/x", source_bucket="backups")
    def fetch(result):
        return result["key"]

    fetch(dump())
import sys
print([m for m in sys.modules if m.split(".")[0] in ("boto3", "botocore", "s3transfer")])
"""


def uploading(dag: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The operator that the decorator makes of a function."""
    with dag:
        made: Any = task.orbit_upload(**{"task_id": "up", "retries": 3, "dest_bucket": BUCKET, **kwargs})(function)
        return made(*args).operator


def test_airflow_finds_both_decorators() -> None:
    """By the names that the provider's metadata give, on ``@task``."""
    assert task.orbit_upload is orbit_upload_task
    assert task.orbit_download is orbit_download_task


def test_the_function_returns_the_path_and_the_task_is_the_operator(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Result, state, XCom and resumption are the operator's."""
    path = make_file(6 * PART)
    s3.inject(Fault(operation="UploadPart", part_number=4, action="error", status=500, times=None))
    op = uploading(dag, lambda: path, dest_key="dec/{{ params.name }}.tar", params={"name": "x"})
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", Unavailable)
    s3.reset()
    assert run_try(op, 2).state == "success"
    result = comms.xcoms[("up", -1, "return_value")]
    assert set(result) == RESULT_KEYS
    assert (result["key"], result["resumed"], result["try_number"]) == ("dec/x.tar", True, 2)
    assert stored(s3, "dec/x.tar") == path.read_bytes()
    assert len(comms.state) == 1


def test_a_mapping_says_more_and_wins(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    path = make_file(1024)

    def say(day: str, ti: Any) -> dict[str, Any]:
        return {"filename": path, "dest_key": f"dec/{day}-{ti.try_number}", "metadata": {"day": day}, "replace": True}

    ended = run_try(uploading(dag, say, "monday", dest_key="never"))
    assert ended.state == "success", ended.error
    (version,) = s3.versions(BUCKET, "dec/monday-1")
    assert version.metadata["day"] == "monday"


def test_what_the_function_returns_is_no_template(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """A file's name may be anybody's."""
    path = make_file(64, "{{ 6 * 7 }}.tar")
    assert run_try(uploading(dag, lambda: path, dest_key="dec/literal")).state == "success"
    assert stored(s3, "dec/literal") == path.read_bytes()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "and not NoneType"),
        (["/a"], "and not list"),
        ({"file": "/a"}, "unknown argument 'file'; did you mean 'filename'"),
        ({"retry_policy": None}, "unknown argument 'retry_policy'"),
        ({"dest_key": "k"}, "filename is missing"),
        ("/a", "dest_key is missing"),
    ],
)
def test_an_answer_that_says_nothing_useful_fails_at_once(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, answer: Any, message: str
) -> None:
    ended = run_try(uploading(dag, lambda: answer))
    assert isinstance(ended.error, ConfigError)
    assert message in str(ended.error)
    assert ended.state == "failed"
    assert s3.records() == []


def test_a_functions_own_error_is_retried_as_airflow_does(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry
) -> None:
    def broken() -> str:
        raise ValueError("the dump failed")

    ended = run_try(uploading(dag, broken, dest_key="k"))
    assert (ended.state, str(ended.error)) == ("up_for_retry", "the dump failed")


def test_mapped_functions_do_not_meet(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    paths = [make_file((6 + index) * MIB, f"{index}.tar") for index in range(2)]

    def say(name: str) -> dict[str, str]:
        return {"filename": str(paths[int(name)]), "dest_key": f"dec/mapped-{name}"}

    with dag:
        made: Any = task.orbit_upload(task_id="up", dest_bucket=BUCKET)(say)
        mapped = made.expand(name=["0", "1"]).operator
    for index in range(2):
        ended = run_try(mapped, 1, map_index=index)
        assert ended.state == "success", ended.error
        assert stored(s3, f"dec/mapped-{index}") == paths[index].read_bytes()
    assert len(comms.state) == 2


def test_it_survives_dag_serialization_and_default_args() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None, default_args={"aws_conn_id": "mine", "durable": False}) as dag:
        made: Any = task.orbit_upload(task_id="dump", dest_key="{{ ds }}")(lambda: "/f")

        @task.orbit_download(local_path="/tmp/{{ ds }}")
        def fetch() -> dict[str, str]:
            return {"source_key": "s3://b/k"}

        op, other = made().operator, fetch().operator  # type: ignore[attr-defined]  # Airflow types it as an XCom
    assert (op.aws_conn_id, op.durable, other.aws_conn_id) == ("mine", False, "mine")
    assert isinstance(op.retry_policy, OrbitRetryPolicy)
    assert other.multiple_outputs is False
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    task_again: Any = again.get_task("fetch")
    assert (task_again.local_path, task_again.operator_name) == ("/tmp/{{ ds }}", "@task.orbit_download")


def test_wrong_arguments_are_refused_when_the_dag_is_parsed() -> None:
    with DAG("d", schedule=None), pytest.raises(ValueError, match="require_integrity is one of"):
        task.orbit_download(task_id="x", local_path="/f", require_integrity="sure")(lambda: "k")()


def test_a_dag_file_with_the_decorators_does_not_import_boto3(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(DAG_FILE)
    done = subprocess.run([sys.executable, "-c", f"exec(compile(open({str(file)!r}).read(), {str(file)!r}, 'exec'))"],
                          capture_output=True, text=True, check=False, timeout=90)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")
