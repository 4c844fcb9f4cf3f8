"""A client without any mercy: signed heads on a bare socket."""

import hashlib
import http.client
import io
import socket
import time
from collections.abc import Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys

from tests.model_server import ModelServer

UNSIGNED = "UNSIGNED-PAYLOAD"


def signed_headers(server: ModelServer, method: str, path: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with a right signature; x-amz-content-sha256 defaults to UNSIGNED-PAYLOAD."""
    request = AWSRequest(
        method=method, url=server.endpoint_url + path, headers={"x-amz-content-sha256": UNSIGNED, **headers}
    )
    request.context["payload_signing_enabled"] = False
    signer = _FixedPayload(Keys(server.access_key, server.secret_key), "s3", server.region)
    signer.add_auth(request)
    return dict(request.headers.items())


class _FixedPayload(S3SigV4Auth):
    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["x-amz-content-sha256"])

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        declared = request.headers["x-amz-content-sha256"]
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # not in the stubs
        request.headers.replace_header("x-amz-content-sha256", declared)


def connect(server: ModelServer) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def head_bytes(server: ModelServer, method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """A signed request head, ready to send."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    lines += [f"{name}: {value}" for name, value in signed_headers(server, method, path, headers).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def send(
    server: ModelServer, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """One signed request with exactly these headers: status, headers, body of the answer."""
    with connect(server) as sock:
        head = head_bytes(server, method, path, {"Content-Length": str(len(body)), **headers})
        sock.sendall(head + body)
        return read_answer(sock)


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer on a connection."""
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def sha256_hex(body: bytes) -> str:
    """The payload hash of a body."""
    return hashlib.sha256(body).hexdigest()


def amz_time(offset: float) -> str:
    """An x-amz-date that far from now."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + offset))


def chunked(body: bytes, trailer: str, size: int = 1000) -> bytes:
    """A body in aws-chunked framing with a trailer line."""
    out = io.BytesIO()
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        out.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    out.write(b"0\r\n" + trailer.encode() + b"\r\n\r\n")
    return out.getvalue()
