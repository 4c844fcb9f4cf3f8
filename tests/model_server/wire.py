"""HTTP/1.1 on a socket: reading heads and bodies, writing answers."""

import socket
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tests.model_server.errors import ConnectionCut, S3Error

MAX_HEAD = 64 * 1024
_READ_AHEAD = 64 * 1024


class ByteSource(Protocol):
    """Gives bytes in order; 0 means the end."""

    def read_into(self, view: memoryview) -> int: ...


class SocketSource:
    """The bytes of a socket; a broken connection is a cut."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read_into(self, view: memoryview) -> int:
        try:
            return self._sock.recv_into(view)
        except OSError as exc:
            raise ConnectionCut(str(exc)) from exc


class LineReader:
    """Lines and blocks from one source; blocks bypass the buffer once it is empty."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._scratch = memoryview(bytearray(_READ_AHEAD))
        self._buffer = b""

    def read_into(self, view: memoryview) -> int:
        if not self._buffer:
            return self._source.read_into(view)
        count = min(len(view), len(self._buffer))
        view[:count] = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return count

    def read_until(self, mark: bytes, limit: int = MAX_HEAD) -> bytes:
        """The bytes before the mark, which is consumed; b"" with no more data means the end."""
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > limit:
                raise S3Error("InvalidRequest", "A line or head of the request is too long.")
            count = self._source.read_into(self._scratch)
            if count == 0:
                if self._buffer:
                    raise ConnectionCut("end of stream inside a head")
                return b""
            self._buffer += bytes(self._scratch[:count])
        found, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        return found


class FixedBody:
    """Exactly `length` bytes; an earlier end is a cut."""

    def __init__(self, source: ByteSource, length: int) -> None:
        self._source = source
        self._left = length

    def read_into(self, view: memoryview) -> int:
        if self._left == 0:
            return 0
        count = self._source.read_into(view[: self._left])
        if count == 0:
            raise ConnectionCut(f"{self._left} body bytes never came")
        self._left -= count
        return count


class ChunkedBody:
    """The payload of a chunked body, HTTP's own or aws-chunked: both frame alike. Trailers are kept."""

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self._left = 0
        self._first = True
        self._ended = False
        self.trailers: dict[str, str] = {}

    def read_into(self, view: memoryview) -> int:
        if self._left == 0 and not self._ended:
            self._next_chunk()
        if self._ended:
            return 0
        count = self._lines.read_into(view[: self._left])
        if count == 0:
            raise ConnectionCut("end of stream inside a chunk")
        self._left -= count
        return count

    def _next_chunk(self) -> None:
        if not self._first and self._lines.read_until(b"\r\n") != b"":
            raise S3Error("InvalidRequest", "A chunk does not end where its size says.")
        self._first = False
        size = self._lines.read_until(b"\r\n").split(b";")[0]
        try:
            self._left = int(size, 16)
        except ValueError as exc:
            raise S3Error("InvalidRequest", "A chunk has no size.") from exc
        if self._left == 0:
            self._read_trailers()

    def _read_trailers(self) -> None:
        self._ended = True
        while line := self._lines.read_until(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers[name.strip().lower()] = value.strip()


@dataclass(frozen=True)
class RequestHead:
    """The request line and the headers, undecoded where the signature needs them undecoded."""

    method: str
    raw_path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    bucket: str = ""
    key: str = ""

    def header(self, name: str, default: str = "") -> str:
        return self.headers.get(name, default)

    def parameter(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.query if key == name), default)

    def has_parameter(self, name: str) -> bool:
        return any(key == name for key, _ in self.query)


def parse_head(raw: bytes) -> RequestHead:
    """The head of a request; raises S3Error when it is not HTTP/1.1."""
    lines = raw.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1" or not words[1].startswith("/"):
        raise S3Error("InvalidRequest", "This is not an HTTP/1.1 request line.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise S3Error("InvalidRequest", "A header line is malformed.")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    raw_path, _, raw_query = words[1].partition("?")
    bucket, _, key = _decoded(raw_path[1:]).partition("/")
    return RequestHead(words[0], raw_path, _query_pairs(raw_query), headers, bucket, key)


def _decoded(text: str) -> str:
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError as exc:
        raise S3Error("InvalidURI", "The URI is not UTF-8.") from exc


def _query_pairs(raw: str) -> tuple[tuple[str, str], ...]:
    # A '+' is a literal plus in SigV4's canonical query, so urllib's form decoding must not be used.
    pairs = [item.partition("=") for item in raw.split("&") if item]
    return tuple((_decoded(name), _decoded(value)) for name, _, value in pairs)


@dataclass
class Response:
    """An answer; the body is bytes, or a stream of known length."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Iterable[memoryview | bytes] | None = None
    stream_length: int = 0
    error_code: str = ""

    @property
    def length(self) -> int:
        return self.stream_length if self.stream is not None else len(self.body)


REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified"}


def render_head(response: Response, *, close: bool) -> bytes:
    """Status line and headers of an answer."""
    lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Answer')}"]
    headers = dict(response.headers)
    if response.status not in (204, 304) and "Transfer-Encoding" not in headers:
        headers.setdefault("Content-Length", str(response.length))
    if close:
        headers["Connection"] = "close"
    lines.extend(f"{name}: {value}" for name, value in headers.items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
