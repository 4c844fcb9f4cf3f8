"""The wire: botocore's own connection, but with bodies sent in big blocks and a limit on every single wait.

http.client reads a file-like body in 16 KiB pieces and hands each to ``sendall``, whose time limit covers the whole
piece. Here a block of up to 1 MiB goes to ``send`` in a loop, and the limit covers the time in which *no byte* moves:
a slow line is fine, a dead one is given up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.response import HTTPResponse

from orbit_airflow.engine.store import Body
from orbit_airflow.engine.stores.watchdog import Watch, Watchdog

if TYPE_CHECKING:
    from botocore.client import BaseClient

# Bytes per second that a store is expected to work off at least, once it has them.
SLOWEST_STORE = 20_000_000
# Small enough to stay in the processor's cache between the copy and the hash.
HASH_BLOCK = 256 * 1024
# Bodies up to this size leave together with their head, unless they wait for "100 Continue".
JOINED = 64 * 1024
# Where the watchdog sees the bytes, a socket's own time limit is this many times the watched one.
BACKSTOP = 10
# Linux alone has it.
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


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

    def hashed_blocks(self) -> Iterator[bytes]:
        """All bytes for a signature: they are read, but do not count as sent."""
        for start in range(0, self._body.size, HASH_BLOCK):
            yield self._body.read_at(start, HASH_BLOCK)


def answer_limit(stall_timeout: float, size: int) -> float:
    """Seconds to wait for the answer to a body: behind its last byte a store still writes and hashes."""
    return stall_timeout + size / SLOWEST_STORE


def _send_blocks(connection: Any, body: RequestBody) -> None:
    """All of the body to the connection's socket; TimeoutError when too little leaves for the stall time.

    The watch rests while the next block is made: a slow disk or a bandwidth limit is no fault of the line.
    """
    sock, watch = connection.sock, connection.watch
    seen = watch is not None and watch.sees()
    sock.settimeout(body.stall_timeout * (BACKSTOP if seen else 1))
    for block in body.blocks():
        phase = watch.arm(body.stall_timeout) if watch is not None else 0
        sent = 0
        while sent < len(block):
            sent += sock.send(block[sent:])
        if watch is not None:
            watch.disarm(phase)


def _request(connection: Any, plain: Callable[..., object], body: object, arguments: dict[str, Any]) -> None:
    """``plain(**arguments)`` with the headers, then the body our way, unless the store has answered already."""
    watch = connection.watch
    if watch is None:
        _send(connection, plain, body, arguments)
        return
    watch.cut = None
    phase = watch.arm()
    try:
        _send(connection, plain, body, arguments)
    except OSError:
        watch.raise_if_cut()
        raise
    finally:
        watch.disarm(phase if not isinstance(body, RequestBody) else watch.phase)


def _send(connection: Any, plain: Callable[..., object], body: object, arguments: dict[str, Any]) -> None:
    if not isinstance(body, RequestBody):
        plain(body=body, **arguments)
        return
    expects = (arguments["headers"] or {}).get("Expect") == b"100-continue"
    if len(body) <= JOINED and not expects:
        _send_joined(connection, plain, body, arguments)
        return
    plain(body=None, **arguments)
    if not connection._response_received:
        _send_blocks(connection, body)


def _send_joined(connection: Any, plain: Callable[..., object], body: RequestBody, arguments: dict[str, Any]) -> None:
    """Head and a small body in one piece: one system call and one packet less."""
    connection.held = []
    try:
        plain(body=None, **arguments)
    finally:
        held, connection.held = connection.held, None
    if connection.sock is None:
        connection.connect()
    data = b"".join([*held, *body.blocks()])
    connection.sock.settimeout(body.stall_timeout)
    connection.sock.sendall(data)


def _response(connection: Any, plain: Callable[[], HTTPResponse]) -> HTTPResponse:
    """``plain()``, the wait for the answer's head, under the watch. The socket's own limit (which asks for one byte at
    a time, and knows nothing of a send buffer that is still being emptied) is a backstop then.
    """
    _acknowledge_at_once(connection.sock)
    watch = connection.watch
    if watch is None or connection.timeout is None or not watch.sees():
        return plain()
    limit = connection.timeout
    connection.timeout = limit * BACKSTOP
    phase = watch.arm(limit)
    try:
        answer = plain()
    except Exception:
        watch.raise_if_cut()
        raise
    finally:
        watch.disarm(phase)
    watch.raise_if_cut()
    return answer


def _acknowledge_at_once(sock: Any) -> None:
    """A store that sends an answer's head and body apart, and with the body waits for the head's acknowledgement
    (Nagle's rule; Ceph does), waits 40 ms for a kernel that delays it. The kernel forgets the wish: each answer asks.
    """
    if _QUICK_ACK is not None and sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


class OrbitHTTPConnection(AWSHTTPConnection):
    """botocore's connection over plain HTTP with our sending, watched."""

    watch: Watch | None = None
    held: list[bytes] | None = None

    def send(self, data: Any) -> None:
        """As http.client calls it; a head may be held back for its body."""
        if self.held is not None:
            self.held.append(data)
        else:
            super().send(data)

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

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # botocore's stubs have the standard library's
        """As urllib3 calls it."""
        return _response(self, super().getresponse)


class OrbitHTTPSConnection(AWSHTTPSConnection):
    """botocore's connection over TLS with our sending, watched."""

    watch: Watch | None = None
    held: list[bytes] | None = None

    def send(self, data: Any) -> None:
        """As http.client calls it; a head may be held back for its body."""
        if self.held is not None:
            self.held.append(data)
        else:
            super().send(data)

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

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # botocore's stubs have the standard library's
        """As urllib3 calls it."""
        return _response(self, super().getresponse)


class OrbitHTTPConnectionPool(AWSHTTPConnectionPool):
    """A pool of our connections."""

    ConnectionCls = OrbitHTTPConnection
    watchdog: Watchdog | None = None

    def _new_conn(self) -> Any:
        return _watched(super()._new_conn(), self.watchdog)


class OrbitHTTPSConnectionPool(AWSHTTPSConnectionPool):
    """A pool of our TLS connections."""

    ConnectionCls = OrbitHTTPSConnection
    watchdog: Watchdog | None = None

    def _new_conn(self) -> Any:
        return _watched(super()._new_conn(), self.watchdog)


def _watched(connection: Any, watchdog: Watchdog | None) -> Any:
    if watchdog is not None:
        connection.watch = watchdog.watch(connection)
    return connection


def install(client: BaseClient, watchdog: Watchdog | None = None) -> None:
    """Give this one client our connections; every other client of the process keeps botocore's.

    The attributes are botocore's own and not public: a test holds them in place for the pinned version, and without
    them the client works as it came, only slower.
    """
    session = client._endpoint.http_session  # type: ignore[attr-defined]
    kinds = {"http": OrbitHTTPConnectionPool, "https": OrbitHTTPSConnectionPool}
    pools = {scheme: type(kind.__name__, (kind,), {"watchdog": watchdog}) for scheme, kind in kinds.items()}
    session._pool_classes_by_scheme = pools
    session._manager.pool_classes_by_scheme = pools
