"""docs/versions.md does what it says: every Python block runs, in order, against the model server."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tests.docs.blocks import excused, runnable
from tests.model_server import ModelServer

PAGE = "docs/versions.md"
CHAPTER = {
    "Enable versioning", "List all versions of an object", "Download a specific version", "Restore a previous version",
    "Undelete", "Delete a specific version", "Compare versions", "Suspend versioning",
    "A prefix as it was", "What old versions cost", "In a DAG",
}  # fmt: skip


def test_every_block_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a script would: credentials and endpoint from the environment, each block with the names of those before."""
    monkeypatch.chdir(tmp_path)
    blocks = runnable(PAGE)
    assert ({block.heading for block in blocks}, excused(PAGE)) == (CHAPTER, {})
    with ModelServer() as server:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": server.region,
            "AWS_DEFAULT_REGION": server.region,
        }.items():
            monkeypatch.setenv(name, value)
        server.create_bucket("my-bucket")
        names = blocks[0].run()
        client = boto3.client("s3")
        for body in (b"version 1\n", b"version 2, longer.\n\n"):
            client.put_object(Bucket="my-bucket", Key="documents/report.pdf", Body=body)
        client.put_object(Bucket="my-bucket", Key="documents/report.pdf.bak", Body=b"another key")
        for block in blocks[1:]:
            names = block.run(names)
        assert (tmp_path / "report_v1.pdf").read_bytes() == b"version 1\n"
        # The page's last blocks let the old version go.
        assert [item.size for item in server.versions("my-bucket", "documents/report.pdf")] == [20]
