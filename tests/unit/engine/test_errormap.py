"""From what botocore raises to what the engine knows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as boto

from orbit_airflow.engine import errors
from orbit_airflow.engine.errors import (
    AccessDenied,
    ChecksumRefused,
    ClockSkewed,
    ConfigError,
    ConnectionLost,
    CredentialsExpired,
    Disposition,
    InvalidRequest,
    KmsDenied,
    NotFound,
    ObjectArchived,
    OrbitError,
    Paused,
    PreconditionFailed,
    RequestContext,
    SourceChanged,
    StoreError,
    StoreFull,
    Throttled,
    Unavailable,
    Unsupported,
    UploadGone,
    WriteConflict,
    WrongEndpoint,
)
from orbit_airflow.engine.resilience.outcome import outcome_unknown, surely_undone
from orbit_airflow.engine.stores import codes
from orbit_airflow.engine.stores.errormap import mapped
from tests.unit.engine.documented_codes import DOCUMENTED

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
        ("InvalidToken", 400), ("AllAccessDisabled", 403), ("Unauthorized", 401), ("401", 401), ("SomethingNew", 403),
    ],
    CredentialsExpired: [("ExpiredToken", 400), ("TokenRefreshRequired", 400), ("ExpiredTokenException", 400)],
    ClockSkewed: [("RequestTimeTooSkewed", 403)],
    KmsDenied: [("KMS.DisabledException", 400), ("KMS.NotFoundException", 400)],
    ObjectArchived: [("InvalidObjectState", 403), ("ObjectNotInActiveTierError", 403)],
    WrongEndpoint: [
        ("AuthorizationHeaderMalformed", 400), ("PermanentRedirect", 301), ("301", 301), ("302", 302), ("307", 307),
        ("308", 308), ("IllegalLocationConstraintException", 400),
    ],
    Unsupported: [("NotImplemented", 501), ("501", 501), ("SomethingNew", 501)],
    StoreFull: [("QuotaExceeded", 403), ("XMinioStorageFull", 507), ("SomethingNew", 507)],
    PreconditionFailed: [("PreconditionFailed", 412), ("412", 412), ("304", 304), ("SomethingNew", 412)],
    ChecksumRefused: [("BadDigest", 400), ("XAmzContentSHA256Mismatch", 400), ("XAmzContentChecksumMismatch", 400)],
    WriteConflict: [("ConditionalRequestConflict", 409), ("OperationAborted", 409), ("SomethingNew", 409)],
    Throttled: [("SlowDown", 503), ("ThrottlingException", 400), ("429", 429)],
    Unavailable: [
        ("InternalError", 500), ("InternalError", 200), ("RequestTimeout", 400), ("502", 502), ("504", 504),
        ("500", 500), ("503", 503), ("SomethingNew", 503), ("SomethingNew", 599), ("", 0),
        ("ServiceUnavailable", 503), ("IncompleteBody", 400),
    ],
    InvalidRequest: [
        ("InvalidRequest", 400), ("EntityTooSmall", 400), ("InvalidPart", 400), ("MalformedXML", 400),
        ("SomethingNew", 418), ("MetadataTooLarge", 400), ("405", 405), ("416", 416), ("400", 400),
        ("BucketAlreadyExists", 409),
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
    counted = Counter(code for listed in codes.CODES.values() for code in listed.split())
    assert [code for code, times in counted.items() if times > 1] == []


def test_every_answer_class_can_come_out() -> None:
    """No class of the tree is without a way to it."""
    answers = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StoreError)}
    raised_by_the_engine = {StoreError, errors.Network, errors.CircuitOpen, ConnectionLost, errors.ObjectDeleted}
    raised_by_the_engine |= {errors.Garbled}
    raised_by_the_engine |= {errors.ObjectLocked}
    raised_by_the_engine |= {errors.OperationTimeout}
    assert set(codes.CODES) | set(codes.BY_STATUS.values()) == answers - raised_by_the_engine


def _modelled() -> list[str]:
    model = botocore.session.get_session().get_service_model("s3")
    shapes = [model.shape_for(name) for name in model.shape_names]
    return [shape.name for shape in shapes if shape.metadata.get("exception")]


def test_every_code_of_botocore_s_model_is_mapped_on_purpose() -> None:
    """None falls to its status by accident: a new botocore with a new exception fails here."""
    modelled = _modelled()
    assert len(modelled) >= 20
    assert [code for code in modelled if code not in codes.BY_CODE and code not in codes.LEFT_TO_STATUS] == []


@pytest.mark.parametrize("store", DOCUMENTED)
def test_every_documented_code_is_mapped_on_purpose(store: str) -> None:
    """AWS's table of error codes, and what the compatible stores add to it."""
    assert [code for code, _ in DOCUMENTED[store] if code not in codes.BY_CODE] == []


