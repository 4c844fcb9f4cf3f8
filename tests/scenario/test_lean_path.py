"""The lean path asks and understands as botocore does, and steps aside wherever it does not."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import MissingDependencyException
from botocore.session import get_session

from orbit_airflow.engine import Credentials, EngineConfig, ObjectRef
from orbit_airflow.engine.checksums import crc32
from orbit_airflow.engine.errors import AccessDenied, NotFound
from orbit_airflow.engine.model import KIB, KeyPrefix, ObjectAttributes, Part
from orbit_airflow.engine.store import CopyRequest, ListRequest, PartDigests
from orbit_airflow.engine.stores import lean as lean_module
from orbit_airflow.engine.stores.client import client_config, make_client, prepare_client
from orbit_airflow.engine.stores.http import RequestBody
from orbit_airflow.engine.stores.lean import LeanCalls
from orbit_airflow.engine.stores.s3 import S3Store
from orbit_airflow.engine.versioning import VersionsRequest
from tests.bodies import BytesBody
from tests.model_server import Credentials as ModelCredentials
from tests.model_server import ModelServer, ServerProfile
from tests.scenario.scripted import read_whole, scripted

DATA = b"some bytes of a part" * 100
DIGESTS = PartDigests(crc32=crc32(DATA))
ODD_KEYS = [
    "plain",
    "a b+c%d?e#f",
    "ünï/çødé/☃",
    "//two//slashes",
    "dots/../and/./dots",
    "tab\tnew\nline",
    "~'()*!@$&,;=:",
]
ATTRIBUTES = ObjectAttributes(
    metadata=(("one", "1"), ("two", "x y  z")), tags=(("a b", "c&d"), ("e", "")), content_type="text/x-odd",
    storage_class="STANDARD_IA", server_side_encryption="aws:kms", kms_key_id="key-id", acl="private",
    extra_args=(("CacheControl", "no-cache"), ("BucketKeyEnabled", True)),
)  # fmt: skip
# What differs by nature: time and signature, botocore's own tracing, and the wait for 100 Continue on small bodies.
OWN = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request", "expect", "user-agent"}


def _put(store: S3Store, key: str) -> object:
    return store.put(ObjectRef("bucket", key), BytesBody(DATA), DIGESTS, ATTRIBUTES, if_none_match=True)


def _part(store: S3Store, key: str) -> object:
    return store.upload_part(ObjectRef("bucket", key), "up/lo+ad=", Part(7, 0, len(DATA)), BytesBody(DATA), DIGESTS)


def _head(store: S3Store, key: str) -> object:
    return store.head(ObjectRef("bucket", key, "ver+sion"))


def _head_part(store: S3Store, key: str) -> object:
    return store.head_part(ObjectRef("bucket", key, "ver+sion"), 9)


Heard = tuple[str, dict[str, str], bytes]


def heard(call: Callable[[S3Store, str], object], key: str, lean: bool) -> Heard:
    """Request line, headers and (where nothing waits for "100 Continue") body of one call."""
    return all_heard(call, [key], lean)[0]


def all_heard(call: Callable[[S3Store, str], object], keys: Iterable[str], lean: bool) -> list[Heard]:
    """The same for many keys, with one client."""
    sent: list[bytes] = []

    def script(sock: socket.socket, stop: threading.Event) -> None:
        sent.append(read_whole(sock))
        sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.recv(65536)

    with scripted(script) as address:
        secrets = Credentials(access_key="AKIA", secret_key="secret", session_token="to+ken=")
        config = EngineConfig(
            endpoint=f"http://localhost:{address.partition(':')[2]}", region="eu-central-1", credentials=secrets,
            expected_bucket_owner="123456789012", request_payer="requester", force_path_style=True, lean=lean,
        )  # fmt: skip
        store = S3Store(prepare_client(make_client(config), config), config)
        for key in keys:
            with pytest.raises(AccessDenied):
                call(store, key)
    return [_understood(raw, with_body=call not in (_put, _part)) for raw in sent]


def _understood(request: bytes, *, with_body: bool) -> Heard:
    head, _, body = request.partition(b"\r\n\r\n")
    raw, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = raw.split(" ")
    path, _, query = target.partition("?")
    # The order of the query is no part of the signature.
    line = f"{method} {path}?{'&'.join(sorted(query.split('&')))}"
    headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in rest)}
    kept = {name: value for name, value in headers.items() if name not in OWN and name != "host"}
    return line, kept, body if with_body else b""


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("call", [_put, _part, _head, _head_part])
def test_the_request_is_botocore_s(call: Callable[[S3Store, str], object], key: str) -> None:
    """The same line and the same headers for any key, with every option."""
    ours, theirs = (heard(call, key, lean) for lean in (True, False))
    assert ours == theirs
    assert ours[1]["x-amz-expected-bucket-owner"] == "123456789012"
    assert ours[1]["x-amz-request-payer"] == "requester"
    assert ours[1]["x-amz-security-token"] == "to+ken="


STYLES: list[dict[str, Any]] = [
    {"config": Config(s3={"addressing_style": "path"})},
    {"config": Config(s3={"addressing_style": "virtual"})},
    {"config": Config(s3={"use_accelerate_endpoint": True})},
    {"config": Config(use_dualstack_endpoint=True, use_fips_endpoint=True)},
    {"endpoint_url": "https://store.example:8443/base/path/"},
    {"endpoint_url": "http://[::1]:9000"},
]
NAMES = ["bucket", "bucket.with.dots", "arn:aws:s3:eu-central-1:123456789012:accesspoint/point"]


def _client(**settings: Any) -> Any:
    wanted = {"aws_access_key_id": "A", "aws_secret_access_key": "S", "region_name": "eu-central-1", **settings}
    return boto3.client("s3", **wanted)


@pytest.mark.parametrize("bucket", NAMES)
@pytest.mark.parametrize("style", STYLES)
def test_the_place_is_botocore_s(style: dict[str, Any], bucket: str) -> None:
    """Path style, virtual hosts, dualstack, FIPS, acceleration, access points, endpoints with ports and paths."""
    client, sent = _client(**style), list[Any]()

    def look(request: Any, **_: Any) -> None:
        sent.append(request)
        raise KeyboardInterrupt

    client.meta.events.register("before-send.s3.HeadObject", look)
    try:
        client.head_object(Bucket=bucket, Key="a/key")
    except KeyboardInterrupt:
        target = lean_module._resolved(client, bucket)
        assert target is not None
        assert sent[0].url == target.base + "a/key"
        assert f"/{target.region}/s3/aws4_request" in sent[0].headers["Authorization"].decode()
    except Exception as refused:  # a combination that botocore refuses is refused alike
        with pytest.raises(type(refused)):
            lean_module._resolved(client, bucket)


@pytest.mark.parametrize(
    ("bucket", "settings"),
    [
        ("bucket--euc1-az1--x-s3", {}),
        ("bucket", {"config": Config(signature_version=botocore.UNSIGNED)}),
        ("bucket", {"config": Config(signature_version="s3")}),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", {}),
    ],
)
def test_other_signatures_are_botocore_s_business(bucket: str, settings: dict[str, Any]) -> None:
    """Directory buckets, anonymous and old signatures, multi-region access points."""
    try:
        found = lean_module._resolved(_client(**settings), bucket)
    except MissingDependencyException:
        # SigV4A needs awscrt; botocore says so on both paths.
        found = None
    assert found is None


def _lean(client: Any) -> LeanCalls:
    config = EngineConfig(endpoint="http://127.0.0.1:9", region="eu-central-1")
    prepared: Any = prepare_client(client, config)
    return LeanCalls(prepared, prepared._endpoint.http_session)


PLAIN: dict[str, Any] = {"Bucket": "bucket", "Key": "key"}


@pytest.mark.parametrize(
    "more",
    [
        {"SSECustomerKey": "k", "SSECustomerAlgorithm": "AES256"},
        {"Expires": object()},
        {"NotAParameter": "x"},
        {"ContentType": "text/plain\r\nx-amz-acl: public-read"},
        {"Metadata": {"name": "ünï"}},
        {"ContentType": ""},
        {"Body": b"bytes of somebody else"},
    ],
)
def test_what_is_not_plain_is_left_to_botocore(more: dict[str, Any]) -> None:
    """Nothing is sent and nothing is decided here."""
    assert _lean(_client(endpoint_url="http://127.0.0.1:9")).answer("PutObject", {**PLAIN, **more}) is None


def test_other_operations_are_left_to_botocore() -> None:
    assert _lean(_client(endpoint_url="http://127.0.0.1:9")).answer("ListParts", PLAIN) is None


@pytest.mark.parametrize(
    "event", ["before-send.s3.HeadObject", "before-sign.s3", "request-created", "before-call.s3.*", "needs-retry.s3"]
)
def test_a_user_s_handler_is_called(event: str) -> None:
    """Somebody's own event handler switches the lean path off for the operations that it sees."""
    client = _client(endpoint_url="http://127.0.0.1:9")
    client.meta.events.register(event, lambda **_: None)
    assert _lean(client).answer("HeadObject", PLAIN) is None


