"""Uploads to a real store, looked at through a plain boto3 client."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orbit_airflow.engine import (
    Cancellation,
    FileTokenStore,
    Integrity,
    ObjectAttributes,
    ObjectRef,
    TransferEngine,
    UploadOptions,
)
from orbit_airflow.engine.errors import InvalidRequest, Paused, StoreError, TargetExists
from orbit_airflow.testing import Fault
from tests.live.ground import PART, LiveGround

FaultyEngine = Callable[..., TransferEngine]


def file_of(folder: Path, size: int) -> tuple[Path, bytes]:
    """A file of random bytes."""
    path, data = folder / "file", os.urandom(size)
    path.write_bytes(data)
    return path, data


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_small_file(ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path, size: int) -> None:
    """One request; the bytes are there and the result names a proof."""
    path, data = file_of(tmp_path, size)
    result = engine.upload(path, ref)
    assert ground.read(ref) == data
    assert result.size == result.bytes_sent == size
    assert result.integrity in (Integrity.FULL_CRC, Integrity.MD5)


def test_a_file_with_parts(ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path) -> None:
    """Three parts, and no upload left open."""
    path, data = file_of(tmp_path, 2 * PART + 1)
    result = engine.upload(path, ref)
    assert ground.read(ref) == data
    assert result.integrity is not Integrity.SIZE_ETAG
    assert list(ground.open_uploads(ref.key)) == []


def test_an_upload_continues(
    ground: LiveGround, engine: TransferEngine, faulty_engine: FaultyEngine, ref: ObjectRef, tmp_path: Path
) -> None:
    """Stopped behind its second part; the next try finds what is there and sends the rest."""
    path, data = file_of(tmp_path, 4 * PART)
    tokens, cancel = FileTokenStore(tmp_path / "state"), Cancellation()
    stop = Fault("upload_part", nth=2, when="after", call=lambda: cancel.cancel("enough"))
    with pytest.raises(Paused):
        faulty_engine(stop).upload(path, ref, tokens=tokens, cancel=cancel)
    assert len(list(ground.open_uploads(ref.key))) == 1
    result = engine.upload(path, ref, tokens=tokens)
    assert ground.read(ref) == data
    assert result.resumed
    assert result.parts_found >= 2
    assert result.bytes_sent == len(data) - result.bytes_saved < len(data)
    assert list(ground.open_uploads(ref.key)) == []


@pytest.mark.parametrize("size", [10, PART + 1])
def test_replace_false_leaves_what_is_there(
    ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path, size: int
) -> None:
    """And writes what is not."""
    path, first = file_of(tmp_path, size)
    engine.upload(path, ref, UploadOptions(replace=False))
    path.write_bytes(b"second")
    with pytest.raises(TargetExists):
        engine.upload(path, ref, UploadOptions(replace=False))
    assert ground.read(ref) == first
    assert list(ground.open_uploads(ref.key)) == []


@pytest.mark.parametrize("size", [10, PART + 1])
def test_attributes_arrive(
    ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path, size: int
) -> None:
    """Metadata, type and storage class, with and without parts."""
    path, _ = file_of(tmp_path, size)
    storage_class = ground.settings.storage_class
    attributes = ObjectAttributes(
        metadata=(("colour", "blue"),), content_type="text/x-orbit", storage_class=storage_class
    )
    engine.upload(path, ref, UploadOptions(attributes=attributes))
    head = ground.head(ref)
    assert head["Metadata"]["colour"] == "blue"
    assert head["ContentType"] == "text/x-orbit"
    # S3 says nothing about the class of a STANDARD object.
    assert head.get("StorageClass", "STANDARD") == storage_class


def test_tags_arrive(ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path) -> None:
    """On a single request; some stores drop those of an upload with parts (docs/guide-map.md says which)."""
    path, _ = file_of(tmp_path, 10)
    engine.upload(path, ref, UploadOptions(attributes=ObjectAttributes(tags=(("team", "data science"), ("a", "+=")))))
    assert ground.tags(ref) == {"team": "data science", "a": "+="}


@pytest.mark.parametrize("size", [10, PART + 1])
def test_encryption_is_what_was_asked_for(
    ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path, size: int
) -> None:
    """AES256; aws:kms, too, when S3_TEST_KMS_KEY_ID names a key."""
    path, data = file_of(tmp_path, size)
    for algorithm, key in ground.settings.encryptions:
        attributes = ObjectAttributes(server_side_encryption=algorithm, kms_key_id=key)
        try:
            engine.upload(path, ref, UploadOptions(attributes=attributes))
        except StoreError as exc:
            if ground.settings.endpoint is None or not lacks_encryption(exc):
                raise
            pytest.skip(f"this compatible store has no server-side encryption: {exc}")
        assert ground.head(ref)["ServerSideEncryption"] == algorithm
        assert ground.read(ref) == data


def lacks_encryption(error: StoreError) -> bool:
    """What MinIO and Ceph say without a key service."""
    code = error.context.code or ""
    return code in ("NotImplemented", "KMSNotConfigured") or (isinstance(error, InvalidRequest) and "KMS" in str(error))


@pytest.mark.parametrize(
    "name", ["plus+plus two", "50%25 größe 文件", "/leading//twice", "question?mark&amp;", "dot/../dot", "x" * 900]
)
def test_odd_keys_arrive(ground: LiveGround, engine: TransferEngine, tmp_path: Path, name: str) -> None:
    """To the letter."""
    path, data = file_of(tmp_path, 10)
    where = ground.ref(name)
    engine.upload(path, where)
    assert ground.read(where) == data
    assert where.key in [key for key, _ in ground.objects()]
