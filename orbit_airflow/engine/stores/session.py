"""The guard around botocore's HTTP session: where requests may go, and how much of an answer is believed.

botocore follows no ``Location`` header, but it looks for a bucket's region in answers and sends again to the endpoint
of that region. Whatever an answer says, nothing leaves for a host outside the client's own endpoint, and nothing that
was meant for https leaves over http. Answers are read with a limit, and to the length that they announced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from urllib3.exceptions import HTTPError

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.stores.clock import StoreClock
from orbit_airflow.engine.stores.straight import socket_of, straight
from orbit_airflow.engine.stores.watchdog import Watch, Watchdog

KIB = 1024
# An S3 error is some hundred bytes of XML; what comes behind this is not read, and the connection is closed.
LARGEST_ERROR = 64 * KIB
# The largest right answer is a page of 1,000 keys of 1,024 bytes, each byte percent-encoded.
LARGEST_ANSWER = 16 * 1024 * KIB
_PIECE = 64 * KIB
T = TypeVar("T", bytes, int)


class GuardedSession:
    """botocore's session behind the guard, and what the engine keeps for this client: watchdog and clock."""

    def __init__(self, inner: Any, endpoint_url: str, watchdog: Watchdog, clock: StoreClock) -> None:
        self.inner = inner
        self.watchdog = watchdog
        self.clock = clock
        self._home = urlsplit(endpoint_url)
        self._checked: frozenset[str] = frozenset()

    def send(self, request: Any) -> AWSResponse:
        """One request. ConfigError, and nothing sent, when it would leave the endpoint or TLS."""
        self._check(request.url)
        streams, request.stream_output = request.stream_output, True
        answer: AWSResponse = self.inner.send(request)
        watch = getattr(getattr(answer.raw, "connection", None), "watch", None)
        if streams and answer.status_code < 300:
            if watch is not None:
                answer.raw = WatchedStream(answer.raw, watch, request.url)
            return answer
        limit = LARGEST_ANSWER if answer.status_code < 300 else LARGEST_ERROR
        answer._content = _content(answer, watch, request, limit)  # type: ignore[attr-defined]  # not in the stubs
        return answer

    def close(self) -> None:
        """Close all connections and end the watchdog's thread."""
        self.inner.close()
        self.watchdog.close()

    def _check(self, url: str) -> None:
        base = url[: url.find("/", url.find("//") + 2)]
        if base in self._checked:
            return
        target = urlsplit(url)
        if self._home.scheme == "https" and target.scheme != "https":
            raise ConfigError(f"refused to go from https to {target.scheme}: {target.netloc}")
        if not same_store(self._home.hostname or "", target.hostname or ""):
            raise ConfigError(f"refused to leave the endpoint {self._home.netloc} for {target.netloc}")
        if len(self._checked) < 1000:
            self._checked |= {base}


def same_store(home: str, host: str) -> bool:
    """Whether ``host`` belongs to the endpoint ``home``: itself, a bucket's name before it, or, for AWS's own
    endpoints, another of the same partition (regions, dualstack, accelerate, access points).
    """
    if host == home or host.endswith(f".{home}"):
        return True
    for suffix in (".amazonaws.com", ".amazonaws.com.cn", ".api.aws"):
        if home.endswith(suffix):
            return host.endswith(suffix) or (suffix == ".amazonaws.com" and host.endswith(".api.aws"))
    return False


def _content(answer: AWSResponse, watch: Watch | None, request: Any, limit: int) -> bytes:
    announced = answer.headers.get("Content-Length", "")
    if request.method == "HEAD" or announced == "0":
        # Nothing is waited for; but only a response that was read gives its connection back in order.
        answer.raw.read()
        return b""
    stream = WatchedStream(answer.raw, watch, request.url)
    pieces: list[bytes] = []
    size = 0
    while size <= limit and (piece := stream.read(_PIECE)):
        pieces.append(piece)
        size += len(piece)
    if size > limit:
        # The rest is never read; so the connection cannot serve another request.
        answer.raw.close()
        if answer.status_code < 300:
            raise ConnectionClosedError(endpoint_url=request.url, error=f"the answer has more than {limit} bytes")
    elif announced.isdigit() and size != int(announced):
        raise ConnectionClosedError(endpoint_url=request.url, error=f"{size} of {announced} bytes came")
    return b"".join(pieces)[:limit]


class WatchedStream:
    """An answer's body whose reads the watchdog sees; between reads the reader may take its time."""

    def __init__(self, raw: Any, watch: Watch | None, url: str) -> None:
        self._raw = raw
        self._watch = watch
        self._url = url
        self._limit = watch.limit if watch is not None else None
        self._straight = straight(raw)
        if watch is not None and watch.socket is None:
            watch.lend(socket_of(raw))

    def read(self, amt: int | None = None) -> bytes:
        """As urllib3's; ReadTimeoutError when too little moved."""
        return self._watched(lambda: bytes(self._raw.read(amt)))

    def readinto(self, buffer: Any) -> int:
        """As of a raw stream, and without a copy where that can be: only the end of the body comes short."""
        body = self._straight
        if body is not None:
            return self._watched(lambda: body.read_into(memoryview(buffer)))
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def stream(self, amt: int = _PIECE) -> Any:
        """All pieces."""
        while piece := self.read(amt):
            yield piece

    def close(self) -> None:
        """Give the connection up."""
        self._raw.close()

    def release_conn(self) -> None:
        """Give the connection back."""
        self._raw.release_conn()

    @property
    def closed(self) -> bool:
        """As of the raw stream."""
        return bool(self._raw.closed)

    def _watched(self, receive: Callable[[], T]) -> T:
        watch = self._watch
        phase = watch.arm(self._limit) if watch is not None else 0
        try:
            received = receive()
        except (HTTPError, OSError) as exc:
            self._raise_if_cut(exc)
            raise ConnectionClosedError(endpoint_url=self._url, error=exc) from exc
        finally:
            if watch is not None:
                watch.disarm(phase)
        if not received:
            self._raise_if_cut()
        return received

    def _raise_if_cut(self, cause: Exception | None = None) -> None:
        if self._watch is not None and self._watch.cut is not None:
            raise ReadTimeoutError(endpoint_url=self._url, error=self._watch.cut) from cause