@pytest.mark.parametrize(("code", "status"), [row for rows in DOCUMENTED.values() for row in rows])
def test_a_documented_code_agrees_with_its_status(code: str, status: int) -> None:
    """A 5xx may pass and a 4xx is final, but for those of which it is known to be otherwise."""
    kind = type(mapped(_answer(code, status), CONTEXT))
    final_5xx = {"NotImplemented", "KMSNotConfigured", "XMinioStorageFull"}
    passing_4xx = {
        "BadDigest", "ClientDisconnect", "ClientDisconnected", "ConditionalRequestConflict",
        "ConnectionClosedByRequester", "ExpiredToken", "IncompleteBody", "InvalidDigest", "InvalidSessionException",
        "Locked", "NoSuchUpload", "OperationAborted", "RequestTimeTooSkewed", "RequestTimeout", "ResponseInterrupted",
        "TokenRefreshRequired", "TooManyRequests", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
    }  # fmt: skip
    passes = code in passing_4xx or (status >= 500 and code not in final_5xx)
    assert (kind.disposition is not Disposition.FAIL) is passes


@pytest.mark.parametrize("operation", ["HeadObject", "HeadBucket"])
@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 404, 405, 412, 416, 429, 500, 503])
def test_a_head_is_decided_by_its_status_alone(operation: str, status: int) -> None:
    """It has no body, so botocore makes the status the code; whatever else it says does not count."""
    head = RequestContext(operation, "bucket", "key")
    found = mapped(_answer(str(status), status, "whatever"), head)
    assert type(found) is type(mapped(_answer("SomethingNew", status), head))


@pytest.mark.parametrize(
    ("operation", "code", "status", "message", "words"),
    [
        ("HeadObject", "403", 403, "Forbidden", ["s3:ListBucket"]),
        ("GetObject", "AccessDenied", 403, "Access Denied", ["s3:ListBucket"]),
        ("HeadObject", "400", 400, "Bad Request", ["expired credentials"]),
        ("PutObject", "AccessDenied", 403, "not authorized to perform: kms:GenerateDataKey", ["kms:GenerateDataKey"]),
        ("CreateMultipartUpload", "AccessDenied", 403, "no kms:X allowed", ["needs kms:GenerateDataKey"]),
        ("UploadPart", "AccessDenied", 403, "no kms:X allowed", ["needs kms:Decrypt"]),
        ("CompleteMultipartUpload", "AccessDenied", 403, "Access Denied", ["needs kms:Decrypt"]),
        ("CompleteMultipartUpload", "KMS.DisabledException", 400, "disabled", ["kms:Decrypt"]),
        ("PutObject", "Unauthorized", 401, "Unauthorized", ["checksum headers", "verify_checksums"]),
        ("UploadPart", "401", 401, "Unauthorized", ["checksum headers", "verify_checksums"]),
        ("GetObject", "InvalidObjectState", 403, "archived", ["RestoreObject"]),
        ("UploadPart", "NoSuchBucket", 404, "no", ["endpoint"]),
        ("PutObject", "ExpiredToken", 400, "expired", ["new session"]),
        ("PutObject", "RequestTimeTooSkewed", 403, "skew", ["clocks"]),
        ("GetObject", "416", 416, "range", []),
        ("GetObject", "InvalidRange", 416, "range", ["shorter"]),
    ],
)
def test_an_answer_says_what_to_do_next(operation: str, code: str, status: int, message: str, words: list[str]) -> None:
    """The hint names the missing permission, the setting or the step."""
    text = str(mapped(_answer(code, status, message), RequestContext(operation, "bucket", "key")))
    assert [word for word in words if word not in text] == []
    assert "s3://bucket/key" in text
    assert "REQ1" in text


