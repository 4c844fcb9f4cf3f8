"""The boto3 client: the user's settings survive, and our connections are this client's alone."""

from __future__ import annotations

import io
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSHTTPConnection
from botocore.config import Config
from botocore.httpsession import URLLib3Session

from orbit_airflow.engine.options import Credentials, EngineConfig
from orbit_airflow.engine.stores import http
from orbit_airflow.engine.stores.client import SPARE_CONNECTIONS, client_config, make_client, prepare_client
from orbit_airflow.engine.stores.http import OrbitHTTPConnection, OrbitHTTPConnectionPool, RequestBody
from tests.unit.engine.bench import data_of

KEYS = Credentials(access_key="AKIA", secret_key="secret")
SETTINGS = EngineConfig(region="eu-central-1", endpoint="http://127.0.0.1:9", credentials=KEYS)


def _plain() -> Any:
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )


def test_the_user_s_settings_survive() -> None:
    """Path style, accelerate, proxies and signing together: nested dicts are merged."""
    base = Config(
        s3={"addressing_style": "path", "use_accelerate_endpoint": False, "payload_signing_enabled": True},
        proxies={"https": "http://proxy:3128"},
        signature_version="s3v4",
        user_agent_extra="theirs",
        max_pool_connections=77,
    )
    merged: Any = client_config(EngineConfig(), base)
    assert merged.s3 == {
        "addressing_style": "path",
        "use_accelerate_endpoint": False,
        "payload_signing_enabled": True,
    }
    assert (merged.proxies, merged.signature_version) == ({"https": "http://proxy:3128"}, "s3v4")
    assert merged.user_agent_extra.startswith("theirs orbit-airflow/")
    assert merged.max_pool_connections == 77


def test_the_base_is_not_changed() -> None:
    """It may be the hook's own."""
    base: Any = Config(s3={"addressing_style": "virtual"})
    client_config(EngineConfig(force_path_style=True), base)
    assert base.s3 == {"addressing_style": "virtual"}


def test_one_owner_for_retries_and_checksums() -> None:
    """Botocore sends once, and adds no trailer of its own."""
    made: Any = client_config(EngineConfig(parallel_operations=9, stall_timeout=7, connect_timeout=3))
    assert made.retries == {"total_max_attempts": 1}
    assert made.request_checksum_calculation == "when_required"
    assert (made.read_timeout, made.connect_timeout) == (7, 3)
    assert made.max_pool_connections == 9 + SPARE_CONNECTIONS


@pytest.mark.parametrize(("https", "signed"), [(True, False), (False, None)])
def test_the_payload_is_hashed_for_the_signature_over_http_only(https: bool, signed: bool | None) -> None:
    """Over TLS the line protects it; over http nothing else does."""
    made: Any = client_config(EngineConfig(), https=https)
    assert (made.s3 or {}).get("payload_signing_enabled") is signed


def test_path_style_can_be_forced() -> None:
    """And is left alone otherwise."""
    forced: Any = client_config(EngineConfig(force_path_style=True))
    free: Any = client_config(EngineConfig())
    assert forced.s3["addressing_style"] == "path"
    assert "addressing_style" not in (free.s3 or {})


def test_a_client_from_configuration_alone() -> None:
    """Region, endpoint and keys as given."""
    client = make_client(SETTINGS)
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-central-1", "http://127.0.0.1:9")


def test_aws_region_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by every other SDK."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert make_client(EngineConfig(credentials=KEYS)).meta.region_name == "eu-west-3"


def test_our_connections_are_this_client_s_alone() -> None:
    """Another client of the same process keeps botocore's."""
    ours: Any = prepare_client(_plain(), SETTINGS)
    other = _plain()

    def kind(client: Any) -> Any:
        session = client._endpoint.http_session
        manager = getattr(session, "inner", session)._manager
        return manager.connection_from_url("http://127.0.0.1:9").ConnectionCls

    assert kind(ours) is OrbitHTTPConnection
    assert kind(other) is AWSHTTPConnection
    assert issubclass(OrbitHTTPConnection, AWSHTTPConnection)


