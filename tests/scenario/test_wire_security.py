"""What a hostile or broken server may not do: lead away from the endpoint or from TLS, fill the memory, forge lines."""

from __future__ import annotations

import socket
import threading
import tracemalloc

import pytest
from botocore.awsrequest import AWSPreparedRequest

from orbit_airflow.engine.errors import ConfigError, Network, NotFound, OrbitError, StoreError
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.stores.session import LARGEST_ERROR, GuardedSession, same_store
from tests.scenario.scripted import Script, answering, read_head, scripted
from tests.scenario.test_stalls import head, list_parts, put_small, store_at

FOREIGN = b"HTTP/1.1 %d Moved\r\nLocation: http://%s/bucket/key\r\nContent-Length: 0\r\nx-amz-bucket-region: %s\r\n\r\n"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("call", [head, put_small, list_parts])
def test_a_redirect_to_another_host_is_not_followed(status: int, call: object, lean: bool) -> None:
    """An error; the other host hears nothing, whatever region the answer names."""
    heard = threading.Event()

    def stranger(sock: socket.socket, stop: threading.Event) -> None:
        heard.set()

    with scripted(stranger) as elsewhere:
        answer = FOREIGN % (status, elsewhere.encode(), b"eu-west-3")
        with scripted(answering(answer)) as address, store_at(address, lean=lean) as store:
            with pytest.raises(StoreError) as caught:
                call(store)  # type: ignore[operator]
            assert caught.value.context.status in (301, 302, 307, 308)
    assert not heard.is_set()


@pytest.mark.parametrize(
    ("home", "host", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("minio.local", "bucket.minio.local", True),
        ("minio.local", "evil-minio.local", False),
        ("minio.local", "minio.local.evil.example", False),
        ("s3.eu-central-1.amazonaws.com", "b.s3.eu-west-1.amazonaws.com", True),
        ("s3.eu-central-1.amazonaws.com", "b.s3-accelerate.amazonaws.com", True),
        ("s3.eu-central-1.amazonaws.com", "amazonaws.com.evil.example", False),
        ("s3.cn-north-1.amazonaws.com.cn", "s3.eu-west-1.amazonaws.com", False),
        ("s3.cn-north-1.amazonaws.com.cn", "b.s3.cn-northwest-1.amazonaws.com.cn", True),
    ],
)
def test_what_belongs_to_an_endpoint(home: str, host: str, same: bool) -> None:
    """Itself, its buckets, and for AWS its partition."""
    assert same_store(home, host) is same


@pytest.mark.parametrize("url", ["http://s3.local/b/k", "https://elsewhere.local/b/k", "ftp://s3.local/b/k"])
def test_nothing_leaves_the_endpoint_or_tls(url: str) -> None:
    """Refused before a byte is sent, by whatever part of botocore it was asked for."""

    class Inner:
        def send(self, request: object) -> None:
            raise AssertionError("sent")

    with store_at("s3.local", "https") as store:
        own: GuardedSession = store._client._endpoint.http_session  # type: ignore[attr-defined]
        guard = GuardedSession(Inner(), "https://s3.local", own.watchdog, own.clock)
        with pytest.raises(ConfigError, match="refused to"):
            guard.send(AWSPreparedRequest("GET", url, {}, None, False))  # type: ignore[arg-type]


def _endless(opening: bytes, piece: bytes) -> Script:
    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_head(sock)
        sock.sendall(opening)
        for _ in range(64 * 1024 * 1024 // len(piece)):
            if stop.is_set():
                return
            sock.sendall(piece)

    return script


ENDLESS_ERROR = _endless(b"HTTP/1.1 400 Bad Request\r\n\r\n<Error><Code>Odd</Code>", b"e" * 65536)
ENDLESS_PAGE = _endless(b"HTTP/1.1 200 OK\r\n\r\n<ListPartsResult>", b" " * 65536)
ENDLESS_HEADERS = _endless(b"HTTP/1.1 200 OK\r\n", b"x-amz-a: b\r\n" * 1000)
ENDLESS_HEADER = _endless(b"HTTP/1.1 200 OK\r\nx-amz-a: ", b"a" * 65536)


@pytest.mark.parametrize(
    ("call", "script", "bound"),
    [
        (put_small, ENDLESS_ERROR, 4), (list_parts, ENDLESS_ERROR, 4), (list_parts, ENDLESS_PAGE, 48),
        (put_small, ENDLESS_HEADERS, 4), (head, ENDLESS_HEADERS, 4), (put_small, ENDLESS_HEADER, 4),
    ],
)  # fmt: skip
def test_endless_answers_end_in_an_error_of_bounded_size(call: object, script: Script, bound: int, lean: bool) -> None:
    """64 MiB of error, page or headers: some MiB are taken, and the call fails."""
    with scripted(script) as address, store_at(address, lean=lean) as store:
        tracemalloc.start()
        try:
            with pytest.raises(StoreError) as caught:
                call(store)  # type: ignore[operator]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < bound * 1024 * 1024
    assert len(str(caught.value)) < 2000


def test_an_error_as_long_as_allowed_is_understood(lean: bool) -> None:
    """Up to the limit the body is XML like any other."""
    text = b"<Error><Code>NoSuchBucket</Code><Message>%s</Message></Error>" % (b"m" * (LARGEST_ERROR - 200))
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    with scripted(answering(answer)) as address, store_at(address, lean=lean) as store, pytest.raises(NotFound):
        store.list_parts(ObjectRef("bucket", "key"), "u")


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    """Fewer bytes than announced, cleanly ended: not an empty list."""
    text = b"<ListPartsResult></ListPartsResult>"

    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + text)

    with scripted(script) as address, store_at(address) as store, pytest.raises(Network):
        list_parts(store)


@pytest.mark.parametrize("key", ["a\nINFO forged", "a\r\nb", "a\x1b[2Jb", "a\u202eb"])
def test_a_key_writes_no_lines_of_its_own(key: str, lean: bool) -> None:
    """Control and direction characters are escaped in every message."""
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 37\r\n\r\n<Error><Code>Odd\n\x1bE</Code>  </Error>  "
    with (
        scripted(answering(answer)) as address,
        store_at(address, lean=lean) as store,
        pytest.raises(OrbitError) as told,
    ):
        store.head(ObjectRef("bucket", key))
    assert str(told.value).isprintable()
