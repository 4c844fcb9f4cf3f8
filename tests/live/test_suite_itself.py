"""The live suite is careful: it runs only when asked, says what it needs, and clears only what is its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import boto3
import pytest

from tests.docs.blocks import REPOSITORY
from tests.live.ground import LiveGround, LiveSettings, enabled
from tests.model_server import ModelServer

NAMES = ("S3_TESTS_ENABLED", "S3_TEST_BUCKET", "S3_TEST_ENDPOINT")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        running.create_bucket("theirs", "Enabled")
        yield running


def environment(server: ModelServer) -> dict[str, str]:
    return {
        "S3_TESTS_ENABLED": "1",
        "S3_TEST_BUCKET": "theirs",
        "S3_TEST_ENDPOINT": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
    }


def run(test: str, *, file: str = "test_upload.py", **changes: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        f"tests/live/{file}{test}",
    ]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**kept, **changes}, capture_output=True, text=True, timeout=100, check=False
    )


def test_it_is_off_and_says_how_to_run_it() -> None:
    """Without the switch nothing is touched."""
    done = run("")
    assert done.returncode == 0
    assert "passed" not in done.stdout
    assert "S3_TESTS_ENABLED=1 S3_TEST_BUCKET=<an existing bucket>" in done.stdout


def test_it_runs_and_prints_where_and_when(server: ModelServer) -> None:
    """With the guide's variables and nothing else."""
    done = run("::test_an_upload_continues", **environment(server))
    assert done.returncode == 0, done.stdout
    assert f"test_an_upload_continues: {server.endpoint_url} theirs 20" in done.stdout


def test_downloads_run_against_a_store_that_behaves(server: ModelServer) -> None:
    """All of them, as on a bucket that keeps versions."""
    done = run("", file="test_download.py", **environment(server))
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


def test_without_a_bucket_it_fails_and_says_so(server: ModelServer) -> None:
    """Half a configuration is an error, not a silent skip."""
    done = run("::test_tags_arrive", **{**environment(server), "S3_TEST_BUCKET": ""})
    assert done.returncode == 1
    assert "needs S3_TEST_BUCKET" in done.stdout


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", False), ("", False)])
def test_the_switch_is_the_guides(value: str, expected: bool) -> None:
    """S3_TESTS_ENABLED=1."""
    assert enabled({"S3_TESTS_ENABLED": value}) is expected


def test_it_clears_its_own_and_nothing_else(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects, versions and open uploads of others stay; of its own prefix nothing does."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    ground = LiveGround(LiveSettings.read(os.environ))
    client = boto3.client("s3", endpoint_url=server.endpoint_url, region_name=server.region)
    ours = ground.ref("object").key
    for key in ("theirs.txt", "orbit-live/other-run/theirs.txt", ours, ours):
        client.put_object(Bucket="theirs", Key=key, Body=b"x")
        client.create_multipart_upload(Bucket="theirs", Key=key)
    client.delete_object(Bucket="theirs", Key=ours)
    ground.clear()
    assert {upload.key for upload in server.open_uploads("theirs")} == {"theirs.txt", "orbit-live/other-run/theirs.txt"}
    assert [len(server.versions("theirs", key)) for key in ("theirs.txt", "orbit-live/other-run/theirs.txt")] == [1, 1]
    assert server.versions("theirs", ours) == []
