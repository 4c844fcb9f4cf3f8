"""OrbitS3NewVersionTrigger as a triggerer runs it: shared listings, stored events, restarts."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import boto3
import pytest
import structlog
from airflow.triggers.base import TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager
from botocore.config import Config

from orbit_airflow.triggers import listing
from orbit_airflow.triggers.listing import SharedListing
from orbit_airflow.triggers.new_version import OrbitS3NewVersionTrigger
from orbit_airflow.triggers.pace import Pace
from orbit_airflow.triggers.watermark import Watermark
from tests.airflow.fakes import FakeComms, RecordingLog
from tests.model_server import Fault, ModelServer

BUCKET = "versioned"
_PREFIXES = (f"watch{number}/" for number in itertools.count())


class Accessor:
    """One asset's state store. Values are JSON, as Airflow keeps them."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.writes: list[str] = []
        self.broken = False

    async def aget(self, key: str, default: Any = None) -> Any:
        self._check()
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        self._check()
        self.writes.append(key)
        self.values[key] = json.dumps(value)

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError("the API server is away")


class BlockingAccessor:
    """As Airflow 3.3.1 has it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


class Triggerer:
    """Watchers in one event loop over Airflow's own stream manager. ``store`` says when events become persistent."""

    def __init__(self) -> None:
        self.manager = SharedStreamManager(log=structlog.get_logger("test"))
        self.stored: list[tuple[int, dict[str, Any]]] = []
        self.storing = True
        self._waiting: list[tuple[int, dict[str, Any], int | None]] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, number: int, trigger: OrbitS3NewVersionTrigger) -> None:
        self._tasks[number] = asyncio.create_task(self._run(number, trigger))

    async def _run(self, number: int, trigger: OrbitS3NewVersionTrigger) -> None:
        key = trigger.shared_stream_key()
        assert key is not None
        stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                self._waiting.append((number, event.payload, seq))
        finally:
            await self.manager.unsubscribe(number, key)
            await trigger.cleanup()

    async def until(self, holds: Callable[[], bool], *, patience: float = 30.0) -> None:
        """Turn the wheel, storing events meanwhile, until it holds."""
        deadline = asyncio.get_running_loop().time() + patience
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, self.stored
            for task in self._tasks.values():
                if task.done():
                    task.result()
            if self.storing:
                waiting, self._waiting = self._waiting, []
                self.stored += [(number, payload) for number, payload, _ in waiting]
                self.manager.confirm_persisted([seq for *_, seq in waiting if seq is not None])
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """As a triggerer that ends, or dies: what was not stored is gone."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.manager.stop_all()

    def told(self, number: int = 1) -> list[str]:
        return [payload["version_id"] for who, payload in self.stored if who == number]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, comms: FakeComms) -> None:
    """No jitter, and a twentieth of the shortest pause."""
    monkeypatch.setattr(Pace, "after", lambda *_: 0.05)
    monkeypatch.setattr(Pace, "after_failures", lambda *_: 0.05)


@pytest.fixture
def prefix() -> str:
    return next(_PREFIXES)


@pytest.fixture
def put(s3: ModelServer) -> Callable[..., str]:
    client: Any = boto3.client(
        "s3", endpoint_url=s3.endpoint_url, aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
        region_name=s3.region, config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip

    def write(key: str, body: bytes = b"x") -> str:
        return str(client.put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"])

    return write


def watcher(store: Any = None, **kwargs: Any) -> OrbitS3NewVersionTrigger:
    trigger = OrbitS3NewVersionTrigger(**{"bucket_name": BUCKET, **kwargs})
    trigger.asset_state_store = store
    return trigger


def _whole_looks(s3: ModelServer) -> int:
    return len(s3.records("ListObjectVersions"))


def test_each_new_version_is_one_event(s3: ModelServer, prefix: str, put: Callable[..., str]) -> None:
    """What was there before is none, several of one key are several, and the payload says which."""
    put(prefix + "old")

    async def story() -> Triggerer:
        triggerer, store = Triggerer(), Accessor()
        triggerer.start(1, watcher(store, prefix=prefix))
        await triggerer.until(lambda: bool(store.values))
        made = [await asyncio.to_thread(put, prefix + name, b"abc") for name in ("a", "a", "old")]
        await triggerer.until(lambda: len(triggerer.stored) == 3)
        before = _whole_looks(s3)
        await triggerer.until(lambda: _whole_looks(s3) > before + 2)
        await triggerer.stop()
        assert triggerer.told() == made
        return triggerer

    payload = asyncio.run(story()).stored[0][1]
    assert json.loads(json.dumps(payload)) == payload
    expected = {"uri": f"s3://{BUCKET}/{prefix}a", "bucket": BUCKET, "key": prefix + "a", "size": 3}
    assert {**payload, **expected, "delete_marker": False} == payload
    assert payload["etag"]


def test_a_restarted_triggerer_goes_on_where_it_was(prefix: str, put: Callable[..., str]) -> None:
    """What came while none ran is told of, and what was told of before is not told again."""

    async def story() -> None:
        store = Accessor()
        first = Triggerer()
        first.start(1, watcher(store, prefix=prefix))
        await first.until(lambda: bool(store.values))
        one = await asyncio.to_thread(put, prefix + "a")
        writes = len(store.writes)
        await first.until(lambda: first.told() == [one] and len(store.writes) > writes)
        await first.stop()
        two = await asyncio.to_thread(put, prefix + "a")
        second = Triggerer()
        second.start(1, watcher(store, prefix=prefix))
        await second.until(lambda: bool(second.stored))
        await second.stop()
        assert second.told() == [two]

    asyncio.run(story())


def test_an_event_that_was_not_stored_is_told_again(s3: ModelServer, prefix: str, put: Callable[..., str]) -> None:
    """The watermark waits for Airflow's word that the event is in its database: a death in between loses nothing."""

    async def story() -> None:
        store = Accessor()
        first = Triggerer()
        first.start(1, watcher(store, prefix=prefix))
        await first.until(lambda: bool(store.values))
        first.storing = False
        before = dict(store.values)
        version_id = await asyncio.to_thread(put, prefix + "a")
        await first.until(lambda: bool(first._waiting))
        looks = _whole_looks(s3)
        await asyncio.sleep(0.3)
        assert _whole_looks(s3) <= looks + 1
        await first.stop()
        assert store.values == before
        second = Triggerer()
        second.start(1, watcher(store, prefix=prefix))
        await second.until(lambda: bool(second.stored))
        await second.stop()
        assert second.told() == [version_id]

    asyncio.run(story())


