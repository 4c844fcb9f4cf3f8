"""A copy inside the store by one CopyObject: pinned to one version of its source, and compared with it afterwards."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    NotFound,
    PreconditionFailed,
    StoreError,
    TargetExists,
)
from orbit_airflow.engine.model import (
    GIB,
    Checksum,
    ChecksumType,
    ContentHeaders,
    CopyResult,
    Integrity,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
    WriteReceipt,
)
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.resilience.outcome import outcome_unknown
from orbit_airflow.engine.store import CopyRequest

_MD5 = re.compile(r"[0-9a-f]{32}")
ExtraArgs = tuple[tuple[str, str | bool | datetime], ...]


class CopyFlow:
    """One copy. What S3 drops on the way although one request can carry it (class, KMS key, redirect) is sent again."""

    def __init__(self, call: Call, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> None:
        self._call = call
        self._source = source
        self._target = target
        self._options = options
        self._started = call.monotonic()

    def run(self) -> CopyResult:
        """The finished copy. NotFound is the source's; ConfigError for more than one CopyObject can carry;
        PreconditionFailed when the source changed; TargetExists when replace is False and the key is taken.
        """
        self._refuse_nothing_to_do()
        info = self._call.store.head(self._source)
        self._refuse(info)
        request = self._request(info)
        receipt, integrity = self._proved(info, self._copied(info, request))
        return CopyResult(
            ref=self._target,
            source=request.source,
            etag=receipt.etag,
            size=info.size,
            checksum=receipt.checksum,
            integrity=integrity,
            duration=self._call.monotonic() - self._started,
            version_id=receipt.version_id,
            storage_class=request.attributes.storage_class,
            not_kept=_not_kept(info),
        )

    def _refuse_nothing_to_do(self) -> None:
        same = (self._source.bucket, self._source.key) == (self._target.bucket, self._target.key)
        if self._target.version_id is not None:
            raise ConfigError("a copy makes a new version; the target cannot name one")
        if same and self._source.version_id is None and not self._options.changes_something:
            raise ConfigError(f"a copy of {self._target.uri} onto itself would change nothing")

    def _refuse(self, info: ObjectInfo) -> None:
        most = self._call.config.limits.max_put_size
        if info.size > most:
            raise ConfigError(
                f"one CopyObject carries at most {most} bytes ({most / GIB:g} GiB), {info.ref.uri} has {info.size}; "
                "a larger object has to be copied in parts"
            )
        if self._options.if_match not in (None, info.etag):
            raise PreconditionFailed(f"the ETag of {info.ref.uri} is {info.etag} and not {self._options.if_match}")

    def _request(self, info: ObjectInfo) -> CopyRequest:
        options = self._options
        new_metadata = options.metadata is not None or options.content_type is not None
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
            source=replace(self._source, version_id=self._source.version_id or info.version_id),
            if_match=info.etag,
            attributes=attributes,
            replace_metadata=new_metadata,
            replace_tags=options.tags is not None,
            if_none_match=not options.replace,
        )

    def _copied(self, info: ObjectInfo, request: CopyRequest) -> WriteReceipt:
        """One CopyObject; when its answer was lost, the target is looked at before it is sent again."""
        call, attempts = self._call, self._call.config.policy.max_attempts
        if not self._options.replace and self._existing() is not None:
            raise TargetExists(f"{self._target.uri} exists and replace is False")
        for attempt in range(1, attempts + 1):
            call.cancel.check()
            try:
                return call.store.copy(self._target, request)
            except PreconditionFailed as exc:
                found = None if self._options.replace else self._existing()
                if found is None:
                    raise
                if attempt > 1 and _equals(found, info, request):
                    return WriteReceipt(found.etag, found.version_id, found.checksum)
                raise TargetExists(f"{self._target.uri} exists and replace is False", exc.context) from exc
            except StoreError as exc:
                if not outcome_unknown(exc):
                    raise
                call.notice(f"the answer to CopyObject was lost ({exc.message}); looking at the target")
                found = self._existing()
                if found is not None and _equals(found, info, request):
                    return WriteReceipt(found.etag, found.version_id, found.checksum)
                if attempt == attempts:
                    raise
                call.pause(attempt, exc)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _existing(self) -> ObjectInfo | None:
        try:
            return self._call.store.head(self._target)
        except NotFound:
            return None
        except AccessDenied:
            self._call.notice("these credentials may not look at the target (HEAD: 403); going on without")
            return None

    def _proved(self, info: ObjectInfo, receipt: WriteReceipt) -> tuple[WriteReceipt, Integrity]:
        """From the answer if it says enough, else with HEAD's help."""
        integrity = _compared(info, receipt.etag, receipt.checksum)
        if integrity is Integrity.SIZE_ETAG:
            self._refuse_another_source(info)
        if integrity is Integrity.FULL_CRC:
            return receipt, integrity
        found = self._existing()
        if found is None or found.etag != receipt.etag:
            self._call.notice("the copy cannot be looked at, or another writer has replaced it")
            return receipt, integrity
        if found.size != info.size:
            raise IntegrityError(f"the copy has {found.size} bytes, its source {info.size}")
        seen = _compared(info, found.etag, found.checksum)
        best = seen if integrity is Integrity.SIZE_ETAG else max(integrity, seen, key=_STRENGTH.index)
        return WriteReceipt(receipt.etag, receipt.version_id or found.version_id, found.checksum), best

    def _refuse_another_source(self, info: ObjectInfo) -> None:
        """Some stores copy whatever is there, whatever If-Match says; where the bytes prove nothing, look again."""
        if info.version_id is None and self._call.store.head(self._source).etag != info.etag:
            raise PreconditionFailed(f"{info.ref.uri} was replaced while it was copied; the copy may be of either")


