"""One Airflow and one S3 server for all end-to-end tests of a session."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import LocalAirflow, s3_connection
from tests.e2e.judge import MIB, Judge, Place
from tests.e2e.running import RunningUpload, make_file
from tests.model_server import ModelProcess

DAG_FILES = [Path(__file__).parent / "dags" / name for name in ("e2e_upload.py", "e2e_taskflow.py")]
DAG_ID, TASKFLOW_ID, TASK_ID, BUCKET = "e2e_upload", "e2e_taskflow", "upload", "e2e"
# The engine's default, and parts so large that the system's socket buffers cannot hold the rest of one.
SMALL_PARTS = (5 * MIB, 4)
LARGE_PARTS = (20 * MIB, 2)

StartUpload = Callable[..., RunningUpload]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    """A strict S3 server with a versioned bucket, in which nothing that was written can hide."""
    data = tmp_path_factory.mktemp("s3")
    with ModelProcess("--data-dir", str(data), "--bucket", f"{BUCKET}:versioned") as made:
        yield made


@pytest.fixture(scope="session")
def airflow(server: ModelProcess) -> Iterator[LocalAirflow]:
    """Airflow with the test's DAG and a connection to the server."""
    env = {
        f"AIRFLOW_CONN_{_connection_id(parts).upper()}": _connection(server, parts)
        for parts in (SMALL_PARTS, LARGE_PARTS)
    }
    with LocalAirflow(DAG_FILES, env) as made:
        made.wait_until_ready([DAG_ID, TASKFLOW_ID])
        yield made


@pytest.fixture
def start_upload(airflow: LocalAirflow, server: ModelProcess, tmp_path: Path) -> Iterator[StartUpload]:
    """Starts the upload of a new random file at a limited rate; the limit is taken away behind the test."""

    def start(
        key: str, *, size: int, rate: int, parts: tuple[int, int] = SMALL_PARTS, dag_id: str = DAG_ID
    ) -> RunningUpload:
        seed = random.SystemRandom().randrange(2**32)
        path = make_file(tmp_path / "source.bin", size, seed)
        print(f"\n{key}: {size:,} bytes, seed {seed}, {rate:,} bytes/s")
        server.set_rate_limit(rate)
        conf = {"filename": str(path), "bucket": BUCKET, "key": key, "aws_conn_id": _connection_id(parts)}
        run_id = airflow.rest.trigger(dag_id, conf)
        judge = Judge(server, Place(BUCKET, key, size, *parts))
        return RunningUpload(airflow, airflow.task(dag_id, run_id, TASK_ID), judge, path)

    yield start
    server.set_rate_limit(None)


def _connection_id(parts: tuple[int, int]) -> str:
    return f"e2e_{parts[0] // MIB}_{parts[1]}"


def _connection(server: ModelProcess, parts: tuple[int, int]) -> str:
    options = {"chunk_size": parts[0], "parallel_operations": parts[1]}
    return s3_connection(server.endpoint_url, server.access_key, server.secret_key, options)
