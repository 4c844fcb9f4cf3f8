"""An S3 endpoint that swallows bodies at next to no cost, so that what is measured is the client.

One process, one thread per connection. A body is thrown away inside the kernel (``MSG_TRUNC``; elsewhere it is read
into one reused buffer). Nothing is verified: neither signature nor checksum. Of an object it keeps the size and the
headers that a client may ask for again. What can be fetched are the objects of ``benchmarks.pattern``.

    python -m benchmarks.sink --port 0 --ready-file sink.port [--certificate server.pem]
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import itertools
import mmap
import os
import re
import socket
import ssl
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks import pattern

DISCARD_AT_ONCE = 64 * 1024 * 1024
READ_AT_ONCE = 4 * 1024 * 1024
HEADERS_AT_ONCE = 64 * 1024
LARGEST_HEAD = 1024 * 1024
IN_KERNEL = sys.platform == "linux"
ETAG = '"00000000000000000000000000000000"'
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
ISO_DATE = "2026-01-01T00:00:00.000Z"
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
CHECKSUM_HEADERS = tuple(f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256"))
_PART_NUMBER = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


class Request(NamedTuple):
    """The head of one request."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def length(self) -> int:
        """Bytes of body on the wire."""
        return int(self.headers.get("content-length") or 0)

    @property
    def payload(self) -> int:
        """Bytes of the object's data: less than ``length`` when the body is aws-chunked."""
        return int(self.headers.get("x-amz-decoded-content-length") or self.length)


class Answer(NamedTuple):
    """A status, headers and a small body, or the range of the pattern that is the body."""

    status: str
    headers: dict[str, str]
    body: str = ""
    span: tuple[int, int] = (0, 0)


@dataclass
class Stored:
    """What is known of an object: never its bytes."""

    size: int
    headers: dict[str, str]


@dataclass
class Upload:
    """An open multipart upload: the sizes and checksums of its parts."""

    headers: dict[str, str]
    checksums: dict[str, str]
    parts: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)


class Shelf:
    """All objects and uploads. Dictionary operations are atomic, and no two clients share a key at a time."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.numbers = itertools.count(1)
        self.pattern = pattern.Pattern()


def checksums_of(request: Request) -> dict[str, str]:
    """The checksum headers of a request, to be echoed."""
    return {name: request.headers[name] for name in CHECKSUM_HEADERS if name in request.headers}


def kept_headers(request: Request) -> dict[str, str]:
    """The user's metadata, which HEAD must show again."""
    return {name: value for name, value in request.headers.items() if name.startswith("x-amz-meta-")}


def respond(shelf: Shelf, request: Request, body: bytes) -> Answer:
    """The answer to any request; ``body`` is that of a Complete, else empty."""
    if not request.key:
        return _bucket(request)
    if "uploads" in request.query or "uploadId" in request.query:
        return _multipart(shelf, request, body)
    if request.method == "PUT":
        checksums = checksums_of(request)
        shelf.objects[request.bucket, request.key] = Stored(request.payload, {**kept_headers(request), **checksums})
        return Answer("200 OK", {"ETag": ETAG, **checksums})
    if request.method == "DELETE":
        shelf.objects.pop((request.bucket, request.key), None)
        return Answer("204 No Content", {})
    return _head(shelf, request)


