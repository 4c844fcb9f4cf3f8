"""Every snippet of docs/downloads.md runs, and its tasks do what the page says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.docs.blocks import Block, blocks_of, excused, runnable
from tests.model_server import ModelServer, ServerProfile

PAGE = "docs/downloads.md"
DATA = b"id,name\n" * 100


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """Two buckets; the old object is from a time without checksums."""
    with ModelServer() as running:
        client: Any = boto3.client(
            "s3", endpoint_url=running.endpoint_url, region_name=running.region,
            aws_access_key_id=running.access_key, aws_secret_access_key=running.secret_key,
        )  # fmt: skip
        for bucket in ("lake", "nightly-backups"):
            running.create_bucket(bucket)
        client.put_object(Bucket="lake", Key="in/part-000.csv", Body=DATA, ChecksumAlgorithm="CRC32")
        client.put_object(
            Bucket="nightly-backups", Key="database/2026-11-22/backup.tar", Body=DATA, ChecksumAlgorithm="CRC32"
        )
        running.set_profile(ServerProfile(flexible_checksums=False))
        client.put_object(Bucket="lake", Key="old.csv", Body=DATA)
        running.set_profile(ServerProfile())
        yield running


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> Path:
    """An environment that knows the server, also as the connection ``orbit_backup``."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AIRFLOW_CONN_ORBIT_BACKUP": '{"conn_type": "aws"}',
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def block_under(heading: str) -> Block:
    (block,) = [block for block in blocks_of(PAGE) if block.heading == heading]
    return block


@pytest.mark.parametrize("block", runnable(PAGE), ids=str)
def test_a_snippet_runs(block: Block, at_home: Path) -> None:
    block.run()


def test_none_is_excused() -> None:
    assert excused(PAGE) == {}
    assert len(runnable(PAGE)) == 6


def test_the_tasks_function_restores_and_copies(at_home: Path, server: ModelServer) -> None:
    restore: Any = block_under("In a `@task`").run()["restore"]
    assert restore.function("2026-11-22") == len(DATA)
    assert (at_home / "restored/backup.tar").read_bytes() == DATA
    assert server.versions("nightly-backups", "copies/2026-11-22.tar")[0].read() == DATA


def test_the_script_prints_the_proof(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block_under("From a script").run()
    assert capsys.readouterr().out.endswith(f"full-crc {len(DATA)}\n")
    block_under("What `integrity` says").run()
    assert capsys.readouterr().out.endswith("fetched with what there is\nmd5\n")


def test_the_decorated_tasks_are_operators(at_home: Path) -> None:
    dag: Any = block_under("Decorators").run()["dag"]
    assert [type(task).custom_operator_name for task in dag.tasks] == ["@task.orbit_download", "@task.orbit_upload"]
    assert dag.get_task("publish").upstream_task_ids == {"newest"}
