"""The example DAGs of batches load, and run from end to end; the approval is answered as Airflow's API does it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.airflow.conftest import connection_extra
from tests.airflow.test_example_dag import EXAMPLES, airflow_db, sync
from tests.model_server import ModelServer
from tests.model_server.conftest import client_of

__all__ = ["airflow_db"]


# All examples look at what is old; to a run of next year, what is written now is.
def later() -> datetime:
    """Another moment at each call: a run is named by it."""
    return datetime.now(UTC) + timedelta(days=365)


@pytest.fixture
def lake(s3: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client for the examples' bucket, and their connection in the environment."""
    connection = {
        "conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": connection_extra(s3),
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_ORBIT_LAKE", json.dumps(connection))
    monkeypatch.setenv("ORBIT_LAKE_BUCKET", "backups")
    return client_of(s3)


@pytest.fixture
def example(airflow_db: None, tmp_path: Path) -> Callable[[str], Any]:
    """``example(name)``: the DAG, known to the database."""

    def load(name: str) -> Any:
        folder = tmp_path / "dags"
        folder.mkdir()
        shutil.copy(EXAMPLES / f"{name}.py", folder)
        bag = DagBag(dag_folder=str(folder))
        assert bag.import_errors == {}
        sync(bag.dags[name])
        return bag.dags[name]

    return load


def keys_of(client: Any, prefix: str = "") -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket="backups", Prefix=prefix).get("Contents", [])]


class Person(threading.Thread):
    """Answers the first question that a DAG asks, through the code of Airflow's own endpoint."""

    def __init__(self, dag_id: str, answer: Literal["Approve", "Reject"]) -> None:
        super().__init__(daemon=True)
        self._dag_id, self._answer = dag_id, answer
        self.body: str | None = None

    def run(self) -> None:
        from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
        from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
        from airflow.utils.session import create_session

        payload = UpdateHITLDetailPayload(chosen_options=[self._answer], params_input={})
        user: Any = SimpleNamespace(get_id=lambda: "1", get_name=lambda: "somebody")
        run_id = self._asked()
        with create_session() as session:
            update_hitl_detail(self._dag_id, run_id, "approve", payload, user, session)

    def _asked(self) -> str:
        from airflow.models.taskinstance import TaskInstance  # noqa: TID251 - as the API server sees it
        from airflow.utils.session import create_session
        from sqlalchemy import select
        from sqlalchemy.orm import joinedload

        until = time.monotonic() + 120
        while time.monotonic() < until:
            with create_session() as session:
                query = (
                    select(TaskInstance)
                    .options(joinedload(TaskInstance.hitl_detail))
                    .where(TaskInstance.dag_id == self._dag_id, TaskInstance.state == "awaiting_input")
                )
                found = session.scalars(query).first()
                if found is not None:
                    self.body = found.hitl_detail.body
                    return str(found.run_id)
            time.sleep(0.2)
        raise AssertionError("nobody asked")


@pytest.mark.parametrize(("answer", "left"), [("Approve", ["logs/a.txt", "logs/late.log"]), ("Reject", None)])
def test_retention_deletes_what_was_approved(
    lake: Any, example: Callable[[str], Any], answer: Literal["Approve", "Reject"], left: list[str] | None
) -> None:
    """And nothing else: neither what is written later, nor anything without an approval."""
    for number in range(25):
        lake.put_object(Bucket="backups", Key=f"logs/2025/{number:02d}.log", Body=b"old")
    lake.put_object(Bucket="backups", Key="logs/a.txt", Body=b"no log")
    dag = example("orbit_nightly_retention")
    person = Person(dag.dag_id, answer)
    asked = person._asked

    def meanwhile() -> str:
        run_id = asked()
        lake.put_object(Bucket="backups", Key="logs/late.log", Body=b"after the plan")
        return run_id

    person._asked = meanwhile  # type: ignore[method-assign]  # the moment between plan and approval
    person.start()
    run = dag.test(run_after=later())
    person.join(10)
    assert run.state == "success"
    assert person.body is not None
    requests = "1 DeleteObjects, 1 ListObjectsV2"
    assert person.body.startswith(f"25 objects, 75 Bytes. Requests: {requests}. The keys: s3://backups/retention/")
    found = keys_of(lake, "logs/")
    assert found == left if left is not None else len(found) == 27
    reports = [key for key in keys_of(lake, "retention/") if "/report/" in key]
    lines = [line for key in reports for line in lake.get_object(Bucket="backups", Key=key)["Body"].read().splitlines()]
    assert len(lines) == (25 if answer == "Approve" else 0)


