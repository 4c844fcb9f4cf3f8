"""docs/operations.md does what it says: every Python block runs, in order, against the model server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.model_server import ModelServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SEED = ["data/report.pdf", "data/large-file.bin", "source/file.txt", "old-data/file.txt"]


def test_every_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script would: credentials and endpoint from the environment."""
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 11
    with ModelServer() as server:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": server.region,
            "AWS_DEFAULT_REGION": server.region,
        }.items():
            monkeypatch.setenv(name, value)
        _seed(server)
        names: dict[str, Any] = {}
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
        kept = server.versions("archive-bucket", "2025/file.txt")[0]
        assert (kept.storage_class, kept.metadata["project"]) == ("STANDARD_IA", "analytics")
        assert server.versions("my-bucket", "destination/file.txt")[0].read() == b"source/file.txt"


def _seed(server: ModelServer) -> None:
    client: Any = boto3.client("s3")
    for bucket in ("my-bucket", "archive-bucket"):
        server.create_bucket(bucket)
    for key in (*SEED, *(f"data/2025/{month:02}.csv" for month in range(1, 5))):
        client.put_object(Bucket="my-bucket", Key=key, Body=key.encode())
