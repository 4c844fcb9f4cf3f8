"""Bodies straight from the socket: byte for byte what http.client gives, and connections that are kept or dropped."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, ObjectRef
from orbit_airflow.engine.errors import ConnectionLost
from orbit_airflow.engine.model import KIB, MIB, ByteRange
from orbit_airflow.engine.stores import session as session_module
from orbit_airflow.engine.stores.client import close_client, make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from orbit_airflow.engine.stores.straight import StraightBody, straight
from tests.model_server import ModelServer
from tests.scenario.scripted import Script, read_head, scripted

REF = ObjectRef("bucket", "key")
DATA = os.urandom(3 * MIB + 12_345)
SIZES = [1, 100, 8 * KIB - 1, 8 * KIB, 8 * KIB + 1, 100 * KIB, MIB]
STALL = 0.5
NEXT = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\nright'
FALSE = NEXT.replace(b"right", b"wrong")


@contextmanager
def store_at(endpoint: str, **settings: Any) -> Iterator[S3Store]:
    """A store with short limits; its watchdog has ended behind it."""
    chosen: dict[str, Any] = {
        "endpoint": endpoint, "region": "us-east-1", "force_path_style": True, "stall_timeout": STALL,
        "minimum_rate": 64, "credentials": Credentials(access_key="A", secret_key="S"), "connect_timeout": 2.0,
    }  # fmt: skip
    config = EngineConfig(**{**chosen, **settings})
    client = prepare_client(make_client(config), config)
    try:
        yield S3Store(client, config)
    finally:
        close_client(client)
        client.close()


def body_of(store: S3Store, block: int = MIB, span: ByteRange | None = None) -> bytes:
    """All bytes, through one buffer of ``block`` bytes."""
    buffer, found = memoryview(bytearray(block)), bytearray()
    with store.get(REF, span) as stream:
        while count := stream.read_into(buffer):
            found += buffer[:count]
    return bytes(found)


@pytest.fixture
def straight_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read took the short way."""
    counts: list[int] = []
    plain = StraightBody.read_into

    def counted(self: StraightBody, view: memoryview) -> int:
        counts.append(plain(self, view))
        return counts[-1]

    monkeypatch.setattr(StraightBody, "read_into", counted)
    return counts


