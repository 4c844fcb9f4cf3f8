"""What an operation works with: the server's world, one request, and its received body."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model_server.blobs import Blob, BlobStore
from tests.model_server.checksums import Algorithm
from tests.model_server.config import Credentials, ServerProfile
from tests.model_server.errors import S3Error
from tests.model_server.faults import FaultBook
from tests.model_server.pacing import Pacer
from tests.model_server.records import RequestLog, RequestRecord
from tests.model_server.sigv4 import Keyring
from tests.model_server.state import StoredPart, StoredVersion
from tests.model_server.store import Store
from tests.model_server.wire import RequestHead, Response


@dataclass
class World:
    """Everything the connections of one server share."""

    region: str
    profile: ServerProfile
    owner: Credentials
    keyring: Keyring
    store: Store
    blobs: BlobStore
    log: RequestLog
    faults: FaultBook
    pacer: Pacer
    stop: threading.Event
    clock: Callable[[], float]
    # The keys that DeleteObjects has named, numbered from 1, and those of which the profile has had its way.
    seen_keys: dict[tuple[str, str], int] = field(default_factory=dict)
    struck_keys: set[tuple[str, str]] = field(default_factory=set)
    served: deque[float] = field(default_factory=deque)

    def admits(self) -> bool:
        """Whether the profile's rate allows one more request now."""
        with self.store.lock:
            now = self.clock()
            while self.served and self.served[0] <= now - 1:
                self.served.popleft()
            if self.profile.requests_per_second and len(self.served) >= self.profile.requests_per_second:
                return False
            self.served.append(now)
            return True


@dataclass
class ReceivedBody:
    """A body that passed every check it declared; large ones are a blob, others are data."""

    size: int = 0
    data: bytes = b""
    blob: Blob | None = None
    md5: str = ""
    digests: dict[Algorithm, bytes] = field(default_factory=dict)


@dataclass
class Exchange:
    """One request under way. `touched` is what it changed, for faults that corrupt it.

    `claimed_range` is the range that the answer says it holds, when a fault put another one in its place.
    """

    world: World
    head: RequestHead
    record: RequestRecord
    identity: Credentials
    body: ReceivedBody = field(default_factory=ReceivedBody)
    algorithms: set[Algorithm] = field(default_factory=set)
    declared: Algorithm | None = None
    touched: StoredPart | StoredVersion | None = None
    claimed_range: tuple[int, int] | None = None
    cleanups: list[Callable[[], None]] = field(default_factory=list)

    @property
    def bucket(self) -> str:
        return self.head.bucket

    @property
    def key(self) -> str:
        return self.head.key

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A number from the query; raises InvalidArgument outside [least, most]."""
        text = self.head.parameter(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise S3Error("InvalidArgument", f"{name} must be a number between {least} and {most}: {text}")
        return int(text)


@dataclass(frozen=True)
class Operation:
    """How one S3 operation is served.

    `admit` refuses what can be refused without the body. `stores_body` puts the body into a blob. `object_checksum`
    means that checksum headers speak of the object and not of the request's body.
    """

    name: str
    run: Callable[[Exchange], Response]
    admit: Callable[[Exchange], None] | None = None
    stores_body: bool = False
    object_checksum: bool = False
