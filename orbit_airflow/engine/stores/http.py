"""The wire: botocore's own connection, but with bodies sent in big blocks and a limit on every single wait.

http.client reads a file-like body in 16 KiB pieces and hands each to ``sendall``, whose time limit covers the whole
piece. Here a block of up to 1 MiB goes to ``send`` in a loop, and the limit covers the time in which *no byte* moves:
a slow line is fine, a dead one is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from orbit_airflow.engine.store import Body

if TYPE_CHECKING:
    from botocore.client import BaseClient


class RequestBody:
    """A ``Body`` as botocore wants one: file-like for the signer (``read``), in blocks for our connection."""

    def __init__(self, body: Body, stall_timeout: float) -> None:
        self._body = body
        self._position = 0
        self.stall_timeout = stall_timeout

    def __len__(self) -> int:
        return self._body.size

    def read(self, size: int | None = None) -> bytes:
        """Never more than ``size`` bytes, and b"" at the end."""
        wanted = self._body.size if size is None or size < 0 else size
        data = self._body.read_at(self._position, wanted)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file opened for reading."""
        base = (0, self._position, self._body.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The position of ``read``."""
        return self._position

    def blocks(self) -> Iterator[memoryview]:
        """All bytes, from the first one."""
        return self._body.blocks()


def _send_blocks(connection: Any, body: RequestBody) -> None:
    """All of the body to the connection's socket; TimeoutError when no byte leaves for the stall time."""
    sock = connection.sock
    sock.settimeout(body.stall_timeout)
    for block in body.blocks():
        sent = 0
        while sent < len(block):
            sent += sock.send(block[sent:])


def _request(connection: Any, plain: Callable[..., object], body: object, arguments: dict[str, Any]) -> None:
    """``plain(**arguments)`` with the headers, then the body our way, unless the store has answered already."""
    if not isinstance(body, RequestBody):
        plain(body=body, **arguments)
        return
    plain(body=None, **arguments)
    if not connection._response_received:
        _send_blocks(connection, body)


class OrbitHTTPConnection(AWSHTTPConnection):
    """botocore's connection over plain HTTP with our sending."""

    def request(  # type: ignore[override]  # urllib3's signature, which botocore's hides
        self,
        method: str,
        url: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
        preload_content: bool = True,
        decode_content: bool = True,
        enforce_content_length: bool = True,
    ) -> None:
        """As urllib3 calls it."""
        arguments = {"method": method, "url": url, "headers": headers, "chunked": chunked}
        arguments |= {"preload_content": preload_content, "decode_content": decode_content}
        arguments["enforce_content_length"] = enforce_content_length
        _request(self, super().request, body, arguments)


class OrbitHTTPSConnection(AWSHTTPSConnection):
    """botocore's connection over TLS with our sending."""

    def request(  # type: ignore[override]  # urllib3's signature, which botocore's hides
        self,
        method: str,
        url: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
        preload_content: bool = True,
        decode_content: bool = True,
        enforce_content_length: bool = True,
    ) -> None:
        """As urllib3 calls it."""
        arguments = {"method": method, "url": url, "headers": headers, "chunked": chunked}
        arguments |= {"preload_content": preload_content, "decode_content": decode_content}
        arguments["enforce_content_length"] = enforce_content_length
        _request(self, super().request, body, arguments)


class OrbitHTTPConnectionPool(AWSHTTPConnectionPool):
    """A pool of our connections."""

    ConnectionCls = OrbitHTTPConnection


class OrbitHTTPSConnectionPool(AWSHTTPSConnectionPool):
    """A pool of our TLS connections."""

    ConnectionCls = OrbitHTTPSConnection


def install(client: BaseClient) -> None:
    """Give this one client our connections; every other client of the process keeps botocore's.

    The attributes are botocore's own and not public: a test holds them in place for the pinned version, and without
    them the client works as it came, only slower.
    """
    session = client._endpoint.http_session  # type: ignore[attr-defined]
    pools = {"http": OrbitHTTPConnectionPool, "https": OrbitHTTPSConnectionPool}
    session._pool_classes_by_scheme = pools
    session._manager.pool_classes_by_scheme = pools