def test_a_proxy_s_connections_are_ours_too() -> None:
    """They come from a manager of their own, made from the same classes."""
    client: Any = _plain()
    http.install(client)
    session = client._endpoint.http_session
    manager = session._get_proxy_manager("http://127.0.0.1:3128")
    assert issubclass(manager.pool_classes_by_scheme["http"], OrbitHTTPConnectionPool)


def test_botocore_s_private_attributes_are_there() -> None:
    """The four that the engine leans on, in the pinned version."""
    session: Any = _plain()._endpoint.http_session
    kind: Any = type(session)
    assert kind is URLLib3Session
    assert set(session._pool_classes_by_scheme) == {"http", "https"}
    assert set(session._manager.pool_classes_by_scheme) == {"http", "https"}
    connection: Any = AWSHTTPConnection("127.0.0.1", 9)
    assert connection._response_received is False


class _Stopped(Exception):
    """Nothing is sent in these tests."""


def _waits(call: str, **params: Any) -> float:
    """The limit with which this call would wait for its answer."""
    client: Any = prepare_client(_plain(), EngineConfig(timeout_seconds=123, stall_timeout=4))
    seen: dict[str, Any] = {}

    def look(request: Any, **_: Any) -> None:
        seen.update(request.context)
        raise _Stopped

    client.meta.events.register_last("request-created.s3", look)
    with pytest.raises(_Stopped):
        getattr(client, call)(Bucket="bucket", Key="key", **params)
    return float(seen.get("read_timeout", 0))


def test_a_complete_may_take_its_time() -> None:
    """Its limit is the configured one; botocore reads it from the request's context."""
    parts = {"Parts": [{"PartNumber": 1, "ETag": "x"}]}
    assert _waits("complete_multipart_upload", UploadId="u", MultipartUpload=parts) == 123


def test_other_calls_wait_as_the_client_does() -> None:
    """The stall time, from the client's settings."""
    assert _waits("head_object") == 0


class _Bytes:
    """A body over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def blocks(self) -> Any:
        return iter([memoryview(self._data)])

    def read_at(self, position: int, size: int) -> bytes:
        return self._data[position : position + size]


def test_a_request_body_is_a_file_to_the_signer() -> None:
    """read, seek, tell and len as of a file with the same bytes."""
    data = data_of(10_000)
    body, file = RequestBody(_Bytes(data), 5.0), io.BytesIO(data)
    assert len(body) == 10_000
    for deed in (("read", 100), ("tell",), ("seek", 0, 2), ("tell",), ("read", 5), ("seek", 50), ("read",), ("read", 1),
                 ("seek", -10, 1), ("read", -1)):  # fmt: skip
        assert getattr(body, deed[0])(*deed[1:]) == getattr(file, deed[0])(*deed[1:])


def test_the_wire_gets_all_bytes_whatever_was_read() -> None:
    """``blocks`` begins at the first byte."""
    data = data_of(10_000)
    body = RequestBody(_Bytes(data), 5.0)
    body.read(500)
    assert b"".join(bytes(block) for block in body.blocks()) == data


class _Socket:
    """Takes 7 bytes at a time."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.limit: float | None = None

    def settimeout(self, seconds: float) -> None:
        self.limit = seconds

    def send(self, data: memoryview) -> int:
        self.taken += data[:7]
        return min(7, len(data))


def test_a_slow_socket_gets_every_byte() -> None:
    """Partial sends are continued, under the stall limit."""

    class _Connection:
        sock = _Socket()
        watch = None

    data = data_of(1000)
    http._send_blocks(_Connection(), RequestBody(_Bytes(data), 5.0))
    assert (bytes(_Connection.sock.taken), _Connection.sock.limit) == (data, 5.0)
