"""Every snippet of docs/guide.md runs against the strict server, and the guide's ways to authenticate work there."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import EngineConfig, TransferEngine, open_engine
from orbit_airflow.engine.model import MIB
from tests.docs.blocks import Block, blocks_of, excused, runnable
from tests.docs.pending import case, needing
from tests.model_server import ModelServer
from tests.model_server.config import Credentials

PAGE = "docs/guide.md"
BUCKETS = ("my-bucket", "data-lake", "backups", "migration-bucket")
OBJECTS = ("path/to/file.txt", "data/report.pdf", "data/large-file.bin", "source/file.txt", "critical/data.bin")
LARGE = ("local/large-dataset.tar.gz", "huge-file.bin", "backups/db_backup.tar.gz")
SMALL = ("analytics/sales_2025.parquet", "data/to/migrate/a.txt", "data/to/migrate/deep/b.txt")
ROLE = Credentials(access_key="AKIAROLE", secret_key="role-secret", session_token="role-session")
SAID = {
    "Basic upload": "Upload complete!\n",
    "Basic download": "Downloaded 16 bytes\n",
    "Check object existence": "File exists\n",
    "Get object metadata": "Size: 19 bytes\n",
    "Circuit breaker pattern": "Upload successful\n",
    "Error classification": "Fatal error: File not found\n",
    "Error handling": "File not found: my-bucket/missing-file.txt\n",
    "Cloud migration": "Migrated: a.txt\nMigrated: deep/b.txt\n",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(credentials=(Credentials(), ROLE)) as running:
        for bucket in BUCKETS:
            running.create_bucket(bucket)
        yield running


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> Path:
    """A home directory with the guide's files, an environment that knows the server, and no credentials in it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "AWS_ENDPOINT_URL_S3": server.endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MY_ACCESS_KEY": server.access_key,
        "MY_SECRET_KEY": server.secret_key,
        "SPACES_KEY": "key",
        "SPACES_SECRET": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for name, size in [*((name, 6 * MIB) for name in LARGE), *((name, 10) for name in SMALL)]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(os.urandom(size))
    return tmp_path


@pytest.fixture
def environment(at_home: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> None:
    """The guide's three variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("AWS_REGION", server.region)


@pytest.fixture
def engine(environment: None, server: ModelServer, tmp_path: Path) -> TransferEngine:
    """An engine, and the objects that the snippets read; put there by a plain client."""
    import boto3

    client: Any = boto3.client("s3", region_name=server.region)
    for key in OBJECTS:
        client.put_object(Bucket="my-bucket", Key=key, Body=key.encode())
    return open_engine(EngineConfig(bucket="my-bucket", region=server.region))


@pytest.mark.parametrize("block", [case(block.heading, block) for block in runnable(PAGE)], ids=str)
def test_a_snippet_runs(block: Block, engine: TransferEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing but an engine, and it says what the guide's says."""
    block.run({"engine": engine})
    assert capsys.readouterr().out.startswith(SAID.get(block.heading, ""))


def test_every_snippet_of_the_page_is_run() -> None:
    """None is excused; what is expected to be said belongs to a snippet."""
    assert excused(PAGE) == {}
    assert {block.heading for block in blocks_of(PAGE)} >= SAID.keys()


@needing("credentials file")
def test_the_credentials_file_is_read(
    engine: TransferEngine, at_home: Path, server: ModelServer, monkeypatch: Any
) -> None:
    """The guide's two files, in the home directory."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    (at_home / ".aws").mkdir()
    keys = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    (at_home / ".aws" / "credentials").write_text(f"[default]\n{keys}")
    (at_home / ".aws" / "config").write_text(f"[default]\nregion = {server.region}\n")
    found: Any = open_engine(EngineConfig(bucket="my-bucket"))
    assert found.exists("path/to/file.txt")


@needing("role")
def test_a_role_is_used(engine: TransferEngine, monkeypatch: Any) -> None:
    """A container's credentials, from its endpoint on loopback."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    answer = {
        "AccessKeyId": ROLE.access_key,
        "SecretAccessKey": ROLE.secret_key,
        "Token": ROLE.session_token,
        "Expiration": "2099-01-01T00:00:00Z",
    }

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Quiet."""

    metadata = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=metadata.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{metadata.server_port}/role")
        found: Any = open_engine(EngineConfig(bucket="my-bucket"))
        assert found.exists("path/to/file.txt")
    finally:
        metadata.shutdown()
        thread.join()
        metadata.server_close()


OPTIONS: dict[str, tuple[object, object]] = {
    "bucket": (None, "b-1"),
    "region": (None, "eu-central-1"),
    "endpoint": (None, "https://s3.example"),
    "storage_class": (None, "STANDARD_IA"),
    "server_side_encryption": (None, "AES256"),
    "chunk_size": (5 * MIB, 10 * MIB),
    "parallel_operations": (4, 8),
    "timeout_seconds": (300.0, 600.0),
    "max_retries": (3, 5),
    "verify_checksums": (True, False),
    "force_path_style": (False, True),
}


@pytest.mark.parametrize("name", [case(name, name) for name in OPTIONS])
def test_an_option_has_the_guides_name_and_default(name: str) -> None:
    """None stands for the guide's "-", "Auto-detect", "None" and, for the class, the bucket's own Standard."""
    default, other = OPTIONS[name]
    assert getattr(EngineConfig(), name) == default
    changed: Any = {name: other}
    assert getattr(EngineConfig(**changed), name) != default


CLASSES = {
    "Standard": "STANDARD",
    "StandardIa": "STANDARD_IA",
    "OnezoneIa": "ONEZONE_IA",
    "IntelligentTiering": "INTELLIGENT_TIERING",
    "GlacierInstantRetrieval": "GLACIER_IR",
    "GlacierFlexibleRetrieval": "GLACIER",
    "GlacierDeepArchive": "DEEP_ARCHIVE",
}


@pytest.mark.parametrize("name", [case("storage_class", name) for name in CLASSES])
def test_a_storage_class_has_the_guides_name(name: str) -> None:
    """And AWS's on the wire."""
    given: Any = {"storage_class": name}
    config: Any = EngineConfig(**given)
    assert config.storage_class == CLASSES[name]
