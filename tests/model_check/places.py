"""Where the engine and its model are compared: a bucket for each run, and a hand that is not the engine's."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import boto3
from botocore.config import Config

from orbit_airflow.engine.compose import engine_over
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import MIB, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import Credentials, EngineConfig
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.stores.client import make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from orbit_airflow.testing import MemoryStore
from tests.bodies import BytesBody
from tests.contract.bodies import digests_of
from tests.contract.quirks import QUIRKS, Quirks
from tests.model_server import ModelServer
from tests.servers import missing_reason, running_servers

NAMES = ("memory", "model", "ceph", "localstack")


class Stranger(Protocol):
    """Somebody else who writes into the bucket; each verb is one request."""

    def put(self, key: str, body: bytes, label: str) -> str | None:
        """The version id."""

    def delete(self, key: str) -> str | None:
        """The marker's id."""

    def delete_version(self, key: str, version_id: str) -> None:
        """One version, for good."""


class Interrupting:
    """A store before one of whose requests somebody else acts."""

    def __init__(self, store: TransferStore) -> None:
        self._store = store
        self._left = 0
        self._act: Callable[[], None] | None = None

    def arm(self, requests: int, act: Callable[[], None]) -> None:
        """Act when so many requests have been answered."""
        self._left, self._act = requests, act

    def disarm(self) -> None:
        """Act now, if that moment has not come."""
        act, self._act = self._act, None
        if act is not None:
            act()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb: Callable[..., Any] = getattr(self._store, name)

        def asked(*args: Any, **kwargs: Any) -> Any:
            if self._act is not None and self._left == 0:
                self.disarm()
            self._left -= 1
            return verb(*args, **kwargs)

        return asked


@dataclass(frozen=True, kw_only=True)
class Site:
    """One bucket. ``tick`` ends a second of the store's clock and returns its last moment."""

    bucket: str
    engine: TransferEngine
    between: Interrupting
    stranger: Stranger
    tick: Callable[[], datetime]
    close: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One store. ``open_site`` makes a bucket."""

    name: str
    quirks: Quirks
    open_site: Callable[[], Site]


class MemoryStranger:
    """Straight into a MemoryStore."""

    def __init__(self, store: MemoryStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    def put(self, key: str, body: bytes, label: str) -> str | None:
        attributes = ObjectAttributes(metadata=(("label", label),), tags=(("label", label),))
        ref = ObjectRef(self._bucket, key)
        receipt = self._store.put(ref, BytesBody(body), digests_of(body), attributes, if_none_match=False)
        return receipt.version_id

    def delete(self, key: str) -> str | None:
        return self._store.delete(ObjectRef(self._bucket, key)).version_id

    def delete_version(self, key: str, version_id: str) -> None:
        self._store.delete(ObjectRef(self._bucket, key, version_id))


class ClientStranger:
    """By bare boto3."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, body: bytes, label: str) -> str | None:
        answer = self._client.put_object(
            Bucket=self._bucket, Key=key, Body=body, Metadata={"label": label}, Tagging=f"label={label}"
        )
        return cast("str | None", answer.get("VersionId"))

    def delete(self, key: str) -> str | None:
        return cast("str | None", self._client.delete_object(Bucket=self._bucket, Key=key).get("VersionId"))

    def delete_version(self, key: str, version_id: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version_id)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> datetime:
        """The next second."""
        ended = _end_of_second(self.now)
        self.now += 1
        return ended


def _end_of_second(now: float) -> datetime:
    return datetime.fromtimestamp(int(now), UTC).replace(microsecond=999_999)


def _site(store: TransferStore, config: EngineConfig, stranger: Stranger, **rest: Any) -> Site:
    between = Interrupting(store)
    settings = replace(config, retry=replace(RetryPolicy.fast(), initial_delay=0.0, max_delay=0.0))
    engine = engine_over(cast("TransferStore", between), settings)
    return Site(bucket=config.bucket or "", engine=engine, between=between, stranger=stranger, **rest)


def _memory_site() -> Site:
    clock = Clock()
    store = MemoryStore(page_size=3, clock=clock)
    config = EngineConfig(bucket="bucket", outage_patience=0)
    return _site(store, config, MemoryStranger(store, "bucket"), tick=clock.tick, close=lambda: None)


def _client(config: EngineConfig) -> Any:
    assert config.credentials is not None
    return boto3.client(
        "s3",
        endpoint_url=config.endpoint,
        region_name=config.region,
        aws_access_key_id=config.credentials.access_key,
        aws_secret_access_key=config.credentials.secret_key,
        config=Config(s3={"addressing_style": "path"}, response_checksum_validation="when_required"),
    )


def _reached(config: EngineConfig, tick: Callable[[], datetime]) -> Callable[[], Site]:
    """Sites of one server; both clients are made once."""
    store, client = S3Store(prepare_client(make_client(config), config), config), _client(config)

    def open_site() -> Site:
        bucket = f"check-{uuid.uuid4().hex[:16]}"
        client.create_bucket(Bucket=bucket)
        return _site(
            store,
            replace(config, bucket=bucket),
            ClientStranger(client, bucket),
            tick=tick,
            close=lambda: _remove(client, bucket),
        )

    return open_site


def _remove(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=bucket)


def _config(endpoint: str, region: str, access_key: str, secret_key: str) -> EngineConfig:
    return EngineConfig(
        endpoint=endpoint,
        region=region,
        credentials=Credentials(access_key=access_key, secret_key=secret_key),
        force_path_style=True,
        chunk_size=5 * MIB,
        outage_patience=0,
    )


def _next_second() -> datetime:
    """Wait for the real server's clock, which is this machine's: versions carry whole seconds."""
    ended = _end_of_second(time.time())
    while time.time() < ended.timestamp() + 0.01:
        time.sleep(0.01)
    return ended


@contextmanager
def opened(name: str) -> Iterator[Place]:
    """The place of this name. LookupError when its server does not run."""
    if name == "memory":
        yield Place(name=name, quirks=QUIRKS["memory"], open_site=_memory_site)
    elif name == "model":
        with ModelServer() as server:

            def tick() -> datetime:
                now = time.time() + server.clock_offset
                server.clock_offset += 1.001 - now % 1
                return _end_of_second(now)

            config = _config(server.endpoint_url, server.region, server.access_key, server.secret_key)
            open_site = _reached(config, tick)

            def open_in_time() -> Site:
                # Signatures are good for a quarter of an hour.
                server.clock_offset = 0.0
                return open_site()

            yield Place(name=name, quirks=QUIRKS["model-http"], open_site=open_in_time)
    else:
        real = running_servers().get(name)
        if real is None:
            raise LookupError(f"{name}: {missing_reason(name)}")
        config = _config(real.http, real.region, real.access_key, real.secret_key)
        yield Place(name=name, quirks=QUIRKS[f"{name}-http"], open_site=_reached(config, _next_second))
