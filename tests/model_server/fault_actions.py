"""Carrying out a fault at its edge."""

import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator

from tests.model_server.errors import ConnectionCut, S3Error
from tests.model_server.exchange import Exchange, World
from tests.model_server.faults import Fault, Stage, kill_all
from tests.model_server.range_faults import claim, shorten
from tests.model_server.records import RequestRecord
from tests.model_server.state import StoredPart, StoredVersion
from tests.model_server.wire import Response
from tests.model_server.xml_text import error_document, http_time

_POLL_MS = 20


class AnswerNow(Exception):
    """Ends the work on a request with an answer that the fault made up."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"answer {response.status}")
        self.response = response


def reset_on_close(sock: socket.socket) -> None:
    """Let the next close send RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FaultRunner:
    """The faults that one request claimed, run on its connection."""

    def __init__(self, faults: list[Fault], record: RequestRecord, sock: socket.socket, world: World) -> None:
        self._faults = faults
        self._record = record
        self._sock = sock
        self._world = world

    def at(self, stage: Stage) -> list[Fault]:
        """The claimed faults of a stage."""
        return [fault for fault in self._faults if fault.edge == stage]

    def run(self, stage: Stage) -> None:
        """Run a stage's faults in the order of their rules; may raise ConnectionCut or AnswerNow."""
        for fault in self.at(stage):
            self.act(fault)

    def act(self, fault: Fault) -> None:
        """One action; what changes a request or an answer is done there and is no business of the connection."""
        self._record.fault = " ".join(filter(None, (self._record.fault, fault.label)))
        match fault.action:
            case "reset":
                reset_on_close(self._sock)
                raise ConnectionCut("reset by a fault")
            case "fin":
                self._sock.shutdown(socket.SHUT_RDWR)
                raise ConnectionCut("closed by a fault")
            case "hang" | "stop_reading":
                self._hold(fault.seconds)
                raise ConnectionCut("hung by a fault")
            case "delay":
                self._world.stop.wait(fault.seconds if fault.seconds is not None else 1.0)
            case "kill":
                kill_all(fault.victims())
            case "callback":
                if fault.callback is not None:
                    fault.callback(self._record)
            case "error" | "answer_200_error" | "answer_200_empty" | "skew" | "redirect":
                raise AnswerNow(self._made_up(fault))
            case _:
                return

    def _hold(self, seconds: float | None) -> None:
        """Keep the connection and do nothing, until the client leaves, the time is over or the server stops."""
        poller = select.poll()
        poller.register(self._sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        until = None if seconds is None else time.monotonic() + seconds
        while not self._world.stop.is_set() and (until is None or time.monotonic() < until):
            if poller.poll(_POLL_MS):
                return

    def _made_up(self, fault: Fault) -> Response:
        headers = dict(fault.headers)
        if fault.action == "answer_200_empty":
            return Response(200, headers)
        if fault.action == "skew":
            message = "The difference between the request time and the current time is too large."
            fields = {"ServerTime": http_time(self._world.store.now())}
            return error_document(S3Error("RequestTimeTooSkewed", message, headers=headers, fields=fields), "")
        if fault.action == "redirect":
            headers["Location"] = fault.location
            error = S3Error("TemporaryRedirect", status=fault.status or 307, headers=headers)
            return error_document(error, "")
        status = 200 if fault.action == "answer_200_error" else fault.status or 500
        return error_document(S3Error(fault.code, "made up by a fault", status=status, headers=headers), "")


class MidEdge:
    """The mid faults of a request, as an edge in its request body."""

    def __init__(self, runner: FaultRunner, expected: int) -> None:
        self._runner = runner
        waiting = [(int(expected * fault.at_fraction), fault) for fault in runner.at("mid")]
        self._waiting = sorted(waiting, key=lambda item: item[0])

    def left(self, done: int) -> int | None:
        """How many bytes may still come before the next fault; None when there is no more."""
        return max(0, self._waiting[0][0] - done) if self._waiting else None

    def reached(self, done: int) -> None:
        """Run the fault whose point was reached."""
        self._runner.act(self._waiting.pop(0)[1])


def cut_stream(stream: Iterable[memoryview | bytes], length: int, runner: FaultRunner) -> Iterator[memoryview | bytes]:
    """An answer's body with the mid faults of a GetObject in it."""
    edge, done = MidEdge(runner, length), 0
    for block in stream:
        view = memoryview(block)
        while (left := edge.left(done)) is not None and left <= len(view):
            yield view[:left]
            view, done = view[left:], done + left
            edge.reached(done)
        yield view
        done += len(view)


def flip_stream(stream: Iterable[memoryview | bytes], offset: int) -> Iterator[memoryview | bytes]:
    """An answer's body with one bit inverted; what is stored stays right."""
    for block in stream:
        if 0 <= offset < len(block):
            block = bytes(block[:offset]) + bytes([block[offset] ^ 1]) + bytes(block[offset + 1 :])
        offset -= len(block)
        yield block


def distort(exchange: Exchange, runner: FaultRunner, response: Response) -> None:
    """Let the faults behind the work change a successful answer and what it stored."""
    claim(exchange, response)
    for fault in runner.at("after"):
        shorten(fault, response)
        if fault.action == "empty_etag":
            _empty_etag(response)
        if fault.action == "flip" and response.stream is not None:
            offset = response.stream_length // 2 if fault.flip_offset is None else fault.flip_offset
            response.stream = flip_stream(response.stream, offset)
        elif fault.action == "flip" and exchange.touched is not None:
            _flip_stored(exchange.touched, fault, response)


def _empty_etag(response: Response) -> None:
    if "ETag" in response.headers:
        response.headers["ETag"] = ""
    start, end = response.body.find(b"<ETag>"), response.body.find(b"</ETag>")
    if start >= 0:
        response.body = response.body[: start + len(b"<ETag>")] + response.body[end:]


def _flip_stored(stored: StoredPart | StoredVersion, fault: Fault, response: Response) -> None:
    offset = stored.size // 2 if fault.flip_offset is None else fault.flip_offset
    before = stored.etag
    (stored.blob if isinstance(stored, StoredPart) else stored.content).flip(offset)
    if fault.flip_shows == "nowhere":
        return
    stored.read_again()
    if fault.flip_shows == "answer":
        response.headers = {name: value.replace(before, stored.etag) for name, value in response.headers.items()}
        response.body = response.body.replace(before.encode(), stored.etag.encode())
        for name in [name for name in response.headers if name.startswith("x-amz-checksum-")]:
            del response.headers[name]
