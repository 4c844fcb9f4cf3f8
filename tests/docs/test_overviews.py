"""README.md and the pages of engine, connections and configuration: every snippet runs, and does what it shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import EngineConfig, ResumeState, TransferEngine
from orbit_airflow.engine.errors import OrbitError
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.testing.pytest import OrbitS3, orbit_s3, orbit_s3_store
from tests.airflow.test_example_dag import airflow_db, sync
from tests.docs.blocks import Block, blocks_of, excused
from tests.model_server import ModelServer

__all__ = ["airflow_db", "orbit_s3", "orbit_s3_store"]
COUNTS = {"README.md": 2, "docs/engine.md": 3, "docs/connections.md": 1, "docs/configuration.md": 1}
DATA = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """In the region of the page about the engine."""
    with ModelServer(region="eu-central-1") as running:
        running.create_bucket("my-data-lake")
        yield running


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> Path:
    """A directory, and an environment that knows the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _moved(block: Block, *places: str, to: Path) -> Block:
    """The snippet with its absolute places below a directory; each must be there."""
    code = block.code
    for place in places:
        assert f'"{place}' in code
        (to / place.strip("/")).mkdir(parents=True, exist_ok=True)
        code = code.replace(f'"{place}', f'"{to}{place}')
    return replace(block, code=code)


def test_every_snippet_is_known() -> None:
    """A new one needs a test of its own; none is excused."""
    assert {page: len(blocks_of(page)) for page in COUNTS} == COUNTS
    assert [excused(page) for page in COUNTS] == [{}] * len(COUNTS)


def _dag(block: Block, folder: Path) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    folder.mkdir()
    (folder / "readme.py").write_text(block.code)
    bag = DagBag(dag_folder=str(folder))
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    sync(dag)
    return dag


def test_the_readmes_upload_runs(airflow_db: None, orbit_s3: OrbitS3, tmp_path: Path) -> None:
    """As a DAG run of its day."""
    dag = _dag(_moved(blocks_of("README.md")[0], "/backups/", to=tmp_path), tmp_path / "dags")
    (tmp_path / "backups" / "db-2026-01-02.dump").write_bytes(DATA)
    assert dag.test(logical_date=datetime(2026, 1, 2, tzinfo=UTC)).state == "success"
    assert orbit_s3.store.read(ObjectRef("my-backups", "db/2026-01-02.dump")) == DATA


def test_the_readmes_download_runs(airflow_db: None, orbit_s3: OrbitS3, tmp_path: Path) -> None:
    """Likewise."""
    dag = _dag(_moved(blocks_of("README.md")[1], "/data/exports/", to=tmp_path), tmp_path / "dags")
    orbit_s3.hook.engine.upload_bytes(DATA, ObjectRef("my-lake", "exports/2026-01-02.parquet"))
    assert dag.test(logical_date=datetime(2026, 1, 2, tzinfo=UTC)).state == "success"
    assert (tmp_path / "data" / "exports" / "2026-01-02.parquet").read_bytes() == DATA


def test_the_engine_uploads(at_home: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints its proof."""
    block = _moved(blocks_of("docs/engine.md")[0], "/data/", to=at_home)
    (at_home / "data" / "day.parquet").write_bytes(DATA)
    block.run()
    assert capsys.readouterr().out.startswith("full-crc ")
    assert server.versions("my-data-lake", "raw/day.parquet")[0].read() == DATA


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_upload_is_continued_by_its_state(
    at_home: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """Both ways through the snippet."""
    calls: list[object] = []
    upload = TransferEngine.upload_file_multipart

    def failing_once(engine: TransferEngine, path: str, key: str, state: ResumeState | None = None) -> ResumeState:
        calls.append(state)
        if interrupted and len(calls) == 1:
            raise OrbitError("made up")
        return upload(engine, path, key, state)

    monkeypatch.setattr(TransferEngine, "upload_file_multipart", failing_once)
    data = os.urandom(11 * 1024 * 1024)
    (at_home / "huge-file.bin").write_bytes(data)
    assert blocks_of("docs/engine.md")[1].run()["state"].completed  # type: ignore[attr-defined]
    assert len(calls) == 1 + interrupted
    assert server.versions("my-data-lake", "uploads/huge-file.bin")[0].read() == data


def test_the_engine_downloads(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says how much it received."""
    from orbit_airflow.engine import open_engine

    block = _moved(blocks_of("docs/engine.md")[2], "/data/", to=at_home)
    open_engine(EngineConfig(bucket="my-data-lake")).upload_bytes(DATA, "backups/day.tar")
    block.run()
    assert capsys.readouterr().out.endswith(f" {len(DATA)} 0\n")
    assert (at_home / "data" / "day.tar").read_bytes() == DATA


def test_the_configurations_are_as_written(at_home: Path) -> None:
    """Names and values of the guide become the store's."""
    connection: Any = blocks_of("docs/connections.md")[0].run()["config"]
    assert (connection.endpoint, connection.region) == ("http://localhost:9000", "us-east-1")
    assert connection.force_path_style
    assert connection.credentials.access_key == "minioadmin"
    names: Any = blocks_of("docs/configuration.md")[0].run()
    config = names["engine"].config
    assert (config.bucket, config.region, config.parallel_operations) == ("my-data-lake", "us-west-2", 8)
    assert (config.storage_class, config.chunk_size) == ("INTELLIGENT_TIERING", 10 * 1024 * 1024)
