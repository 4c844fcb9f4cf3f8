"""Versions, tags and copied parts: what every store must do, and every wrapper must not change."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import ConfigError, NotFound, ObjectDeleted
from orbit_airflow.engine.model import KeyPrefix, ObjectAttributes, ObjectRef, Part
from orbit_airflow.engine.store import CompleteRequest, CopyPartRequest
from orbit_airflow.engine.versioning import ListedVersion, VersioningState, VersionsRequest
from tests.bodies import BytesBody
from tests.contract.benches import BUCKET, Bench, ClientWindow
from tests.contract.bodies import PLAIN, data_of, digests_of, refusing
from tests.contract.keys import ODD_KEYS


def _put(bench: Bench, ref: ObjectRef, data: bytes, attributes: ObjectAttributes = PLAIN) -> str | None:
    return bench.store.put(ref, BytesBody(data), digests_of(data), attributes, if_none_match=False).version_id


def _listed(bench: Bench, where: KeyPrefix, max_keys: int = 1000) -> list[ListedVersion]:
    """All pages."""
    found: list[ListedVersion] = []
    after: tuple[str, str] | None = None
    while True:
        page = bench.store.list_versions(VersionsRequest(where=where, after=after, max_keys=max_keys))
        found += page.versions
        after = page.next_marker
        if after is None:
            return found


@pytest.fixture
def home(bench: Bench) -> Iterator[str]:
    """A bucket of the test's own, which does not keep versions yet."""
    if not isinstance(bench.window, ClientWindow):
        yield BUCKET
        return
    client, name = bench.window.client, f"versions-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    yield name
    _empty(client, name)


def _empty(client: Any, name: str) -> None:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            client.delete_object(Bucket=name, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=name)


@pytest.fixture
def kept(bench: Bench, home: str) -> Iterator[str]:
    """The same, with versions kept."""
    bench.store.put_versioning(home, VersioningState.ENABLED)
    yield home
    if home == BUCKET:
        # One bucket for all tests of a store in memory: the next one begins with the key "null" of its own.
        bench.store.put_versioning(home, VersioningState.SUSPENDED)


def _key() -> str:
    return f"folder/{uuid.uuid4().hex}"


def test_a_bucket_says_whether_it_keeps_versions(bench: Bench, home: str) -> None:
    """Never is not suspended; and it can never be never again."""
    if home != BUCKET:
        assert bench.store.get_versioning(home).status is VersioningState.UNVERSIONED
    for state in (VersioningState.ENABLED, VersioningState.SUSPENDED, VersioningState.ENABLED):
        bench.store.put_versioning(home, state)
        found = bench.store.get_versioning(home)
        assert (found.status, found.enabled, found.mfa_delete) == (state, state is VersioningState.ENABLED, False)
    with pytest.raises(ConfigError, match="never be unversioned"):
        bench.store.put_versioning(home, VersioningState.UNVERSIONED)
    with pytest.raises(NotFound):
        bench.store.get_versioning("no-such-bucket-at-all")


def test_versions_and_markers_are_listed_newest_first(bench: Bench, kept: str) -> None:
    """In the order in which they were made, even within one second, a marker in its place among the versions."""
    ref = ObjectRef(kept, _key())
    first = _put(bench, ref, b"1")
    marker = bench.store.delete(ref).version_id
    second = _put(bench, ref, b"22")
    third = _put(bench, ref, b"333")
    found = _listed(bench, KeyPrefix(kept, ref.key))
    shown = [(item.version_id, item.size, item.delete_marker, item.is_latest) for item in found]
    expected = [(third, 3, False, True), (second, 2, False, False), (marker, 0, True, False), (first, 1, False, False)]
    if bench.quirks.versions_in_order:
        assert shown == expected
    assert sorted(shown, key=str) == sorted(expected, key=str)
    assert shown[0] == expected[0]
    assert all(item.last_modified is not None and item.last_modified.tzinfo is not None for item in found)
    assert all(bool(item.etag) is not item.delete_marker for item in found)


def test_a_listing_of_versions_has_all_in_pages(bench: Bench, kept: str) -> None:
    """Keys in the order of UTF-8 bytes; a page may end in the middle of a key."""
    prefix = _key()
    names = [f"{prefix}/{name}" for name in ("a", "a-b", "a/1", "b")]
    made = {(name, _put(bench, ObjectRef(kept, name), b"x")) for name in names for _ in range(3)}
    _put(bench, ObjectRef(kept, f"{prefix}-not-ours"), b"x")
    found = _listed(bench, KeyPrefix(kept, f"{prefix}/"), max_keys=2)
    assert {(item.key, item.version_id) for item in found} == made
    assert len(found) == 12
    assert [item.key for item in found] == sorted((item.key for item in found), key=str.encode)
    assert sum(item.is_latest for item in found) == 4
    assert _listed(bench, KeyPrefix(kept, f"{prefix}/none")) == []


