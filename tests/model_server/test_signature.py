"""Who may speak, and what a signature covers."""

import dataclasses
import socket
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import Credentials, ModelServer, raw
from tests.model_server.conftest import MakeServer, client_of

BODY = b"bytes of the body"


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.parametrize("signed", [None, True, False])
@pytest.mark.parametrize("tls", [False, True])
def test_every_payload_mode_of_boto3_round_trips(make_server: MakeServer, tls: bool, signed: bool | None) -> None:
    """Signed, unsigned and trailer payloads arrive whole, with and without TLS, under a hostile key."""
    server = make_server(tls=tls)
    key = "a b+c/ü~(1)//.x%2F&?=*'"
    client_of(server, signed=signed).put_object(Bucket="plain", Key=key, Body=BODY)
    assert server.versions("plain", key)[0].read() == BODY
    assert client_of(server, signed=signed).get_object(Bucket="plain", Key=key)["Body"].read() == BODY


@pytest.mark.parametrize(
    ("change", "code"),
    [({"secret_key": "wrong"}, "SignatureDoesNotMatch"), ({"access_key": "nobody"}, "InvalidAccessKeyId")],
)
def test_wrong_keys_are_refused(server: ModelServer, change: dict[str, str], code: str) -> None:
    """A wrong secret and an unknown access key are told apart."""
    with pytest.raises(ClientError) as caught:
        client_of(server, dataclasses.replace(Credentials(), **change)).list_buckets()
    assert code_of(caught) == code


def test_anonymous_is_refused(server: ModelServer) -> None:
    """A request without Authorization is AccessDenied."""
    with raw.connect(server) as sock:
        sock.sendall(b"GET /plain?list-type=2 HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, body = raw.read_answer(sock)
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body


def test_skew_is_refused(make_server: MakeServer) -> None:
    """More than 15 minutes between the clocks is RequestTimeTooSkewed, and the answer's Date is the server's."""
    server = make_server()
    server.clock_offset = 16 * 60
    with pytest.raises(ClientError) as caught:
        client_of(server).list_buckets()
    assert code_of(caught) == "RequestTimeTooSkewed"


def test_unsigned_amz_header_is_refused(server: ModelServer) -> None:
    """A header x-amz-* that the signature does not cover is AccessDenied."""
    head = raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": "0"})
    with raw.connect(server) as sock:
        sock.sendall(head[:-2] + b"x-amz-meta-added: later\r\n\r\n")
        status, _, body = raw.read_answer(sock)
    assert (status, b"HeadersNotSigned" in body) == (403, True)


def test_changed_signed_header_is_refused(server: ModelServer) -> None:
    """A signed header with another value breaks the signature."""
    head = raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": "0", "x-amz-meta-a": "one"})
    with raw.connect(server) as sock:
        sock.sendall(head.replace(b"x-amz-meta-a: one", b"x-amz-meta-a: two"))
        assert b"SignatureDoesNotMatch" in raw.read_answer(sock)[2]


def test_body_that_is_not_the_signed_one_is_refused(server: ModelServer) -> None:
    """A hex payload hash is compared with the received body, and nothing is stored."""
    headers = {"x-amz-content-sha256": raw.sha256_hex(b"another body")}
    status, _, body = raw.send(server, "PUT", "/plain/k", headers, BODY)
    assert (status, b"XAmzContentSHA256Mismatch" in body) == (400, True)
    assert server.versions("plain", "k") == []


def test_session_token_must_match(make_server: MakeServer) -> None:
    """Temporary credentials need their token; once expired they get ExpiredToken."""
    good = Credentials(session_token="token")
    server = make_server(credentials=(good,))
    client_of(server, good).list_buckets()
    with pytest.raises(ClientError) as caught:
        client_of(server, Credentials(session_token="other")).list_buckets()
    assert code_of(caught) == "InvalidToken"
    server.expire_credentials(good.access_key)
    with pytest.raises(ClientError) as caught:
        client_of(server, good).list_buckets()
    assert code_of(caught) == "ExpiredToken"


def test_initiator_is_the_identity_that_created(make_server: MakeServer) -> None:
    """Two key pairs with two identities are told apart by Initiator."""
    other = Credentials("second-key", "second-secret", canonical_id="beef" * 16, display_name="second")
    server = make_server(credentials=(Credentials(), other))
    client_of(server).create_multipart_upload(Bucket="plain", Key="a")
    client_of(server, other).create_multipart_upload(Bucket="plain", Key="b")
    found = client_of(server).list_multipart_uploads(Bucket="plain")["Uploads"]
    assert [item["Initiator"]["ID"] for item in found] == [Credentials().canonical_id, other.canonical_id]


def test_wrong_region_is_named(server: ModelServer) -> None:
    """A signature for another region is told the right one."""
    headers = raw.signed_headers(server, "GET", "/", {})
    headers["Authorization"] = headers["Authorization"].replace("us-east-1", "eu-west-9")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with raw.connect(server) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{lines}\r\n".encode())
        assert b"<Region>us-east-1</Region>" in raw.read_answer(sock)[2]


def test_refusal_comes_before_the_body(server: ModelServer) -> None:
    """With Expect: 100-continue a refused upload costs no body byte."""
    path = "/plain/k?partNumber=1&uploadId=unknown"
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "PUT", path, {"Content-Length": "1000000", "Expect": "100-continue"}))
        status, _, body = raw.read_answer(sock)
    assert (status, b"NoSuchUpload" in body) == (404, True)
    assert server.bytes_received() == 0


def test_expect_is_answered_when_the_body_is_wanted(server: ModelServer) -> None:
    """100 Continue comes before the body, and the connection serves the next request."""
    with raw.connect(server) as sock:
        for _ in range(2):
            sock.sendall(raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": "4", "Expect": "100-continue"}))
            assert sock.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"body")
            assert raw.read_answer(sock)[0] == 200


def test_unknown_things_are_not_implemented(server: ModelServer, s3: Any) -> None:
    """An operation, a parameter or an x-amz header that is not modelled is 501, never ignored."""
    assert raw.send(server, "GET", "/plain?policy=", {})[0] == 501
    assert raw.send(server, "GET", "/plain/k?response-expires=1", {})[0] == 501
    assert raw.send(server, "PUT", "/plain/k", {"x-amz-grant-read": "id=x"})[0] == 501
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_policy(Bucket="plain")
    assert code_of(caught) == "NotImplemented"


def test_cut_body_is_counted_and_not_stored(server: ModelServer) -> None:
    """A client that dies in the middle leaves its bytes in the log and nothing in the bucket."""
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": "10000"}) + b"x" * 4000)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    (record,) = server.records("PutObject")
    assert (record.bytes_received, record.bytes_expected, record.status) == (4000, 10000, None)
    assert server.versions("plain", "k") == []
