"""The guide's versioning verbs, and copies in parts, over each store that a client reaches."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.compare import Decision
from orbit_airflow.engine.compose import open_engine
from orbit_airflow.engine.errors import ConfigError, NotFound, ObjectDeleted, Unsupported
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import ChecksumType, Integrity, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import CopyOptions, UploadOptions
from tests.contract.benches import BUCKET, Bench
from tests.contract.bodies import data_of

KEPT = ObjectAttributes(
    metadata=(("colour", "blue"),),
    tags=(("a", "b c"), ("d", "")),
    content_type="text/x-orbit",
    extra_args=(("CacheControl", "no-store"), ("ContentEncoding", "gzip")),
)


@pytest.fixture
def engine(reached: Bench) -> Iterator[TransferEngine]:
    """On a bucket of its own that keeps versions."""
    client: Any = reached.window.client  # type: ignore[attr-defined]
    bucket = f"versions-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    assert reached.config is not None
    found = open_engine(replace(reached.config, bucket=bucket, chunk_size=reached.part))
    found.versions.enable_versioning()
    yield found
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=bucket)


def _put(engine: TransferEngine, data: bytes, attributes: ObjectAttributes | None = None) -> str:
    options = UploadOptions(attributes=attributes or ObjectAttributes())
    version = engine.upload_bytes(data, "report.pdf", options).version_id
    assert version is not None
    return version


def test_the_status_is_shown_and_changed(engine: TransferEngine) -> None:
    """Enabled, then suspended."""
    assert engine.versions.get_versioning_status().enabled is True
    engine.versions.suspend_versioning()
    status = engine.versions.get_versioning_status()
    assert (status.enabled, status.status, status.mfa_delete) == (False, "Suspended", False)


def test_a_keys_versions_are_its_own(engine: TransferEngine) -> None:
    """Not those of keys that begin with it; deleted ones have a marker on top."""
    first, second = _put(engine, b"1"), _put(engine, b"22")
    engine.upload_bytes(b"x", "report.pdf.bak")
    marker = engine.delete("report.pdf").version_id
    found = engine.versions.list_object_versions("report.pdf")
    assert [item.version_id for item in found.versions] == [second, first]
    assert [item.version_id for item in found.delete_markers] == [marker]
    assert (found.everything[0].version_id, found.everything[0].is_latest) == (marker, True)
    assert {item.key for item in engine.versions.iter_versions("report")} == {"report.pdf", "report.pdf.bak"}
    assert engine.versions.list_object_versions("repor").everything == ()


def test_a_version_is_downloaded(engine: TransferEngine, tmp_path: Path) -> None:
    """Whatever lies over it."""
    first = _put(engine, b"first")
    _put(engine, b"second")
    engine.delete("report.pdf")
    engine.versions.download_version("report.pdf", first, tmp_path / "old.pdf")
    assert (tmp_path / "old.pdf").read_bytes() == b"first"


def test_a_version_is_restored_with_all_that_it_had(engine: TransferEngine, reached: Bench) -> None:
    """As a new version; and once more is nothing to do."""
    first = _put(engine, b"first", KEPT)
    _put(engine, b"second")
    done = engine.versions.restore_version("report.pdf", first)
    shown = engine.get_metadata("report.pdf")
    assert engine.download_bytes("report.pdf") == b"first"
    assert (done.changed, done.version_id, done.not_kept) == (True, shown.version_id, ())
    assert shown.metadata_value("colour") == "blue"
    assert (shown.headers.content_type, shown.headers.cache_control) == ("text/x-orbit", "no-store")
    assert reached.window.tags(ObjectRef(engine.config.bucket or "", "report.pdf")) == dict(KEPT.tags)
    again = engine.versions.restore_version("report.pdf", shown.version_id or "")
    assert (again.changed, again.version_id) == (False, shown.version_id)
    assert len(engine.versions.list_object_versions("report.pdf").versions) == 3


@pytest.mark.parametrize("parts", [1.5, 3])
def test_a_large_version_is_restored_in_parts(engine: TransferEngine, reached: Bench, parts: float) -> None:
    """With all that it had, tags included on stores that drop them from a Create."""
    data = data_of(int(parts * reached.part) + 1)
    first = _put(engine, data, KEPT)
    _put(engine, b"second")
    options = CopyOptions(multipart_threshold=reached.part, chunk_size=reached.part)
    done = engine.versions.restore_version("report.pdf", first, options)
    shown = engine.get_metadata("report.pdf")
    assert engine.download_bytes("report.pdf") == data
    assert done.version_id == shown.version_id
    assert (shown.metadata_value("colour"), shown.headers.content_type) == ("blue", "text/x-orbit")
    assert (shown.headers.cache_control, shown.headers.content_encoding) == ("no-store", "gzip")
    assert reached.window.tags(ObjectRef(engine.config.bucket or "", "report.pdf")) == dict(KEPT.tags)
    assert done.copy is not None
    whole = reached.quirks.object_checksum is ChecksumType.FULL_OBJECT and reached.quirks.copied_parts_have_checksums
    assert done.copy.integrity is (Integrity.FULL_CRC if whole else Integrity.SIZE_ETAG)


def test_a_multipart_object_is_copied_in_the_same_parts(engine: TransferEngine, reached: Bench, tmp_path: Path) -> None:
    """Then even ETags made of parts prove the bytes."""
    data = data_of(2 * reached.part + 1)
    (tmp_path / "file").write_bytes(data)
    ref = engine.address("big")
    sent = engine.upload(tmp_path / "file", ref)
    options = CopyOptions(multipart_threshold=0, chunk_size=reached.part)
    copied = engine.copy_object(ref, "copy", options)
    assert engine.download_bytes("copy") == data
    assert copied.etag == sent.etag
    assert copied.integrity in (Integrity.FULL_CRC, Integrity.MD5)
    assert reached.window.open_uploads(replace(ref, key="copy")) == []


def test_parts_are_never_copied_from_another_key(engine: TransferEngine, reached: Bench) -> None:
    """Stores that decode a key twice, and ignore If-Match, would take "50A" for "50%41" where no version is named."""
    data = data_of(2 * reached.part, 5)
    source, other, copy = (ObjectRef(BUCKET, f"twice/{name}") for name in ("50%41", "50A", "copy"))
    engine.upload_bytes(data, source)
    engine.upload_bytes(data_of(2 * reached.part, 6), other)
    options = CopyOptions(multipart_threshold=reached.part, chunk_size=reached.part)
    if reached.quirks.replaced_source_on_copy_part is None:
        with pytest.raises(Unsupported, match="If-Match"):
            engine.copy_object(source, copy, options)
        assert not engine.exists(copy)
    else:
        engine.copy_object(source, copy, options)
        assert engine.download_bytes(copy) == data
    assert reached.window.open_uploads(copy) == []


def test_a_deleted_key_comes_back(engine: TransferEngine) -> None:
    """By taking its markers away; nothing is written."""
    version = _put(engine, b"bytes")
    markers = [engine.delete("report.pdf").version_id for _ in range(2)]
    done = engine.versions.undelete("report.pdf")
    # Some stores lay no second marker over the first one.
    assert {*done.removed} == {marker for marker in markers if marker is not None}
    assert done.current.version_id == version
    assert engine.get_metadata("report.pdf").version_id == version
    assert engine.versions.undelete("report.pdf").removed == ()
    with pytest.raises(NotFound):
        engine.versions.undelete("never")


def test_a_version_is_gone_for_good(engine: TransferEngine) -> None:
    """And what was below it shows."""
    first, second = _put(engine, b"first"), _put(engine, b"second")
    engine.versions.delete_version("report.pdf", second)
    assert engine.download_bytes("report.pdf") == b"first"
    with pytest.raises(NotFound):
        engine.get_metadata("report.pdf", version_id=second)
    assert [item.version_id for item in engine.versions.list_object_versions("report.pdf").versions] == [first]


def test_versions_are_compared(engine: TransferEngine) -> None:
    """By size, by checksum or ETag; a marker has nothing to compare."""
    first, second, third = _put(engine, b"first"), _put(engine, b"other"), _put(engine, b"longer one")
    same = _put(engine, b"first")
    compared = engine.versions.compare_versions("report.pdf", first, third)
    assert (compared.size_diff, compared.content_differs, compared.decided_by) == (5, True, Decision.SIZE)
    assert compared.time_diff is not None
    assert compared.time_diff.total_seconds() >= 0
    assert engine.versions.compare_versions("report.pdf", first, second).content_differs is True
    assert engine.versions.compare_versions("report.pdf", first, same).content_differs is False
    marker = engine.delete("report.pdf").version_id
    with pytest.raises((ObjectDeleted, NotFound)):
        engine.versions.compare_versions("report.pdf", first, marker or "")


def test_a_suspended_bucket_is_not_robbed_of_its_null(engine: TransferEngine, reached: Bench) -> None:
    """A restore there would overwrite it."""
    if not reached.quirks.suspending_keeps_versions:
        pytest.xfail(f"{reached.name} forgets versions when they are suspended: docs/compatible-stores.md")
    first = _put(engine, b"first")
    engine.versions.suspend_versioning()
    engine.upload_bytes(b"null", "report.pdf")
    with pytest.raises(ConfigError, match="overwrite_null"):
        engine.versions.restore_version("report.pdf", first)
    assert engine.versions.restore_version("report.pdf", "null").changed is False
    assert engine.download_bytes("report.pdf") == b"null"
    engine.versions.restore_version("report.pdf", first, overwrite_null=True)
    assert engine.download_bytes("report.pdf") == b"first"
    assert len(engine.versions.list_object_versions("report.pdf").versions) == 2