@contextmanager
def _model(tls: bool, *credentials: ModelCredentials) -> Iterator[ModelServer]:
    with ModelServer(
        profile=ServerProfile(min_part_size=KIB), tls=tls, credentials=credentials or (ModelCredentials(),)
    ) as server:
        server.create_bucket("bucket", versioning="Enabled")
        yield server


def _engine_config(server: ModelServer, **settings: Any) -> EngineConfig:
    keys = Credentials(access_key=server.access_key, secret_key=server.secret_key)
    return EngineConfig(
        endpoint=server.endpoint_url, region=server.region, credentials=keys, verify=server.ca_file,
        force_path_style=True, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("tls", [True, False])
def test_signed_and_unsigned_over_both(tls: bool, signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strict server verifies every signature and checksum; botocore's own calls are never made."""
    with _model(tls) as server:
        config = _engine_config(server)
        base = Config(s3={"payload_signing_enabled": signed, "addressing_style": "path"})
        client = boto3.client(
            "s3", endpoint_url=server.endpoint_url, region_name=server.region, verify=server.ca_file,
            aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
            config=client_config(config, base, https=tls),
        )  # fmt: skip
        store = S3Store(prepare_client(client, config), config)
        for name in ("put_object", "head_object", "upload_part"):
            monkeypatch.setattr(client, name, lambda **_: pytest.fail("botocore was asked"))
        for key in ODD_KEYS:
            ref = ObjectRef("bucket", key)
            store.put(ref, BytesBody(DATA), DIGESTS, ObjectAttributes(metadata=(("a", "b"),)), if_none_match=True)
            info = store.head(ref)
            assert (info.size, info.metadata_value("a"), info.storage_class) == (len(DATA), "b", None)
            assert info.checksum is not None
            assert info.last_modified is not None
        upload = store.create(ref, ObjectAttributes(), checksums=True).upload_id
        large = b"l" * 100_000
        digests = PartDigests(crc32=crc32(large))
        assert store.upload_part(ref, upload, Part(1, 0, len(large)), BytesBody(large), digests).echoed
        with pytest.raises(NotFound) as caught:
            store.head(ObjectRef("bucket", "nothing"))
        assert (caught.value.context.status, bool(caught.value.context.request_id)) == (404, True)


def _plain_put(store: S3Store) -> None:
    store.put(ObjectRef("bucket", "key"), BytesBody(DATA), DIGESTS, ObjectAttributes(), if_none_match=False)


AGAIN: list[Callable[[S3Store], object]] = [
    _plain_put,
    lambda store: store.head(ObjectRef("bucket", "key")),
    lambda store: store.copy(ObjectRef("bucket", "copy"), CopyRequest(source=ObjectRef("bucket", "key"))),
    lambda store: store.get_tags(ObjectRef("bucket", "key")),
    lambda store: store.put_tags(ObjectRef("bucket", "key"), (("a", "b"),)),
    lambda store: store.delete_many("bucket", [("key", None)]),
    lambda store: store.list_objects(ListRequest(where=KeyPrefix("bucket", ""))),
    lambda store: store.list_versions(VersionsRequest(where=KeyPrefix("bucket", ""))),
]


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("lean", [True, False])
def test_credentials_are_refreshed_between_requests(again: Callable[[S3Store], object], lean: bool) -> None:
    """Each request asks for the keys as they are now: a session that ends in the middle costs nothing."""
    first = ModelCredentials("first", "one", "token-1")
    second = ModelCredentials("second", "two", "token-2")
    with _model(False, first, second) as server:
        session: Any = get_session()
        made: Any = RefreshableCredentials.create_from_metadata(
            {"access_key": "first", "secret_key": "one", "token": "token-1", "expiry_time": "2099-01-01T00:00:00Z"},
            refresh_using=lambda: {
                "access_key": "second", "secret_key": "two", "token": "token-2", "expiry_time": "2099-01-01T00:00:00Z"
            },
            method="test",
        )  # fmt: skip
        session._credentials = made
        config = _engine_config(server, lean=lean)
        client: Any = session.create_client(
            "s3", endpoint_url=server.endpoint_url, region_name=server.region,
            config=client_config(config, Config(s3={"addressing_style": "path"}), https=False),
        )  # fmt: skip
        store = S3Store(prepare_client(client, config), config)
        _plain_put(store)
        server.expire_credentials("first")
        again(store)
        assert made.get_frozen_credentials().access_key == "second"
        _plain_put(store)
        written = [item for item in server.versions("bucket", "key") if not item.delete_marker]
        assert len(written) == (3 if again is _plain_put else 2)


FAKE_CRT = """
import sys, types
import botocore.auth
class Slow:
    def __init__(self, *args, **kwargs): raise AssertionError("awscrt was asked to sign")
# What botocore does where awscrt is installed: its own signers are replaced in the table.
for name in ("v4", "s3v4", "v4-query", "s3v4-query"):
    botocore.auth.AUTH_TYPE_MAPS[name] = Slow
from tests.scenario.test_lean_path import everything
for lean in (True, False):
    for tls in (True, False):
        everything(lean, tls)
print("done")
"""


def everything(lean: bool, tls: bool) -> None:
    """One of each request, on one path."""
    with _model(tls) as server:
        config = _engine_config(server, lean=lean)
        store = S3Store(prepare_client(make_client(config), config), config)
        _plain_put(store)
        store.head(ObjectRef("bucket", "key"))
        upload = store.create(ObjectRef("bucket", "key"), ObjectAttributes(), checksums=True).upload_id
        store.upload_part(ObjectRef("bucket", "key"), upload, Part(1, 0, len(DATA)), BytesBody(DATA), DIGESTS)
        assert store.list_parts(ObjectRef("bucket", "key"), upload).parts
        store.abort(ObjectRef("bucket", "key"), upload)


def test_awscrt_never_signs_for_us() -> None:
    """Installed or not: neither path uses its signers, signed (http) and unsigned (https)."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FAKE_CRT], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "done", done.stderr


def test_a_request_body_is_hashed_as_it_is_sent() -> None:
    """The signature's hash covers all bytes whatever was read before."""
    body = RequestBody(BytesBody(DATA * 200), 1.0)
    body.read(10)
    assert b"".join(body.hashed_blocks()) == DATA * 200
