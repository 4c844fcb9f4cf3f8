"""The server as a process of its own, and its control API."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import Fault, ModelProcess
from tests.model_server.conftest import client_of


def test_faults_of_one_key_are_dropped_alone() -> None:
    """Over the control API, too: tests that share a server do not end each other's faults."""
    with ModelProcess("--bucket", "shared") as server:
        for key in ("mine", "yours"):
            server.inject(Fault("HeadObject", "error", status=503, key=key, times=None))
        server.clear_faults("mine")
        client = client_of(server)
        assert {key: _status(client, key) for key in ("mine", "yours")} == {"mine": 404, "yours": 503}


def _status(client: Any, key: str) -> int:
    with pytest.raises(ClientError) as caught:
        client.head_object(Bucket="shared", Key=key)
    return int(caught.value.response["ResponseMetadata"]["HTTPStatusCode"])


def test_process_serves_reports_and_ends(tmp_path: Path) -> None:
    """Start, ready file, traffic, log, stored bytes, faults, and a clean end on SIGTERM."""
    ready = tmp_path / "ready.json"
    data = tmp_path / "data"
    with ModelProcess(
        "--bucket", "plain", "--bucket", "kept:versioned", "--ready-file", str(ready), "--data-dir", str(data)
    ) as server:
        assert json.loads(ready.read_text())["endpoint_url"] == server.endpoint_url
        s3 = client_of(server)
        for body in (b"one", b"two"):
            s3.put_object(Bucket="kept", Key="k é", Body=body, Metadata={"a": "b"})
        found = server.versions("kept", "k é")
        assert [item.read() for item in found] == [b"two", b"one"]
        assert (found[0].metadata, found[0].checksum_algorithm) == ({"a": "b"}, "CRC32")
        assert server.bytes_received("PutObject") == 6
        assert [item.status for item in server.records("PutObject", "k é")] == [200, 200]
        upload_id = s3.create_multipart_upload(Bucket="plain", Key="m")["UploadId"]
        s3.upload_part(Bucket="plain", Key="m", UploadId=upload_id, PartNumber=3, Body=b"part")
        assert server.open_uploads("plain")[0].parts == {3: 4}
        assert server.bytes_by_part() == {(upload_id, 3): 4}
        server.inject(Fault("HeadBucket", "error", status=503, headers={"Retry-After": "1"}))
        with pytest.raises(ClientError, match="503"):
            s3.head_bucket(Bucket="plain")
        server.create_bucket("late")
        s3.head_bucket(Bucket="late")
        server.reset()
        assert server.records() == []
        server.set_rate_limit(1_000_000)
        pid = server.pid
        assert server.close() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_control_refuses_nonsense() -> None:
    """A wrong fault, an unknown bucket and a callback are errors for the control client."""
    with ModelProcess() as server:
        with pytest.raises(RuntimeError, match="400"):
            server._request("POST", "faults", {"action": "explode"})
        with pytest.raises(RuntimeError, match="404"):
            server.versions("nowhere", "k")
        with pytest.raises(ValueError, match="callback"):
            server.inject(Fault("PutObject", "callback", callback=print))


def test_process_speaks_tls() -> None:
    """TLS with the certificate of the ready line, for S3 and for control."""
    with ModelProcess("--tls", "--bucket", "plain") as server:
        client_of(server).put_object(Bucket="plain", Key="k", Body=b"body")
        assert server.versions("plain", "k")[0].read() == b"body"
