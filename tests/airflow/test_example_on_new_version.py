"""The watcher's example DAG does what it says, and a deferred sensor runs in dag.test()."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from botocore.config import Config

from orbit_airflow.sensors.versioning import OrbitS3VersioningSensor
from tests.airflow.conftest import connection_extra
from tests.airflow.fakes import FakeComms
from tests.airflow.test_example_dag import EXAMPLES, sync
from tests.model_server import Fault, ModelServer

BUCKET = "versioned"


@pytest.fixture(scope="module")
def airflow_db() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ORBIT_LANDING_BUCKET", BUCKET)
    monkeypatch.setenv("ORBIT_LANDING_CONN_ID", "aws_default")
    bag = DagBag(dag_folder=str(EXAMPLES / "orbit_on_new_version.py"))
    assert bag.import_errors == {}
    return bag.dags["orbit_on_new_version"]


@pytest.fixture
def put(s3: ModelServer) -> Callable[..., str]:
    client: Any = boto3.client(
        "s3", endpoint_url=s3.endpoint_url, aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
        region_name=s3.region, config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip

    def write(key: str, body: bytes) -> str:
        return str(client.put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"])

    return write


def test_the_watch_goes_through_serialization(example: Any) -> None:
    """What scheduler and triggerer get is the trigger that stands in the file."""
    from airflow.serialization.serialized_objects import DagSerialization

    encoded = json.dumps(DagSerialization.to_dict(example))
    assert "orbit_airflow.triggers.new_version.OrbitS3NewVersionTrigger" in encoded
    again = DagSerialization.from_dict(json.loads(encoded))
    assert set(again.task_ids) == {"arrived", "load"}


def test_a_version_that_is_told_of_twice_is_loaded_once(example: Any) -> None:
    """At least once, says the watcher; what else has made an event is none of its versions."""
    payloads = [{"key": "incoming/a", "version_id": version} for version in ("1", "2", "1")]
    events = [SimpleNamespace(extra={"from_trigger": True, "payload": payload}) for payload in payloads]
    events.append(SimpleNamespace(extra={"by": "hand"}))
    (landing,) = example.timetable.asset_condition.objects
    found = example.get_task("arrived").python_callable(triggering_asset_events={landing: events})
    assert [item["version_id"] for item in found] == ["1", "2"]
    assert example.get_task("arrived").python_callable(triggering_asset_events=None) == []


def test_the_very_version_is_loaded(example: Any, comms: FakeComms, put: Callable[..., str]) -> None:
    """And not the newer one that has come meanwhile."""
    old = put("incoming/a", b"old")
    put("incoming/a", b"newer")
    payload = {"bucket": BUCKET, "key": "incoming/a", "uri": f"s3://{BUCKET}/incoming/a", "version_id": old}
    result = example.get_task("load").python_callable(version=payload)
    assert result == {"key": "incoming/a", "version_id": old, "size": 3}


def test_a_deferred_sensor_runs_in_dag_test(
    airflow_db: None, s3: ModelServer, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Airflow's own deferral and database: baseline, one look on the worker, and the look that sees it."""
    connection = {
        "conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": connection_extra(s3),
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_ORBIT_SENSING", json.dumps(connection))
    made: list[str] = []
    write = Fault(
        operation="ListObjectVersions",
        action="callback",
        nth=3,
        callback=lambda _: made.append(put("sensed", b"new")),
    )
    s3.inject(write)
    with DAG("orbit_sensing", start_date=datetime(2025, 1, 1, tzinfo=UTC), schedule=None) as dag:
        OrbitS3VersioningSensor(
            task_id="wait",
            bucket_name=BUCKET,
            bucket_key="sensed",
            wait_for="new_version",
            deferrable=True,
            poke_interval=1,
            timeout=60,
            aws_conn_id="orbit_sensing",
        )
    sync(dag)
    run = dag.test()
    assert run.state == "success"
    (instance,) = run.get_task_instances()
    assert instance.xcom_pull(task_ids="wait")["version_id"] == made[0]
