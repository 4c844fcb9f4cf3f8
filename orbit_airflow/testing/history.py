"""The versions of a key in a MemoryStore, oldest first: what a write, a delete and a listing make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from orbit_airflow.engine.model import DeleteReceipt
from orbit_airflow.engine.versioning import NULL, ListedVersion, VersioningState, VersionsPage, VersionsRequest
from orbit_airflow.testing.shelf import StoredObject


def remembered(versions: list[StoredObject], item: StoredObject, state: VersioningState) -> StoredObject:
    """``item`` as the newest version, with the id that it gets: its own, "null" in a suspended bucket, or none."""
    if state is VersioningState.UNVERSIONED:
        item = replace(item, version_id=None)
        versions.clear()
    elif state is VersioningState.SUSPENDED:
        item = replace(item, version_id=NULL)
        versions[:] = [other for other in versions if _id(other) != NULL]
    versions.append(item)
    return item


def hidden(versions: list[StoredObject], marker: StoredObject, state: VersioningState) -> DeleteReceipt:
    """The object is gone, or a marker lies over its versions: one named "null" in a suspended bucket."""
    if state is VersioningState.UNVERSIONED:
        versions.clear()
        return DeleteReceipt()
    return DeleteReceipt(delete_marker=True, version_id=remembered(versions, marker, state).version_id)


def without(versions: list[StoredObject], version_id: str) -> DeleteReceipt:
    """That version is gone for good, if it was there."""
    named = [item for item in versions if _id(item) == version_id]
    versions[:] = [item for item in versions if item not in named]
    return DeleteReceipt(bool(named) and named[0].deleted, version_id)


def versions_page(
    kept: Mapping[tuple[str, str], Sequence[StoredObject]], request: VersionsRequest, page_size: int
) -> VersionsPage:
    """One page, in S3's order."""
    most = min(request.max_keys, page_size)
    found = list(islice(_behind(kept, request), most + 1))
    page = tuple(found[:most])
    return VersionsPage(page, (page[-1].key, page[-1].version_id) if len(found) > most > 0 else None)


def _behind(
    kept: Mapping[tuple[str, str], Sequence[StoredObject]], request: VersionsRequest
) -> Iterator[ListedVersion]:
    where, (key_marker, id_marker) = request.where, request.after or ("", "")
    keys = (key for home, key in kept if home == where.bucket and key.startswith(where.prefix))
    for key in sorted(keys, key=str.encode):
        if key.encode() < key_marker.encode():
            continue
        listed = [_listed(key, item, latest=at == 0) for at, item in enumerate(reversed(kept[where.bucket, key]))]
        if key == key_marker:
            ids = [item.version_id for item in listed]
            listed = listed[ids.index(id_marker) + 1 if id_marker in ids else len(ids) :]
        yield from listed


def _listed(key: str, item: StoredObject, *, latest: bool) -> ListedVersion:
    return ListedVersion(
        key=key,
        version_id=_id(item),
        is_latest=latest,
        last_modified=item.last_modified,
        size=len(item.data),
        etag=item.etag,
        storage_class=None if item.deleted else item.attributes.storage_class or "STANDARD",
        delete_marker=item.deleted,
    )


def _id(item: StoredObject) -> str:
    return item.version_id or NULL
