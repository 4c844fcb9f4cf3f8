"""The server: a listener on loopback, one thread per connection, and the handles a test needs."""

import shutil
import socket
import ssl
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import final

from tests.model_server.blobs import BlobStore
from tests.model_server.config import Credentials, ServerProfile
from tests.model_server.connection import Connection
from tests.model_server.control import put_in_force
from tests.model_server.exchange import World
from tests.model_server.fault_actions import reset_on_close
from tests.model_server.faults import Fault, FaultBook
from tests.model_server.pacing import Pacer
from tests.model_server.records import RequestLog, RequestRecord
from tests.model_server.seeds import Seed, plant
from tests.model_server.sigv4 import Keyring
from tests.model_server.state import Versioning
from tests.model_server.store import Store
from tests.model_server.tls import make_certificate
from tests.model_server.views import OpenUpload, VersionView

_JOIN_SECONDS = 5.0


@final
class ModelServer:
    """A strict S3 server on 127.0.0.1; it listens from construction until `close`.

    `data_dir` holds the bytes; without one they go to a temporary directory that `close` removes. With `discard` bytes
    are verified and thrown away. The first of the credentials owns every bucket. `receive_buffer` bounds what the
    kernel takes of a request ahead of the server: a body whose sender dies is cut, not finished out of a buffer.
    """

    def __init__(
        self,
        *,
        profile: ServerProfile | None = None,
        credentials: tuple[Credentials, ...] = (Credentials(),),
        tls: bool = False,
        port: int = 0,
        data_dir: Path | str | None = None,
        discard: bool = False,
        rate_limit: int | None = None,
        receive_buffer: int | None = None,
        region: str = "us-east-1",
    ) -> None:
        self._temporary = tempfile.mkdtemp(prefix="model-s3-")
        directory = Path(data_dir) if data_dir is not None else Path(self._temporary) / "data"
        directory.mkdir(parents=True, exist_ok=True)
        self.clock_offset = 0.0
        self._first = credentials[0]
        stop = threading.Event()
        self._world = World(
            region=region,
            profile=profile or ServerProfile(),
            owner=self._first,
            keyring=Keyring(credentials),
            store=Store(self._now),
            # A directory of its own, so that two servers on one data directory never meet.
            blobs=BlobStore(Path(tempfile.mkdtemp(prefix="run-", dir=directory)), discard=discard),
            log=RequestLog(),
            faults=FaultBook(),
            pacer=Pacer(stop, time.monotonic, rate_limit),
            stop=stop,
            clock=self._now,
        )
        self.ca_file: str | None = None
        self._context: ssl.SSLContext | None = None
        if tls:
            certificate, self._context = make_certificate(Path(self._temporary))
            self.ca_file = str(certificate)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        if receive_buffer is not None:
            # Inherited by what is accepted.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="model-s3-accept", daemon=True)
        self._accepting.start()

    def _now(self) -> float:
        return time.time() + self.clock_offset

    @property
    def endpoint_url(self) -> str:
        """Where clients connect."""
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def access_key(self) -> str:
        """The access key of the first credentials."""
        return self._first.access_key

    @property
    def secret_key(self) -> str:
        """The secret key of the first credentials."""
        return self._first.secret_key

    @property
    def region(self) -> str:
        """The region that signatures must name."""
        return self._world.region

    def __enter__(self) -> "ModelServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut every connection, end every thread and remove what is temporary; a second call does nothing."""
        if self._world.stop.is_set():
            return
        self._world.stop.set()
        # shutdown wakes the accept call; close alone would leave it waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(_JOIN_SECONDS)
        with self._lock:
            held = dict(self._open)
        for sock in held.values():
            _cut(sock)
        for thread in held:
            thread.join(_JOIN_SECONDS)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _accept(self) -> None:
        while not self._world.stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), name="model-s3-connection", daemon=True)
            with self._lock:
                self._open[thread] = sock
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        this = threading.current_thread()
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open[this] = sock
            Connection(self._world, sock).serve()
        except OSError:
            # A handshake that fails is the client's business; there is no request to answer.
            sock.close()
        finally:
            with self._lock:
                self._open.pop(this, None)

    def create_bucket(self, name: str, versioning: Versioning = "") -> None:
        """A new bucket, without a request."""
        self._world.store.create_bucket(name, versioning)

    def seed(self, seed: Seed) -> VersionView:
        """Put an object there without a request: its bytes, parts, ETag and checksum as they are given."""
        return VersionView.of(plant(seed, self._world.store, self._world.blobs, self._world.owner))

    def inject(self, fault: Fault) -> None:
        """Put a fault rule in force; raises ValueError for one that could never act."""
        put_in_force(self._world, fault)

    def clear_faults(self, key: str | None = None) -> None:
        """Drop all fault rules, or those that are about this key."""
        self._world.faults.clear(key)

    def records(self, operation: str | None = None, key: str | None = None) -> list[RequestRecord]:
        """The log, of one operation and key when given."""
        return self._world.log.records(operation, key)

    def bytes_received(self, operation: str | None = None, key: str | None = None) -> int:
        """The body bytes received, repeated sends included."""
        return self._world.log.bytes_received(operation, key)

    def bytes_by_part(self) -> dict[tuple[str, int], int]:
        """The body bytes received for each (upload id, part number)."""
        return self._world.log.bytes_by_part()

    def versions(self, bucket: str, key: str) -> list[VersionView]:
        """The versions and delete markers of a key, newest first."""
        return [VersionView.of(item) for item in self._world.store.versions(bucket, key)]

    def open_uploads(self, bucket: str) -> list[OpenUpload]:
        """The multipart uploads that are neither completed nor aborted."""
        with self._world.store.lock:
            found = list(self._world.store.bucket(bucket).uploads.values())
        return [OpenUpload.of(item) for item in found]

    def reset(self) -> None:
        """Forget log and faults; keep the buckets."""
        self._world.faults.clear()
        self._world.log.clear()

    def empty(self) -> None:
        """Take every object and every open upload out of all buckets."""
        for bucket in self._world.store.buckets():
            with self._world.store.lock:
                bucket.objects.clear()
                bucket.uploads.clear()

    def set_rate_limit(self, rate: int | None) -> None:
        """The new upload rate of all connections together, in bytes per second."""
        self._world.pacer.set_rate(rate)

    def add_credentials(self, credentials: Credentials) -> None:
        """Know one more key pair."""
        self._world.keyring.add(credentials)

    def expire_credentials(self, access_key: str, after: int = 0) -> None:
        """Answer ExpiredToken to this key pair from now on, or after so many more requests."""
        self._world.keyring.expire(access_key, after)

    def set_profile(self, profile: ServerProfile) -> None:
        """Imitate another store from the next request on."""
        self._world.profile = profile


def _cut(sock: socket.socket) -> None:
    try:
        reset_on_close(sock)
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The connection's own thread was faster.
        return
