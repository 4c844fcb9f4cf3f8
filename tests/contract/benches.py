"""The stores under contract, each with a plain way to look at what it holds."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
import pytest
from botocore.config import Config

from orbit_airflow.engine.events import no_reporter
from orbit_airflow.engine.model import KIB, MIB, ObjectRef
from orbit_airflow.engine.options import Credentials, EngineConfig
from orbit_airflow.engine.plan import AWS_LIMITS, StoreLimits
from orbit_airflow.engine.resilience.limits import BandwidthLimiter, Permits
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.stores.client import make_client, prepare_client
from orbit_airflow.engine.stores.limited import LimitedStore
from orbit_airflow.engine.stores.retrying import RetryingStore
from orbit_airflow.engine.stores.s3 import S3Store
from orbit_airflow.testing import FaultyStore, MemoryStore
from tests.contract.quirks import QUIRKS, Quirks
from tests.model_server import ModelServer, ServerProfile
from tests.servers import missing_reason, running_servers

BUCKET = f"contract-{uuid.uuid4().hex[:12]}"
PAGE = 2


class Window(Protocol):
    """How a test looks at a store without the engine."""

    def read(self, ref: ObjectRef) -> bytes:
        """An object's bytes."""

    def tags(self, ref: ObjectRef) -> dict[str, str]:
        """Its tags."""

    def content_type(self, ref: ObjectRef) -> str | None:
        """Its type."""

    def open_uploads(self, ref: ObjectRef) -> list[str]:
        """The upload ids that are open for this key."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One store and what a test needs beside it; ``config`` is None for stores that no client reaches."""

    name: str
    store: TransferStore
    window: Window
    part: int
    limits: StoreLimits
    config: EngineConfig | None = None

    @property
    def quirks(self) -> Quirks:
        """What this store does otherwise."""
        return QUIRKS[self.name]

    def ref(self, key: str | None = None) -> ObjectRef:
        """An address of its own."""
        return ObjectRef(BUCKET, key or f"folder/{uuid.uuid4().hex}")


class MemoryWindow:
    """Into a MemoryStore."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory

    def read(self, ref: ObjectRef) -> bytes:
        return self._memory.read(ref)

    def tags(self, ref: ObjectRef) -> dict[str, str]:
        return dict(self._memory.objects[ref].attributes.tags)

    def content_type(self, ref: ObjectRef) -> str | None:
        return self._memory.objects[ref].attributes.content_type

    def open_uploads(self, ref: ObjectRef) -> list[str]:
        return [upload.upload_id for upload in self._memory.uploads(ref)]


class ClientWindow:
    """Through a plain boto3 client, which has nothing of ours."""

    def __init__(self, config: EngineConfig) -> None:
        assert config.credentials is not None
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=config.endpoint,
            region_name=config.region,
            aws_access_key_id=config.credentials.access_key,
            aws_secret_access_key=config.credentials.secret_key,
            verify=config.verify,
            config=Config(s3={"addressing_style": "path"}, response_checksum_validation="when_required"),
        )

    def read(self, ref: ObjectRef) -> bytes:
        data: bytes = self.client.get_object(Bucket=ref.bucket, Key=ref.key)["Body"].read()
        return data

    def tags(self, ref: ObjectRef) -> dict[str, str]:
        answer = self.client.get_object_tagging(Bucket=ref.bucket, Key=ref.key)
        return {item["Key"]: item["Value"] for item in answer.get("TagSet", [])}

    def content_type(self, ref: ObjectRef) -> str | None:
        kind: str | None = self.client.head_object(Bucket=ref.bucket, Key=ref.key).get("ContentType")
        return kind

    def open_uploads(self, ref: ObjectRef) -> list[str]:
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=ref.bucket)
        return [item["UploadId"] for page in pages for item in page.get("Uploads", []) if item["Key"] == ref.key]

    def clear(self) -> None:
        """Remove the bucket and all that is in it."""
        for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET):
            for item in page.get("Uploads", []):
                self.client.abort_multipart_upload(Bucket=BUCKET, Key=item["Key"], UploadId=item["UploadId"])
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", []):
                self.client.delete_object(Bucket=BUCKET, Key=item["Key"])
        self.client.delete_bucket(Bucket=BUCKET)


def _wrapped(name: str, memory: MemoryStore) -> TransferStore:
    if name == "retrying":
        policy = RetryPolicy.fast()
        return RetryingStore(memory, policy, sleep=_never, rng=random.Random(1), reporter=no_reporter)
    if name == "limited":
        return LimitedStore(memory, Permits(2), BandwidthLimiter(10**12))
    return FaultyStore(memory, []) if name == "faulty" else memory


def _never(seconds: float) -> None:
    raise AssertionError(f"a contract test waited {seconds} s")


@contextmanager
def _memory(name: str) -> Iterator[Bench]:
    memory = MemoryStore(min_part_size=KIB, page_size=PAGE, buckets=[BUCKET])
    limits = StoreLimits(min_part_size=KIB, part_size_step=KIB)
    yield Bench(name=name, store=_wrapped(name, memory), window=MemoryWindow(memory), part=2 * KIB, limits=limits)


def _reached(name: str, config: EngineConfig, part: int) -> Bench:
    store = S3Store(prepare_client(make_client(config), config), config)
    return Bench(name=name, store=store, window=ClientWindow(config), part=part, limits=config.limits, config=config)


@contextmanager
def _model(name: str) -> Iterator[Bench]:
    profile = ServerProfile(min_part_size=KIB, max_parts_page=PAGE)
    with ModelServer(profile=profile, tls="https" in name) as server:
        server.create_bucket(BUCKET)
        config = EngineConfig(
            endpoint=server.endpoint_url,
            region=server.region,
            credentials=Credentials(access_key=server.access_key, secret_key=server.secret_key),
            verify=server.ca_file,
            force_path_style=True,
            chunk_size=2 * KIB,
            limits=StoreLimits(min_part_size=KIB, part_size_step=KIB),
            settle_seconds=1.0,
            lean=not name.endswith("-botocore"),
        )
        yield _reached(name, config, 2 * KIB)


@contextmanager
def _real(name: str) -> Iterator[Bench]:
    kind, _, way = name.partition("-")
    scheme = way.partition("-")[0]
    server = running_servers().get(kind)
    if server is None:
        reason = f"{kind}: {missing_reason(kind)}"
        if os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    config = EngineConfig(
        endpoint=server.https if scheme == "https" else server.http,
        region=server.region,
        credentials=Credentials(access_key=server.access_key, secret_key=server.secret_key),
        verify=server.ca_file if scheme == "https" else None,
        force_path_style=True,
        limits=AWS_LIMITS,
        settle_seconds=1.0,
        lean=not name.endswith("-botocore"),
    )
    bench = _reached(name, config, 5 * MIB)
    assert isinstance(bench.window, ClientWindow)
    bench.window.client.create_bucket(Bucket=BUCKET)
    try:
        yield bench
    finally:
        bench.window.clear()


@contextmanager
def opened(name: str) -> Iterator[Bench]:
    """The bench of this name; skips when its server does not run (fails with REQUIRE_SERVERS=1)."""
    makers = {"memory": _memory, "retrying": _memory, "limited": _memory, "faulty": _memory}
    maker = _model if name.startswith("model") else makers.get(name, _real)
    with maker(name) as bench:
        yield bench
