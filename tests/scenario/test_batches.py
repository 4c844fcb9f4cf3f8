"""Batches against a server that answers as stores do on their bad days: outcomes exact, requests few."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orbit_airflow.engine import BatchConfig, KeyPrefix, PrefixKeys
from orbit_airflow.engine.batch import Delete, TagObjects, UpdateMetadata
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.events import Notice, TransferEvent
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import ObjectAttributes
from orbit_airflow.engine.options import UploadOptions
from tests.model_server import Fault, ModelServer, ServerProfile
from tests.scenario.conftest import PART, Stage

PLAIN, KEPT = "batch-plain", "batch-kept"
QUICK = BatchConfig(retry_delay=0.01, max_concurrent=4, page_keys=50)


@pytest.fixture
def server(stage: Stage) -> Iterator[ModelServer]:
    """Two empty buckets, one of which keeps versions."""
    for name, versioning in ((PLAIN, ""), (KEPT, "Enabled")):
        if name not in [bucket.name for bucket in stage.server._world.store.buckets()]:
            stage.server.create_bucket(name, versioning=versioning)  # type: ignore[arg-type]
        stage.server._world.store.bucket(name).objects.clear()
    stage.server._world.seen_keys.clear()
    stage.server._world.struck_keys.clear()
    yield stage.server
    stage.server.set_profile(ServerProfile(min_part_size=PART))


def _profile(server: ModelServer, **choices: int | str) -> None:
    server.set_profile(replace(ServerProfile(min_part_size=PART), **choices))  # type: ignore[arg-type]


def _fill(engine: TransferEngine, bucket: str, count: int) -> list[str]:
    options = UploadOptions(attributes=ObjectAttributes(tags=(("a", "b"),)))
    keys = [f"logs/{number:04d}" for number in range(count)]
    for key in keys:
        engine.upload_bytes(b"x", f"s3://{bucket}/{key}", options)
    return keys


def _markers(server: ModelServer, keys: list[str]) -> list[int]:
    return [sum(version.delete_marker for version in server.versions(KEPT, key)) for key in keys]


@pytest.mark.parametrize("bucket", [PLAIN, KEPT])
def test_every_seventh_key_fails_and_one_is_forgotten(stage: Stage, server: ModelServer, bucket: str) -> None:
    """Each is named again alone, one marker per key; on a plain bucket without a look."""
    engine = stage.engine()
    keys = _fill(engine, bucket, 200)
    server.reset()
    _profile(server, delete_error_every=7, delete_forgets=3)
    result = engine.batch.run(Delete(bucket=bucket), keys, QUICK)
    assert (result.total, result.successful, result.failed) == (200, 200, 0)
    # Four pages, and what failed of each once more.
    assert len(server.records("DeleteObjects")) == 8
    assert len(server.records()) == (8 if bucket == PLAIN else 12)
    assert list(engine.iter_objects(KeyPrefix(bucket))) == []
    assert _markers(server, keys) == [int(bucket == KEPT)] * 200


def test_a_key_that_fails_for_ever_is_one_outcome(stage: Stage, server: ModelServer) -> None:
    """With the store's own code."""
    engine = stage.engine()
    keys = _fill(engine, PLAIN, 20)
    _profile(server, delete_error_every=7, delete_error_code="AccessDenied")
    result = engine.batch.run(Delete(bucket=PLAIN), keys, QUICK)
    assert (result.successful, result.failed) == (18, 2)
    assert [(error.key, error.code) for error in result.errors] == [
        ("logs/0006", "AccessDenied"),
        ("logs/0013", "AccessDenied"),
    ]


