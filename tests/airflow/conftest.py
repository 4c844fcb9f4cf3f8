"""Airflow without a database: the real task runner over a fake supervisor, and the strict S3 server beside it."""

from __future__ import annotations

# ruff: noqa: E402 - Airflow reads the environment when it is imported for the first time
import os
import tempfile

_HOME = os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="orbit-airflow-"))
os.environ.update(
    {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": os.path.join(_HOME, "dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }
)
os.makedirs(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], exist_ok=True)

import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.fakes import FakeComms
from tests.model_server import ModelServer

MIB = 1024 * 1024
BUCKET = "backups"


@pytest.fixture(scope="session")
def server() -> Iterator[ModelServer]:
    """One strict S3 server for all tests; its log and faults are cleared before each of them."""
    with ModelServer() as running:
        running.create_bucket(BUCKET)
        running.create_bucket("versioned", "Enabled")
        yield running


@pytest.fixture
def s3(server: ModelServer) -> ModelServer:
    """The server without a past."""
    server.reset()
    server.empty()
    server.set_rate_limit(None)
    return server


@pytest.fixture
def comms(s3: ModelServer) -> Iterator[FakeComms]:
    """The fake supervisor, which knows a connection to the server as ``aws_default``."""
    from airflow.sdk.execution_time.supervisor import set_supervisor_comms

    fake = FakeComms()
    fake.add_connection("aws_default", s3.access_key, s3.secret_key, connection_extra(s3))
    with set_supervisor_comms(fake):
        yield fake


def connection_extra(server: ModelServer, **orbit: Any) -> dict[str, Any]:
    """A connection's extra for the server: path style, quick retries."""
    return {
        "endpoint_url": server.endpoint_url,
        "region_name": server.region,
        "config_kwargs": {"s3": {"addressing_style": "path"}},
        "service_config": {"s3": {"orbit": {"retry": "fast", "outage_patience": 0, **orbit}}},
    }


@dataclass
class Try:
    """How one try of a task ended."""

    state: str
    error: BaseException | None
    task: Any
    message: Any = None


@pytest.fixture
def run_try(comms: FakeComms) -> Iterator[Callable[..., Try]]:
    """``run_try(op, n)``: the real task runner for try ``n`` of an operator, without a database."""
    import structlog
    from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance, run

    began = datetime.now(UTC)

    def one_try(
        op: Any, number: int = 1, *, map_index: int = -1, resume: tuple[str, Any] | None = None, reschedules: int = 0
    ) -> Try:
        now = datetime.now(UTC)
        dag_run = DagRun.model_construct(
            dag_id=op.dag_id, run_id="r1", logical_date=began, run_after=began, start_date=began, end_date=None,
            data_interval_start=None, data_interval_end=None, partition_key=None, partition_date=None,
            run_type=DagRunType.MANUAL, state=DagRunState.RUNNING, conf={}, consumed_asset_events=[],
        )  # fmt: skip
        stale = sorted({key for task_id, index, key in comms.xcoms if (task_id, index) == (op.task_id, map_index)})
        from_server = TIRunContext.model_construct(
            dag_run=dag_run, max_tries=op.retries, should_retry=True, xcom_keys_to_clear=stale,
            task_reschedule_count=reschedules, variables=[], connections=[], upstream_map_indexes=None,
            next_method=resume[0] if resume else None, next_kwargs=resume[1] if resume else None,
        )  # fmt: skip
        instance = RuntimeTaskInstance.model_construct(
            id=uuid.uuid4(), task_id=op.task_id, dag_id=op.dag_id, run_id="r1", try_number=number,
            map_index=map_index, dag_version_id=uuid.uuid4(), task=op, _ti_context_from_server=from_server,
            max_tries=op.retries, start_date=now,
        )  # fmt: skip
        state, message, error = run(instance, instance.get_template_context(), structlog.get_logger("task"))
        return Try(state.value, error, instance.task, message)

    handler = signal.getsignal(signal.SIGTERM)
    yield one_try
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """``make_file(size)``: a file of that many bytes, different in each block."""

    def make(size: int, name: str = "dump.tar") -> Path:
        path = tmp_path / name
        block = os.urandom(min(size, MIB))
        with path.open("wb") as file:
            for start in range(0, size, MIB):
                file.write(start.to_bytes(8, "big") + block[8 : min(MIB, size - start)])
        return path

    return make


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The (level, text) of every line that an operator logs."""
    from tests.airflow.fakes import RecordingLog

    log = RecordingLog()
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(log, "info", lambda text, *_, **__: seen.append(("info", text)))
    monkeypatch.setattr(log, "warning", lambda text, *_, **__: seen.append(("warning", text)))
    from orbit_airflow.operators._base import OrbitTransferOperator

    monkeypatch.setattr(OrbitTransferOperator, "log", log, raising=False)
    return seen


@pytest.fixture
def dag() -> Any:
    """A DAG to put operators into."""
    from airflow.sdk import DAG

    return DAG("d", start_date=datetime(2025, 1, 1, tzinfo=UTC), schedule=None)