@contextmanager
def served(tls: bool, lean: bool) -> Iterator[tuple[ModelServer, S3Store]]:
    """A strict server with the object in it."""
    with ModelServer(tls=tls) as server:
        server.create_bucket("bucket")
        keys = Credentials(access_key=server.access_key, secret_key=server.secret_key)
        named = {"credentials": keys, "region": server.region, "verify": server.ca_file, "stall_timeout": 30.0}
        with store_at(server.endpoint_url, lean=lean, **named) as store:
            store._client.put_object(Bucket="bucket", Key="key", Body=DATA)
            yield server, store


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_any_block_and_range_gives_the_same_bytes(tls: bool, lean: bool, straight_reads: list[int]) -> None:
    """Blocks smaller and larger than http.client's buffer, over both, on both paths."""
    with served(tls, lean) as (_, store):
        for block in SIZES[1:]:
            assert body_of(store, block) == DATA
        assert sum(straight_reads) == len(DATA) * len(SIZES[1:])
        for size in SIZES:
            span = ByteRange(777, 777 + size)
            assert body_of(store, size, span) == DATA[777 : 777 + size]
            assert body_of(store, 2 * MIB, span) == DATA[777 : 777 + size]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_the_connection_serves_all_ranges(tls: bool, lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that was read whole gives its connection back; one that was not does not."""
    with served(tls, lean) as (_, store):
        connects: list[object] = []
        monkeypatch.setattr(socket.socket, "connect", _counting(connects))
        for start in range(0, 10 * KIB, KIB):
            body_of(store, MIB, ByteRange(start, start + MIB))
        assert len(connects) == 0
        with store.get(REF) as stream:
            stream.read_into(memoryview(bytearray(MIB)))
        assert body_of(store, MIB, ByteRange(0, 10)) == DATA[:10]
        assert len(connects) == 1


def _counting(connects: list[object]) -> Callable[..., None]:
    plain = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        connects.append(address)
        plain(self, address)

    return connect


def conversation(*answers: bytes, pause: float = 0.0) -> tuple[Script, list[int]]:
    """Each request, on whatever connection, gets the next answer; the list has the number of its connection."""
    order: list[int] = []
    lock, left, numbers = threading.Lock(), list(answers), iter(range(100))

    def script(sock: socket.socket, stop: threading.Event) -> None:
        number = next(numbers)
        while left:
            read_head(sock)
            with lock:
                answer = left.pop(0)
            order.append(number)
            sock.sendall(answer)
            if b"Connection: close" in answer:
                return
            if pause:
                stop.wait(pause)
        stop.wait()

    return script, order


def answer(body: bytes, announced: int | None = None, more: str = "") -> bytes:
    """200 with an ETag and a length."""
    length = len(body) if announced is None else announced
    return f'HTTP/1.1 200 OK\r\nETag: "e"\r\n{more}Content-Length: {length}\r\n\r\n'.encode() + body


@pytest.mark.parametrize("block", SIZES)
@pytest.mark.parametrize("size", [5, 9000, 100_000])
def test_what_follows_a_body_is_never_the_next_answer(size: int, block: int, lean: bool) -> None:
    """A second answer that came uninvited behind the first one: the connection is dropped with it."""
    body = os.urandom(size)
    script, order = conversation(answer(body) + FALSE, NEXT)
    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        assert body_of(store, block) == body
        assert body_of(store) == b"right"
    assert order == [0, 1]


def test_the_same_connection_serves_when_nothing_follows(lean: bool) -> None:
    script, order = conversation(answer(b"x" * 5), answer(b"y" * 20_000), NEXT)
    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        assert (body_of(store), body_of(store), body_of(store)) == (b"x" * 5, b"y" * 20_000, b"right")
    assert order == [0, 0, 0]


@pytest.mark.parametrize("block", [100, MIB])
@pytest.mark.parametrize("sent", [0, 10, 50_000])
def test_a_body_that_ends_early_is_a_lost_connection(sent: int, block: int, lean: bool) -> None:
    """Nothing but the bytes that came is given, and the rest is an error; the next request has a new connection."""
    body = os.urandom(60_000)

    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_head(sock)
        sock.sendall(answers.pop(0))

    answers = [answer(body[:sent], len(body)), NEXT]
    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        stream, found = store.get(REF), bytearray()
        buffer = memoryview(bytearray(block))
        with pytest.raises(ConnectionLost):
            while count := stream.read_into(buffer):
                found += buffer[:count]
        assert body.startswith(bytes(found))
        assert len(found) <= sent
        assert stream.read_into(buffer) == 0
        assert body_of(store) == b"right"


def test_a_reset_in_the_body_is_a_lost_connection(lean: bool) -> None:
    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_head(sock)
        sock.sendall(answer(b"x" * 1000, 5000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        stream = store.get(REF)
        with pytest.raises(ConnectionLost):
            stream.read_into(memoryview(bytearray(MIB)))


def test_chunked_bodies_take_the_old_way(lean: bool, straight_reads: list[int]) -> None:
    """A length is announced by nobody there, so such an answer is refused; its connection is not used again."""
    raw = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n'
    script, order = conversation(raw, NEXT)
    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        with pytest.raises(Exception, match="could not be understood"):
            store.get(REF)
        assert straight_reads == []
        assert body_of(store) == b"right"
    assert order == [0, 1]


def test_an_encoded_body_is_given_as_it_is(lean: bool) -> None:
    """Content-Encoding is the object's, not the transfer's."""
    body = b"\x1f\x8b this is not gzip"
    script, _ = conversation(answer(body, more="Content-Encoding: gzip\r\n"))
    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        assert body_of(store, 7) == body


def test_a_server_that_closes_behind_the_body(lean: bool) -> None:
    """``Connection: close``: the body is whole, and the next request goes to a new connection."""
    body = os.urandom(300_000)
    script, order = conversation(answer(body, more="Connection: close\r\n"), NEXT)
    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        assert body_of(store) == body
        assert body_of(store) == b"right"
    assert order == [0, 1]


@pytest.mark.parametrize("dripping", [False, True], ids=["silent", "dripping"])
@pytest.mark.parametrize("more", ["", "Connection: close\r\n"], ids=["kept", "closed"])
@pytest.mark.parametrize("sent", [10, 50_000])
def test_a_body_that_stalls_is_given_up_in_time(sent: int, more: str, dripping: bool, lean: bool) -> None:
    """Whether the connection is to be kept or not, and whether no byte comes or one now and then."""

    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_head(sock)
        sock.sendall(answer(b"x" * sent, 5 * MIB, more))
        while not stop.wait(0.05):
            if dripping:
                sock.sendall(b"y")

    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        begun = time.monotonic()
        with pytest.raises(ConnectionLost), store.get(REF) as stream:
            stream.read_into(memoryview(bytearray(MIB)))
        assert time.monotonic() - begun < 1.1 * STALL + 1.6


def test_a_slow_body_is_waited_for(lean: bool) -> None:
    """Many times the stall limit, but bytes move."""
    body = os.urandom(20 * KIB)

    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_head(sock)
        sock.sendall(answer(b"", len(body)))
        for start in range(0, len(body), KIB):
            stop.wait(0.1)
            sock.sendall(body[start : start + KIB])

    with scripted(script) as address, store_at(f"http://{address}", lean=lean) as store:
        assert body_of(store) == body


def test_reading_may_go_on_through_urllib3() -> None:
    """The state is http.client's own: ``read`` behind ``readinto`` finds the very next byte."""
    body = os.urandom(50_000)
    script, order = conversation(answer(body), NEXT)
    with scripted(script) as address, store_at(f"http://{address}") as store:
        inner: Any = store._client
        raw = inner.get_object(Bucket="bucket", Key="key")["Body"]._raw_stream
        assert isinstance(raw, session_module.WatchedStream)
        buffer = bytearray(20_000)
        assert raw.readinto(buffer) == 20_000
        assert bytes(buffer) + raw.read(10_000) + raw.read() == body
        assert body_of(store) == b"right"
    assert order == [0, 0]


def test_only_what_can_be_is_read_straight() -> None:
    """Anything that does not look like urllib3 over http.client over a socket is left alone."""
    assert straight(object()) is None
    assert straight(None) is None
