"""What a flow test stands on: a store in memory with a script of faults, tokens, a file, and a clock of its own."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orbit_airflow.engine.checksums import crc32
from orbit_airflow.engine.errors import AccessDenied, NotFound, RequestContext
from orbit_airflow.engine.events import Notice, Reporter, TransferEvent
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import DownloadResult, ObjectAttributes, ObjectRef, UploadResult
from orbit_airflow.engine.options import DownloadOptions, EngineConfig, UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.resilience.limits import Permits
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import PartDigests, TransferStore
from orbit_airflow.engine.stores.limited import LimitedStore
from orbit_airflow.engine.stores.retrying import RetryingStore
from orbit_airflow.engine.token import TokenStore
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore, RecordedRequest
from orbit_airflow.testing.faults import Operation, When
from tests.bodies import BytesBody

PART = 2048
LIMITS = StoreLimits(min_part_size=1024, part_size_step=1024)
REF = ObjectRef("bucket", "folder/night.bin")
E = TypeVar("E")
# What HEAD says to credentials that may only write, and where nothing is.
HIDDEN = AccessDenied("Forbidden", RequestContext("HeadObject", REF.bucket, REF.key, status=403, code="403"))
ABSENT = NotFound("Not Found", RequestContext("HeadObject", REF.bucket, REF.key, status=404, code="404"))


class Killed(BaseException):
    """The process died: nothing in the engine may catch it."""


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.now = start
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Over at once."""
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)


class QuickCancellation(Cancellation):
    """A stop order whose waits take no time."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__()
        self._time = time

    def sleep(self, seconds: float) -> None:
        """Look for the stop order; move the clock."""
        self.check()
        self._time.sleep(seconds)


class DictTokens:
    """Tokens in a dict, through JSON as any real store would keep them."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.phases: list[str] = []

    def load(self, key: str) -> object:
        """As kept."""
        return json.loads(self.kept[key]) if key in self.kept else None

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Always kept."""
        self.kept[key] = json.dumps(token)
        self.phases.append(token["phase"])
        return True

    def drop(self, key: str) -> None:
        """Forgotten."""
        self.kept.pop(key, None)

    @property
    def only(self) -> dict[str, Any]:
        """The one token that there is."""
        (text,) = self.kept.values()
        token: dict[str, Any] = json.loads(text)
        return token

    def edit(self, **changes: Any) -> None:
        """Change fields of the one token, as a hand or another version would."""
        (key,) = self.kept
        self.kept[key] = json.dumps({**self.only, **changes})


class NoTokensKept(DictTokens):
    """A state store that loses everything without a word."""

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Lost."""
        self.phases.append(token["phase"])
        return True


