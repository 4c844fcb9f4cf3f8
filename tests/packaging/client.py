"""A user's module: `mypy --strict` reads it against the installed wheel, and must know every type in it."""

from pathlib import Path
from typing import assert_type

from orbit_airflow.engine import EngineConfig, ObjectRef, OrbitError, TransferEngine, UploadResult, engine_over
from orbit_airflow.engine.errors import Disposition
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.operators.retry import OrbitRetryPolicy
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore


def backup(path: Path, hook: OrbitS3Hook) -> str:
    """Through the hook."""
    try:
        result = hook.upload(path, "s3://bucket/key")
    except OrbitError as exc:
        assert_type(exc.disposition, Disposition)
        raise
    assert_type(result, UploadResult)
    assert_type(result.ref, ObjectRef)
    assert_type(result.version_id, str | None)
    return result.ref.uri


def operator() -> OrbitS3UploadOperator:
    """In a DAG."""
    return OrbitS3UploadOperator(
        task_id="upload",
        filename="/backups/night.tar",
        dest_key="s3://bucket/key",
        metadata={"kind": "backup"},
        retry_policy=OrbitRetryPolicy(),
    )


def engine() -> TransferEngine:
    """In a test."""
    memory = MemoryStore(versioned=True)
    made = engine_over(FaultyStore(memory, [Fault("put", when="after")]), EngineConfig(bucket="bucket"))
    assert_type(made, TransferEngine)
    return made
