"""Receiving a request body: framing, progress, pace, and every check the client declared."""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.model_server.blobs import BlobWriter
from tests.model_server.checksums import BY_HEADER, Algorithm, Block, Hasher, algorithm_named, decode_digest
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange, Operation, ReceivedBody
from tests.model_server.sigv4 import STREAMING_TRAILER, UNSIGNED, payload_mode
from tests.model_server.wire import ByteSource, ChunkedBody, FixedBody, LineReader, RequestHead

_MAX_DATA = 8 * 1024 * 1024


@dataclass(frozen=True)
class BodyPlan:
    """What the head says about the body."""

    length: int
    framed_by_http: bool
    framed_by_aws: bool
    wire_length: int
    payload: str
    md5: bytes | None
    checksum: tuple[Algorithm, bytes] | None
    trailer: Algorithm | None

    @property
    def expects_bytes(self) -> bool:
        return self.length > 0 or self.framed_by_aws or self.framed_by_http


def plan_body(head: RequestHead, operation: Operation, *, flexible: bool) -> BodyPlan:
    """The plan for a body; raises S3Error when its headers contradict each other."""
    payload = payload_mode(head)
    aws = payload == STREAMING_TRAILER
    http = head.header("transfer-encoding").lower() == "chunked"
    if aws and "aws-chunked" not in head.header("content-encoding"):
        raise S3Error("InvalidRequest", "A streaming payload must have the content encoding aws-chunked.")
    if not http and "content-length" not in head.headers and head.method in ("PUT", "POST"):
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
    wire_length = 0 if http else _number(head, "content-length")
    if http and not aws:
        raise S3Error("MissingContentLength", "A chunked body without aws-chunked has no known length.")
    checked = flexible and not operation.object_checksum
    return BodyPlan(
        length=_number(head, "x-amz-decoded-content-length") if aws else wire_length,
        framed_by_http=http,
        framed_by_aws=aws,
        wire_length=wire_length,
        payload=payload,
        md5=_content_md5(head),
        checksum=_declared(head) if checked else None,
        trailer=_trailer(head, aws) if checked else None,
    )


def _number(head: RequestHead, name: str) -> int:
    text = head.header(name)
    if name in head.headers and not (text.isascii() and text.isdigit()):
        raise S3Error("InvalidArgument", f"{name} is not a number: {text}")
    if name not in head.headers and name.startswith("x-amz"):
        raise S3Error("MissingContentLength", f"You must provide the {name} header.")
    return int(text or 0)


def _content_md5(head: RequestHead) -> bytes | None:
    if "content-md5" not in head.headers:
        return None
    try:
        value = base64.b64decode(head.header("content-md5"), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != 16:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return value


def _declared(head: RequestHead) -> tuple[Algorithm, bytes] | None:
    present = [BY_HEADER[name] for name in head.headers if name in BY_HEADER]
    if len(present) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types found.")
    wanted = head.header("x-amz-sdk-checksum-algorithm")
    named = algorithm_named(wanted) if wanted else None
    if named is not None and named not in present and named.header != head.header("x-amz-trailer").lower():
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found.",
        )
    return (present[0], decode_digest(head.header(present[0].header), present[0])) if present else None


def _trailer(head: RequestHead, aws: bool) -> Algorithm | None:
    name = head.header("x-amz-trailer").lower()
    if not name:
        if aws:
            raise S3Error("InvalidRequest", "A streaming trailer payload must name its trailer.")
        return None
    if not aws or name not in BY_HEADER:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return BY_HEADER[name]


class Edge(Protocol):
    """The point in a body at which a fault acts."""

    def left(self, done: int) -> int | None: ...

    def reached(self, done: int) -> None: ...


class _Sink(Protocol):
    def write(self, block: Block, /) -> object: ...


@dataclass
class _Digests:
    """The hashers one body needs, and nothing more: MD5 is what limits the speed."""

    md5: Hasher | None
    sha256: Hasher | None
    flexible: dict[Algorithm, Hasher] = field(default_factory=dict)

    def updates(self) -> list[Callable[[Block], None]]:
        return [item.update for item in (self.md5, self.sha256, *self.flexible.values()) if item is not None]


