"""The whole engine over each store that a client reaches: right bytes, the proof that the store allows, no remains."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.compose import open_engine
from orbit_airflow.engine.errors import AccessDenied, ConnectionLost, NotFound, Paused, TargetExists
from orbit_airflow.engine.events import Reporter
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import Credentials, EngineConfig, UploadOptions
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.token import FileTokenStore
from orbit_airflow.testing import Fault, FaultyStore
from tests.contract.benches import Bench
from tests.contract.bodies import data_of, refusing


def _config(bench: Bench, **changes: Any) -> EngineConfig:
    assert bench.config is not None
    return replace(bench.config, chunk_size=bench.part, **changes)


@pytest.mark.parametrize("parts", [0, 0.01, 1, 3.3])
def test_a_file_arrives(reached: Bench, tmp_path: Path, parts: float) -> None:
    """Empty, small, one part, several: bytes, size and proof."""
    data = data_of(int(parts * reached.part))
    path, ref = tmp_path / "file", reached.ref()
    path.write_bytes(data)
    result = open_engine(_config(reached)).upload(path, ref)
    assert reached.window.read(ref) == data
    assert reached.window.open_uploads(ref) == []
    expected = reached.quirks.small_integrity if parts < 1 else reached.quirks.large_integrity
    assert (result.size, result.integrity) == (len(data), expected)


def test_an_interrupted_upload_continues(reached: Bench, tmp_path: Path) -> None:
    """Stopped behind its second part: the next engine finds the parts, sends the rest, and leaves nothing open."""
    data = data_of(4 * reached.part + 11)
    path, ref, tokens = tmp_path / "file", reached.ref(), FileTokenStore(tmp_path / "state")
    path.write_bytes(data)
    cancel = Cancellation()
    engine = open_engine(_config(reached, parallel_operations=1))
    _stop_behind_the_second_part(engine, cancel)
    with pytest.raises(Paused):
        engine.upload(path, ref, tokens=tokens, cancel=cancel)
    assert len(reached.window.open_uploads(ref)) == 1
    result = open_engine(_config(reached)).upload(path, ref, tokens=tokens)
    assert reached.window.read(ref) == data
    assert reached.window.open_uploads(ref) == []
    assert (result.parts_found, result.bytes_sent) == (2, len(data) - 2 * reached.part)
    assert result.integrity is reached.quirks.large_integrity


def _stop_behind_the_second_part(engine: TransferEngine, cancel: Cancellation) -> None:
    """Give the stop order at the port and nowhere else."""
    plain = engine._store_for

    def store_for(stop: Cancellation, reporter: Reporter) -> TransferStore:
        return FaultyStore(
            plain(stop, reporter), [Fault("upload_part", nth=2, when="after", call=lambda: cancel.cancel("enough"))]
        )

    engine._store_for = store_for


@pytest.mark.parametrize("size", [10, None])
def test_a_finished_upload_is_not_repeated(reached: Bench, tmp_path: Path, size: int | None) -> None:
    """The second call returns the first one's result."""
    path, ref, tokens = tmp_path / "file", reached.ref(), FileTokenStore(tmp_path / "state")
    path.write_bytes(data_of(size or 2 * reached.part))
    engine = open_engine(_config(reached))
    first = engine.upload(path, ref, tokens=tokens)
    second = engine.upload(path, ref, tokens=tokens)
    assert (second.resumed, second.bytes_sent, second.etag) == (True, 0, first.etag)


@pytest.mark.parametrize("size", [10, None])
def test_replace_false_leaves_what_is_there(reached: Bench, tmp_path: Path, size: int | None) -> None:
    """By a look before, whatever the store thinks of conditions."""
    path, ref = tmp_path / "file", reached.ref()
    path.write_bytes(b"first")
    engine = open_engine(_config(reached))
    engine.upload(path, ref)
    path.write_bytes(data_of(size or 2 * reached.part))
    with pytest.raises(TargetExists):
        engine.upload(path, ref, UploadOptions(replace=False))
    assert reached.window.read(ref) == b"first"
    assert reached.window.open_uploads(ref) == []


@pytest.mark.parametrize("size", [10, None])
def test_replace_false_writes_what_is_not(reached: Bench, tmp_path: Path, size: int | None) -> None:
    """A new key, with the condition on the way."""
    data = data_of(size or 2 * reached.part + 1)
    path, ref = tmp_path / "file", reached.ref()
    path.write_bytes(data)
    open_engine(_config(reached)).upload(path, ref, UploadOptions(replace=False))
    assert reached.window.read(ref) == data


@pytest.mark.parametrize("key", ["engine/plus+plus two/50%25 größe 文件", "/leading//twice"])
def test_odd_keys_and_attributes_arrive(reached: Bench, tmp_path: Path, key: str) -> None:
    """With parts."""
    data = data_of(2 * reached.part)
    path, ref = tmp_path / "file", reached.ref(key)
    path.write_bytes(data)
    attributes = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("a", "b c"),), content_type="text/x-orbit")
    open_engine(_config(reached)).upload(path, ref, UploadOptions(attributes=attributes))
    assert reached.window.read(ref) == data
    # Also where the store drops them from uploads in parts.
    assert reached.window.tags(ref) == {"a": "b c"}
    assert reached.window.content_type(ref) == "text/x-orbit"


def test_without_checksums_the_bytes_arrive(reached: Bench, tmp_path: Path) -> None:
    """verify_checksums=False: neither CRC nor MD5 on the way."""
    data = data_of(2 * reached.part + 3)
    path, ref = tmp_path / "file", reached.ref()
    path.write_bytes(data)
    open_engine(_config(reached, verify_checksums=False)).upload(path, ref)
    assert reached.window.read(ref) == data


def test_the_result_s_checksum_is_of_the_file(reached: Bench, tmp_path: Path) -> None:
    """Where the store proved the whole."""
    path, ref = tmp_path / "file", reached.ref()
    path.write_bytes(data_of(100))
    result = open_engine(_config(reached)).upload(path, ref)
    assert result.checksum is not None
    assert result.checksum.value == to_base64(zlib.crc32(data_of(100)))


@pytest.mark.parametrize("size", [10, None])
def test_a_missing_bucket_is_an_error_at_once(reached: Bench, tmp_path: Path, size: int | None) -> None:
    """NotFound, by both ways."""
    path = tmp_path / "file"
    path.write_bytes(data_of(size or 2 * reached.part))
    with pytest.raises(NotFound):
        open_engine(_config(reached)).upload(path, ObjectRef("no-such-bucket-at-all", "key"))


def test_wrong_keys_are_refused(reached: Bench, tmp_path: Path) -> None:
    """AccessDenied, and no secret in any event."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    keys = Credentials(access_key="AKIANOBODYATALL0000", secret_key="not-the-secret")
    events: list[str] = []
    with refusing(AccessDenied if reached.quirks.knows_key_pairs else None):
        open_engine(_config(reached, credentials=keys)).upload(
            path, reached.ref(), reporter=lambda event: events.append(str(event))
        )
    assert events
    assert "not-the-secret" not in "".join(events)


def test_nobody_there_is_a_lost_connection(tmp_path: Path) -> None:
    """Certain that nothing was sent."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    keys = Credentials(access_key="a", secret_key="b")
    config = EngineConfig(
        endpoint="http://127.0.0.1:9", region="us-east-1", credentials=keys, max_retries=0, outage_patience=0
    )
    with pytest.raises(ConnectionLost) as caught:
        open_engine(config).upload(path, ObjectRef("bucket", "key"))
    assert caught.value.context.sent is False
