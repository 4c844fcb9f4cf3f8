"""The fixture for users' tests: every hook is in memory, and nothing gets past it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.testing.pytest import OrbitS3, orbit_s3, orbit_s3_store
from tests.airflow.test_example_dag import EXAMPLES, airflow_db, load, sync

__all__ = ["airflow_db", "orbit_s3", "orbit_s3_store"]


def test_an_example_dag_runs_in_memory(
    airflow_db: None, orbit_s3: OrbitS3, make_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Operators make their hooks by themselves; those are in memory, too, and no connection exists."""
    path = make_file(6 * 1024 * 1024)
    monkeypatch.setenv("ORBIT_BACKUP_FILE", str(path))
    monkeypatch.delenv("AIRFLOW_CONN_ORBIT_BACKUP", raising=False)
    folder = tmp_path / "dags"
    folder.mkdir()
    shutil.copy(EXAMPLES / "orbit_nightly_backup.py", folder)
    dag = load(folder)
    sync(dag)
    assert dag.test().state == "success"
    (ref,) = orbit_s3.store.objects
    assert ref.bucket == "nightly-backups"
    assert orbit_s3.store.read(ref) == path.read_bytes()


def test_boto3_is_refused(orbit_s3: OrbitS3) -> None:
    """Nothing may reach the network by a way that the fixture does not know."""
    calls: list[Callable[[], object]] = [orbit_s3.hook.get_conn, lambda: orbit_s3.hook.read_key("key", "bucket")]
    for call in calls:
        with pytest.raises(RuntimeError, match="no network"):
            call()


def test_the_hooks_own_options_are_in_force(orbit_s3: OrbitS3) -> None:
    """They are the real hook's, with its checks; only where nothing is chosen is the fixture quick."""
    assert orbit_s3.hook.engine.config.outage_patience == 0
    hook = OrbitS3Hook(orbit_options={"outage_patience": 3, "chunk_size": 6 * 1024 * 1024})
    assert (hook.engine.config.outage_patience, hook.engine.config.chunk_size) == (3, 6 * 1024 * 1024)
    with pytest.raises(ConfigError, match="did you mean 'chunk_size'"):
        OrbitS3Hook(orbit_options={"chunk_sise": 1}).engine  # noqa: B018


def test_two_hooks_share_the_store(orbit_s3: OrbitS3, make_file: Callable[..., Path]) -> None:
    """As two tasks share a bucket."""
    OrbitS3Hook(aws_conn_id="one").upload(make_file(3), "s3://bucket/key")
    assert OrbitS3Hook(aws_conn_id="two").engine.exists(ObjectRef("bucket", "key"))


def test_after_the_test_the_hook_is_itself_again() -> None:
    """Nothing is left patched."""
    assert vars(OrbitS3Hook)["engine"].func.__module__ == "orbit_airflow.hooks.s3"
    assert "conn_config" not in vars(OrbitS3Hook)
    assert "get_session" not in vars(OrbitS3Hook)


def test_the_stores_import_neither_airflow_nor_pytest() -> None:
    """The engine's users have neither in production, and the plugin itself loads Airflow only when a test asks."""
    code = (
        "import sys, orbit_airflow.testing; print([m for m in ('airflow', 'pytest', 'boto3') if m in sys.modules]);"
        "import orbit_airflow.testing.pytest; print([m for m in ('airflow', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["[]", "[]"]
