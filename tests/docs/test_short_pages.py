"""The snippets of the README and of the pages that have but one or a few; and no page has any that nobody runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.storage_class import StorageClass
from tests.docs.blocks import REPOSITORY, Block, blocks_of, excused, runnable
from tests.model_server import ModelServer

PAGES = {"README.md": 2, "docs/engine.md": 3, "docs/connections.md": 1, "docs/configuration.md": 1}
BUCKET = "my-data-lake"
DATA = os.urandom(6 * 1024 * 1024)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        running.create_bucket(BUCKET)
        yield running


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> Path:
    """A script's surroundings: credentials and endpoint in the environment, the files that the snippets name."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "AWS_ENDPOINT_URL_S3": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for name in ("day.parquet", "huge-file.bin"):
        Path(name).write_bytes(DATA)
    return tmp_path


def block_under(page: str, heading: str) -> Block:
    (block,) = [block for block in blocks_of(page) if block.heading == heading]
    return block


@pytest.mark.parametrize(("page", "count"), PAGES.items())
def test_none_is_excused(page: str, count: int) -> None:
    assert excused(page) == {}
    assert len(runnable(page)) == count


def test_every_page_with_a_snippet_has_a_test() -> None:
    """A page that nobody runs tells what was true once."""
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    named = {path.name: blocks_of(str(path.relative_to(REPOSITORY))) for path in pages}
    assert [name for name, blocks in named.items() if blocks and name not in tests] == []


def test_the_first_dags_are_dags() -> None:
    """One transfer each, with retries, which are what continues it."""
    dags: list[Any] = [block.run()["dag"] for block in runnable("README.md")]
    up, down = dags
    assert {dag.dag_id: dag.task_ids for dag in (up, down)} == {
        "nightly_backup": ["upload"],
        "nightly_load": ["download"],
    }
    tasks: list[Any] = [*up.tasks, *down.tasks]
    assert [task.retries for task in tasks] == [3, 3]


def test_the_script_uploads(at_home: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints proof, ETag and bytes."""
    block_under("docs/engine.md", "The engine for scripts").run()
    shown = server.versions(BUCKET, "raw/day.parquet")[0]
    assert shown.read() == DATA
    integrity, etag, sent = capsys.readouterr().out.split()
    assert (integrity, etag.strip('"'), int(sent)) == ("full-crc", shown.etag.strip('"'), len(DATA))


def test_the_resumable_upload_continues(at_home: Path, server: ModelServer) -> None:
    """Run again, it finds that all is done."""
    block = block_under("docs/engine.md", "Resumable uploads")
    first: Any = block.run()["state"]
    assert first.completed
    assert server.versions(BUCKET, "uploads/huge-file.bin")[0].read() == DATA
    sent = len(server.records("PutObject") + server.records("UploadPart"))
    again: Any = block.run()["state"]
    assert again.completed
    assert len(server.records("PutObject") + server.records("UploadPart")) == sent


def test_the_download_arrives(at_home: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]) -> None:
    import boto3

    client: Any = boto3.client("s3", region_name=server.region)
    client.put_object(Bucket=BUCKET, Key="backups/day.tar", Body=b"a day")
    block_under("docs/engine.md", "Resumable downloads").run()
    assert (at_home / "restored/day.tar").read_bytes() == b"a day"
    assert capsys.readouterr().out.split()[1:] == ["5", "0"]


def test_a_script_names_a_store_as_a_connection_does() -> None:
    (block,) = runnable("docs/connections.md")
    config: Any = block.run()["config"]
    assert (config.bucket, config.endpoint, config.force_path_style) == ("my-bucket", "http://localhost:9000", True)
    assert config.credentials.access_key == "minioadmin"


def test_the_builder_is_the_constructor(at_home: Path) -> None:
    """The engine has what was given, by the names of AWS where the guide has its own."""
    (block,) = runnable("docs/configuration.md")
    engine: Any = block.run()["engine"]
    config = engine.config
    assert (config.bucket, config.region, config.chunk_size) == (BUCKET, "us-west-2", 10 * 1024 * 1024)
    assert StorageClass.parse(config.storage_class).value == "INTELLIGENT_TIERING"
    assert (config.parallel_operations, config.timeout_seconds, config.verify_checksums) == (8, 600, True)
