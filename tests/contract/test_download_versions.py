"""Downloads of versions, from every store that a client reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orbit_airflow.engine.errors import NotFound, ObjectDeleted
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.options import DownloadOptions
from orbit_airflow.testing import Fault
from tests.contract.benches import BUCKET, Bench, ClientWindow
from tests.contract.bodies import data_of
from tests.contract.test_download_contract import engine_of, put


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
    put(reached, versioned, old)
    engine = engine_of(reached, Fault("get", nth=2, call=lambda: put(reached, versioned, new)), parallel_operations=1)
    first = engine.download(versioned, tmp_path / "first", DownloadOptions(chunk_size=30_000))
    assert (tmp_path / "first").read_bytes() == old
    assert first.version_id is not None
    again = engine_of(reached).download(replace(versioned, version_id=first.version_id), tmp_path / "again")
    latest = engine_of(reached).download(versioned, tmp_path / "latest")
    assert (tmp_path / "again").read_bytes() == old
    assert (tmp_path / "latest").read_bytes() == new
    assert again.version_id == first.version_id != latest.version_id


def test_a_deleted_object_is_said_to_be_deleted(reached: Bench, versioned: ObjectRef, tmp_path: Path) -> None:
    put(reached, versioned, b"bytes")
    reached.store.delete(versioned)
    with pytest.raises(ObjectDeleted if reached.quirks.shows_delete_markers else NotFound):
        engine_of(reached).download(versioned, tmp_path / "file")
