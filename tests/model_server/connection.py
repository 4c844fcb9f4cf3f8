"""One client connection: requests in, answers out, faults between."""

import logging
import secrets
import socket
import ssl

from tests.model_server import control
from tests.model_server.bodies import BodyReceiver, plan_body
from tests.model_server.errors import ConnectionCut, S3Error
from tests.model_server.exchange import Exchange, World
from tests.model_server.fault_actions import AnswerNow, FaultRunner, MidEdge, cut_stream, distort
from tests.model_server.operations import name_of, operation_of
from tests.model_server.records import RequestRecord
from tests.model_server.sigv4 import authenticate
from tests.model_server.wire import (
    FixedBody,
    LineReader,
    RequestHead,
    Response,
    SocketSource,
    parse_head,
    render_head,
)
from tests.model_server.xml_text import error_document, http_time

_LOG = logging.getLogger(__name__)
_BUFFER = 1024 * 1024
_LINGER_SECONDS = 2.0


class Connection:
    """Serves the requests of one socket, one after the other, until either side closes."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        self._world = world
        self._sock = sock
        self._lines = LineReader(SocketSource(sock))
        self._buffer = memoryview(bytearray(_BUFFER))

    def serve(self) -> None:
        """Run to the end of the connection; a broken connection is an end like any other."""
        try:
            while not self._world.stop.is_set():
                raw = self._lines.read_until(b"\r\n\r\n")
                if not raw or not self._one(raw):
                    return
        except (ConnectionCut, OSError) as exc:
            _LOG.debug("connection ended: %s", exc)
        finally:
            self._sock.close()

    def _one(self, raw: bytes) -> bool:
        try:
            head = parse_head(raw)
        except S3Error as exc:
            response = error_document(exc, "")
            self._sock.sendall(render_head(response, close=True) + response.body)
            return False
        if head.raw_path.startswith(control.ROOT):
            return self._control(head)
        return Turn(self._world, self._sock, self._lines, self._buffer, head).run()

    def _control(self, head: RequestHead) -> bool:
        data, body = bytearray(), FixedBody(self._lines, int(head.header("content-length", "0")))
        while count := body.read_into(self._buffer):
            data += self._buffer[:count]
        response = control.serve(self._world, head, bytes(data))
        self._sock.sendall(render_head(response, close=False))
        for block in response.stream if response.stream is not None else (response.body,):
            self._sock.sendall(block)
        return True


class Turn:
    """One S3 request and its answer."""

    def __init__(
        self, world: World, sock: socket.socket, lines: LineReader, buffer: memoryview, head: RequestHead
    ) -> None:
        self._world = world
        self._sock = sock
        self._lines = lines
        self._buffer = buffer
        self._head = head
        self._record = world.log.add(_record_of(head, world.clock()))
        self._runner = FaultRunner(world.faults.claim(self._record), self._record, sock, world)
        self._exchange = Exchange(world, head, self._record, world.owner)
        # A request without a body leaves the connection in order whatever is answered.
        self._in_order = head.header("content-length", "0") == "0" and "transfer-encoding" not in head.headers

    def run(self) -> bool:
        """Answer the request; False when the connection must end. Raises ConnectionCut when a fault cuts it."""
        try:
            response = self._answer()
            return self._send(response)
        except AnswerNow as exc:
            raise ConnectionCut("a fault wanted to answer behind the head of an answer") from exc
        finally:
            self._release()
            self._record.finished = self._record.finished or self._world.clock()

    def _release(self) -> None:
        while self._exchange.cleanups:
            self._exchange.cleanups.pop()()

    def _answer(self) -> Response:
        response = self._worked()
        # The work is over: a hang behind it must not look like a write that is still in flight.
        self._release()
        try:
            if response.status < 300:
                distort(self._exchange, self._runner, response)
            self._runner.run("after")
        except AnswerNow as exc:
            response = exc.response
        return response

    def _worked(self) -> Response:
        try:
            self._runner.run("before")
            return self._work()
        except AnswerNow as exc:
            return exc.response
        except S3Error as exc:
            return error_document(exc, self._head.raw_path)
        except ConnectionCut:
            raise
        except Exception:
            # The client of a judge must see the judge's own defect as such, and the log must say where it is.
            _LOG.exception("the model server failed on %s %s", self._head.method, self._head.raw_path)
            return error_document(S3Error("InternalError", "The model server itself failed."), self._head.raw_path)

    def _work(self) -> Response:
        world, exchange, profile = self._world, self._exchange, self._world.profile
        exchange.identity = authenticate(
            self._head, world.keyring, world.region, world.clock(), profile.max_skew_seconds
        )
        self._record.identity = exchange.identity.canonical_id
        operation = operation_of(self._head, profile)
        plan = plan_body(self._head, operation, flexible=profile.flexible_checksums)
        self._record.bytes_expected = plan.length
        exchange.declared = plan.checksum[0] if plan.checksum else plan.trailer
        if operation.admit is not None:
            operation.admit(exchange)
        if self._head.header("expect").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        receiver = BodyReceiver(exchange, operation, plan)
        streams = operation.name == "GetObject"
        edge = MidEdge(FaultRunner([], self._record, self._sock, world) if streams else self._runner, plan.length)
        try:
            exchange.body = receiver.receive(self._lines, self._buffer, edge)
        finally:
            self._in_order = receiver.drained
        return operation.run(exchange)

    def _send(self, response: Response) -> bool:
        close = not self._in_order or self._head.header("connection").lower() == "close"
        response.headers = {
            "Server": "ModelS3",
            "Date": http_time(self._world.store.now()),
            "x-amz-request-id": f"{self._record.seq:016X}",
            "x-amz-id-2": secrets.token_hex(8),
            **response.headers,
        }
        bare = self._head.method == "HEAD" or response.status in (204, 304)
        if bare and response.stream is None:
            response.body = b""
        self._record.status = response.status
        self._record.error_code = response.error_code
        if response.stream is None or bare:
            # Set before the client can see the answer, so that a log read right after it is complete.
            self._record.finished = self._world.clock()
            self._sock.sendall(render_head(response, close=close) + (b"" if bare else response.body))
        else:
            self._stream(response, close=close)
        if close:
            self._linger()
        return not close

    def _stream(self, response: Response, *, close: bool) -> None:
        self._sock.sendall(render_head(response, close=close))
        assert response.stream is not None
        for block in cut_stream(response.stream, response.stream_length, self._runner):
            self._sock.sendall(block)
            self._record.bytes_sent += len(block)

    def _linger(self) -> None:
        """Take what the client still sends, since closing on unread bytes would destroy the answer on its way."""
        self._sock.settimeout(_LINGER_SECONDS)
        self._sock.shutdown(socket.SHUT_WR)
        try:
            while count := self._lines.read_into(self._buffer):
                self._record.bytes_drained += count
        except (ConnectionCut, ssl.SSLError):
            return


def _record_of(head: RequestHead, now: float) -> RequestRecord:
    number = head.parameter("partNumber")
    return RequestRecord(
        seq=0,
        operation=name_of(head) or "Unknown",
        method=head.method,
        bucket=head.bucket,
        key=head.key,
        upload_id=head.parameter("uploadId"),
        part_number=int(number) if number.isascii() and number.isdigit() else None,
        started=now,
    )