_STRENGTH = (Integrity.SIZE_ETAG, Integrity.MD5, Integrity.FULL_CRC)


def _compared(info: ObjectInfo, etag: str, checksum: Checksum | None) -> Integrity:
    """What (ETag, checksum) of the copy prove about its source. IntegrityError when they prove other bytes.

    A copy is one part: ETags and checksums that were made from parts change although no byte does.
    """
    had = info.checksum
    if had is not None and checksum is not None and _alike(had, checksum):
        if had.value != checksum.value:
            raise IntegrityError(f"the copy's checksum is {checksum.value}, that of its source {had.value}")
        return Integrity.FULL_CRC
    return Integrity.MD5 if etag == info.etag and _MD5.fullmatch(etag) else Integrity.SIZE_ETAG


def _alike(one: Checksum, other: Checksum) -> bool:
    return one.algorithm == other.algorithm and ChecksumType.COMPOSITE not in (one.type, other.type)


def _equals(found: ObjectInfo, source: ObjectInfo, request: CopyRequest) -> bool:
    """True when the target is all that this copy would make of it, whoever did it: proved bytes, metadata, class."""
    if found.size != source.size or found.storage_class != request.attributes.storage_class:
        return False
    if found.metadata != request.attributes.metadata or found.headers.content_type != request.attributes.content_type:
        return False
    try:
        return _compared(source, found.etag, found.checksum) is not Integrity.SIZE_ETAG
    except IntegrityError:
        return False


def _headers_again(headers: ContentHeaders) -> ExtraArgs:
    """REPLACE drops every header that is not sent again."""
    named = {
        "ContentEncoding": headers.content_encoding,
        "ContentDisposition": headers.content_disposition,
        "ContentLanguage": headers.content_language,
        "CacheControl": headers.cache_control,
        "Expires": headers.expires,
    }
    return tuple((name, value) for name, value in named.items() if value is not None)


def _not_kept(info: ObjectInfo) -> tuple[str, ...]:
    had = {"retention": info.retention is not None, "legal hold": info.legal_hold}
    return tuple(name for name, present in had.items() if present)
