"""What the store's answers say, as the engine's values. Reading only; no request is made here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from orbit_airflow.engine.errors import RequestContext, Unavailable
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    ContentHeaders,
    ListedObject,
    ListResult,
    ObjectInfo,
    ObjectRef,
    RestoreState,
)
from orbit_airflow.engine.stores.errormap import mapped

_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA256", "SHA1", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")
_RESTORE = re.compile(r'([a-z-]+)="([^"]*)"')
Answer = Mapping[str, Any]


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
    )


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


def page_in(answer: Answer, decode: Callable[[str], str]) -> ListResult:
    """One page of ListObjectsV2."""
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
