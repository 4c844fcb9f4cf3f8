"""What the store's answers say, as the engine's values. Reading only; no request is made here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, unquote_plus

from botocore.exceptions import BotoCoreError, ClientError

from orbit_airflow.engine.errors import RequestContext, Unavailable
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    ContentHeaders,
    ListedObject,
    ListResult,
    ObjectInfo,
    ObjectPart,
    ObjectRef,
    RestoreState,
)
from orbit_airflow.engine.stores.errormap import mapped

_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA256", "SHA1", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RESTORE = re.compile(r'([a-z-]+)="([^"]*)"')
Answer = Mapping[str, Any]


# What XML 1.0 cannot carry, as it is and as a character reference. Stores write it all the same, where an answer
# repeats the key: CreateMultipartUpload, CompleteMultipartUpload, ListParts, and every error.
_ILLEGIBLE = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:x0*(?:[0-8bcef]|1[0-9a-f])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));", re.IGNORECASE
)
DAMAGED = "\ufffd"


def make_legible(response_dict: dict[str, Any], **_: object) -> None:
    """For botocore's ``before-parse``: one control character in a key would make an error of the whole answer.

    botocore's own handler comes first and has made a 500 of what it could not read; a document that is none of S3's
    errors was a success.
    """
    body = response_dict.get("body")
    if not isinstance(body, bytes) or not body:
        return
    readable = legible(body)
    if readable is not body:
        response_dict["body"] = readable
        if response_dict.get("status_code") == 500 and b"<Error" not in readable:
            response_dict["status_code"] = 200


def legible(body: bytes) -> bytes:
    """A document with a mark in the place of what XML cannot carry; the very same one where there is nothing."""
    changed, count = _ILLEGIBLE.subn(DAMAGED.encode(), body)
    return changed if count else body


@contextmanager
def mapping(context: RequestContext) -> Iterator[None]:
    """Every error of client and line as the engine's own."""
    try:
        yield
    except (ClientError, BotoCoreError, OSError, ValueError) as exc:
        raise mapped(exc, context) from exc


@contextmanager
def understanding(context: RequestContext) -> Iterator[None]:
    """An answer that lacks what it must have, or has it in another shape, is an unavailable store, not a crash."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise Unavailable(f"the answer could not be understood: {exc!r}", context) from exc


def unquoted(etag: str | None) -> str:
    """An ETag without its quotes; empty when there is none."""
    return (etag or "").strip('"')


def checksum_type(answer: Answer) -> ChecksumType:
    """The type that the answer names; what names none was made from the parts."""
    return ChecksumType.FULL_OBJECT if answer.get("ChecksumType") == "FULL_OBJECT" else ChecksumType.COMPOSITE


def checksum_in(answer: Answer) -> Checksum | None:
    """The first checksum of the answer, in the order of our liking."""
    for algorithm in _ALGORITHMS:
        value = answer.get(f"Checksum{algorithm}")
        if value:
            composite = "-" in value or answer.get("ChecksumType") == "COMPOSITE"
            return Checksum(algorithm, value, ChecksumType.COMPOSITE if composite else ChecksumType.FULL_OBJECT)
    return None


def info_in(answer: Answer, ref: ObjectRef, size: int, checksum: Checksum | None) -> ObjectInfo:
    """What the headers of a HEAD or GET say about the object."""
    return ObjectInfo(
        ref=ref,
        size=size,
        etag=unquoted(answer.get("ETag")),
        version_id=answer.get("VersionId"),
        last_modified=answer.get("LastModified"),
        checksum=checksum,
        metadata=tuple((name.lower(), value) for name, value in answer.get("Metadata", {}).items()),
        storage_class=answer.get("StorageClass"),
        headers=_headers_in(answer),
        restore=restore_state(answer.get("Restore")),
        archive_status=answer.get("ArchiveStatus"),
        server_side_encryption=answer.get("ServerSideEncryption"),
        kms_key_id=answer.get("SSEKMSKeyId"),
        bucket_key=bool(answer.get("BucketKeyEnabled")),
        customer_key=bool(answer.get("SSECustomerAlgorithm")),
        retention=answer.get("ObjectLockMode"),
        legal_hold=answer.get("ObjectLockLegalHoldStatus") == "ON",
        tag_count=int(answer.get("TagCount") or 0),
    )


def object_part_in(answer: Answer, number: int, context: RequestContext) -> ObjectPart | None:
    """What a HEAD by part number says; None when it counts no parts, or is about the whole of several.

    Unavailable for a length that is not that of the range.
    """
    count, size = int(answer.get("PartsCount") or 0), int(answer["ContentLength"])
    if count < 1:
        return None
    span = CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
    if span is not None:
        first, last, total = (int(text) for text in span.groups())
        if last + 1 - first != size:
            raise Unavailable(f"part {number} is {span[0]}, and has {size} bytes", context)
        if count > 1 and size == total:
            return None
    return ObjectPart(number, count, size, _part_checksum(answer, count), unquoted(answer.get("ETag")))


def _part_checksum(answer: Answer, count: int) -> Checksum | None:
    """The part's own. One over the full object of several parts is not, nor is one over the parts' checksums."""
    found = checksum_in(answer)
    if found is None or "-" in found.value or (count > 1 and found.type is ChecksumType.FULL_OBJECT):
        return None
    return Checksum(found.algorithm, found.value)


def _headers_in(answer: Answer) -> ContentHeaders:
    expires = answer.get("Expires")
    return ContentHeaders(
        content_type=answer.get("ContentType"),
        content_encoding=answer.get("ContentEncoding"),
        content_disposition=answer.get("ContentDisposition"),
        content_language=answer.get("ContentLanguage"),
        cache_control=answer.get("CacheControl"),
        expires=expires if isinstance(expires, datetime) else None,
        website_redirect=answer.get("WebsiteRedirectLocation"),
    )


def restore_state(header: str | None) -> RestoreState | None:
    """``ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`` as a value; None without the header.

    ValueError for a header that does not say whether the restoring goes on.
    """
    if not header:
        return None
    words = dict(_RESTORE.findall(header))
    ongoing = words.get("ongoing-request")
    if ongoing not in ("true", "false"):
        raise ValueError(f"x-amz-restore: {header!r}")
    expires = words.get("expiry-date")
    return RestoreState(ongoing == "true", parsedate_to_datetime(expires) if expires else None)


def upload_key(text: str, prefix: str) -> str:
    """A key of ListMultipartUploads: some stores encode and do not say so, others say so and do not. The prefix that
    was asked for tells: every key begins with it.
    """
    for candidate in (unquote_plus(text), unquote(text), text):
        if candidate.startswith(prefix):
            return candidate
    return text


def page_in(answer: Answer) -> ListResult:
    """One page of ListObjectsV2. ValueError for a key that came damaged: it is the name of another object now."""
    encoded = answer.get("EncodingType") == "url"

    def decode(text: str) -> str:
        if encoded and DAMAGED in text:
            raise ValueError(f"a key that is no valid XML, and not encoded: {text!r}")
        return unquote_plus(text) if encoded else text

    more = bool(answer.get("IsTruncated"))
    return ListResult(
        objects=tuple(
            ListedObject(
                key=decode(item["Key"]),
                size=int(item["Size"]),
                etag=unquoted(item.get("ETag")),
                last_modified=item.get("LastModified"),
                storage_class=item.get("StorageClass"),
            )
            for item in answer.get("Contents", [])
        ),
        is_truncated=more,
        continuation_token=(answer.get("NextContinuationToken") or None) if more else None,
        common_prefixes=tuple(decode(item["Prefix"]) for item in answer.get("CommonPrefixes", [])),
    )