def test_watchers_of_one_prefix_share_one_listing(s3: ModelServer, prefix: str, put: Callable[..., str]) -> None:
    """Each with its own filter, asset and watermark."""

    async def story() -> None:
        triggerer = Triggerer()
        stores = [Accessor() for _ in range(3)]
        triggerer.start(1, watcher(stores[0], prefix=prefix))
        triggerer.start(2, watcher(stores[1], prefix=prefix, key_pattern="*.csv"))
        triggerer.start(3, watcher(stores[2], prefix=prefix, delete_markers=True))
        await triggerer.until(lambda: all(store.values for store in stores))
        assert len(triggerer.manager._groups) == 1
        text, table = [await asyncio.to_thread(put, prefix + name) for name in ("a.txt", "b.csv")]
        await triggerer.until(lambda: len(triggerer.stored) == 5)
        await triggerer.stop()
        assert triggerer.told(1) == triggerer.told(3) == [text, table]
        assert triggerer.told(2) == [table]

    asyncio.run(story())


def test_other_places_have_other_listings() -> None:
    """By connection, region, bucket, place and interval; the filter does not matter."""
    keys = {
        watcher(**kwargs).shared_stream_key()
        for kwargs in (
            {"prefix": "a"}, {"prefix": "b"}, {"bucket_key": "a"}, {"prefix": "a", "aws_conn_id": "other"},
            {"prefix": "a", "region_name": "r"}, {"prefix": "a", "poll_interval": 5.0},
            {"prefix": "a", "bucket_name": "other"}, {"prefix": "a", "botocore_config": {"read_timeout": 1}},
        )
    }  # fmt: skip
    assert len(keys) == 8
    same = watcher(prefix="a", key_pattern="*", delete_markers=True).shared_stream_key()
    assert same == watcher(prefix="a").shared_stream_key()