class _Memory:
    """A bounded body in memory, for requests that are XML."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, block: Block, /) -> None:
        self.data += block
        if len(self.data) > _MAX_DATA:
            raise S3Error("EntityTooLarge", "The XML you provided is too large.")


class BodyReceiver:
    """Receives the body of one exchange; `drained` says whether the connection stands at the next request."""

    def __init__(self, exchange: Exchange, operation: Operation, plan: BodyPlan) -> None:
        self._exchange = exchange
        self._operation = operation
        self._plan = plan
        self.drained = False
        algorithms = set(exchange.algorithms)
        algorithms |= {plan.checksum[0]} if plan.checksum else set()
        algorithms |= {plan.trailer} if plan.trailer else set()
        needs_md5 = plan.md5 is not None or (operation.stores_body and not exchange.world.profile.opaque_etags)
        self._digests = _Digests(
            md5=hashlib.md5() if needs_md5 else None,
            sha256=hashlib.sha256() if plan.payload not in (UNSIGNED, STREAMING_TRAILER) else None,
            flexible={item: item.new() for item in algorithms},
        )

    def receive(self, lines: LineReader, buffer: memoryview, edge: Edge) -> ReceivedBody:
        """The whole body, checked; raises S3Error when a check fails and ConnectionCut when it ends early."""
        writer = self._exchange.world.blobs.create() if self._operation.stores_body else None
        memory = _Memory()
        try:
            trailers = self._pump(lines, buffer, writer or memory, edge)
            self.drained = True
            self._check(trailers)
        except BaseException:
            if writer is not None:
                writer.abandon()
            raise
        return self._received(writer, memory)

    def _pump(self, lines: LineReader, buffer: memoryview, sink: _Sink, edge: Edge) -> dict[str, str]:
        record, pacer = self._exchange.record, self._exchange.world.pacer
        updates = self._digests.updates()
        outer, source = self._sources(lines)
        while True:
            left = edge.left(record.bytes_received)
            if left == 0:
                edge.reached(record.bytes_received)
                continue
            room = pacer.block_size(len(buffer) if left is None else min(left, len(buffer)))
            count = source.read_into(buffer[:room])
            if count == 0:
                break
            block = buffer[:count]
            for update in updates:
                update(block)
            sink.write(block)
            record.bytes_received += count
            pacer.pay(count)
        if outer is not source and outer.read_into(buffer) != 0:
            raise S3Error("InvalidRequest", "There are bytes behind the last chunk.")
        return source.trailers if isinstance(source, ChunkedBody) else {}

    def _sources(self, lines: LineReader) -> tuple[ByteSource, ByteSource]:
        plan = self._plan
        outer: ByteSource = ChunkedBody(lines) if plan.framed_by_http else FixedBody(lines, plan.wire_length)
        return outer, ChunkedBody(LineReader(outer)) if plan.framed_by_aws else outer

    def _check(self, trailers: dict[str, str]) -> None:
        plan, digests = self._plan, self._digests
        if self._exchange.record.bytes_received != plan.length:
            raise S3Error("IncompleteBody", "You did not provide the number of bytes specified by the length header.")
        if digests.sha256 is not None and digests.sha256.digest().hex() != plan.payload:
            raise S3Error("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match.")
        if plan.md5 is not None and digests.md5 is not None and digests.md5.digest() != plan.md5:
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
        expected = [plan.checksum] if plan.checksum else []
        if plan.trailer is not None:
            if plan.trailer.header not in trailers:
                raise S3Error("MalformedTrailerError", f"The trailer {plan.trailer.header} was announced and not sent.")
            expected.append((plan.trailer, decode_digest(trailers[plan.trailer.header], plan.trailer)))
        for algorithm, value in expected:
            if digests.flexible[algorithm].digest() != value:
                raise S3Error("BadDigest", f"The {algorithm.name} you specified did not match the calculated checksum.")

    def _received(self, writer: BlobWriter | None, memory: _Memory) -> ReceivedBody:
        digests = self._digests
        return ReceivedBody(
            size=self._exchange.record.bytes_received,
            data=bytes(memory.data),
            blob=writer.finish() if writer is not None else None,
            md5=digests.md5.digest().hex() if digests.md5 is not None else "",
            digests={item: hasher.digest() for item, hasher in digests.flexible.items()},
        )
