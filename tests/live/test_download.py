"""Downloads from a real store; the objects are put there by a plain boto3 client."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orbit_airflow.engine import Cancellation, DownloadOptions, FileTokenStore, Integrity, ObjectRef, TransferEngine
from orbit_airflow.engine.digests import digest_algorithm, encoded
from orbit_airflow.engine.errors import NotFound, ObjectArchived, ObjectChanged, Paused
from orbit_airflow.testing import Fault
from tests.live.ground import PART, LiveGround

FaultyEngine = Callable[..., TransferEngine]
RANGES = DownloadOptions(chunk_size=1024 * 1024)


def put(ground: LiveGround, ref: ObjectRef, size: int, **params: str) -> bytes:
    """An object of random bytes, in one request."""
    data = os.urandom(size)
    ground.client.put_object(Bucket=ref.bucket, Key=ref.key, Body=data, **params)
    return data


def checksum_of(algorithm: str, data: bytes) -> str:
    """Boto3 computes some of them only with another library."""
    made = digest_algorithm(algorithm)
    assert made is not None
    digest = made()
    digest.update(data)
    return encoded(digest.digest())


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024 + 1])
def test_an_object_comes_whole(
    ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path, size: int
) -> None:
    """By ranges; the result names a proof, and nothing is left beside the file."""
    data = put(ground, ref, size)
    result = engine.download(ref, tmp_path / "file", RANGES)
    assert (tmp_path / "file").read_bytes() == data
    assert result.bytes_received == size
    assert result.integrity in (Integrity.FULL_CRC, Integrity.MD5)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("algorithm", [None, "CRC32", "CRC32C", "CRC64NVME", "SHA256"])
def test_an_object_with_parts_is_proved_as_its_store_allows(
    ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path, algorithm: str | None
) -> None:
    """S3 keeps a checksum of all parts; a compatible store that keeps none allows the ETag, or nothing."""
    where = {"Bucket": ref.bucket, "Key": ref.key}
    chosen = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    upload = ground.client.create_multipart_upload(**where, **chosen)["UploadId"]
    chunks, parts = [os.urandom(PART), os.urandom(PART), os.urandom(1)], []
    for number, chunk in enumerate(chunks, 1):
        sums = {f"Checksum{algorithm}": checksum_of(algorithm, chunk)} if algorithm else {}
        answer = ground.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=chunk, **sums)
        parts.append({"ETag": answer["ETag"], "PartNumber": number, **sums})
    ground.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    result = engine.download(ref, tmp_path / "file", RANGES)
    assert (tmp_path / "file").read_bytes() == b"".join(chunks)
    if ground.settings.endpoint is None:
        assert result.integrity is not Integrity.SIZE_ETAG


def test_a_download_continues(
    ground: LiveGround, engine: TransferEngine, faulty_engine: FaultyEngine, ref: ObjectRef, tmp_path: Path
) -> None:
    """Stopped before its third request; the next try fetches the rest."""
    data = put(ground, ref, 4 * 1024 * 1024)
    tokens, cancel = FileTokenStore(tmp_path / "state"), Cancellation()
    home = tmp_path / "home"
    home.mkdir()
    stop = Fault("get", nth=3, call=lambda: cancel.cancel("enough"))
    with pytest.raises(Paused):
        faulty_engine(stop).download(ref, home / "file", RANGES, tokens=tokens, cancel=cancel)
    assert not (home / "file").exists()
    result = engine.download(ref, home / "file", RANGES, tokens=tokens)
    assert (home / "file").read_bytes() == data
    assert result.resumed
    assert result.bytes_received == len(data) - result.bytes_saved < len(data)
    again = engine.download(ref, home / "file", RANGES, tokens=tokens)
    assert again.bytes_received == 0
    assert [path.name for path in home.iterdir()] == ["file"]


def test_an_object_that_is_replaced_meanwhile_is_never_mixed(
    ground: LiveGround, faulty_engine: FaultyEngine, ref: ObjectRef, tmp_path: Path
) -> None:
    """Where the bucket keeps versions, the one that was begun is finished; else the download ends."""
    old = put(ground, ref, 3 * 1024 * 1024)
    versions = ground.client.head_object(Bucket=ref.bucket, Key=ref.key).get("VersionId") not in (None, "null")
    engine = faulty_engine(Fault("get", nth=2, call=lambda: put(ground, ref, len(old))))
    if versions:
        engine.download(ref, tmp_path / "file", RANGES)
        assert (tmp_path / "file").read_bytes() == old
    else:
        with pytest.raises(ObjectChanged):
            engine.download(ref, tmp_path / "file", RANGES)
        assert list(tmp_path.iterdir()) == []


def test_an_archived_object_is_refused(
    ground: LiveGround, engine: TransferEngine, ref: ObjectRef, tmp_path: Path
) -> None:
    """On S3; compatible stores keep few classes, and are read as usual then."""
    put(ground, ref, 10, **({"StorageClass": "GLACIER"} if ground.settings.endpoint is None else {}))
    if ground.settings.endpoint is None:
        with pytest.raises(ObjectArchived):
            engine.download(ref, tmp_path / "file")
        assert list(tmp_path.iterdir()) == []
    else:
        assert engine.download(ref, tmp_path / "file").size == 10


def test_what_is_not_there_is_not_found(engine: TransferEngine, ref: ObjectRef, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        engine.download(ref, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["plus+plus two", "50%25 größe 文件", "/leading//twice", "question?mark&amp;"])
def test_odd_keys_are_read_to_the_letter(ground: LiveGround, engine: TransferEngine, tmp_path: Path, name: str) -> None:
    """And say nothing about where the file goes."""
    where = ground.ref(name)
    data = put(ground, where, 10)
    engine.download(where, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
