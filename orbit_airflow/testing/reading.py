"""What MemoryStore answers to those who read, list and copy: values from what it keeps."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self

from orbit_airflow.engine.errors import InvalidRequest, NotFound, ObjectDeleted, PreconditionFailed, RequestContext
from orbit_airflow.engine.model import (
    ByteRange,
    ContentHeaders,
    ListedObject,
    ListResult,
    ObjectAttributes,
    ObjectInfo,
    ObjectPart,
    ObjectRef,
)
from orbit_airflow.engine.store import CopyRequest, ListRequest
from orbit_airflow.testing.shelf import StoredObject, refused


class MemoryStream:
    """An ObjectStream over bytes."""

    def __init__(self, data: memoryview, info: ObjectInfo) -> None:
        self._data = data
        self._info = info
        self._done = 0

    @property
    def info(self) -> ObjectInfo:
        """The object."""
        return self._info

    @property
    def length(self) -> int:
        """Of this stream."""
        return len(self._data)

    def read_into(self, view: memoryview) -> int:
        """As much as fits."""
        piece = self._data[self._done : self._done + len(view)]
        view[: len(piece)] = piece
        self._done += len(piece)
        return len(piece)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def chosen(ref: ObjectRef, found: Sequence[StoredObject], context: RequestContext) -> StoredObject:
    """The version that is asked for, of those of the key, oldest first. NotFound, ObjectDeleted for a marker."""
    candidates = found[-1:]
    if ref.version_id is not None:
        candidates = [item for item in found if (item.version_id or "null") == ref.version_id]
    if not candidates:
        raise refused(NotFound, "404", 404, context)
    if candidates[0].deleted:
        raise refused(ObjectDeleted, "405" if ref.version_id else "404", 405 if ref.version_id else 404, context)
    return candidates[0]


def info_of(ref: ObjectRef, item: StoredObject) -> ObjectInfo:
    """As HEAD shows it; the user metadata's names in lower case."""
    attributes = item.attributes
    return ObjectInfo(
        ref=ref,
        size=len(item.data),
        etag=item.etag,
        version_id=item.version_id,
        last_modified=item.last_modified,
        checksum=item.checksum,
        metadata=tuple(item.metadata.items()),
        storage_class=None if attributes.storage_class == "STANDARD" else attributes.storage_class,
        headers=_headers_of(attributes),
        server_side_encryption=attributes.server_side_encryption,
        kms_key_id=attributes.kms_key_id,
        tag_count=len(attributes.tags),
    )


def part_of(item: StoredObject, number: int, context: RequestContext) -> ObjectPart | None:
    """As a HEAD by part number shows it; InvalidRequest for a number that there is not."""
    found = next((part for part in item.parts if part.number == number), None)
    if found is not None:
        return ObjectPart(number, len(item.parts), found.size, found.checksum, item.etag)
    if item.parts or number != 1:
        raise refused(InvalidRequest, "416", 416, context)
    return None


def _headers_of(attributes: ObjectAttributes) -> ContentHeaders:
    given = dict(attributes.extra_args)

    def text(name: str) -> str | None:
        value = given.get(name)
        return value if isinstance(value, str) else None

    expires = given.get("Expires")
    return ContentHeaders(
        content_type=attributes.content_type or text("ContentType"),
        content_encoding=text("ContentEncoding"),
        content_disposition=text("ContentDisposition"),
        content_language=text("ContentLanguage"),
        cache_control=text("CacheControl"),
        expires=expires if isinstance(expires, datetime) else None,
        website_redirect=text("WebsiteRedirectLocation"),
    )


def stream_of(
    ref: ObjectRef, item: StoredObject, span: ByteRange | None, if_match: str | None, context: RequestContext
) -> MemoryStream:
    """The bytes, or the very range; PreconditionFailed and InvalidRequest as S3."""
    if if_match not in (None, item.etag):
        raise refused(PreconditionFailed, "PreconditionFailed", 412, context)
    info, data = info_of(ref, item), memoryview(item.data)
    if span is None:
        return MemoryStream(data, info)
    if span.stop > len(data):
        raise refused(InvalidRequest, "InvalidRange", 416, context)
    whole = span.length == len(data)
    return MemoryStream(data[span.start : span.stop], info if whole else replace(info, checksum=None))


def copied_attributes(item: StoredObject, request: CopyRequest) -> ObjectAttributes:
    """What the copy gets: of the source by COPY, of the request by REPLACE; class and encryption of the request."""
    given, had = request.attributes, item.attributes
    from_metadata = given if request.replace_metadata else had
    return replace(
        given,
        content_type=from_metadata.content_type,
        metadata=from_metadata.metadata,
        extra_args=given.extra_args if request.replace_metadata else (*had.extra_args, *given.extra_args),
        tags=given.tags if request.replace_tags else had.tags,
    )


def page_of(kept: Mapping[tuple[str, str], Sequence[StoredObject]], request: ListRequest, page_size: int) -> ListResult:
    """One page, in the order of the keys' bytes; a token is the last name of the page before, in hex."""
    most = min(request.max_keys, page_size)
    after = bytes.fromhex(request.token) if request.token else (request.start_after or "").encode()
    names = heapq.nsmallest(most + 1, (name for name in _names(kept, request) if name > after))
    page = [name.decode() for name in names[:most]]
    more = len(names) > most > 0
    listed = [_listed(kept, request, name) for name in page]
    return ListResult(
        objects=tuple(item for item in listed if isinstance(item, ListedObject)),
        is_truncated=more,
        continuation_token=page[-1].encode().hex() if more else None,
        common_prefixes=tuple(item for item in listed if isinstance(item, str)),
    )


def _names(kept: Mapping[tuple[str, str], Sequence[StoredObject]], request: ListRequest) -> Iterable[bytes]:
    """The keys, and in place of those that the delimiter folds their common prefix."""
    bucket, prefix = request.where.bucket, request.where.prefix
    found = set()
    for (home, key), versions in kept.items():
        if home == bucket and key.startswith(prefix) and versions and not versions[-1].deleted:
            at = key.find(request.delimiter, len(prefix)) if request.delimiter else -1
            found.add(key if at < 0 else key[: at + len(request.delimiter or "")])
    return {name.encode() for name in found}


def _listed(
    kept: Mapping[tuple[str, str], Sequence[StoredObject]], request: ListRequest, name: str
) -> ListedObject | str:
    if request.delimiter and name.find(request.delimiter, len(request.where.prefix)) >= 0:
        return name
    item = kept[request.where.bucket, name][-1]
    storage_class = item.attributes.storage_class or "STANDARD"
    return ListedObject(name, len(item.data), item.etag, item.last_modified, storage_class)
