"""Downloads from every store: the bytes, the proof that each store allows, and what happens when the object changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.compose import engine_over
from orbit_airflow.engine.errors import (
    IntegrityTooWeak,
    NotFound,
    ObjectArchived,
    ObjectChanged,
    ObjectDeleted,
    Paused,
    StoreError,
)
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import Integrity, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import DownloadOptions, EngineConfig
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.testing import Fault, FaultyStore
from tests.bodies import BytesBody
from tests.contract.benches import BUCKET, Bench, ClientWindow
from tests.contract.bodies import PLAIN, Uploading, data_of, digests_of
from tests.contract.keys import ODD_KEYS


def _engine(bench: Bench, *faults: Fault, **changes: Any) -> TransferEngine:
    """Over the bench's own store, whatever it is, with faults on the way."""
    config = bench.config or EngineConfig(limits=bench.limits, chunk_size=bench.part, outage_patience=0)
    return engine_over(FaultyStore(bench.store, list(faults)), replace(config, chunk_size=bench.part, **changes))


def _put(bench: Bench, ref: ObjectRef, data: bytes, attributes: ObjectAttributes = PLAIN) -> None:
    bench.store.put(ref, BytesBody(data), digests_of(data), attributes, if_none_match=False)


def _put_parts(bench: Bench, ref: ObjectRef, sizes: list[int]) -> bytes:
    upload = Uploading(bench.store, ref)
    for number, size in enumerate(sizes, 1):
        upload.send(number, data_of(size, number))
    bench.store.complete(ref, upload.request())
    return upload.data


@pytest.mark.parametrize("size", [0, 1, 100_001])
def test_an_object_of_one_request_comes_whole_and_proved(bench: Bench, tmp_path: Path, size: int) -> None:
    """By ranges that have nothing to do with how it was put."""
    ref, data = bench.ref(), data_of(size)
    _put(bench, ref, data)
    result = _engine(bench).download(ref, tmp_path / "file", DownloadOptions(chunk_size=30_000))
    assert (tmp_path / "file").read_bytes() == data
    assert (result.size, result.bytes_received, result.integrity) == (size, size, bench.quirks.small_integrity)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 0.001), (1.5, 1.0, 1.25)], ids=["alike", "unlike"])
def test_an_object_of_parts_comes_whole_and_proved(bench: Bench, tmp_path: Path, sizes: tuple[float, ...]) -> None:
    """With what the store says of it, and never with more."""
    ref = bench.ref()
    data = _put_parts(bench, ref, [int(size * bench.part) for size in sizes])
    result = _engine(bench).download(ref, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert result.integrity is bench.quirks.parts_download_integrity
    if result.integrity is not Integrity.FULL_CRC:
        with pytest.raises(IntegrityTooWeak):
            _engine(bench).download(ref, tmp_path / "other", DownloadOptions(require_integrity="full-crc"))
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["file"]


def test_a_stopped_download_continues(bench: Bench, tmp_path: Path) -> None:
    """Behind its second range; with the state that lies beside the file."""
    ref, data, cancel = bench.ref(), data_of(100_001), Cancellation()
    _put(bench, ref, data)
    options = DownloadOptions(chunk_size=30_000)
    stop = Fault("get", nth=3, call=lambda: cancel.cancel("enough"))
    with pytest.raises(Paused):
        _engine(bench, stop, parallel_operations=1).download(ref, tmp_path / "file", options, cancel=cancel)
    assert not (tmp_path / "file").exists()
    result = _engine(bench).download(ref, tmp_path / "file", options)
    assert (tmp_path / "file").read_bytes() == data
    assert (result.bytes_saved, result.bytes_received) == (60_000, 40_001)
    assert result.integrity is bench.quirks.small_integrity


@pytest.mark.parametrize("change", ["fail", "restart"])
def test_an_object_that_is_replaced_meanwhile_is_never_mixed(bench: Bench, tmp_path: Path, change: Any) -> None:
    """Whether the store obeys If-Match or not."""
    ref, new = bench.ref(), data_of(100_001, 2)
    _put(bench, ref, data_of(100_001, 1))
    engine = _engine(bench, Fault("get", nth=2, call=lambda: _put(bench, ref, new)), parallel_operations=1)
    options = DownloadOptions(chunk_size=30_000, on_object_change=change)
    if change == "fail":
        with pytest.raises(ObjectChanged):
            engine.download(ref, tmp_path / "file", options)
        assert list(tmp_path.iterdir()) == []
    else:
        engine.download(ref, tmp_path / "file", options)
        assert (tmp_path / "file").read_bytes() == new


@pytest.mark.parametrize("name", ODD_KEYS)
def test_odd_keys_are_read_to_the_letter(bench: Bench, tmp_path: Path, name: str) -> None:
    """And say nothing about where the file goes."""
    if name in bench.quirks.impossible_keys:
        with pytest.raises(StoreError):
            _engine(bench).download(bench.ref(ODD_KEYS[name]), tmp_path / "file")
        return
    ref, data = bench.ref(ODD_KEYS[name]), data_of(1000, len(name))
    _put(bench, ref, data)
    result = _engine(bench).download(ref, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert result.ref.key == ref.key


def test_what_is_not_there_is_not_found(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        _engine(bench).download(bench.ref(), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_archived_object_is_refused_before_a_byte_moves(bench: Bench, tmp_path: Path) -> None:
    """Where the store keeps the class that was asked for."""
    ref = bench.ref()
    _put(bench, ref, b"cold", replace(PLAIN, storage_class="GLACIER"))
    if not bench.quirks.archives:
        _engine(bench).download(ref, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"cold"
        return
    with pytest.raises(ObjectArchived):
        _engine(bench).download(ref, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def versioned(reached: Bench) -> Iterator[ObjectRef]:
    """An address in a bucket that keeps versions."""
    assert isinstance(reached.window, ClientWindow)
    client, bucket = reached.window.client, f"{BUCKET}-v"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield ObjectRef(bucket, "folder/object")
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=bucket)


def test_a_version_is_what_was_begun_and_what_was_asked_for(
    reached: Bench, versioned: ObjectRef, tmp_path: Path
) -> None:
    """A newer one meanwhile changes nothing, and an older one can be had by its id."""
    old, new = data_of(100_001, 1), data_of(100_001, 2)
    _put(reached, versioned, old)
    engine = _engine(reached, Fault("get", nth=2, call=lambda: _put(reached, versioned, new)), parallel_operations=1)
    first = engine.download(versioned, tmp_path / "first", DownloadOptions(chunk_size=30_000))
    assert (tmp_path / "first").read_bytes() == old
    assert first.version_id is not None
    again = _engine(reached).download(replace(versioned, version_id=first.version_id), tmp_path / "again")
    latest = _engine(reached).download(versioned, tmp_path / "latest")
    assert (tmp_path / "again").read_bytes() == old
    assert (tmp_path / "latest").read_bytes() == new
    assert again.version_id == first.version_id != latest.version_id


def test_a_deleted_object_is_said_to_be_deleted(reached: Bench, versioned: ObjectRef, tmp_path: Path) -> None:
    _put(reached, versioned, b"bytes")
    reached.store.delete(versioned)
    with pytest.raises(ObjectDeleted if reached.quirks.shows_delete_markers else NotFound):
        _engine(reached).download(versioned, tmp_path / "file")