def test_retention_asks_nobody_when_nothing_is_old(lake: Any, example: Callable[[str], Any]) -> None:
    """An empty plan: the approval and the delete are skipped."""
    lake.put_object(Bucket="backups", Key="logs/a.txt", Body=b"no log")
    run = example("orbit_nightly_retention").test(run_after=later())
    assert run.state == "success"
    assert {item.task_id: item.state for item in run.get_task_instances()} == {
        "plan": "success", "anything_old": "success", "approve": "skipped", "delete": "skipped",
    }  # fmt: skip
    assert keys_of(lake, "logs/") == ["logs/a.txt"]


def test_retention_keeps_what_was_written_again(lake: Any, example: Callable[[str], Any]) -> None:
    """Between plan and approval: the others go, the task fails, and the report says which one stayed and why."""
    for number in range(5):
        lake.put_object(Bucket="backups", Key=f"logs/{number}.log", Body=b"old")
    dag = example("orbit_nightly_retention")
    person = Person(dag.dag_id, "Approve")
    asked = person._asked

    def meanwhile() -> str:
        run_id = asked()
        lake.put_object(Bucket="backups", Key="logs/3.log", Body=b"wanted after all")
        return run_id

    person._asked = meanwhile  # type: ignore[method-assign]  # the moment between plan and approval
    person.start()
    run = dag.test(run_after=later())
    person.join(10)
    assert (run.state, keys_of(lake, "logs/")) == ("failed", ["logs/3.log"])
    [report] = [key for key in keys_of(lake, "retention/") if "/report/run-" in key]
    lines = [json.loads(line) for line in lake.get_object(Bucket="backups", Key=report)["Body"].read().splitlines()]
    assert [line["key"] for line in lines if line.get("code") == "PreconditionFailed"] == ["logs/3.log"]
    assert len(lines) == 5


def test_tiering_moves_what_is_old_and_large(lake: Any, example: Callable[[str], Any]) -> None:
    """By the store's own listing of classes."""
    for key, size in (("reports/big", 200_000), ("reports/small", 10), ("other/big", 200_000)):
        lake.put_object(Bucket="backups", Key=key, Body=b"x" * size, Metadata={"a": "b"})
    assert example("orbit_tiering").test(run_after=later()).state == "success"
    heads = {key: lake.head_object(Bucket="backups", Key=key) for key in keys_of(lake) if "tiering" not in key}
    assert {key: head.get("StorageClass", "STANDARD") for key, head in heads.items()} == {
        "reports/big": "GLACIER", "reports/small": "STANDARD", "other/big": "STANDARD",
    }  # fmt: skip
    assert heads["reports/big"]["Metadata"] == {"a": "b"}


def test_projects_are_tagged(lake: Any, example: Callable[[str], Any]) -> None:
    """Each by its own mapped task, merged into what was there."""
    for key in ("projects/apollo/1", "projects/gemini/2", "projects/none/3"):
        lake.put_object(Bucket="backups", Key=key, Body=b"x", Tagging="kept=1")
    assert example("orbit_project_tags").test(run_after=later()).state == "success"
    found = {
        key: {tag["Key"]: tag["Value"] for tag in lake.get_object_tagging(Bucket="backups", Key=key)["TagSet"]}
        for key in keys_of(lake, "projects/")
    }
    assert found == {
        "projects/apollo/1": {"kept": "1", "project": "apollo", "cost-center": "physics"},
        "projects/gemini/2": {"kept": "1", "project": "gemini", "cost-center": "astronomy"},
        "projects/none/3": {"kept": "1"},
    }