def _bucket(request: Request) -> Answer:
    if request.method in ("HEAD", "PUT"):
        return Answer("200 OK", {"x-amz-bucket-region": "us-east-1"})
    if "location" in request.query:
        return _xml("<LocationConstraint></LocationConstraint>")
    if "uploads" in request.query:
        return _xml("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
    return _xml("<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>")


def _head(shelf: Shelf, request: Request) -> Answer:
    made = pattern.size_of(request.key)
    if made is not None:
        return _made(shelf, request, made)
    found = shelf.objects.get((request.bucket, request.key))
    if found is None:
        return Answer("404 Not Found", {})
    named = {"ETag": ETAG, "Last-Modified": DATE, "Content-Length": str(found.size)}
    return Answer("200 OK", {**found.headers, **named})


def _made(shelf: Shelf, request: Request, size: int) -> Answer:
    named = {"ETag": pattern.ETAG, "Last-Modified": DATE, "Accept-Ranges": "bytes"}
    span = pattern.span_of(request.headers.get("range", ""), size)
    if span is not None:
        start, stop = span
        ranged = {"Content-Range": f"bytes {start}-{stop - 1}/{size}", "Content-Length": str(stop - start)}
        return Answer("206 Partial Content", {**named, **ranged}, span=span)
    if request.headers.get("x-amz-checksum-mode") == "ENABLED":
        crc = shelf.pattern.crc32(size).to_bytes(4, "big")
        named |= {"x-amz-checksum-crc32": base64.b64encode(crc).decode(), "x-amz-checksum-type": "FULL_OBJECT"}
    return Answer("200 OK", {**named, "Content-Length": str(size)}, span=(0, size))


def _multipart(shelf: Shelf, request: Request, body: bytes) -> Answer:
    if request.method == "POST" and "uploads" in request.query:
        return _create(shelf, request)
    upload_id = request.query.get("uploadId", "")
    upload = shelf.uploads.get(upload_id)
    if upload is None:
        return _xml("<Error><Code>NoSuchUpload</Code><Message>no such upload</Message></Error>", "404 Not Found")
    if request.method == "PUT":
        checksums = checksums_of(request)
        upload.parts[int(request.query["partNumber"])] = (request.payload, checksums)
        return Answer("200 OK", {"ETag": ETAG, **checksums})
    if request.method == "POST":
        return _complete(shelf, request, upload_id, body)
    if request.method == "DELETE":
        del shelf.uploads[upload_id]
        return Answer("204 No Content", {})
    return _list_parts(request, upload)


def _create(shelf: Shelf, request: Request) -> Answer:
    upload_id = f"upload-{next(shelf.numbers)}"
    names = ("x-amz-checksum-algorithm", "x-amz-checksum-type")
    asked = {name: request.headers[name] for name in names if name in request.headers}
    shelf.uploads[upload_id] = Upload(kept_headers(request), asked)
    where = f"<Bucket>{request.bucket}</Bucket><Key>{request.key}</Key><UploadId>{upload_id}</UploadId>"
    answer = _xml(f"<InitiateMultipartUploadResult>{where}</InitiateMultipartUploadResult>")
    return answer._replace(headers={**answer.headers, **asked})


def _complete(shelf: Shelf, request: Request, upload_id: str, body: bytes) -> Answer:
    upload = shelf.uploads.pop(upload_id)
    named = {int(number) for number in _PART_NUMBER.findall(body)} or set(upload.parts)
    size = sum(upload.parts[number][0] for number in named if number in upload.parts)
    checksums = checksums_of(request)
    kind = request.headers.get("x-amz-checksum-type", "")
    typed = {"x-amz-checksum-type": kind} if checksums and kind else {}
    shelf.objects[request.bucket, request.key] = Stored(size, {**upload.headers, **checksums, **typed})
    texts = [_element(name, value) for name, value in checksums.items()]
    texts += [f"<ChecksumType>{kind}</ChecksumType>"] if typed else []
    where = (
        f"<Location>http://sink/{request.bucket}</Location><Bucket>{request.bucket}</Bucket><Key>{request.key}</Key>"
    )
    inner = f'{where}<ETag>{ETAG[:-1]}-{len(named)}"</ETag>{"".join(texts)}'
    return _xml(f"<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>")


def _list_parts(request: Request, upload: Upload) -> Answer:
    after = int(request.query.get("part-number-marker") or 0)
    numbers = sorted(number for number in upload.parts if number > after)
    page = numbers[:1000]
    items = "".join(_listed(number, *upload.parts[number]) for number in page)
    more = f"<IsTruncated>{str(len(page) < len(numbers)).lower()}</IsTruncated>"
    marker = f"<NextPartNumberMarker>{page[-1] if page else 0}</NextPartNumberMarker>"
    return _xml(f"<ListPartsResult>{marker}{more}{items}</ListPartsResult>")


def _listed(number: int, size: int, checksums: dict[str, str]) -> str:
    texts = "".join(_element(name, value) for name, value in checksums.items())
    named = f"<PartNumber>{number}</PartNumber><Size>{size}</Size><ETag>{ETAG}</ETag>"
    return f"<Part>{named}<LastModified>{ISO_DATE}</LastModified>{texts}</Part>"


def _element(header: str, value: str) -> str:
    name = "Checksum" + header.removeprefix("x-amz-checksum-").upper()
    return f"<{name}>{value}</{name}>"


def _xml(text: str, status: str = "200 OK") -> Answer:
    return Answer(status, {"Content-Type": "application/xml"}, XML + text)


def parsed(head: bytes) -> Request:
    """A request's head without its last empty line."""
    line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ", 2)
    url = urlsplit(target)
    bucket, _, key = unquote(url.path).lstrip("/").partition("/")
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    pairs = (line.partition(":") for line in lines)
    return Request(method, bucket, key, query, {name.strip().lower(): value.strip() for name, _, value in pairs})


class Connection:
    """One client connection: requests one after the other until it closes."""

    def __init__(self, sock: socket.socket, shelf: Shelf) -> None:
        self._sock = sock
        self._shelf = shelf
        self._rest = b""
        # Address space only: when the kernel discards, nothing is written here and its pages never exist.
        self._scrap = mmap.mmap(-1, DISCARD_AT_ONCE if IN_KERNEL else READ_AT_ONCE)

    def serve(self) -> None:
        """Until the client leaves."""
        with self._sock, contextlib.suppress(ConnectionError, ssl.SSLError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (head := self._head()) is not None:
                self._exchange(parsed(head))

    def _head(self) -> bytes | None:
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            data = self._sock.recv(HEADERS_AT_ONCE)
            if not data or len(self._rest) > LARGEST_HEAD:
                return None
            self._rest += data
        head, self._rest = self._rest[:end], self._rest[end + 4 :]
        return head

    def _exchange(self, request: Request) -> None:
        if request.headers.get("expect", "").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if request.method == "POST":
            body = self._body(request.length)
        else:
            self._discard(request.length)
        answer = respond(self._shelf, request, body)
        content = answer.body.encode() if request.method != "HEAD" else b""
        headers = {"Content-Length": str(len(content)), "x-amz-request-id": "sink", "Date": DATE, **answer.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._sock.sendall(f"HTTP/1.1 {answer.status}\r\n{lines}\r\n".encode() + content)
        if request.method != "HEAD":
            self._shelf.pattern.send(self._sock, *answer.span)

    def _body(self, size: int) -> bytes:
        data = bytearray(self._rest[:size])
        self._rest = self._rest[size:]
        while len(data) < size:
            received = self._sock.recv(size - len(data))
            if not received:
                raise ConnectionResetError
            data += received
        return bytes(data)

    def _discard(self, size: int) -> None:
        """Throw away ``size`` bytes: in the kernel, and in one call per 64 MiB, where it can."""
        taken = min(size, len(self._rest))
        self._rest = self._rest[taken:]
        size -= taken
        in_kernel = IN_KERNEL and not isinstance(self._sock, ssl.SSLSocket)
        flags = socket.MSG_TRUNC | socket.MSG_WAITALL if in_kernel else 0
        while size > 0:
            count = self._sock.recv_into(self._scrap, min(size, len(self._scrap) if in_kernel else READ_AT_ONCE), flags)
            if not count:
                raise ConnectionResetError
            size -= count


def serve(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Accept until the process ends."""
    shelf = Shelf()

    def run(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            Connection(tls.wrap_socket(sock, server_side=True) if tls is not None else sock, shelf).serve()

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=run, args=(sock,), daemon=True).start()


def main() -> None:
    """Listen, write the port to the ready file, serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--certificate", type=Path, help="a PEM file with certificate and key; then it speaks TLS")
    chosen = parser.parse_args()
    tls = None
    if chosen.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(chosen.certificate)
    with socket.create_server(("127.0.0.1", chosen.port), backlog=256) as listener:
        port = listener.getsockname()[1]
        if chosen.ready_file is not None:
            scratch = chosen.ready_file.with_name(f"{chosen.ready_file.name}.{os.getpid()}")
            scratch.write_text(str(port))
            scratch.replace(chosen.ready_file)
        print(f"{'https' if tls else 'http'}://127.0.0.1:{port}", flush=True)
        serve(listener, tls)


if __name__ == "__main__":
    main()