class Refusing(DictTokens):
    """A state store that does not keep tokens of these phases."""

    def __init__(self, *phases: str) -> None:
        super().__init__()
        self.refused = set(phases)

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Kept, or lost without a word."""
        return token["phase"] not in self.refused and super().save(key, token)


def data_of(size: int, seed: int = 1) -> bytes:
    """Reproducible bytes."""
    return random.Random(seed).randbytes(size)


class Bench:
    """One file, one address, one store; each ``upload`` is a new try with an engine of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "night.bin"
        self.target = folder / "restored.bin"
        self.object_checksum = True
        self.ref = REF
        self.time = FakeTime()
        self.tokens: TokenStore = DictTokens()
        self.events: list[TransferEvent] = []
        self.workers = 2
        self.part_size = PART
        self.settings: dict[str, Any] = {}
        self.use()

    def use(self, **profile: Any) -> MemoryStore:
        """Another store in memory, by its properties."""
        self.memory = MemoryStore(**{"min_part_size": 1024, "clock": self.time, **profile})
        self.faulty = FaultyStore(self.memory)
        return self.memory

    def write(self, size: int, seed: int = 1) -> bytes:
        """The file's bytes, from now on."""
        data = data_of(size, seed)
        self.path.write_bytes(data)
        return data

    def config(self, **changes: Any) -> EngineConfig:
        """The settings of the next try."""
        fixed: dict[str, Any] = {
            "chunk_size": self.part_size,
            "parallel_operations": self.workers,
            "limits": LIMITS,
            "settle_seconds": 10.0,
            "outage_patience": 0,
        }
        return EngineConfig(**{**fixed, **self.settings, **changes})

    def engine(self, config: EngineConfig | None = None) -> TransferEngine:
        """As ``engine_over`` puts it together, on this bench's clock."""
        settings = config or self.config()
        dice = random.Random(3)
        permits = Permits(settings.parallel_operations)

        def store_for(cancel: Cancellation, reporter: Reporter) -> TransferStore:
            limited = LimitedStore(self.faulty, permits, cancel=cancel)
            return RetryingStore(limited, settings.policy, sleep=cancel.sleep, rng=dice, reporter=reporter)

        return TransferEngine(settings, store_for, clock=self.time, monotonic=self.time, rng=dice)

    def cancellation(self) -> QuickCancellation:
        """A stop order that waits on this bench's clock."""
        return QuickCancellation(self.time)

    def upload(self, *, cancel: Cancellation | None = None, **options: Any) -> UploadResult:
        """One try."""
        return self.engine().upload(
            self.path,
            self.ref,
            UploadOptions(**options),
            tokens=self.tokens,
            reporter=self.events.append,
            cancel=cancel or self.cancellation(),
        )

    def store(self, data: bytes, **attributes: Any) -> bytes:
        """The object's bytes, from now on, put by somebody else in one request."""
        with_crc = PartDigests(crc32=crc32(data)) if self.object_checksum else PartDigests()
        self.memory.put(self.ref, BytesBody(data), with_crc, ObjectAttributes(**attributes), if_none_match=False)
        self.memory.requests.clear()
        return data

    def download(self, *, cancel: Cancellation | None = None, **options: Any) -> DownloadResult:
        """One try."""
        return self.engine().download(
            self.ref,
            self.target,
            DownloadOptions(**options),
            tokens=self.tokens,
            reporter=self.events.append,
            cancel=cancel or self.cancellation(),
        )

    def die_downloading(self, request: int, when: When = "before", **options: Any) -> None:
        """One download that ends at this request, alone in its thread; the next one meets no fault."""
        workers, self.workers = self.workers, 1
        self.kill_at(request, when)
        with pytest.raises(Killed):
            self.download(**options)
        self.workers = workers
        self.faulty.clear()
        self.memory.requests.clear()
        self.events.clear()

    @property
    def hidden(self) -> list[Path]:
        """What downloads have left in the target's directory."""
        return sorted(path for path in self.folder.iterdir() if ".orbit-" in path.name)

    @property
    def part_file(self) -> Path:
        """The one part file."""
        (path,) = (path for path in self.hidden if path.name.endswith(".orbit-part"))
        return path

    @property
    def journal_file(self) -> Path:
        """The one journal."""
        (path,) = (path for path in self.hidden if path.name.endswith(".orbit-journal"))
        return path

    def fresh_tokens(self) -> DictTokens:
        """A token store that has seen nothing."""
        return DictTokens()

    @property
    def phases(self) -> list[str]:
        """The phases of all tokens that were saved, in order."""
        assert isinstance(self.tokens, DictTokens)
        return self.tokens.phases

    def on(
        self, operation: Operation, call: Callable[[], object], *, times: int | None = 1, when: When = "before"
    ) -> None:
        """Call this at the first such request, or at all of them."""
        self.faulty.add(Fault(operation, times=times, when=when, call=call))

    def kill_at(self, request: int, when: When = "before") -> None:
        """Die at this request; no later one gets through either."""
        self.faulty.clear()
        self.faulty.add(Fault("*", nth=request, times=None, when=when, error=Killed()))

    def die(self, request: int, when: When = "before", **options: Any) -> None:
        """One try that ends at this request, alone in its thread; the next one meets no fault."""
        workers, self.workers = self.workers, 1
        self.kill_at(request, when)
        with pytest.raises(Killed):
            self.upload(**options)
        self.workers = workers
        self.faulty.clear()
        self.events.clear()

    @property
    def token(self) -> dict[str, Any]:
        """The kept token."""
        assert isinstance(self.tokens, DictTokens)
        return self.tokens.only

    def edit_token(self, **changes: Any) -> None:
        """Change the kept token."""
        assert isinstance(self.tokens, DictTokens)
        self.tokens.edit(**changes)

    @property
    def stored(self) -> bytes:
        """What the key holds."""
        return self.memory.read(self.ref)

    @property
    def sent(self) -> int:
        """Body bytes that arrived, of all tries."""
        return sum(request.bytes for request in self.memory.requests)

    def asked(self, operation: str) -> list[RecordedRequest]:
        """The requests of one kind that reached the store."""
        return [request for request in self.memory.requests if request.operation == operation]

    @property
    def notices(self) -> str:
        """All notices, in one text."""
        return "\n".join(event.message for event in self.events if isinstance(event, Notice))

    def seen(self, kind: type[E]) -> Sequence[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def settled(self, data: bytes) -> None:
        """The promise: the right bytes, one version, no open upload."""
        assert self.stored == data
        assert len(self.memory.versions(self.ref)) == 1
        assert self.memory.uploads() == []
