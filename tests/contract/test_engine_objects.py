"""The guide's verbs over each store that a client reaches."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.compose import open_engine
from orbit_airflow.engine.errors import ConfigError, NotFound, TargetExists
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import Integrity, KeyPrefix, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import CopyOptions, UploadOptions
from tests.contract.benches import BUCKET, Bench
from tests.contract.bodies import data_of
from tests.contract.keys import ODD_KEYS


def _engine(bench: Bench, **changes: Any) -> TransferEngine:
    assert bench.config is not None
    return open_engine(replace(bench.config, bucket=BUCKET, chunk_size=bench.part, **changes))


def _key() -> str:
    return f"engine/{uuid.uuid4().hex}"


@pytest.mark.parametrize("parts", [0, 0.001, 1, 2.5])
def test_bytes_go_and_come_back_proved(reached: Bench, parts: float) -> None:
    """In one request each, whatever the part size is."""
    engine, key, data = _engine(reached), _key(), data_of(int(parts * reached.part))
    sent = engine.upload_bytes(data, key)
    got = engine.read_object(key)
    assert (sent.size, sent.integrity) == (len(data), reached.quirks.small_integrity)
    assert (got.data, got.integrity) == (data, reached.quirks.small_integrity)
    assert (got.info.etag, got.info.metadata_value("orbit-upload") is not None) == (sent.etag, True)
    assert reached.window.open_uploads(ObjectRef(BUCKET, key)) == []


def test_bytes_are_not_put_over_an_object_when_told_so(reached: Bench) -> None:
    """replace=False."""
    engine, key = _engine(reached), _key()
    engine.upload_bytes(b"first", key, UploadOptions(replace=False))
    with pytest.raises(TargetExists):
        engine.upload_bytes(b"second", key, UploadOptions(replace=False))
    assert engine.download_bytes(key) == b"first"


def test_an_object_of_parts_is_read_whole(reached: Bench, tmp_path: Path) -> None:
    """With what the store can prove of it."""
    engine, ref, data = _engine(reached), reached.ref(), data_of(2 * reached.part + 1)
    (tmp_path / "file").write_bytes(data)
    engine.upload(tmp_path / "file", ref)
    got = engine.read_object(ref)
    whole = reached.quirks.large_integrity is Integrity.FULL_CRC
    assert got.data == data
    assert got.integrity is (Integrity.FULL_CRC if whole else Integrity.SIZE_ETAG)


def test_too_much_is_refused_before_it_is_fetched(reached: Bench) -> None:
    """By what the store announces; the limit itself is allowed."""
    engine, key = _engine(reached), _key()
    engine.upload_bytes(b"12345", key)
    assert engine.download_bytes(key, max_size=5) == b"12345"
    with pytest.raises(ConfigError, match="has 5 bytes and max_size is 4"):
        engine.download_bytes(key, max_size=4)


def test_existence_and_metadata(reached: Bench) -> None:
    """One HEAD; a missing key is False, or NotFound."""
    engine, key = _engine(reached), _key()
    assert engine.exists(key) is False
    with pytest.raises(NotFound):
        engine.get_metadata(key)
    extra = (("CacheControl", "no-store"), ("ContentLanguage", "de"), ("ContentEncoding", "gzip"))
    attributes = ObjectAttributes(metadata=(("colour", "blue"),), content_type="text/x", extra_args=extra)
    sent = engine.upload_bytes(b"bytes", key, UploadOptions(attributes=attributes))
    assert engine.exists(f"s3://{BUCKET}/{key}") is True
    info = engine.get_metadata(key)
    assert (info.size, info.etag, info.restore, info.storage_class or "STANDARD") == (5, sent.etag, None, "STANDARD")
    assert info.last_modified is not None
    headers = info.headers
    assert (headers.content_type, headers.cache_control, headers.content_language) == ("text/x", "no-store", "de")
    assert headers.content_encoding == "gzip"
    assert info.metadata_value("colour") == "blue"
    assert engine.download_bytes(key) == b"bytes"


def test_a_listing_goes_on_where_it_stopped(reached: Bench) -> None:
    """By token, page by page, and as one stream."""
    engine, home = _engine(reached), _key()
    keys = [f"{home}/{number:02}" for number in range(7)]
    for key in keys:
        engine.upload_bytes(b"x", key)
    first = engine.list_objects_paginated(f"{home}/", None, 3)
    second = engine.list_objects_paginated(f"{home}/", first.continuation_token, 3)
    assert [item.key for item in (*first.objects, *second.objects)] == keys[:6]
    assert (first.is_truncated, second.is_truncated) == (True, True)
    assert [item.key for item in engine.list_objects(f"{home}/").objects] == keys
    assert [item.key for item in engine.iter_objects(KeyPrefix(BUCKET, f"{home}/"))] == keys
    assert [item.key for item in engine.iter_objects(f"s3://{BUCKET}/{home}/", start_after=keys[4])] == keys[5:]


def test_a_copy_is_proved_and_keeps_what_it_can(reached: Bench) -> None:
    """Metadata, headers and tags, by one CopyObject."""
    engine, source, target = _engine(reached), _key(), _key()
    attributes = ObjectAttributes(
        metadata=(("colour", "blue"),), tags=(("a", "b"),), content_type="text/x", extra_args=(("CacheControl", "x"),)
    )
    engine.upload_bytes(b"bytes", source, UploadOptions(attributes=attributes))
    result = engine.copy_object(source, target)
    info = engine.get_metadata(target)
    assert (result.size, result.integrity, result.not_kept) == (5, reached.quirks.small_integrity, ())
    assert (info.etag, info.metadata_value("colour"), info.headers.cache_control) == (result.etag, "blue", "x")
    assert reached.window.tags(ObjectRef(BUCKET, target)) == {"a": "b"}


def test_a_copy_of_parts_is_proved(reached: Bench, tmp_path: Path) -> None:
    """By the checksum over the full object, where the store has one."""
    engine, source, target = _engine(reached), reached.ref(), reached.ref()
    (tmp_path / "file").write_bytes(data_of(2 * reached.part))
    engine.upload(tmp_path / "file", source)
    whole = reached.quirks.large_integrity is Integrity.FULL_CRC
    assert engine.copy_object(source, target).integrity is (Integrity.FULL_CRC if whole else Integrity.SIZE_ETAG)
    assert reached.window.read(target) == data_of(2 * reached.part)


def test_a_copy_takes_options(reached: Bench) -> None:
    """New tags, a new type; headers that S3 would drop are sent again; replace=False."""
    engine, source, target = _engine(reached), _key(), _key()
    attributes = ObjectAttributes(metadata=(("colour", "blue"),), extra_args=(("CacheControl", "x"),))
    engine.upload_bytes(b"bytes", source, UploadOptions(attributes=attributes))
    engine.copy_object(source, target, CopyOptions(content_type="text/y", tags=(("t", "1 2"),)))
    info = engine.get_metadata(target)
    assert (info.headers.content_type, info.headers.cache_control) == ("text/y", "x")
    assert info.metadata_value("colour") == "blue"
    # Also where the store drops the tags that a copy asks for.
    assert reached.window.tags(ObjectRef(BUCKET, target)) == {"t": "1 2"}
    with pytest.raises(TargetExists):
        engine.copy_object(source, target, CopyOptions(replace=False))
    with pytest.raises(ConfigError, match="would change nothing"):
        engine.copy_object(source, source)
    with pytest.raises(NotFound):
        engine.copy_object(_key(), target)


def test_a_copy_onto_itself_may_change_metadata(reached: Bench) -> None:
    """The bytes stay."""
    engine, key = _engine(reached), _key()
    engine.upload_bytes(b"bytes", key)
    engine.copy_object(key, key, CopyOptions(metadata=(("colour", "red"),)))
    assert engine.get_metadata(key).metadata_value("colour") == "red"
    assert engine.download_bytes(key) == b"bytes"


def test_a_delete_is_a_success_twice(reached: Bench) -> None:
    """And the object is gone."""
    engine, key = _engine(reached), _key()
    engine.upload_bytes(b"bytes", key)
    for _ in range(2):
        assert engine.delete(key).delete_marker is False
    assert engine.exists(key) is False


@pytest.mark.parametrize("name", ODD_KEYS)
def test_odd_keys_go_through_every_verb(reached: Bench, name: str) -> None:
    """To the letter; a key that looks like a URI needs an ObjectRef."""
    if name in reached.quirks.impossible_keys:
        pytest.xfail(f"{reached.name} cannot hold such a key: docs/compatible-stores.md")
    engine, key, other = _engine(reached), ODD_KEYS[name], _key()
    target: str | ObjectRef = ObjectRef(BUCKET, key) if key.startswith("s3://") else key
    engine.upload_bytes(key.encode(), target)
    try:
        assert engine.exists(target) is True
        assert engine.get_metadata(target).ref == ObjectRef(BUCKET, key)
        assert engine.download_bytes(target) == key.encode()
        assert key in [item.key for item in engine.iter_objects(KeyPrefix(BUCKET, key))]
        assert key in [item.key for item in engine.list_objects(KeyPrefix(BUCKET, key)).objects]
        engine.copy_object(target, other)
        engine.copy_object(other, target, CopyOptions(metadata=(("copied", "yes"),)))
        assert engine.get_metadata(target).metadata_value("copied") == "yes"
        assert engine.download_bytes(other) == key.encode()
    finally:
        engine.delete(target)
    assert engine.exists(target) is False


def test_versions_and_delete_markers_are_told_apart(reached: Bench) -> None:
    """A delete lays a marker; the versions can still be read, and a marker can be taken away."""
    client: Any = reached.window.client  # type: ignore[attr-defined]
    bucket = f"versions-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        _tell_versions_apart(_engine(reached), ObjectRef(bucket, "k"))
    finally:
        listed = client.list_object_versions(Bucket=bucket)
        for item in (*listed.get("Versions", []), *listed.get("DeleteMarkers", [])):
            client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
        client.delete_bucket(Bucket=bucket)


def _tell_versions_apart(engine: TransferEngine, ref: ObjectRef) -> None:
    first = engine.upload_bytes(b"first", ref).version_id
    second = engine.upload_bytes(b"second!", ref).version_id
    assert None not in (first, second)
    assert engine.download_bytes(ref, version_id=first) == b"first"
    assert engine.get_metadata(ref, version_id=first).size == 5
    marker = engine.delete(ref)
    assert (marker.delete_marker, marker.version_id not in (None, first, second)) == (True, True)
    assert engine.exists(ref) is False
    with pytest.raises(NotFound):
        engine.get_metadata(ref)
    assert engine.download_bytes(ref, version_id=second) == b"second!"
    engine.copy_object(replace(ref, version_id=first), replace(ref, key="restored"))
    assert engine.download_bytes(replace(ref, key="restored")) == b"first"
    engine.delete(ref, version_id=marker.version_id)
    assert engine.download_bytes(ref) == b"second!"
    engine.delete(ref, version_id=second)
    assert engine.download_bytes(ref) == b"first"
