"""Lines that stall, drip or crawl: given up in time when they are dead, never when they are only slow."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, ObjectRef, UploadOptions, open_engine
from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import ConnectionLost, StoreError
from orbit_airflow.engine.model import KIB, MIB, ObjectAttributes, Part, PartReceipt
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.store import CompleteRequest, PartDigests
from orbit_airflow.engine.stores.client import close_client, make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from tests.bodies import BytesBody
from tests.model_server import ModelServer, ServerProfile
from tests.scenario.scripted import Script, answering, drip, read_head, scripted

STALL = 0.5
RATE = 64
# What the promise allows, and room for a machine that does other things.
LIMIT, GRACE = 1.1 * STALL + 1.0, 0.6
REF = ObjectRef("bucket", "key")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nx-amz-request-id: r\r\nContent-Length: 0\r\n\r\n'
BIG = 24 * MIB


@contextmanager
def store_at(address: str, scheme: str = "http", **settings: object) -> Iterator[S3Store]:
    """A store with short limits; its watchdog has ended behind it."""
    chosen: dict[str, object] = {
        "endpoint": f"{scheme}://{address}", "region": "us-east-1", "force_path_style": True, "stall_timeout": STALL,
        "minimum_rate": RATE, "credentials": Credentials(access_key="A", secret_key="S"), "timeout_seconds": 5.0,
        "connect_timeout": 0.5,
    }  # fmt: skip
    config = EngineConfig(**{**chosen, **settings})  # type: ignore[arg-type]
    client = prepare_client(make_client(config), config)
    try:
        yield S3Store(client, config)
    finally:
        close_client(client)
        client.close()


def head(store: S3Store) -> object:
    return store.head(REF)


def put_small(store: S3Store) -> object:
    return store.put(REF, BytesBody(b"x" * 1000), PartDigests(), ObjectAttributes(), if_none_match=False)


def part_big(store: S3Store) -> object:
    return store.upload_part(REF, "u", Part(1, 0, BIG), BytesBody(bytes(BIG)), PartDigests())


def list_parts(store: S3Store) -> object:
    return store.list_parts(REF, "u")


def silent(sock: socket.socket, stop: threading.Event) -> None:
    """Accepts, and that is all."""
    stop.wait()


def deaf(sock: socket.socket, stop: threading.Event) -> None:
    """Reads the head, and nothing of the body."""
    read_head(sock)
    sock.sendall(CONTINUE)
    stop.wait()


def sipping(sock: socket.socket, stop: threading.Event) -> None:
    """Reads a byte of the body now and then."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    read_head(sock)
    sock.sendall(CONTINUE)
    while not stop.wait(0.05):
        sock.recv(1)


def dripping_head(sock: socket.socket, stop: threading.Event) -> None:
    """An answer whose head takes for ever."""
    sock.recv(65536)
    drip(sock, stop, b"HTTP/1.1 200 OK\r\n" + b"x-pad: " + b"p" * 2000)


def half_a_head(sock: socket.socket, stop: threading.Event) -> None:
    """Stops in the middle of the head."""
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nx-amz-req")
    stop.wait()


def dripping_continue(sock: socket.socket, stop: threading.Event) -> None:
    """100 Continue, letter by letter."""
    sock.recv(65536)
    drip(sock, stop, b"HTTP/1.1 100 " + b"C" * 2000)


def dripping_body(sock: socket.socket, stop: threading.Event) -> None:
    """A list that takes for ever."""
    read_head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    drip(sock, stop, b" " * 5000)


def half_a_body(sock: socket.socket, stop: threading.Event) -> None:
    """Stops in the middle of a list."""
    read_head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<ListPartsResult>")
    stop.wait()


@pytest.mark.parametrize(
    ("call", "script"),
    [
        (head, silent), (head, half_a_head), (head, dripping_head),
        (put_small, silent), (put_small, dripping_head), (put_small, dripping_continue),
        (part_big, deaf), (part_big, sipping), (part_big, silent),
        (list_parts, silent), (list_parts, dripping_head), (list_parts, dripping_body), (list_parts, half_a_body),
    ],
)  # fmt: skip
def test_a_dead_line_is_given_up_in_time(call: Callable[[S3Store], object], script: Script, lean: bool) -> None:
    """Within 1.1 times the stall limit and a second, whatever it does and in which direction."""
    with scripted(script) as address, store_at(address, lean=lean) as store:
        begun = time.monotonic()
        with pytest.raises(ConnectionLost):
            call(store)
        assert time.monotonic() - begun < LIMIT + GRACE


