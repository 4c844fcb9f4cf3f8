"""Signed S3 requests with the standard library alone, to ask a server whether it works."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tests.servers.errors import ServerError
from tests.servers.record import RunningServer

_SIGNED = "host;x-amz-content-sha256;x-amz-date"
_OK = 200
_NO_CONTENT = 204


def signed_headers(
    server: RunningServer, method: str, host: str, path: str, body: bytes, *, now: datetime
) -> dict[str, str]:
    """Return the Signature Version 4 headers of a request that has no query."""
    digest = hashlib.sha256(body).hexdigest()
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{server.region}/s3/aws4_request"
    lines = (method, path, "", f"host:{host}", f"x-amz-content-sha256:{digest}")
    canonical = "\n".join((*lines, f"x-amz-date:{stamp}", "", _SIGNED, digest))
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{server.secret_key}".encode()
    for word in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    credential = f"Credential={server.access_key}/{scope}"
    return {
        "Host": host,
        "X-Amz-Content-SHA256": digest,
        "X-Amz-Date": stamp,
        "Authorization": (f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={_SIGNED}, Signature={key.hex()}"),
    }


def request(
    server: RunningServer,
    method: str,
    path: str,
    *,
    endpoint: str | None = None,
    body: bytes = b"",
    timeout: float = 10.0,
) -> int:
    """Send one signed request and return its status.

    Raises OSError or http.client.HTTPException when there is no answer.
    """
    address = urlsplit(endpoint or server.http)
    headers = signed_headers(server, method, address.netloc, path, body, now=datetime.now(UTC))
    connection = _connect(server, address.scheme, address.netloc, timeout)
    try:
        connection.request(method, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def answers(server: RunningServer, *, timeout: float = 10.0) -> bool:
    """Say whether every endpoint lists the buckets for the server's own credentials."""
    try:
        statuses = [request(server, "GET", "/", endpoint=endpoint, timeout=timeout) for endpoint in server.endpoints]
    except (OSError, http.client.HTTPException):
        return False
    return all(status == _OK for status in statuses)


def write_and_delete(server: RunningServer, *, timeout: float = 60.0) -> None:
    """Make a bucket and an object and delete both: a new cluster's slow first write is done.

    Raises ServerError when one of the answers is an error.
    """
    bucket = "/servers-readiness-check"
    steps = (
        ("PUT", bucket, b"", _OK),
        ("PUT", f"{bucket}/object", b"ready", _OK),
        ("DELETE", f"{bucket}/object", b"", _NO_CONTENT),
        ("DELETE", bucket, b"", _NO_CONTENT),
    )
    for method, path, body, wanted in steps:
        status = request(server, method, path, body=body, timeout=timeout)
        if status != wanted:
            message = f"{server.name}: {method} {path} answered {status}, not {wanted}"
            raise ServerError(message)


def _connect(server: RunningServer, scheme: str, host: str, timeout: float) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, timeout=timeout)
    context = ssl.create_default_context(cafile=server.ca_file)
    return http.client.HTTPSConnection(host, timeout=timeout, context=context)
