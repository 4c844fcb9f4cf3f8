"""What a copy sends so that it keeps what its source had, and what two answers prove of each other. No request here."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from orbit_airflow.engine.errors import IntegrityError
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    ContentHeaders,
    Integrity,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
)
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.store import CopyRequest

_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]+")
STRENGTH = (Integrity.SIZE_ETAG, Integrity.MD5, Integrity.PART_CRC, Integrity.FULL_CRC)
ExtraArgs = tuple[tuple[str, str | bool | datetime], ...]


def copy_request(source: ObjectRef, info: ObjectInfo, options: CopyOptions, *, in_parts: bool = False) -> CopyRequest:
    """One CopyObject, pinned to the version and ETag of ``info``; what S3 drops although the request can carry it
    (class, KMS key, redirect) is sent again. A copy ``in_parts`` has only what is sent, so it is sent all; its tags are
    the caller's to find.
    """
    new_metadata = in_parts or options.metadata is not None or options.content_type is not None
    extra: ExtraArgs = _headers_again(info.headers) if new_metadata else ()
    encryption, key = options.server_side_encryption, options.kms_key_id
    if encryption is None and (info.server_side_encryption or "").startswith("aws:kms"):
        encryption, key = info.server_side_encryption, info.kms_key_id
        extra = (*extra, *((("BucketKeyEnabled", True),) if info.bucket_key else ()))
    if info.headers.website_redirect is not None:
        extra = (*extra, ("WebsiteRedirectLocation", info.headers.website_redirect))
    attributes = ObjectAttributes(
        metadata=info.metadata if options.metadata is None else options.metadata,
        tags=options.tags or (),
        content_type=options.content_type or info.headers.content_type,
        storage_class=options.storage_class or info.storage_class,
        server_side_encryption=encryption,
        kms_key_id=key,
        acl=options.acl,
        extra_args=extra,
    )
    return CopyRequest(
        source=replace(source, version_id=source.version_id or info.version_id),
        if_match=info.etag,
        attributes=attributes,
        replace_metadata=new_metadata,
        replace_tags=options.tags is not None,
        if_none_match=not options.replace,
    )


def compared(info: ObjectInfo, etag: str, checksum: Checksum | None, *, in_parts: bool = False) -> Integrity:
    """What (ETag, checksum) of the copy prove about its source. IntegrityError when they prove other bytes.

    ETags and checksums that were made from parts differ where the parts do, although no byte does: then they say
    nothing. Equal ones are of equal parts, if the copy was made ``in_parts`` (a CopyObject that answers such an ETag
    has copied it with the rest).
    """
    had = info.checksum
    if had is not None and checksum is not None and had.algorithm == checksum.algorithm:
        composite = [item.type is ChecksumType.COMPOSITE for item in (had, checksum)]
        if had.value == checksum.value and composite[0] is composite[1]:
            return Integrity.PART_CRC if composite[0] else Integrity.FULL_CRC
        if not any(composite):
            raise IntegrityError(f"the copy's checksum is {checksum.value}, that of its source {had.value}")
    made_of_bytes = (_MD5_OF_PARTS if in_parts else _MD5).fullmatch(etag)
    return Integrity.MD5 if made_of_bytes and etag == info.etag else Integrity.SIZE_ETAG


def as_wished(found: ObjectInfo, source: ObjectInfo, request: CopyRequest) -> bool:
    """True when the target has size, metadata, type and class of this copy. Of its bytes that says nothing."""
    if found.size != source.size or found.storage_class != request.attributes.storage_class:
        return False
    if _unmarked(found.metadata) != _unmarked(request.attributes.metadata):
        return False
    return found.headers.content_type == request.attributes.content_type


def equals(found: ObjectInfo, source: ObjectInfo, request: CopyRequest) -> bool:
    """True when the target is all that this copy would make of it, whoever did it: as wished, with proved bytes."""
    try:
        proved = compared(source, found.etag, found.checksum) is not Integrity.SIZE_ETAG
    except IntegrityError:
        return False
    return proved and as_wished(found, source, request)


def _unmarked(metadata: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in metadata if name != MARK))


def not_kept(info: ObjectInfo, etag: str | None = None, checksum: Checksum | None = None) -> tuple[str, ...]:
    """What the source has and a copy does not get, as far as a HEAD tells; see CopyResult. With ``etag`` and
    ``checksum`` of the copy, where they are known.
    """
    had = {
        "retention": info.retention is not None,
        "legal hold": info.legal_hold,
        # The parts that it was made of are not the copy's.
        "etag": "-" in info.etag and etag not in (None, info.etag),
        "checksum algorithm": (
            info.checksum is not None and checksum is not None and info.checksum.algorithm != checksum.algorithm
        ),
    }
    return tuple(name for name, present in had.items() if present)


def _headers_again(headers: ContentHeaders) -> ExtraArgs:
    """REPLACE, and an upload in parts, drop every header that is not sent again."""
    named = {
        "ContentEncoding": headers.content_encoding,
        "ContentDisposition": headers.content_disposition,
        "ContentLanguage": headers.content_language,
        "CacheControl": headers.cache_control,
        "Expires": headers.expires,
    }
    return tuple((name, value) for name, value in named.items() if value is not None)
