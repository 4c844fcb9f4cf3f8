"""Credentials that are renewed, customer keys on the wire, and a bucket's own region: decisions without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError
from botocore.session import get_session

from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import AccessDenied, InvalidRequest, RequestContext
from orbit_airflow.engine.stores.credentials import CredentialKeeper, held_secrets
from orbit_airflow.engine.stores.customer import COPYING_OPERATIONS, KEYED_OPERATIONS, CustomerKeyParams, _verifies
from orbit_airflow.engine.stores.region import BucketRegions, bucket_region, follow_buckets

KEY = CustomerKey(b"k" * 32)


def refused(code: str, operation: str = "UploadPart", status: int = 400, **headers: str) -> ClientError:
    meta: Any = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": meta}, operation)


class Provider:
    """Gives key pairs that botocore thinks good for an hour."""

    def __init__(self) -> None:
        self.given = 0
        self.error: Exception | None = None

    def __call__(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.given += 1
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        number = self.given
        return {"access_key": f"K{number}", "secret_key": f"S{number}", "token": f"T{number}", "expiry_time": later}


def client_with(provider: Provider | None) -> Any:
    session: Any = get_session()
    if provider is not None:
        session._credentials = RefreshableCredentials.create_from_metadata(provider(), provider, "test")
    else:
        session.set_credentials("a", "fixed-secret", "fixed-token")
    return boto3.Session(botocore_session=session).client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        config=Config(retries={"total_max_attempts": 1}),
    )


def signed_by(client: Any) -> str:
    """The access key that the next request would carry."""
    return str(client._request_signer._credentials.get_frozen_credentials().access_key)


def until(client: Any, good: str, code: str = "ExpiredToken", operation: str = "UploadPart") -> Callable[[], str]:
    """A request that the store refuses until it is signed with ``good``."""

    def call() -> str:
        if signed_by(client) != good:
            raise refused(code, operation)
        return good

    return call


@pytest.mark.parametrize("code", ["ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId"])
def test_what_the_store_calls_expired_is_renewed_and_sent_again(code: str) -> None:
    """Once, although botocore thinks the credentials good."""
    provider = Provider()
    client = client_with(provider)
    assert CredentialKeeper(client).run(until(client, "K2", code)) == "K2"
    assert provider.given == 2


def test_new_credentials_may_run_out_before_their_turn() -> None:
    """Two renewals, and no more: a store that refuses for ever is not asked for ever."""
    provider = Provider()
    client = client_with(provider)
    assert CredentialKeeper(client).run(until(client, "K3")) == "K3"
    with pytest.raises(ClientError, match="ExpiredToken"):
        CredentialKeeper(client).run(until(client, "never"))
    assert provider.given == 5


def test_many_threads_renew_once() -> None:
    """All of them were refused with the same keys; one asks, the others take what it got."""
    provider = Provider()
    client = client_with(provider)
    keeper, together, answers = CredentialKeeper(client), threading.Barrier(8), []

    def work() -> None:
        first = True

        def call() -> str:
            nonlocal first
            if first:
                first = False
                together.wait(10)
                raise refused("ExpiredToken")
            return signed_by(client)

        answers.append(keeper.run(call))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["K2"] * 8
    assert provider.given == 2


def test_fixed_credentials_and_other_refusals_stand() -> None:
    """Nobody to ask, or nothing to renew."""
    fixed = client_with(None)
    with pytest.raises(ClientError, match="ExpiredToken"):
        CredentialKeeper(fixed).run(until(fixed, "never"))
    provider = Provider()
    client = client_with(provider)
    with pytest.raises(ClientError, match="AccessDenied"):
        CredentialKeeper(client).run(until(client, "K2", "AccessDenied"))
    assert provider.given == 1


def test_a_refused_head_has_no_code_and_gets_one_guess() -> None:
    """Its 400 may be an expired token; a second one is something else."""
    provider = Provider()
    client = client_with(provider)
    assert CredentialKeeper(client).run(until(client, "K2", "400", "HeadObject")) == "K2"
    with pytest.raises(ClientError, match="400"):
        CredentialKeeper(client).run(until(client, "never", "400", "HeadObject"))
    assert provider.given == 3


@pytest.mark.parametrize(
    "error", [refused("AccessDenied", "AssumeRole", 403), CredentialRetrievalError(provider="x", error_msg="y")]
)
def test_a_provider_that_fails_is_told_apart_from_the_store(error: Exception) -> None:
    """A refused AssumeRole is no refusal of the upload."""
    provider = Provider()
    client = client_with(provider)
    provider.error = error
    with pytest.raises(CredentialRetrievalError):
        CredentialKeeper(client).run(until(client, "K2"))

    def signs() -> str:
        raise refused("AccessDenied", "AssumeRole", 403)

    with pytest.raises(CredentialRetrievalError, match="AssumeRole"):
        CredentialKeeper(client).run(signs)


def test_credentials_that_come_already_expired_are_an_error_of_their_provider() -> None:
    """Botocore says so with a RuntimeError, which nobody would map."""
    provider = Provider()
    client = client_with(provider)
    stale = {"access_key": "K", "secret_key": "S", "token": "T", "expiry_time": "2001-01-01T00:00:00Z"}
    client._request_signer._credentials._refresh_using = lambda: stale
    with pytest.raises(CredentialRetrievalError, match="still expired"):
        CredentialKeeper(client).run(until(client, "K2"))


def test_what_the_masker_must_know_of_a_client() -> None:
    """The present secret and token; looking at them renews nothing."""
    provider = Provider()
    assert held_secrets(client_with(provider)) == ("S1", "T1")
    assert held_secrets(client_with(None)) == ("fixed-secret", "fixed-token")
    assert provider.given == 1


def test_botocore_s_private_attributes_are_there() -> None:
    """Those that the engine leans on, in the pinned version."""
    client = client_with(Provider())
    held = client._request_signer._credentials
    assert isinstance(held, RefreshableCredentials)
    assert all(hasattr(held, name) for name in ("_access_key", "_token", "_refresh_lock", "_protected_refresh"))
    assert _verifies(client)
    assert not _verifies(
        boto3.client("s3", region_name="us-east-1", verify=False, aws_access_key_id="a", aws_secret_access_key="b")
    )


def test_the_operations_that_take_a_customer_key_are_botocore_s() -> None:
    """ListParts and Complete among them."""
    model = get_session().get_service_model("s3")

    def taking(member: str) -> set[str]:
        shapes = ((name, model.operation_model(name).input_shape) for name in model.operation_names)
        return {name for name, shape in shapes if shape is not None and member in shape.members}

    assert taking("SSECustomerKey") == KEYED_OPERATIONS
    assert taking("CopySourceSSECustomerKey") == COPYING_OPERATIONS


def test_a_key_goes_where_it_is_wanted_and_nowhere_else() -> None:
    """A copy reads and writes with it; an abort, a listing and a delete have no use for it."""
    params = CustomerKeyParams(KEY)
    assert params.of("UploadPart") == {
        "SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY.base64, "SSECustomerKeyMD5": KEY.md5,
    }  # fmt: skip
    assert set(params.of("CopyObject")) >= {"CopySourceSSECustomerKey", "SSECustomerKey"}
    for operation in ("AbortMultipartUpload", "ListMultipartUploads", "DeleteObject", None):
        assert params.of(operation) == {}
    assert CustomerKeyParams(None).of("PutObject") == {}


def test_a_refusal_with_a_key_in_play_is_explained() -> None:
    """Only where the key went along, and only when the store has seen it."""
    params, context = CustomerKeyParams(KEY), RequestContext("UploadPart")
    with pytest.raises(InvalidRequest, match="another key"), params.explaining(context):
        raise InvalidRequest("no", context)
    for keyed, error in (
        (CustomerKeyParams(None), InvalidRequest("no", context)),
        (params, AccessDenied("no credentials", RequestContext("UploadPart", sent=False))),
    ):
        with pytest.raises(type(error)) as caught, keyed.explaining(context):
            raise error
        assert "another key" not in str(caught.value)


class _Heads:
    """A client whose buckets answer HEAD as told."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def head_bucket(self, **params: Any) -> Any:
        self.asked.append(params)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": self.answer}}}


