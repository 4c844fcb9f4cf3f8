"""The examples about versions run from end to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.airflow.conftest import connection_extra
from tests.airflow.test_example_dag import EXAMPLES, airflow_db, sync
from tests.model_server import ModelServer
from tests.model_server.conftest import client_of

__all__ = ["airflow_db"]
BUCKET = "versioned"


@pytest.fixture
def example(s3: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """``example(dag_id, NAME=value)``: the DAG of that example, with its environment, as dag.test() runs it."""
    connection = {
        "conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": connection_extra(s3),
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_ORBIT_BACKUP", json.dumps(connection))

    def load(dag_id: str, **environment: str) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        folder = tmp_path / dag_id
        folder.mkdir()
        shutil.copy(EXAMPLES / f"{dag_id}.py", folder)
        bag = DagBag(dag_folder=str(folder))
        assert bag.import_errors == {}
        return bag.dags[dag_id]

    return load


def put(s3: ModelServer, key: str, data: bytes) -> str:
    return str(client_of(s3).put_object(Bucket=BUCKET, Key=key, Body=data)["VersionId"])


def states(run: Any) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


@pytest.mark.parametrize(("size", "good"), [(90, True), (10, False)], ids=["passes", "fails"])
def test_a_guarded_overwrite(
    airflow_db: None, s3: ModelServer, example: Callable[..., Any], tmp_path: Path, size: int, good: bool
) -> None:
    """The new version stays, or the one before it is back and the run is red."""
    (tmp_path / "prices.csv").write_bytes(b"n" * size)
    put(s3, "prices.csv", b"o" * 100)
    dag = example(
        "orbit_guarded_overwrite", ORBIT_GUARDED_FILE=str(tmp_path / "prices.csv"), ORBIT_GUARDED_BUCKET=BUCKET
    )
    sync(dag)
    run = dag.test()
    shown = s3.versions(BUCKET, "prices.csv")
    assert (run.state, len(shown)) == (("success", 2) if good else ("failed", 3))
    assert shown[0].read() == (b"n" * size if good else b"o" * 100)
    ended = states(run)
    assert (ended["accept"], ended["restore"]) == (("success", "skipped") if good else ("skipped", "success"))


def test_a_guarded_overwrite_of_nothing(
    airflow_db: None, s3: ModelServer, example: Callable[..., Any], tmp_path: Path
) -> None:
    """The first version has none before it."""
    (tmp_path / "first.csv").write_bytes(b"n")
    dag = example(
        "orbit_guarded_overwrite", ORBIT_GUARDED_FILE=str(tmp_path / "first.csv"), ORBIT_GUARDED_BUCKET=BUCKET,
        ORBIT_GUARDED_KEY="first.csv",
    )  # fmt: skip
    sync(dag)
    run = dag.test()
    assert [item.read() for item in s3.versions(BUCKET, "first.csv")] == [b"n"]
    assert run.state == "success"


def test_a_point_in_time_drill(airflow_db: None, s3: ModelServer, example: Callable[..., Any]) -> None:
    """Planned, applied, and put back: the key's versions are those that it had."""
    s3.clock_offset = -600.0
    try:
        put(s3, "tables/orders/1", b"old")
    finally:
        s3.clock_offset = 0.0
    put(s3, "tables/orders/1", b"broken")
    put(s3, "tables/orders/2", b"born")
    dag = example(
        "orbit_point_in_time_drill", ORBIT_DRILL_BUCKET=BUCKET, ORBIT_DRILL_APPROVAL="auto",
        ORBIT_DRILL_AS_OF=(datetime.now(UTC) - timedelta(seconds=300)).isoformat(timespec="seconds"),
    )  # fmt: skip
    sync(dag)
    run = dag.test()
    assert run.state == "success", states(run)
    assert states(run)["undo"] == "success"
    assert len(s3.records("CopyObject")) == 1
    assert [item.read() for item in s3.versions(BUCKET, "tables/orders/1")] == [b"broken", b"old"]
    assert [item.read() for item in s3.versions(BUCKET, "tables/orders/2")] == [b"born"]


def test_the_drill_waits_for_a_person() -> None:
    """Unless it is told otherwise."""
    bag = DagBag(dag_folder=str(EXAMPLES / "orbit_point_in_time_drill.py"))
    assert bag.import_errors == {}
    approve = bag.dags["orbit_point_in_time_drill"].get_task("approve")
    assert type(approve).__name__ == "ApprovalOperator"
