"""From what botocore raises to what the engine knows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from botocore import exceptions as boto

from orbit_airflow.engine import errors
from orbit_airflow.engine.errors import (
    AccessDenied,
    ChecksumRefused,
    ConfigError,
    ConnectionLost,
    InvalidRequest,
    NotFound,
    OrbitError,
    Paused,
    PreconditionFailed,
    RequestContext,
    SourceChanged,
    StoreError,
    Throttled,
    Unavailable,
    UploadGone,
    WriteConflict,
)
from orbit_airflow.engine.stores import errormap
from orbit_airflow.engine.stores.errormap import mapped

CONTEXT = RequestContext("PutObject", "bucket", "key")


def _answer(code: str, status: int = 400, message: str = "words", **headers: str) -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "REQ1", "HTTPHeaders": headers},
    }
    return boto.ClientError(response, "PutObject")


TABLE: dict[type[StoreError], list[tuple[str, int]]] = {
    NotFound: [("NoSuchKey", 404), ("NoSuchBucket", 404), ("NoSuchVersion", 404), ("404", 404)],
    UploadGone: [("NoSuchUpload", 404)],
    AccessDenied: [
        ("AccessDenied", 403), ("403", 403), ("InvalidAccessKeyId", 403), ("SignatureDoesNotMatch", 403),
        ("ExpiredToken", 400), ("InvalidToken", 400), ("RequestTimeTooSkewed", 403), ("AllAccessDisabled", 403),
        ("KMS.DisabledException", 400), ("AuthorizationHeaderMalformed", 400), ("SomethingNew", 403),
    ],
    PreconditionFailed: [("PreconditionFailed", 412), ("412", 412), ("SomethingNew", 412)],
    ChecksumRefused: [("BadDigest", 400), ("XAmzContentSHA256Mismatch", 400), ("XAmzContentChecksumMismatch", 400)],
    WriteConflict: [("ConditionalRequestConflict", 409), ("OperationAborted", 409), ("SomethingNew", 409)],
    Throttled: [("SlowDown", 503), ("ThrottlingException", 400), ("429", 429), ("SomethingNew", 503)],
    Unavailable: [
        ("InternalError", 500), ("InternalError", 200), ("RequestTimeout", 400), ("502", 502), ("504", 504),
        ("SomethingNew", 599), ("", 0),
    ],
    InvalidRequest: [
        ("InvalidRequest", 400), ("EntityTooSmall", 400), ("InvalidPart", 400), ("MalformedXML", 400),
        ("SomethingNew", 418), ("MetadataTooLarge", 400), ("PermanentRedirect", 301),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "code", "status"), [(kind, *answer) for kind, answers in TABLE.items() for answer in answers]
)
def test_an_answer_has_its_class(kind: type[StoreError], code: str, status: int) -> None:
    """By code, then by status; unknown 4xx are final, unknown 5xx are not."""
    assert type(mapped(_answer(code, status), CONTEXT)) is kind


def test_each_code_is_there_once() -> None:
    """A code in two classes would be decided by the order of a dict."""
    counted = Counter(code for codes in errormap._CODES.values() for code in codes.split())
    assert [code for code, times in counted.items() if times > 1] == []


def test_every_answer_class_can_come_out() -> None:
    """No class of the tree is without a way to it."""
    answers = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StoreError)}
    assert set(errormap._CODES) | set(errormap._BY_STATUS.values()) | {
        InvalidRequest,
        ConnectionLost,
        errors.ObjectDeleted,
    } == answers - {
        StoreError,
        errors.Network,
    }


@pytest.mark.parametrize("operation", ["UploadPart", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"])
def test_ceph_says_no_such_key_for_a_lost_upload(operation: str) -> None:
    """Behind an upload id, no key means no upload."""
    assert type(mapped(_answer("NoSuchKey", 404), RequestContext(operation))) is UploadGone


def test_elsewhere_no_such_key_is_no_key() -> None:
    """A HEAD has no upload."""
    assert type(mapped(_answer("NoSuchKey", 404), RequestContext("HeadObject"))) is NotFound


def test_a_missing_bucket_is_never_a_lost_upload() -> None:
    """Starting again would not help."""
    assert type(mapped(_answer("NoSuchBucket", 404), RequestContext("UploadPart"))) is NotFound


def test_an_answer_is_told() -> None:
    """Status, code and request id go with the error."""
    error = mapped(_answer("SlowDown", 503), CONTEXT)
    assert (error.context.status, error.context.code, error.context.request_id) == (503, "SlowDown", "REQ1")
    assert (error.context.operation, error.context.bucket, error.context.key) == ("PutObject", "bucket", "key")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("86400", 300.0),
        ("-1", None),
        ("0", None),
        ("soon", None),
        ("nan", None),
        ("inf", 300.0),
    ],
)
def test_retry_after_is_bounded(header: str, seconds: float | None) -> None:
    """A store cannot hold a task's slot for a day."""
    assert mapped(_answer("SlowDown", 503, **{"retry-after": header}), CONTEXT).context.retry_after == seconds