def test_other_filters_have_other_watermarks() -> None:
    """Of two watchers of one asset, one may be behind the other."""
    names = {
        watcher(prefix="a", **kwargs).parameters.state_name
        for kwargs in ({}, {"key_pattern": "*"}, {"delete_markers": True}, {"aws_conn_id": "other"})
    }
    assert len(names) == 4
    assert watcher(prefix="a", poll_interval=1.0).parameters.state_name in names


def test_one_key_is_not_the_keys_that_begin_with_it(prefix: str, put: Callable[..., str]) -> None:
    async def story() -> None:
        triggerer, store = Triggerer(), Accessor()
        triggerer.start(1, watcher(store, bucket_key=prefix + "a"))
        await triggerer.until(lambda: bool(store.values))
        await asyncio.to_thread(put, prefix + "ab")
        wanted = await asyncio.to_thread(put, prefix + "a")
        await triggerer.until(lambda: bool(triggerer.stored))
        await triggerer.stop()
        assert triggerer.told() == [wanted]

    asyncio.run(story())


def test_a_listing_of_many_pages(
    s3: ModelServer, prefix: str, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page; a key's versions lie on several of them."""
    monkeypatch.setattr(listing, "PAGE", 3)
    for number in range(7):
        put(f"{prefix}{number}")

    async def story() -> None:
        triggerer, store = Triggerer(), Accessor()
        triggerer.start(1, watcher(store, prefix=prefix))
        await triggerer.until(lambda: bool(store.values))
        made = {await asyncio.to_thread(put, f"{prefix}{number}") for number in (0, 0, 3, 6, 9)}
        await triggerer.until(lambda: len(triggerer.stored) == 5)
        await triggerer.stop()
        assert set(triggerer.told()) == made

    asyncio.run(story())


@pytest.mark.parametrize("status", [503, 403])
def test_a_store_that_is_away_or_refuses_ends_no_watch(
    status: int, s3: ModelServer, prefix: str, put: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    """The triggerer would start it anew at once, and so for ever. What came meanwhile is told of."""

    async def story() -> None:
        triggerer, store = Triggerer(), Accessor()
        triggerer.start(1, watcher(store, prefix=prefix))
        await triggerer.until(lambda: bool(store.values))
        s3.inject(Fault(operation="ListObjectVersions", status=status, code="Odd", times=None))
        await triggerer.until(lambda: "could not look" in caplog.text)
        version_id = await asyncio.to_thread(put, prefix + "a")
        s3.clear_faults()
        await triggerer.until(lambda: bool(triggerer.stored))
        await triggerer.stop()
        assert triggerer.told() == [version_id]

    asyncio.run(story())
    levels = {record.levelname for record in caplog.records if "could not look" in record.message}
    assert levels == ({"WARNING"} if status == 503 else {"ERROR"})


def test_too_many_versions_are_an_error_that_says_what_to_do(
    prefix: str, put: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        put(prefix + "a")

    async def story() -> None:
        triggerer, store = Triggerer(), Accessor()
        triggerer.start(1, watcher(store, prefix=prefix, max_versions=2))
        await triggerer.until(lambda: "event notifications" in caplog.text)
        await triggerer.stop()
        assert store.values == {}

    asyncio.run(story())
    assert "has more than max_versions=2" in caplog.text


def test_a_state_store_that_is_away_is_waited_for(
    prefix: str, put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To begin anew would lose what came meanwhile; a write that failed is made up for."""
    monkeypatch.setattr("orbit_airflow.triggers.watermark.RETRY_SECONDS", 0.02)

    async def story() -> None:
        log, store = RecordingLog(), Accessor()
        log.warning = log.error = lambda text, *_: log.lines.append(("warning", text, {}))  # type: ignore[assignment,method-assign,attr-defined]
        store.broken = True
        mark = Watermark(store, "orbit:watch:x", log)
        await mark.save(frozenset([1]))
        loading = asyncio.create_task(Watermark(store, "orbit:watch:x", log).load())
        await asyncio.sleep(0.1)
        assert not loading.done()
        store.broken = False
        assert await loading is None
        await mark.save(frozenset([1]))
        writes = len(store.writes)
        await mark.save(mark._saved)
        assert len(store.writes) == writes
        assert await Watermark(store, "orbit:watch:x", log).load() == frozenset([1])
        store.values["orbit:watch:x"] = json.dumps({"schema": 1, "chunks": 0})
        assert await Watermark(store, "orbit:watch:x", log).load() is None
        assert any("begins anew" in text for text in log.texts("warning"))

    asyncio.run(story())


def test_a_trigger_of_several_assets_writes_to_each() -> None:
    """Airflow makes one trigger of equal ones; whichever asset stays has the watermark."""

    class Several:
        def __init__(self, **stores: Any) -> None:
            self._by_name = stores

    async def story() -> None:
        one, two = Accessor(), BlockingAccessor()
        log = RecordingLog()
        await Watermark(Several(a=one, b=two), "w", log).save(frozenset([7]))
        for left in (one, two):
            assert await Watermark(Several(x=left), "w", log).load() == frozenset([7])
        assert await Watermark(None, "w", log).load() is None

    asyncio.run(story())


def test_it_also_runs_alone(prefix: str, put: Callable[..., str]) -> None:
    """Where nobody shares streams: its ``run``."""

    async def story() -> None:
        store = Accessor()
        trigger = watcher(store, prefix=prefix)

        async def events() -> AsyncIterator[TriggerEvent]:
            async for event in trigger.run():
                yield event

        stream = events()
        waiting = asyncio.ensure_future(anext(stream))
        while not store.values:
            await asyncio.sleep(0.01)
        version_id = await asyncio.to_thread(put, prefix + "a")
        event = await asyncio.wait_for(waiting, 20)
        assert event.payload["version_id"] == version_id
        await trigger.cleanup()

    asyncio.run(story())


FULL = {
    "bucket_name": "bucket", "prefix": "p/", "key_pattern": "*.csv", "delete_markers": True, "poll_interval": 9.5,
    "max_versions": 5, "aws_conn_id": None, "region_name": "r", "verify": False, "botocore_config": {"read_timeout": 3},
}  # fmt: skip


@pytest.mark.parametrize("kwargs", [FULL, {"bucket_name": "bucket"}, {"bucket_name": "bucket", "bucket_key": "k"}])
def test_it_survives_its_way_to_the_triggerer(kwargs: dict[str, Any]) -> None:
    trigger = OrbitS3NewVersionTrigger(**kwargs)
    path, given = trigger.serialize()
    assert path == f"{OrbitS3NewVersionTrigger.__module__}.{OrbitS3NewVersionTrigger.__qualname__}"
    twin = OrbitS3NewVersionTrigger(**json.loads(json.dumps(given)))
    assert twin.serialize() == trigger.serialize()
    assert twin.parameters == trigger.parameters


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"bucket_key": "a", "prefix": "b"}, "not both"),
        ({"bucket_key": ""}, "bucket_key is a key"),
        ({"bucket_name": "no bucket"}, "not a bucket name"),
        ({"max_versions": 0}, "max_versions is 1 to"),
        ({"max_versions": 2_000_000}, "max_versions is 1 to"),
        ({"poll_interval": 0}, "poll_interval is"),
        ({"botocore_config": {"aws_secret_access_key": "s"}}, "does not belong"),
    ],
)
def test_what_means_nothing_is_a_type_error(kwargs: dict[str, Any], message: str) -> None:
    """The one error of a trigger's constructor that does not end the whole triggerer."""
    with pytest.raises(TypeError, match=message):
        OrbitS3NewVersionTrigger(**{"bucket_name": "bucket", **kwargs})


def test_a_listing_ends_what_it_holds(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """A producer that was never asked holds nothing, and one that was gives its engine back."""

    async def story() -> None:
        producer = watcher(prefix=prefix).create_shared_stream_producer(watcher(prefix=prefix).serialize()[1])
        assert isinstance(producer, SharedListing)
        await producer.aclose()
        producer = SharedListing(watcher(prefix=prefix)._watched())
        stream = producer.open_stream()
        assert await anext(stream)
        assert producer._engine is not None
        await producer.aclose()
        assert producer._engine is None

    asyncio.run(story())