def test_what_was_there_before_is_the_version_null(bench: Bench, home: str) -> None:
    """It can be read, tagged, copied and deleted by that name."""
    ref = ObjectRef(home, _key())
    _put(bench, ref, b"before")
    bench.store.put_versioning(home, VersioningState.ENABLED)
    after = _put(bench, ref, b"after")
    null = replace(ref, version_id="null")
    assert [item.version_id for item in _listed(bench, KeyPrefix(home, ref.key))] == [after, "null"]
    assert bench.store.head(null).size == 6
    with bench.store.get(null) as stream:
        assert stream.length == 6
    bench.store.delete(null)
    with pytest.raises(NotFound):
        bench.store.head(null)
    assert [item.version_id for item in _listed(bench, KeyPrefix(home, ref.key))] == [after]


def test_a_suspended_bucket_overwrites_null_alone(bench: Bench, kept: str) -> None:
    """By a write, and by a delete, whose marker is named "null" too; versions with names stay."""
    ref = ObjectRef(kept, _key())
    named = _put(bench, ref, b"named")
    bench.store.put_versioning(kept, VersioningState.SUSPENDED)
    if not bench.quirks.suspending_keeps_versions:
        _put(bench, ref, b"one")
        assert [item.version_id for item in _listed(bench, KeyPrefix(kept, ref.key))] == ["null"]
        return
    where = KeyPrefix(kept, ref.key)
    for data in (b"one", b"two"):
        _put(bench, ref, data)
        assert [(item.version_id, item.size) for item in _listed(bench, where)] == [("null", 3), (named, 5)]
    receipt = bench.store.delete(ref)
    assert receipt.delete_marker is True
    found = [(item.version_id, item.delete_marker) for item in _listed(bench, where)]
    assert found == [("null", True), (named, False)]
    bench.store.delete(replace(ref, version_id="null"))
    assert bench.store.head(ref).size == 5


def test_a_marker_taken_away_brings_the_object_back(bench: Bench, kept: str) -> None:
    """And its answer says that it was a marker."""
    ref = ObjectRef(kept, _key())
    version = _put(bench, ref, b"bytes")
    marker = bench.store.delete(ref).version_id
    with pytest.raises(ObjectDeleted if bench.quirks.head_tells_markers else NotFound):
        bench.store.head(ref)
    with pytest.raises((NotFound, ObjectDeleted)):
        bench.store.head(replace(ref, version_id=marker))
    receipt = bench.store.delete(replace(ref, version_id=marker))
    assert receipt.delete_marker is bench.quirks.delete_tells_markers
    assert bench.store.head(ref).version_id == version


def test_tags_are_read_and_replaced_as_a_set(bench: Bench) -> None:
    """Spaces and letters of other alphabets included; an empty set takes all away."""
    ref = bench.ref()
    _put(bench, ref, b"bytes", ObjectAttributes(tags=(("a", "b c"),)))
    assert bench.store.get_tags(ref) == (("a", "b c"),)
    sets = ((("x", "1"), ("größe", "2+2=4")), *(((),) if bench.quirks.tags_can_be_emptied else ()))
    for tags in sets:
        bench.store.put_tags(ref, tags)
        assert sorted(bench.store.get_tags(ref)) == sorted(tags)
    with pytest.raises(NotFound):
        bench.store.get_tags(bench.ref())


def test_tags_belong_to_a_version(bench: Bench, kept: str) -> None:
    """Those of another one stay."""
    ref = ObjectRef(kept, _key())
    first = _put(bench, ref, b"1", ObjectAttributes(tags=(("a", "1"),)))
    second = _put(bench, ref, b"2", ObjectAttributes(tags=(("a", "2"),)))
    bench.store.put_tags(replace(ref, version_id=first), (("b", "3"),))
    assert bench.store.get_tags(replace(ref, version_id=first)) == (("b", "3"),)
    assert bench.store.get_tags(replace(ref, version_id=second)) == (("a", "2"),)
    assert bench.store.get_tags(ref) == (("a", "2"),)


class _Copying:
    """One upload whose parts are copied."""

    def __init__(self, bench: Bench, source: ObjectRef, etag: str) -> None:
        self.bench = bench
        self.source = source
        self.etag = etag
        self.ref = bench.ref()
        self.created = bench.store.create(self.ref, PLAIN, checksums=True)

    def request(self, number: int, offset: int, size: int, **changes: Any) -> CopyPartRequest:
        """One part."""
        fixed: dict[str, Any] = {
            "upload_id": self.created.upload_id, "part": Part(number, offset, size), "source": self.source,
            "if_match": self.etag,
        }  # fmt: skip
        return CopyPartRequest(**{**fixed, **changes})


def _source(bench: Bench, size: int) -> tuple[ObjectRef, bytes, str]:
    ref, data = bench.ref(), data_of(size, 7)
    _put(bench, ref, data)
    return ref, data, bench.store.head(ref).etag


