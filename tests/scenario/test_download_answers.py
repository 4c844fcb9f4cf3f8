"""Answers to a download that contradict each other, one kind at a time: right bytes or a typed error.

The twelve faults of the fault table are elsewhere; these are the ones that proxies, caches and gateways invent.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, ObjectRef, RetryPolicy, open_engine
from orbit_airflow.engine.errors import (
    Garbled,
    IntegrityError,
    Network,
    ObjectChanged,
    OrbitError,
    StoreError,
    WrongEndpoint,
)
from orbit_airflow.engine.model import DownloadResult, Integrity
from orbit_airflow.engine.options import DownloadOptions
from tests.scenario.scripted import read_head, scripted

RANGE = 64 * 1024
DATA = hashlib.shake_256(b"orbit").digest(3 * RANGE + 123)
ETAG = '"0123456789abcdef0123456789abcdef-3"'
Headers = list[tuple[str, str]]


@dataclass
class Answer:
    """One answer on its way out, to be spoilt."""

    method: str
    span: tuple[int, int] | None
    status: int
    headers: Headers
    body: bytes

    def set(self, name: str, value: str | None) -> None:
        """Replace a header; None takes it away."""
        self.headers = [pair for pair in self.headers if pair[0] != name]
        if value is not None:
            self.headers.append((name, value))

    def add(self, name: str, value: str) -> None:
        """One more header of this name."""
        self.headers.append((name, value))


Spoil = Callable[[Answer], None]


@dataclass
class Gateway:
    """A store with one object. ``spoil`` is called with each answer from the ``first`` ranged GET on, ``times`` times
    (None: for ever).
    """

    spoil: Spoil
    times: int | None = None
    data: bytes = DATA
    methods: tuple[str, ...] = ("GET",)
    spoilt: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, sock: socket.socket, stop: threading.Event) -> None:
        """Answer requests until the client leaves."""
        while True:
            answer = self._answer(read_head(sock).decode("latin-1"))
            with self.lock:
                spoil = answer.method in self.methods and (self.times is None or self.spoilt < self.times)
                self.spoilt += spoil
            if spoil:
                self.spoil(answer)
            lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.headers)]
            body = b"" if answer.method == "HEAD" else answer.body
            sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def _answer(self, head: str) -> Answer:
        method = head.split(" ", 1)[0]
        found = re.search(r"(?im)^range: bytes=(\d+)-(\d+)", head)
        span = (int(found[1]), min(int(found[2]) + 1, len(self.data))) if found else None
        body = self.data[slice(*span)] if span else self.data
        headers = [("ETag", ETAG), ("x-amz-version-id", "v1"), ("Content-Length", str(len(body)))]
        if span:
            headers.append(("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{len(self.data)}"))
        return Answer(method, span, 206 if span else 200, headers, body)


def download(gateway: Gateway, path: Path) -> DownloadResult:
    """One download with short waits."""
    with scripted(gateway) as address:
        engine = open_engine(
            EngineConfig(
                endpoint=f"http://{address}",
                region="us-east-1",
                credentials=Credentials(access_key="key", secret_key="secret"),
                force_path_style=True,
                parallel_operations=2,
                stall_timeout=0.5,
                timeout_seconds=1.0,
                retry=RetryPolicy(initial_delay=0.001, max_delay=0.01, use_circuit_breaker=False),
                outage_patience=0,
            )
        )
        try:
            return engine.download(ObjectRef("bucket", "object"), path, DownloadOptions(chunk_size=RANGE))
        finally:
            engine.close()


def other_etag(answer: Answer) -> None:
    answer.set("ETag", '"ffffffffffffffffffffffffffffffff-3"')


def other_total(answer: Answer) -> None:
    assert answer.span is not None
    answer.set("Content-Range", f"bytes {answer.span[0]}-{answer.span[1] - 1}/{len(DATA) + 1}")


def unknown_total(answer: Answer) -> None:
    assert answer.span is not None
    answer.set("Content-Range", f"bytes {answer.span[0]}-{answer.span[1] - 1}/*")


def two_etags(answer: Answer) -> None:
    answer.add("ETag", '"ffffffffffffffffffffffffffffffff-3"')


def two_lengths(answer: Answer) -> None:
    answer.add("Content-Length", str(len(answer.body) - 7))


def two_ranges(answer: Answer) -> None:
    answer.add("Content-Range", f"bytes 0-{RANGE - 1}/{len(DATA)}")


def no_etag(answer: Answer) -> None:
    answer.set("ETag", None)


def weak_etag(answer: Answer) -> None:
    answer.set("ETag", f"W/{ETAG}")


def other_version(answer: Answer) -> None:
    answer.set("x-amz-version-id", "v2")


def zipped(answer: Answer) -> None:
    answer.body = gzip.compress(answer.body)
    answer.set("Content-Encoding", "gzip")
    answer.set("Content-Length", str(len(answer.body)))


def chunked_and_zipped(answer: Answer) -> None:
    body = gzip.compress(answer.body)
    answer.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer.set("Content-Encoding", "gzip")
    answer.set("Content-Length", None)
    answer.set("Transfer-Encoding", "chunked")


def not_modified(answer: Answer) -> None:
    answer.status, answer.body = 304, b""
    answer.set("Content-Length", None)


def no_content(answer: Answer) -> None:
    answer.status, answer.body = 204, b""
    answer.set("Content-Length", None)


def multipart_ranges(answer: Answer) -> None:
    mark = b"\r\n--x\r\nContent-Range: bytes 0-9/100\r\n\r\n"
    answer.body = mark + answer.body[: len(answer.body) - len(mark)]
    answer.set("Content-Type", "multipart/byteranges; boundary=x")
    answer.set("Content-Range", None)


def trailing_garbage(answer: Answer) -> None:
    answer.body += b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"


def endless_header(answer: Answer) -> None:
    for number in range(200):
        answer.add(f"x-noise-{number}", "x")


KINDS = (
    other_etag, other_total, unknown_total, two_etags, two_lengths, two_ranges, no_etag, weak_etag, other_version,
    zipped, chunked_and_zipped, not_modified, no_content, multipart_ranges, trailing_garbage, endless_header,
)  # fmt: skip


@pytest.mark.parametrize("spoil", KINDS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
def test_a_spoilt_answer_never_makes_wrong_bytes(tmp_path: Path, spoil: Spoil, times: int | None) -> None:
    """Once: it is asked for again. For ever: a typed error, and no file."""
    gateway = Gateway(spoil, times)
    path = tmp_path / "restored.bin"
    try:
        result = download(gateway, path)
    except (StoreError, ObjectChanged):
        assert not path.exists()
        assert times is None
        return
    assert path.read_bytes() == DATA
    assert result.integrity is Integrity.SIZE_ETAG
    assert times == 1 or spoil in HARMLESS


# The connection is not used again.
HARMLESS = frozenset({trailing_garbage})


def test_an_etag_that_changes_while_the_version_does_not_is_another_object(tmp_path: Path) -> None:
    """HEAD says so, too."""
    gets: list[str] = []

    def spoil(answer: Answer) -> None:
        gets.append(answer.method)
        if "GET" in gets:
            other_etag(answer)

    with pytest.raises(ObjectChanged):
        download(Gateway(spoil, methods=("GET", "HEAD")), tmp_path / "restored.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1, len(DATA) + 1])
def test_a_head_that_says_another_size_than_get_is_no_success(tmp_path: Path, size: int) -> None:
    """More or less: the ranges say what there is."""

    def spoil(answer: Answer) -> None:
        answer.set("Content-Length", str(size))

    with pytest.raises((Garbled, Network)):
        download(Gateway(spoil, methods=("HEAD",)), tmp_path / "restored.bin")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def partial_nothing(answer: Answer) -> None:
    answer.status = 206
    answer.add("Content-Range", "bytes */0")


def partial_byte(answer: Answer) -> None:
    answer.status, answer.body = 206, b"x"
    answer.set("Content-Length", "1")
    answer.add("Content-Range", "bytes 0-0/1")


@pytest.mark.parametrize("spoil", [partial_nothing, partial_byte], ids=lambda spoil: spoil.__name__)
def test_a_206_for_an_empty_object_is_no_answer(tmp_path: Path, spoil: Spoil) -> None:
    """Nobody asked for a range."""
    with pytest.raises(Garbled):
        download(Gateway(spoil, data=b""), tmp_path / "restored.bin")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_object_is_an_empty_file(tmp_path: Path) -> None:
    assert download(Gateway(lambda answer: None, data=b""), tmp_path / "restored.bin").size == 0
    assert (tmp_path / "restored.bin").read_bytes() == b""


def test_what_is_stored_compressed_stays_so(tmp_path: Path) -> None:
    """Content-Encoding describes the object's bytes; they are not unpacked on the way."""
    packed = gzip.compress(DATA)

    def spoil(answer: Answer) -> None:
        answer.set("Content-Encoding", "gzip")

    download(Gateway(spoil, data=packed, methods=("GET", "HEAD")), tmp_path / "restored.bin")
    assert (tmp_path / "restored.bin").read_bytes() == packed


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("methods", [("GET",), ("GET", "HEAD")], ids=["get", "both"])
def test_no_redirect_is_followed(tmp_path: Path, status: int, methods: tuple[str, ...]) -> None:
    """A request that was signed for one host does not travel to another one."""
    visitors: list[bytes] = []

    def elsewhere(sock: socket.socket, stop: threading.Event) -> None:
        visitors.append(read_head(sock))

    with scripted(elsewhere) as other:

        def spoil(answer: Answer) -> None:
            answer.status, answer.body = status, b""
            answer.headers = [("Location", f"http://{other}/bucket/object"), ("Content-Length", "0")]

        with pytest.raises(OrbitError) as caught:
            download(Gateway(spoil, methods=methods), tmp_path / "restored.bin")
    assert isinstance(caught.value, (WrongEndpoint, Network))
    assert visitors == []
    assert not (tmp_path / "restored.bin").exists()


def test_a_checksum_that_is_no_base64_is_no_proof(tmp_path: Path) -> None:
    """It is compared, and differs."""

    def spoil(answer: Answer) -> None:
        answer.set("x-amz-checksum-crc32", "not base64!")
        answer.set("x-amz-checksum-type", "FULL_OBJECT")

    with pytest.raises(IntegrityError):
        download(Gateway(spoil, methods=("GET", "HEAD")), tmp_path / "restored.bin")
    assert list(tmp_path.iterdir()) == []
