"""One model server per session, and an engine with short limits over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orbit_airflow.engine import (
    Credentials,
    EngineConfig,
    FileTokenStore,
    ObjectRef,
    RetryPolicy,
    UploadOptions,
    UploadResult,
    open_engine,
)
from orbit_airflow.engine.events import Notice, TransferEvent
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.stores.client import make_client
from orbit_airflow.engine.stores.s3 import S3Store
from tests.model_server import ModelServer, ServerProfile

PART = 256 * 1024
BUCKET = "scenario"


@dataclass
class Stage:
    """A server, an engine over it, a file, and what the engine said."""

    server: ModelServer
    path: Path
    ref: ObjectRef
    tokens: FileTokenStore
    lean: bool = True
    events: list[TransferEvent] = field(default_factory=list)

    def engine(self, **settings: object) -> TransferEngine:
        """A new engine, as a new try has one: short waits, small parts."""
        keys = Credentials(access_key=self.server.access_key, secret_key=self.server.secret_key)
        chosen: dict[str, object] = {
            "region": self.server.region,
            "endpoint": self.server.endpoint_url,
            "verify": self.server.ca_file,
            "credentials": keys,
            "force_path_style": True,
            "chunk_size": PART,
            "stall_timeout": 1.0,
            "timeout_seconds": 2.0,
            "settle_seconds": 1.0,
            # No breaker, no patience: most faults here last for ever, and the next test has the same endpoint.
            "retry": RetryPolicy(initial_delay=0.01, max_delay=0.05, use_circuit_breaker=False),
            "outage_patience": 0,
            "limits": StoreLimits(min_part_size=PART),
            "lean": self.lean,
        }
        return open_engine(EngineConfig(**{**chosen, **settings}))  # type: ignore[arg-type]

    def notices(self) -> str:
        """All notices as one text."""
        return "\n".join(event.message for event in self.events if isinstance(event, Notice))

    def versions(self) -> list[bytes]:
        """The bytes of every version of the key."""
        return [version.read() for version in self.server.versions(BUCKET, self.ref.key)]

    def upload_ids(self) -> list[str]:
        """The uploads that the server keeps for the key."""
        return [upload.upload_id for upload in self.server.open_uploads(BUCKET) if upload.key == self.ref.key]

    def open_uploads(self) -> int:
        """Their number."""
        return len(self.upload_ids())

    def store(self) -> S3Store:
        """A store of one's own, as a stranger with the same keys has."""
        config = self.engine().config
        return S3Store(make_client(config), config)


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    with ModelServer(profile=ServerProfile(min_part_size=PART)) as server:
        server.create_bucket(BUCKET, versioning="Enabled")
        yield server


@pytest.fixture(params=[True, False], ids=["lean", "botocore"])
def lean(request: pytest.FixtureRequest) -> bool:
    """Every scenario on both paths."""
    return bool(request.param)


@pytest.fixture
def stage(model_server: ModelServer, tmp_path: Path, request: pytest.FixtureRequest, lean: bool) -> Iterator[Stage]:
    """A fresh key and a file of five parts and a bit."""
    model_server.reset()
    model_server.set_profile(ServerProfile(min_part_size=PART))
    path = tmp_path / "source.bin"
    path.write_bytes(os.urandom(5 * PART + 1000))
    yield Stage(model_server, path, ObjectRef(BUCKET, request.node.name), FileTokenStore(tmp_path / "tokens"), lean)
    model_server.reset()
    model_server.set_profile(ServerProfile(min_part_size=PART))


@pytest.fixture
def upload(stage: Stage) -> Callable[..., UploadResult]:
    """Upload the stage's file with its tokens and collect the events."""

    def run(engine: TransferEngine | None = None, **options: object) -> UploadResult:
        chosen = UploadOptions(**options)  # type: ignore[arg-type]
        return (engine or stage.engine()).upload(
            stage.path, stage.ref, chosen, tokens=stage.tokens, reporter=stage.events.append
        )

    return run
