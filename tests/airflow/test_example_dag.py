"""The example DAG loads, serializes, and runs from end to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.airflow.conftest import BUCKET, connection_extra
from tests.model_server import ModelServer

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


@pytest.fixture(scope="module")
def airflow_db() -> None:
    from airflow.utils.db import initdb

    initdb()


def load(folder: Path) -> Any:
    bag = DagBag(dag_folder=str(folder))
    assert bag.import_errors == {}
    return bag.dags["orbit_nightly_backup"]


def sync(dag: Any) -> None:
    """Make dag.test() work for a DAG that is not in the dags folder."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)  # type: ignore[no-untyped-call]
        session.commit()
        lazy = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db("dags-folder", None, [lazy], {}, None, set(), session=session)


def newest_event() -> tuple[str, dict[str, Any]]:
    """The asset and extra of the event that was written last, as a DAG scheduled on it is told."""
    from airflow.models.asset import AssetEvent  # noqa: TID251 - what the API server wrote, from its own side
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        event = session.scalars(select(AssetEvent).order_by(AssetEvent.id.desc())).first()
        assert event is not None
        return event.asset.uri, dict(event.extra)


def test_all_examples_load_and_serialize() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = load(EXAMPLES)
    assert dag.catchup is False
    assert dag.get_task("upload_backup").retries >= 1
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert set(again.task_ids) == {"upload_backup", "report"}


def test_the_backup_runs(
    airflow_db: None, s3: ModelServer, make_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The demo's way: file, bucket and connection from the environment."""
    path = make_file(6 * 1024 * 1024)
    monkeypatch.setenv("ORBIT_BACKUP_FILE", str(path))
    monkeypatch.setenv("ORBIT_BACKUP_BUCKET", BUCKET)
    monkeypatch.setenv("ORBIT_BACKUP_RETRY_SECONDS", "0")
    connection = {
        "conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": connection_extra(s3),
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_ORBIT_BACKUP", json.dumps(connection))
    folder = tmp_path / "dags"
    folder.mkdir()
    shutil.copy(EXAMPLES / "orbit_nightly_backup.py", folder)
    dag = load(folder)
    sync(dag)
    run = dag.test()
    assert run.state == "success"
    (record,) = s3.records("CompleteMultipartUpload")
    assert record.key.startswith("database/20")
    assert record.key.endswith("/backup.tar")
    assert s3.versions(BUCKET, record.key)[0].read() == path.read_bytes()
    uri, extra = newest_event()
    assert uri == extra["uri"] == f"s3://{BUCKET}/{record.key}"
    assert (extra["size"], extra["integrity"]) == (path.stat().st_size, "full-crc")