@pytest.mark.parametrize("action", ["reset", "answer_200_empty", "error"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_lays_no_second_marker(stage: Stage, server: ModelServer, action: str, moment: str) -> None:
    """What is gone is seen by one listing per page."""
    engine = stage.engine()
    keys = _fill(engine, KEPT, 60)
    server.inject(Fault("DeleteObjects", action, moment, seconds=None))  # type: ignore[arg-type]
    result = engine.batch.run(Delete(bucket=KEPT), keys, QUICK)
    assert (result.successful, result.failed, _markers(server, keys)) == (60, 0, [1] * 60)


def test_a_store_that_throttles_is_not_stormed(stage: Stage, server: ModelServer) -> None:
    """50 requests per second: requests sent for those needed are at most 1.3 times as many."""
    engine, events = stage.engine(), list[TransferEvent]()
    keys = _fill(engine, PLAIN, 150)
    server.reset()
    _profile(server, requests_per_second=50)
    work = TagObjects(bucket=PLAIN, tags=(("new", "tag"),), replace=True)
    server._world.served.clear()
    result = engine.batch.run(work, keys, BatchConfig(), BatchRun(reporter=events.append))
    assert (result.successful, result.failed) == (150, 0)
    assert len(server.records("PutObjectTagging")) <= 1.3 * 150


@pytest.mark.parametrize("bucket", [PLAIN, KEPT])
def test_errors_a_forgotten_key_and_throttling_at_once(
    stage: Stage, server: ModelServer, bucket: str, tmp_path: Path
) -> None:
    """Outcome and report exact; of all requests, refused ones too, at most 1.3 times those that are needed: one per
    page, one more for each page with a key to be named again, and where versions are kept a look at that key.
    """
    engine = stage.engine()
    keys = _fill(engine, bucket, 300)
    server.reset()
    _profile(server, delete_error_every=7, delete_forgets=3, requests_per_second=50)
    server._world.served.clear()
    config = BatchConfig(retry_delay=0.01, page_keys=3, max_concurrent=10)
    report = tmp_path / "report.jsonl"
    result = engine.batch.run(Delete(bucket=bucket), keys, config, BatchRun(report=str(report)))
    assert (result.total, result.successful, result.failed) == (300, 300, 0)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["key"], line["outcome"]) for line in lines] == [(key, "done") for key in keys]
    repeated = 300 // 7 + 1
    needed = 100 + repeated + (repeated if bucket == KEPT else 0)
    sent = len(server.records())
    assert sent <= 1.3 * needed
    _profile(server)
    assert _markers(server, keys) == [int(bucket == KEPT)] * 300
    assert list(engine.iter_objects(KeyPrefix(bucket))) == []


def test_tags_and_metadata_are_merged(stage: Stage, server: ModelServer) -> None:
    """On the wire, too; what was there stays."""
    engine = stage.engine()
    keys = _fill(engine, KEPT, 5)
    assert engine.batch.run(TagObjects(bucket=KEPT, tags=(("c", "d & e"),)), keys, QUICK).successful == 5
    assert engine.batch.run(UpdateMetadata(bucket=KEPT, metadata=(("project", "x"),)), keys, QUICK).successful == 5
    store = stage.store()
    ref = engine.address(f"s3://{KEPT}/{keys[0]}")
    assert dict(store.get_tags(ref)) == {"a": "b", "c": "d & e"}
    assert store.head(ref).metadata == (("project", "x"),)
    assert len(server.versions(KEPT, keys[0])) == 2


def test_new_metadata_cost_no_tags(stage: Stage, server: ModelServer) -> None:
    """Of a store that drops them from a copy with new metadata: they are set again, and that is told."""
    engine, events = stage.engine(), list[TransferEvent]()
    keys = _fill(engine, KEPT, 3)
    _profile(server, new_metadata_drop_tags=True)
    work = UpdateMetadata(bucket=KEPT, metadata=(("project", "x"),))
    result = engine.batch.run(work, keys, QUICK, BatchRun(reporter=events.append))
    assert (result.successful, result.failed) == (3, 0)
    assert [dict(stage.store().get_tags(engine.address(f"s3://{KEPT}/{key}"))) for key in keys] == [{"a": "b"}] * 3
    assert any(isinstance(event, Notice) and "dropped the tags" in event.message for event in events)


def test_a_store_that_knows_md5_alone_is_served(stage: Stage, server: ModelServer) -> None:
    """It would say MissingContentMD5."""
    engine = stage.engine(verify_checksums=False)
    server.set_profile(ServerProfile(min_part_size=PART, flexible_checksums=False))
    keys = _fill(engine, PLAIN, 3)
    source = PrefixKeys(where=KeyPrefix(PLAIN, "logs/"))
    assert engine.batch.run(Delete(bucket=PLAIN), source, QUICK).successful == len(keys)
    assert list(engine.iter_objects(KeyPrefix(PLAIN))) == []


def test_an_outage_is_told(stage: Stage, server: ModelServer) -> None:
    """Once, and no key fails."""
    engine, events = stage.engine(outage_patience=30.0), list[TransferEvent]()
    keys = _fill(engine, KEPT, 100)
    server.inject(Fault(None, "error", code="InternalError", status=500, times=8))
    config = BatchConfig(max_retries=0, max_concurrent=2, page_keys=50)
    result = engine.batch.run(Delete(bucket=KEPT), keys, config, BatchRun(reporter=events.append))
    assert (result.successful, result.failed, _markers(server, keys)) == (100, 0, [1] * 100)
    assert sum(isinstance(event, Notice) and "not well" in event.message for event in events) == 1
