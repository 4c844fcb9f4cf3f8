"""The example that loads from the lake, run from end to end: it waits, fetches, verifies and hands on an asset."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.airflow.conftest import BUCKET, connection_extra
from tests.airflow.test_example_dag import EXAMPLES, airflow_db, newest_event, sync
from tests.model_server import ModelServer

__all__ = ["airflow_db"]

ROWS = 50_000


def lake(s3: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The DAG, with its defaults from the environment."""
    connection = {
        "conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": connection_extra(s3),
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_ORBIT_LAKE", json.dumps(connection))
    monkeypatch.setenv("ORBIT_LAKE_BUCKET", BUCKET)
    monkeypatch.setenv("ORBIT_LAKE_DIRECTORY", str(tmp_path / "lake"))
    monkeypatch.setenv("ORBIT_LAKE_RETRIES", "0")
    folder = tmp_path / "dags"
    folder.mkdir()
    shutil.copy(EXAMPLES / "orbit_lake_load.py", folder)
    bag = DagBag(dag_folder=str(folder))
    assert bag.import_errors == {}
    dag = bag.dags["orbit_lake_load"]
    sync(dag)
    return dag


def put(s3: ModelServer, body: bytes) -> str:
    """Last night's export, by another client."""
    key = f"exports/{datetime.now(UTC):%Y-%m-%d}/export.jsonl"
    client: Any = boto3.client(
        "s3", endpoint_url=s3.endpoint_url, region_name=s3.region,
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    )  # fmt: skip
    client.put_object(Bucket=BUCKET, Key=key, Body=body)
    return key


def test_the_load_waits_fetches_verifies_and_hands_on(
    airflow_db: None, s3: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dag = lake(s3, monkeypatch, tmp_path)
    body = b"".join(b'{"order": %d}\n' % number for number in range(ROWS))
    key = put(s3, body)
    run = dag.test()
    assert run.state == "success"
    (file,) = (tmp_path / "lake").glob("*/export.jsonl")
    assert file.read_bytes() == body
    uri, extra = newest_event()
    assert uri == f"file://{file}"
    assert (extra["uri"], extra["size"], extra["rows"]) == (f"s3://{BUCKET}/{key}", len(body), ROWS)
    assert extra["integrity"] in ("full-crc", "md5")


def test_an_export_that_is_no_json_is_not_handed_on(
    airflow_db: None, s3: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dag = lake(s3, monkeypatch, tmp_path)
    put(s3, b'{"order": 1}\n{"order": \n')
    run = dag.test()
    assert run.state == "failed"
    states = {item.task_id: str(item.state) for item in run.get_task_instances()}
    assert (states["download"], states["verify"]) == ("success", "failed")
