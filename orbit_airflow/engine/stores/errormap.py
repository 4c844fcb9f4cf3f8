"""From what botocore raises to what the engine knows: the only place where S3's error codes are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as boto

from orbit_airflow.engine.errors import (
    AccessDenied,
    ChecksumRefused,
    ConfigError,
    ConnectionLost,
    InvalidRequest,
    NotFound,
    ObjectArchived,
    ObjectDeleted,
    OrbitError,
    PreconditionFailed,
    RequestContext,
    StoreError,
    Throttled,
    Unavailable,
    UploadGone,
    WriteConflict,
    printable,
)

_CODES: Mapping[type[StoreError], str] = {
    NotFound: "NoSuchKey NoSuchBucket NoSuchVersion NotFound 404",
    UploadGone: "NoSuchUpload",
    ObjectArchived: "InvalidObjectState",
    AccessDenied: (
        "AccessDenied AllAccessDisabled AccountProblem Forbidden 403 InvalidAccessKeyId SignatureDoesNotMatch "
        "ExpiredToken InvalidToken TokenRefreshRequired InvalidSecurity NotSignedUp RequestTimeTooSkewed "
        "AuthorizationHeaderMalformed UnauthorizedAccess Unauthorized KMS.DisabledException KMS.NotFoundException"
    ),
    PreconditionFailed: "PreconditionFailed 412",
    ChecksumRefused: "BadDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch InvalidDigest",
    WriteConflict: "ConditionalRequestConflict OperationAborted",
    Throttled: (
        "SlowDown Throttling ThrottlingException RequestLimitExceeded TooManyRequests TooManyRequestsException "
        "BandwidthLimitExceeded RequestThrottled 429"
    ),
    Unavailable: "InternalError ServiceUnavailable RequestTimeout InternalServerError 500 502 503 504 408",
}
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
_BY_STATUS: Mapping[int, type[StoreError]] = {
    403: AccessDenied,
    404: NotFound,
    408: Unavailable,
    409: WriteConflict,
    412: PreconditionFailed,
    429: Throttled,
    503: Throttled,
}
_UPLOAD_OPERATIONS = frozenset({"UploadPart", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"})
_NOT_SENT = (
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.InvalidProxiesConfigError,
)
_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
# More than this a store cannot ask for: a Retry-After of a day would hold the task's slot for a day.
LONGEST_RETRY_AFTER = 300.0


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
    told = _with(
        context,
        status=status,
        code=printable(code, 64),
        request_id=printable(str(meta.get("RequestId") or error.get("RequestId") or ""), 64) or None,
        retry_after=_retry_after(meta.get("HTTPHeaders", {})),
    )
    kind = kind_of(code, status, context.operation)
    if status in (404, 405) and meta.get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true":
        kind = ObjectDeleted
    if kind is ObjectDeleted:
        code = "DeleteMarker"
    message = printable(str(error.get("Message", "") or "no message"), 400)
    hint = _HINTS.get(code) or (_HIDDEN_HINT if kind is AccessDenied and code in ("403", "Forbidden") else "")
    return kind(f"{message}{f' ({hint})' if hint else ''}", told)


def kind_of(code: str, status: int, operation: str | None) -> type[StoreError]:
    """The class for an answer: by code, then by status; unknown 4xx are final, unknown 5xx are not."""
    if operation in _UPLOAD_OPERATIONS and code in ("NoSuchKey", "404", "NotFound"):
        # Ceph says NoSuchKey for a multipart upload that is not there.
        return UploadGone
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Unavailable if status >= 500 or status < 300 else InvalidRequest


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if seconds > 0 else None


_HIDDEN_HINT = "without s3:ListBucket a missing key answers 403 as well"
_HINTS = {
    "RequestTimeTooSkewed": "the clocks of this worker and of the store differ too much",
    "ExpiredToken": "the session's credentials ran out; the upload is kept",
    "InvalidAccessKeyId": "the store does not know this access key; check the connection's login and endpoint",
    "SignatureDoesNotMatch": "the secret key or the endpoint of the connection is wrong",
    "InvalidObjectState": "the object is archived; restore it first",
    "DeleteMarker": "a delete marker is what is there; older versions may be kept",
    "NoSuchBucket": "the bucket does not exist at this endpoint",
    "PermanentRedirect": "the bucket lives in another region; set region_name on the connection",
    "AuthorizationHeaderMalformed": "the region is wrong; set region_name on the connection",
}