def test_a_tls_handshake_that_stalls_is_given_up(lean: bool) -> None:
    """It belongs to the connect, and has its limit."""
    with scripted(silent) as address, store_at(address, "https", verify=False, lean=lean) as store:
        begun = time.monotonic()
        with pytest.raises(ConnectionLost):
            head(store)
        assert time.monotonic() - begun < 0.5 + 0.5 + GRACE


def test_a_connect_that_is_not_answered_is_given_up(lean: bool) -> None:
    """A full backlog answers nothing; nothing was sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fill = [socket.socket() for _ in range(4)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(address)
        with store_at(f"127.0.0.1:{address[1]}", lean=lean) as store, pytest.raises(ConnectionLost) as caught:
            begun = time.monotonic()
            head(store)
        for sock in fill:
            sock.close()
    assert time.monotonic() - begun < 0.5 + GRACE + 0.5
    assert caught.value.context.sent is False


@pytest.mark.parametrize("part_size", [256 * KIB, 2 * MIB])
def test_a_slow_line_succeeds_with_any_part_size(tmp_path: Path, part_size: int, lean: bool) -> None:
    """Parts of both sizes need many times the stall limit; bytes move, so nothing is given up or sent twice."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2 * MIB))
    with ModelServer(profile=ServerProfile(min_part_size=256 * KIB), rate_limit=600_000) as server:
        # Else the kernel on the server's side takes whole parts at once: a slow server, not a slow line.
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * KIB)
        server.create_bucket("bucket")
        config = EngineConfig(
            endpoint=server.endpoint_url, region=server.region, force_path_style=True, stall_timeout=STALL,
            credentials=Credentials(access_key=server.access_key, secret_key=server.secret_key), max_retries=0,
            chunk_size=part_size, limits=StoreLimits(min_part_size=256 * KIB), lean=lean,
        )  # fmt: skip
        engine = open_engine(config)
        begun = time.monotonic()
        engine.upload(path, REF, UploadOptions())
        engine.close()
        assert time.monotonic() - begun > 4 * STALL
        assert [version.read() for version in server.versions("bucket", "key")] == [path.read_bytes()]
        sent = server.bytes_received("UploadPart") + server.bytes_received("PutObject")
        assert sent == 2 * MIB


def _complete(store: S3Store) -> str:
    receipts = (PartReceipt(1, 5, "e", 1),)
    return store.complete(REF, CompleteRequest("u", receipts, 5, full_crc32=1)).etag


def _trickling(seconds: float) -> Script:
    """200 at once, then white space, then the result: what AWS does while it assembles."""
    xml = (
        b'<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>key</Key><ETag>"whole"</ETag>'
        b"<ChecksumCRC32>" + to_base64(1).encode() + b"</ChecksumCRC32></CompleteMultipartUploadResult>"
    )

    def script(sock: socket.socket, stop: threading.Event) -> None:
        data = read_head(sock)
        length = next(int(line[15:]) for line in data.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        body = data.partition(b"\r\n\r\n")[2]
        while len(body) < length:
            body += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(b"27\r\n" + b'<?xml version="1.0" encoding="UTF-8"?>\n' + b"\r\n")
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stop.wait(STALL * 1.5):
            sock.sendall(b"1\r\n \r\n")
        sock.sendall(f"{len(xml):x}\r\n".encode() + xml + b"\r\n0\r\n\r\n")
        stop.wait()

    return script


def test_white_space_before_the_result_of_a_complete_is_waited_for() -> None:
    """Far beyond the stall limit, and the result behind it counts."""
    with scripted(_trickling(4 * STALL)) as address, store_at(address) as store:
        assert _complete(store) == "whole"


def test_white_space_for_ever_ends_with_the_time_for_a_complete() -> None:
    """timeout_seconds, then ConnectionLost: what happened is asked for by others."""
    with scripted(_trickling(60)) as address, store_at(address, timeout_seconds=1.5) as store:
        begun = time.monotonic()
        with pytest.raises(StoreError):
            _complete(store)
        assert 1.2 < time.monotonic() - begun < 1.5 * 1.1 + 1 + GRACE


def test_no_thread_is_left_behind_the_engine() -> None:
    """The watchdog ends with close, and starts for the next request."""
    with scripted(answering(OK)) as address, store_at(address) as store:
        assert put_small(store)
        before = [thread for thread in threading.enumerate() if thread.name == "orbit-watchdog"]
        assert len(before) == 1
        close_client(store._client)
        assert not before[0].is_alive()
        assert put_small(store)
