"""What answers 200 and is no store, or a store that means something else: over a real line, with real headers."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from orbit_airflow.engine import UploadResult
from orbit_airflow.engine.errors import InvalidRequest, Network, StoreError
from orbit_airflow.engine.model import Integrity, ObjectAttributes
from orbit_airflow.engine.store import PartDigests
from tests.bodies import BytesBody
from tests.model_server import Fault, ServerProfile
from tests.scenario.conftest import PART, Stage

Upload = Callable[..., UploadResult]
UNSUPPORTED = "x-amz-sdk-checksum-algorithm"


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("head", [404, 403])
def test_a_web_page_is_no_store(stage: Stage, upload: Upload, head: int, replace: bool) -> None:
    """A captive portal answers 200 without an ETag to PutObject; HEAD says 404 or 403: no success, nothing kept."""
    stage.path.write_bytes(os.urandom(1000))
    stage.server.inject(Fault(operation="PutObject", action="answer_200_empty", times=None))
    stage.server.inject(Fault(operation="HeadObject", status=head, code="NoSuchKey", times=None))
    with pytest.raises(Network):
        upload(replace=replace)
    assert stage.versions() == []


def test_a_web_page_over_a_foreign_object_is_no_store(stage: Stage, upload: Upload) -> None:
    """An object of the same size lies there: it is not taken for ours."""
    theirs = os.urandom(1000)
    body = BytesBody(theirs)
    stage.store().put(stage.ref, body, PartDigests(body.crc32), ObjectAttributes(), if_none_match=False)
    stage.path.write_bytes(os.urandom(1000))
    stage.server.inject(Fault(operation="PutObject", action="answer_200_empty", times=None))
    with pytest.raises(Network):
        upload()
    assert stage.versions() == [theirs]


@pytest.mark.parametrize("size", [1000, 3 * PART])
def test_a_store_that_does_not_implement_checksums_is_used_without(stage: Stage, upload: Upload, size: int) -> None:
    """501 NotImplemented to Create and PutObject: MD5 in their place, and the proof says so."""
    stage.path.write_bytes(os.urandom(size))
    stage.server.set_profile(ServerProfile(min_part_size=PART, flexible_checksums=False))
    for operation in ("CreateMultipartUpload", "PutObject"):
        stage.server.inject(Fault(operation=operation, status=501, code="NotImplemented"))
    result = upload()
    assert stage.versions() == [stage.path.read_bytes()]
    assert result.integrity is Integrity.MD5


@pytest.mark.parametrize("size", [1000, 3 * PART])
def test_another_400_is_not_about_checksums(stage: Stage, upload: Upload, size: int) -> None:
    """It is final, and asked once."""
    stage.path.write_bytes(os.urandom(size))
    for operation in ("CreateMultipartUpload", "PutObject"):
        stage.server.inject(Fault(operation=operation, status=400, code="InvalidStorageClass", times=None))
    with pytest.raises(InvalidRequest):
        upload()
    asked = stage.server.records("CreateMultipartUpload") + stage.server.records("PutObject")
    assert len(asked) == 1


@pytest.mark.parametrize("size", [1000, 3 * PART])
def test_a_proxy_s_503_behind_the_work_writes_nothing_twice(stage: Stage, upload: Upload, size: int) -> None:
    """A bare 503 says nothing about what was done: one version, no upload left open."""
    stage.path.write_bytes(os.urandom(size))
    for operation in ("CreateMultipartUpload", "PutObject"):
        stage.server.inject(Fault(operation=operation, stage="after", status=503, code="Proxy"))
    upload()
    assert stage.versions() == [stage.path.read_bytes()]
    assert stage.open_uploads() == 0


def test_a_complete_that_never_answers_ends_in_its_time(stage: Stage, upload: Upload) -> None:
    """timeout_seconds is for all attempts together, whatever max_retries says; the parts are kept."""
    import time

    stage.server.inject(Fault(operation="CompleteMultipartUpload", action="hang", times=None))
    started = time.monotonic()
    with pytest.raises(StoreError, match="keeps"):
        upload(stage.engine(timeout_seconds=1.0, max_retries=9))
    assert time.monotonic() - started < 4
    assert len(stage.server.records("CompleteMultipartUpload")) <= 2
