"""docs/sensors.md does what it says: every Python block runs, in order, against the model server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from orbit_airflow.engine.sensing import MAX_KNOWN, MAX_TOLD, WaitFor
from orbit_airflow.triggers.new_version import MAX_VERSIONS, NewVersionWatch
from tests.docs.blocks import REPOSITORY, excused, runnable
from tests.model_server import ModelServer

PAGE = "docs/sensors.md"


def test_every_block_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a script would: credentials and endpoint from the environment, each block with the names of those before."""
    monkeypatch.chdir(tmp_path)
    blocks = runnable(PAGE)
    assert ([block.heading for block in blocks], excused(PAGE)) == (
        ["The sensor", "The result", "The watched asset"],
        {},
    )
    with ModelServer() as server:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": server.region,
            "AWS_DEFAULT_REGION": server.region,
        }.items():
            monkeypatch.setenv(name, value)
        server.create_bucket("my-bucket", "Enabled")
        boto3.client("s3").put_object(Bucket="my-bucket", Key="documents/report.pdf", Body=b"version 1")
        names: dict[str, Any] = {}
        for block in blocks:
            names = block.run(names)
    assert set(names["dag"].task_ids) == {"bucket_keeps_versions", "fresh_report"}
    assert names["fresh"].deferrable is True


def test_the_page_has_the_figures_and_the_parameters_of_the_code() -> None:
    """And every one of them."""
    text = (REPOSITORY / PAGE).read_text()
    assert all(f'`"{item.value}"`' in text for item in WaitFor)
    assert all(f"{figure:,}" in text for figure in (MAX_KNOWN, MAX_TOLD, MAX_VERSIONS))
    assert [name for name in NewVersionWatch.__dataclass_fields__ if f"`{name}`" not in text] == []