def test_a_hostile_answer_is_cut_and_escaped() -> None:
    """Code and message are the store's, and may be anybody's."""
    error = mapped(_answer("A\nB" + "x" * 999, 418, "evil\x1b[31m\n" + "y" * 9999), CONTEXT)
    assert str(error).isprintable()
    assert len(str(error)) < 700


@pytest.mark.parametrize("own", [SourceChanged("changed"), Paused("stop")])
def test_our_own_error_comes_out_of_botocore_s(own: OrbitError) -> None:
    """A body that raises in the middle of a send is wrapped by botocore, and unwrapped here."""
    assert mapped(boto.HTTPClientError(error=own), CONTEXT) is own
    assert mapped(own, CONTEXT) is own


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (boto.EndpointConnectionError(endpoint_url="http://x"), False),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), False),
        (boto.ProxyConnectionError(proxy_url="http://x"), False),
        (boto.SSLError(endpoint_url="x", error=OSError("CERTIFICATE_VERIFY_FAILED")), False),
        (boto.SSLError(endpoint_url="x", error=OSError("EOF in the middle")), True),
        (boto.ReadTimeoutError(endpoint_url="http://x"), True),
        (boto.ConnectionClosedError(endpoint_url="http://x"), True),
        (boto.HTTPClientError(error=OSError("reset")), True),
        (boto.ResponseStreamingError(error="cut"), True),
    ],
)
def test_a_lost_connection_says_whether_the_store_may_have_acted(error: Exception, sent: bool) -> None:
    """``sent`` is False only where that is certain."""
    found = mapped(error, CONTEXT)
    assert type(found) is ConnectionLost
    assert found.context.sent is sent


@pytest.mark.parametrize(
    "error",
    [boto.NoCredentialsError(), boto.PartialCredentialsError(provider="p", cred_var="v")],
)
def test_missing_credentials_are_a_refusal(error: Exception) -> None:
    """And nothing was sent."""
    found = mapped(error, CONTEXT)
    assert type(found) is AccessDenied
    assert found.context.sent is False


@pytest.mark.parametrize("error", [boto.ParamValidationError(report="x"), boto.NoRegionError()])
def test_a_request_that_cannot_be_built_is_a_config_error(error: Exception) -> None:
    """Nothing was sent, and trying again cannot help."""
    assert type(mapped(error, CONTEXT)) is ConfigError


@pytest.mark.parametrize("error", [ValueError("xml"), OSError("x"), boto.BotoCoreError()])
def test_what_cannot_be_understood_may_pass(error: Exception) -> None:
    """A broken answer is an unavailable store."""
    assert type(mapped(error, CONTEXT)) is Unavailable


def test_a_bug_stays_a_bug() -> None:
    """What no store can cause is not mapped."""
    with pytest.raises(KeyError):
        mapped(KeyError("x"), CONTEXT)