@pytest.mark.parametrize(
    ("answer", "region"),
    [
        ("eu-west-3", "eu-west-3"),
        (refused("301", "HeadBucket", 301, **{"x-amz-bucket-region": "eu-west-3"}), "eu-west-3"),
        (refused("403", "HeadBucket", 403, **{"x-amz-bucket-region": "ap-east-1"}), "ap-east-1"),
        (refused("404", "HeadBucket", 404), None),
        ("evil.example/", None),
        ("", None),
    ],
)
def test_the_bucket_names_its_region_also_in_a_refusal(answer: object, region: str | None) -> None:
    """And nothing that is not a region becomes part of a host."""
    heads: Any = _Heads(answer)
    assert bucket_region(heads, "b", "123456789012") == region
    assert heads.asked == [{"Bucket": "b", "ExpectedBucketOwner": "123456789012"}]


def test_each_bucket_is_asked_once() -> None:
    """Also when many threads want it at the same time; a store that is away is asked again."""
    asked: list[str] = []

    def ask(bucket: str) -> str:
        asked.append(bucket)
        if len(asked) == 1:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")
        return f"region-of-{bucket}"

    regions = BucketRegions(ask)
    assert regions.of("a") is None
    threads = [threading.Thread(target=regions.of, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (regions.of("a"), regions.of("b"), asked) == ("region-of-a", "region-of-b", ["a", "a", "b"])


def test_requests_are_signed_for_their_bucket_s_region() -> None:
    """One HEAD, then every request goes to the bucket's own endpoint with the bucket's own scope."""
    client: Any = boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    seen: list[str] = []

    class Answer:
        def __init__(self) -> None:
            self.status_code, self.content = 200, b""
            self.headers = {"x-amz-bucket-region": "eu-west-3"}

    def answered(request: Any, **_: Any) -> Any:
        seen.append(f"{request.method} {request.url} {request.headers['Authorization'].decode().split('/')[2]}")
        return Answer()

    client.meta.events.register("before-send.s3", answered)
    follow_buckets(client)
    for key in ("k", "l"):
        client.head_object(Bucket="bucket", Key=key)
    assert seen == [
        "HEAD https://bucket.s3.amazonaws.com/ us-east-1",
        "HEAD https://bucket.s3.eu-west-3.amazonaws.com/k eu-west-3",
        "HEAD https://bucket.s3.eu-west-3.amazonaws.com/l eu-west-3",
    ]