def test_parts_may_be_copied(bench: Bench) -> None:
    """Each is its range, listed with its size, and twice is once; the object is the source's bytes."""
    size = 2 * bench.part + 3
    source, data, etag = _source(bench, size)
    copying = _Copying(bench, source, etag)
    receipts = []
    for number, offset in ((1, 0), (2, bench.part), (3, 2 * bench.part)):
        request = copying.request(number, offset, min(bench.part, size - offset))
        bench.store.copy_part(copying.ref, request)
        receipts.append(bench.store.copy_part(copying.ref, request))
    listed = bench.store.list_parts(copying.ref, copying.created.upload_id).parts
    assert [(part.number, part.size, part.etag) for part in listed] == [
        (item.number, item.size, item.etag) for item in receipts
    ][: len(listed)]
    kind = copying.created.checksum_type
    complete = CompleteRequest(
        upload_id=copying.created.upload_id,
        receipts=tuple(receipts),
        size=size,
        send_part_checksums=kind is not None and all(item.crc32 is not None for item in receipts),
    )
    bench.store.complete(copying.ref, complete)
    assert bench.window.read(copying.ref) == data
    crcs = [item.crc32 for item in receipts if item.crc32 is not None]
    assert all(len(to_base64(crc)) == 8 for crc in crcs)


def test_a_whole_object_may_be_one_part(bench: Bench) -> None:
    """Without a range: S3 takes none for a source that is as small."""
    source, data, etag = _source(bench, 10)
    copying = _Copying(bench, source, etag)
    receipt = bench.store.copy_part(copying.ref, copying.request(1, 0, 10, whole=True))
    complete = CompleteRequest(upload_id=copying.created.upload_id, receipts=(receipt,), size=10)
    if copying.created.checksum_type is not None and receipt.crc32 is not None:
        complete = replace(complete, send_part_checksums=True)
    bench.store.complete(copying.ref, complete)
    assert bench.window.read(copying.ref) == data


def test_a_copied_part_is_pinned_to_its_source(bench: Bench) -> None:
    """If-Match; a source or an upload that is not there."""
    source, _, etag = _source(bench, 2 * bench.part)
    copying = _Copying(bench, source, etag)
    try:
        with refusing(bench.quirks.replaced_source_on_copy_part):
            bench.store.copy_part(copying.ref, copying.request(1, 0, bench.part, if_match="0" * 32))
        with pytest.raises(NotFound):
            bench.store.copy_part(copying.ref, copying.request(1, 0, bench.part, source=bench.ref()))
    finally:
        bench.store.abort(copying.ref, copying.created.upload_id)
    with pytest.raises(bench.quirks.gone_copy_part):
        bench.store.copy_part(copying.ref, copying.request(1, 0, bench.part))


def test_an_old_version_is_a_source(bench: Bench, kept: str) -> None:
    """By its id, whatever lies over it."""
    ref, data = ObjectRef(kept, _key()), data_of(2 * bench.part, 3)
    first = _put(bench, ref, data)
    etag = bench.store.head(ref).etag
    _put(bench, ref, b"newer")
    copying = _Copying(bench, replace(ref, version_id=first), etag)
    receipts = [
        bench.store.copy_part(copying.ref, copying.request(number, (number - 1) * bench.part, bench.part))
        for number in (1, 2)
    ]
    complete = CompleteRequest(upload_id=copying.created.upload_id, receipts=tuple(receipts), size=len(data))
    if copying.created.checksum_type is not None:
        complete = replace(complete, send_part_checksums=all(item.crc32 is not None for item in receipts))
    bench.store.complete(copying.ref, complete)
    assert bench.window.read(copying.ref) == data


@pytest.mark.parametrize("name", ODD_KEYS)
def test_a_key_is_taken_as_it_is_by_versions_tags_and_parts(bench: Bench, name: str) -> None:
    """Listed, tagged, and copied from: to the letter."""
    key = ODD_KEYS[name]
    if name in bench.quirks.impossible_keys | bench.quirks.garbled_versions:
        pytest.xfail(f"{bench.name} cannot hold or list such a key: docs/compatible-stores.md")
    ref = bench.ref(key)
    _put(bench, ref, key.encode())
    try:
        shown = [item.key for item in _listed(bench, KeyPrefix(BUCKET, key))]
        assert key in shown
        assert all(item.startswith(key) for item in shown)
        bench.store.put_tags(ref, (("a", "b"),))
        assert bench.store.get_tags(ref) == (("a", "b"),)
        if name in bench.quirks.impossible_copy_parts:
            return
        copying = _Copying(bench, ref, bench.store.head(ref).etag)
        receipt = bench.store.copy_part(copying.ref, copying.request(1, 0, len(key.encode()), whole=True))
        assert receipt.etag
        bench.store.abort(copying.ref, copying.created.upload_id)
    finally:
        bench.store.delete(ref)