def test_a_plain_refusal_has_no_wrong_hint() -> None:
    """A refused PutObject is not a hidden key, nor a checksum, nor KMS."""
    text = str(mapped(_answer("AccessDenied", 403, "Access Denied"), CONTEXT))
    assert text == "Access Denied [PutObject on s3://bucket/key answered 403 AccessDenied (request id REQ1)]"


def test_a_bucket_elsewhere_says_where() -> None:
    """By the header, by the body's Region, or by the place that the redirect names; none of them is gone to."""
    by_header = mapped(_answer("301", 301, **{"x-amz-bucket-region": "eu-north-1"}), CONTEXT)
    assert "'eu-north-1': set region_name" in str(by_header)
    answer = _answer("AuthorizationHeaderMalformed", 400)
    answer.response["Error"]["Region"] = "eu-west-3"  # type: ignore[typeddict-unknown-key]
    assert "'eu-west-3': set region_name" in str(mapped(answer, CONTEXT))
    elsewhere = mapped(_answer("307", 307, location="https://user:pass@evil.example/x?X-Amz-Signature=1"), CONTEXT)
    assert "'evil.example', and redirects are not followed" in str(elsewhere)
    assert "pass" not in str(elsewhere)
    assert "Signature" not in str(elsewhere)


def test_a_delete_marker_is_no_object() -> None:
    """405 with the marker's header is what a GET of a delete marker's version answers."""
    for status in (404, 405):
        error = mapped(_answer(str(status), status, **{"x-amz-delete-marker": "true"}), CONTEXT)
        assert type(error) is errors.ObjectDeleted
        assert "older versions may be kept" in str(error)
    assert type(mapped(_answer("MethodNotAllowed", 405), CONTEXT)) is InvalidRequest


def test_a_405_of_head_is_a_delete_marker() -> None:
    """HEAD of a marker's version has no other reason, and LocalStack says no more."""
    assert type(mapped(_answer("405", 405), RequestContext("HeadObject", "bucket", "key"))) is errors.ObjectDeleted


@pytest.mark.parametrize("operation", ["UploadPart", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"])
def test_ceph_says_no_such_key_for_a_lost_upload(operation: str) -> None:
    """Behind an upload id, no key means no upload."""
    assert type(mapped(_answer("NoSuchKey", 404), RequestContext(operation))) is UploadGone


def test_elsewhere_no_such_key_is_no_key() -> None:
    """A HEAD has no upload."""
    assert type(mapped(_answer("NoSuchKey", 404), RequestContext("HeadObject"))) is NotFound


def test_a_head_with_400_is_a_refusal() -> None:
    """It has no body to say so in; expired credentials are the usual reason, and FAIL would be for ever."""
    error = mapped(_answer("400", 400), RequestContext("HeadObject", "bucket", "key"))
    assert type(error) is CredentialsExpired
    assert type(mapped(_answer("400", 400), CONTEXT)) is InvalidRequest


@pytest.mark.parametrize(
    ("code", "status", "undone"),
    [
        ("503", 503, False),
        ("SomethingNew", 503, False),
        ("500", 500, False),
        ("ServiceUnavailable", 503, True),
        ("SlowDown", 503, True),
    ],
)
def test_only_a_store_s_own_word_says_that_nothing_was_done(code: str, status: int, undone: bool) -> None:
    """A bare 503 may come from a proxy that had passed the request on."""
    error = mapped(_answer(code, status), CONTEXT)
    assert (surely_undone(error), outcome_unknown(error)) == (undone, not undone)


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
        ("60.5", 60.0),
        ("86400", 60.0),
        ("-1", None),
        ("0", None),
        ("soon", None),
        ("nan", None),
        ("inf", 60.0),
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
