"""From what botocore raises to what the engine knows: the only place where answers are judged (its data: ``codes``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto

from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionLost,
    CredentialsExpired,
    InvalidRequest,
    KmsDenied,
    ObjectDeleted,
    ObjectLocked,
    OrbitError,
    RequestContext,
    StoreError,
    Throttled,
    Unavailable,
    UploadGone,
    WrongEndpoint,
    printable,
)
from orbit_airflow.engine.stores.codes import BY_CODE, BY_STATUS, HINTS

_HEADS = frozenset({"HeadObject", "HeadBucket"})
# A HEAD has no body to say it in: a 400 is S3's answer to expired credentials, a 503 that of a busy store.
_HEAD_STATUS: Mapping[int, type[StoreError]] = {400: CredentialsExpired, 503: Throttled}
_UPLOAD_OPERATIONS = frozenset({"UploadPart", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"})
_NOT_SENT = (
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.InvalidProxiesConfigError,
)
_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
# S3 has no code of its own for it; these are S3's words, Ceph's and MinIO's.
_LOCKED = re.compile(r"object lock(?!.*(?:configuration|not enabled))|WORM protected", re.IGNORECASE)
# More than this a store cannot ask for: a Retry-After of a day would hold the task's slot for a day.
LONGEST_RETRY_AFTER = 60.0


def mapped(error: Exception, context: RequestContext) -> OrbitError:
    """Our error for ``error``; the caller raises it ``from`` the original."""
    if isinstance(error, OrbitError):
        return error
    if isinstance(error, boto.ClientError):
        return _from_answer(error.response, context)
    inner = getattr(error, "kwargs", {}).get("error") if isinstance(error, boto.BotoCoreError) else None
    if isinstance(inner, OrbitError):
        # Raised by our own body in the middle of a send; botocore wrapped it.
        return inner
    if isinstance(error, _CREDENTIALS):
        return AccessDenied(f"no usable credentials: {error}", _with(context, sent=False))
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        # An SSLError may come in the middle of an answer; only a refused certificate proves that nothing was sent.
        sent = not isinstance(error, _NOT_SENT) and "CERTIFICATE_VERIFY_FAILED" not in str(error)
        return ConnectionLost(f"no answer from the store: {_cause(error)}", _with(context, sent=sent))
    if isinstance(error, boto.ParamValidationError | boto.NoRegionError | boto.UnknownParameterError):
        return ConfigError(str(error), _with(context, sent=False))
    if isinstance(error, boto.BotoCoreError | OSError | ValueError):
        return Unavailable(f"the answer could not be understood: {_cause(error)}", context)
    raise error


def _cause(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}", 400)


def _with(
    context: RequestContext, *, sent: bool = True, status: int | None = None, code: str | None = None,
    request_id: str | None = None, retry_after: float | None = None,
) -> RequestContext:  # fmt: skip
    return RequestContext(
        operation=context.operation, bucket=context.bucket, key=context.key, upload_id=context.upload_id,
        part_number=context.part_number, status=status, code=code, request_id=request_id, retry_after=retry_after,
        sent=sent,
    )  # fmt: skip


def _from_answer(response: Mapping[str, Any], context: RequestContext) -> StoreError:
    error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(error.get("Code", "")), int(meta.get("HTTPStatusCode", 0) or 0)
    headers: Mapping[str, str] = meta.get("HTTPHeaders", {})
    # What is no S3 error has no place for the id but a header.
    named = headers.get("x-amz-request-id", "")
    told = _with(
        context,
        status=status,
        code=printable(code, 64),
        request_id=printable(str(meta.get("RequestId") or error.get("RequestId") or named), 64) or None,
        retry_after=_retry_after(headers),
    )
    message = printable(str(error.get("Message", "") or "no message"), 400)
    kind = kind_of(code, status, context.operation)
    if kind is AccessDenied and "kms:" in message.lower():
        kind = KmsDenied
    elif kind in (AccessDenied, InvalidRequest) and _LOCKED.search(message):
        kind = ObjectLocked
    marked = status in (404, 405) and headers.get("x-amz-delete-marker") == "true"
    if marked or (status == 405 and context.operation == "HeadObject"):
        # HEAD and GET of a key whose newest version is a marker, and of a marker's own version: that alone is a 405 of
        # HEAD, and not every store says more.
        kind, code = ObjectDeleted, "DeleteMarker"
    hint = _elsewhere(error, headers) if kind is WrongEndpoint else _hint(kind, code, told, message)
    return kind(f"{message}{f' ({hint})' if hint else ''}", told)


def kind_of(code: str, status: int, operation: str | None) -> type[StoreError]:
    """The class for an answer: by code, then by status; unknown 4xx are final, unknown 5xx are not.

    A HEAD has no body: botocore makes its status the code, and the status decides.
    """
    status = int(code) if code.isdecimal() and len(code) == 3 else status
    kind = BY_CODE.get(code) or BY_STATUS.get(status)
    if operation in _UPLOAD_OPERATIONS and code in ("NoSuchKey", "NoSuchVersion", "NotFound", "404"):
        # Ceph says NoSuchKey for a multipart upload that is not there.
        return UploadGone
    if kind is None and operation in _HEADS and status in _HEAD_STATUS:
        return _HEAD_STATUS[status]
    if kind is not None:
        return kind
    return Unavailable if status >= 500 or status < 300 else InvalidRequest


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if seconds > 0 else None


_HIDDEN_HINT = "without s3:ListBucket a missing key answers 403 as well"
_KMS_WRITE = "the identity needs kms:GenerateDataKey on the bucket's or object's KMS key"
_KMS_READ = "the identity needs kms:Decrypt on the KMS key: parts, Complete and reads use it"
_MFA_HINT = "the bucket has MFA delete: its owner removes versions, with an MFA code"
_LOCK_HINT = "its retention or legal hold must end first; governance is not bypassed"
_KMS_READERS = frozenset({"UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "GetObject", "HeadObject"})
_CHECKSUM_HINT = (
    "if these credentials work otherwise, the store may refuse checksum headers this way (R2 did): "
    "try verify_checksums=False"
)
_CHECKSUM_SENDERS = frozenset({"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"})
_BLIND_HEAD = "a HEAD says no more: expired credentials, a wrong customer key or a malformed request"
_READERS = frozenset({"HeadObject", "GetObject", "HeadBucket", "CopyObject", "GetObjectAttributes"})


def _hint(kind: type[StoreError], code: str, context: RequestContext, message: str) -> str:
    """What to do next, as far as it can be told from here."""
    operation = context.operation or ""
    if kind is KmsDenied:
        return _KMS_READ if operation in _KMS_READERS else _KMS_WRITE
    if code in HINTS:
        return HINTS[code]
    if kind is ObjectLocked:
        return _LOCK_HINT
    if kind is AccessDenied and "mfa authentication" in message.lower():
        return _MFA_HINT
    if kind is AccessDenied:
        hidden = operation in _READERS or code in ("403", "Forbidden")
        unclear = context.status == 401 or code == "Unauthorized"
        hints = [_HIDDEN_HINT if hidden else "", _CHECKSUM_HINT if unclear and operation in _CHECKSUM_SENDERS else ""]
        if operation == "CompleteMultipartUpload" and not unclear:
            hints.append("with SSE-KMS, Complete needs kms:Decrypt")
        return "; ".join(hint for hint in hints if hint)
    return _BLIND_HEAD if kind in (InvalidRequest, CredentialsExpired) and code == "400" else ""


def _elsewhere(error: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Where the bucket is, as the answer says it; never where a redirect leads us by itself."""
    region = str(error.get("Region") or headers.get("x-amz-bucket-region") or "")
    host = urlsplit(headers.get("location", "")).hostname or str(error.get("Endpoint") or "")
    words = [
        f"the bucket lives in region {printable(region, 64)!r}: set region_name on the connection" if region else "",
        f"the store names {printable(host, 128)!r}, and redirects are not followed: set endpoint_url" if host else "",
    ]
    return "; ".join(word for word in words if word) or "the region or endpoint of the connection is wrong"
