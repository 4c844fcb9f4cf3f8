"""Faults under which a read, a copy or a delete could claim what is not so."""

from __future__ import annotations

import pytest

from orbit_airflow.engine.errors import IntegrityError, Network, OrbitError
from orbit_airflow.engine.model import ByteRange, Integrity, ObjectRef
from tests.model_server import Fault
from tests.scenario.conftest import Stage

DATA = bytes(range(256)) * 4096


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GetObject", "flip"),
        Fault("GetObject", "reset", "mid"),
        Fault("GetObject", "fin", "mid"),
        Fault("GetObject", "hang", "mid"),
        Fault("GetObject", "hang"),
        Fault("GetObject", "answer_200_error"),
        Fault("GetObject", "answer_200_empty"),
        Fault("GetObject", "error", code="SlowDown", status=503),
    ],
    ids=lambda fault: fault.label,
)
def test_a_fault_once_leaves_the_bytes_right(stage: Stage, fault: Fault) -> None:
    """And proved."""
    engine = stage.engine()
    engine.upload_bytes(DATA, stage.ref)
    stage.server.inject(fault)
    read = engine.read_object(stage.ref)
    assert (read.data == DATA, read.integrity) == (True, Integrity.FULL_CRC)
    assert len(stage.server.records("GetObject", stage.ref.key)) == 2


@pytest.mark.parametrize(
    ("action", "expected"), [("flip", IntegrityError), ("fin", Network), ("answer_200_error", Network)]
)
def test_a_fault_for_ever_is_an_error(stage: Stage, action: str, expected: type[OrbitError]) -> None:
    """Never wrong or missing bytes."""
    engine = stage.engine()
    engine.upload_bytes(DATA, stage.ref)
    stage.server.inject(Fault("GetObject", action, "mid" if action == "fin" else None, times=None))  # type: ignore[arg-type]
    with pytest.raises(expected):
        engine.download_bytes(stage.ref)


def test_a_stream_left_early_gives_no_bytes_to_the_next_one(stage: Stage) -> None:
    """Its connection is closed; a finished one is used again."""
    engine, store = stage.engine(), stage.store()
    engine.upload_bytes(DATA, stage.ref)
    with store.get(stage.ref) as stream:
        stream.read_into(memoryview(bytearray(100)))
    view = memoryview(bytearray(5))
    with store.get(stage.ref, ByteRange(7, 12)) as stream:
        assert (stream.read_into(view), bytes(view)) == (5, DATA[7:12])


@pytest.mark.parametrize(
    "fault",
    [
        Fault("CopyObject", "answer_200_error", "before", code="InternalError"),
        Fault("CopyObject", "answer_200_error", "after", code="InternalError"),
        Fault("CopyObject", "answer_200_empty", "after"),
        Fault("CopyObject", "reset", "after"),
        Fault("CopyObject", "hang", "after"),
        Fault("CopyObject", "error", "before", code="SlowDown", status=503),
        Fault("CopyObject", "empty_etag"),
    ],
    ids=lambda fault: f"{fault.label}:{fault.code}",
)
def test_a_copy_is_one_version_whatever_its_answer_was(stage: Stage, fault: Fault) -> None:
    """On a bucket that keeps them all."""
    engine, target = stage.engine(), ObjectRef("scenario-kept", stage.ref.key)
    engine.upload_bytes(b"bytes", stage.ref)
    _keep_versions(stage)
    stage.server.inject(fault)
    result = engine.copy_object(stage.ref, target)
    versions = stage.server.versions(target.bucket, target.key)
    assert [version.read() for version in versions] == [b"bytes"]
    assert (result.version_id, result.integrity) == (versions[0].version_id, Integrity.FULL_CRC)


@pytest.mark.parametrize("stage_of", ["before", "after"])
@pytest.mark.parametrize("action", ["reset", "error"])
def test_a_delete_is_one_marker_whatever_its_answer_was(stage: Stage, action: str, stage_of: str) -> None:
    """Looked at before it is sent again."""
    engine, ref = stage.engine(), ObjectRef("scenario-kept", stage.ref.key)
    _keep_versions(stage)
    engine.upload_bytes(b"bytes", ref)
    stage.server.inject(Fault("DeleteObject", action, stage_of))  # type: ignore[arg-type]
    assert engine.delete(ref).delete_marker is True
    assert [version.delete_marker for version in stage.server.versions(ref.bucket, ref.key)] == [True, False]


def _keep_versions(stage: Stage) -> None:
    if "scenario-kept" not in [bucket.name for bucket in stage.server._world.store.buckets()]:
        stage.server.create_bucket("scenario-kept", versioning="Enabled")
