"""Downloads from every store: the bytes, the proof that each store allows, and what happens when the object changes."""

from __future__ import annotations

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
    Paused,
    StoreError,
)
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import Integrity, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import DownloadOptions, EngineConfig
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.testing import Fault, FaultyStore
from tests.bodies import BytesBody
from tests.contract.benches import Bench
from tests.contract.bodies import PLAIN, Uploading, data_of, digests_of
from tests.contract.keys import ODD_KEYS


def engine_of(bench: Bench, *faults: Fault, **changes: Any) -> TransferEngine:
    """An engine over the bench's own store, whatever it is, with faults on the way."""
    config = bench.config or EngineConfig(limits=bench.limits, chunk_size=bench.part, outage_patience=0)
    return engine_over(FaultyStore(bench.store, list(faults)), replace(config, chunk_size=bench.part, **changes))


def put(bench: Bench, ref: ObjectRef, data: bytes, attributes: ObjectAttributes = PLAIN) -> None:
    """An object in one request."""
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
    put(bench, ref, data)
    result = engine_of(bench).download(ref, tmp_path / "file", DownloadOptions(chunk_size=30_000))
    assert (tmp_path / "file").read_bytes() == data
    assert (result.size, result.bytes_received, result.integrity) == (size, size, bench.quirks.small_integrity)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 0.001), (1.5, 1.0, 1.25)], ids=["alike", "unlike"])
def test_an_object_of_parts_comes_whole_and_proved(bench: Bench, tmp_path: Path, sizes: tuple[float, ...]) -> None:
    """With what the store says of it, and never with more."""
    ref = bench.ref()
    data = _put_parts(bench, ref, [int(size * bench.part) for size in sizes])
    result = engine_of(bench).download(ref, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert result.integrity is bench.quirks.parts_download_integrity
    if result.integrity is not Integrity.FULL_CRC:
        with pytest.raises(IntegrityTooWeak):
            engine_of(bench).download(ref, tmp_path / "other", DownloadOptions(require_integrity="full-crc"))
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["file"]


def test_a_stopped_download_continues(bench: Bench, tmp_path: Path) -> None:
    """Behind its second range; with the state that lies beside the file."""
    ref, data, cancel = bench.ref(), data_of(100_001), Cancellation()
    put(bench, ref, data)
    options = DownloadOptions(chunk_size=30_000)
    stop = Fault("get", nth=3, call=lambda: cancel.cancel("enough"))
    with pytest.raises(Paused):
        engine_of(bench, stop, parallel_operations=1).download(ref, tmp_path / "file", options, cancel=cancel)
    assert not (tmp_path / "file").exists()
    result = engine_of(bench).download(ref, tmp_path / "file", options)
    assert (tmp_path / "file").read_bytes() == data
    assert (result.bytes_saved, result.bytes_received) == (60_000, 40_001)
    assert result.integrity is bench.quirks.small_integrity


@pytest.mark.parametrize("change", ["fail", "restart"])
def test_an_object_that_is_replaced_meanwhile_is_never_mixed(bench: Bench, tmp_path: Path, change: Any) -> None:
    """Whether the store obeys If-Match or not."""
    ref, new = bench.ref(), data_of(100_001, 2)
    put(bench, ref, data_of(100_001, 1))
    engine = engine_of(bench, Fault("get", nth=2, call=lambda: put(bench, ref, new)), parallel_operations=1)
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
            engine_of(bench).download(bench.ref(ODD_KEYS[name]), tmp_path / "file")
        return
    ref, data = bench.ref(ODD_KEYS[name]), data_of(1000, len(name))
    put(bench, ref, data)
    result = engine_of(bench).download(ref, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert result.ref.key == ref.key


def test_what_is_not_there_is_not_found(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        engine_of(bench).download(bench.ref(), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_archived_object_is_refused_before_a_byte_moves(bench: Bench, tmp_path: Path) -> None:
    """Where the store keeps the class that was asked for."""
    ref = bench.ref()
    put(bench, ref, b"cold", replace(PLAIN, storage_class="GLACIER"))
    if not bench.quirks.archives:
        engine_of(bench).download(ref, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"cold"
        return
    with pytest.raises(ObjectArchived):
        engine_of(bench).download(ref, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
