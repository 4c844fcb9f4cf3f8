"""Fourteen secrets through every sink: nothing of ours may repeat one of them.

The sinks are looked at as they are before Airflow's masker has its turn: what is not written needs no mask.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, FileTokenStore, ObjectRef, open_engine
from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import OrbitError
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.hooks.secrets import CUSTOMER_KEY_PLACE
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.cloud import ROLE, cloud_over
from tests.airflow.conftest import MIB, Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Credentials as Keys
from tests.model_server import Fault, ModelServer

RAW = hashlib.sha256(b"canary").digest()
CANARIES = {
    "access key": "CANARYACCESSKEY00001",
    "secret key": "canary-secret-key-0002",
    "session token": "canary-session-token-0003",
    "customer key in base64": base64.b64encode(RAW).decode(),
    "customer key in hex": RAW.hex(),
    "customer key's md5": base64.b64encode(hashlib.md5(RAW).digest()).decode(),
    "KMS context": "canary-kms-context-0007",
    "proxy password": "canary-proxy-word-0008",
    "external id": "canary-external-id-0009",
    "role's secret key": "secret-1-given",
    "role's session token": "token-1-given",
    "container's authorization": "canary-container-0012",
    "endpoint password": "canary-endpoint-word-0013",
    "signature in an address": "canary-signature-0014",
}
KEYS = Keys(CANARIES["access key"], CANARIES["secret key"], CANARIES["session token"])
CUSTOMER = {CUSTOMER_KEY_PLACE: CANARIES["customer key in base64"]}
# A bucket of its own: uploads that fail stay open in it.
BUCKET = "canaries"
RunTry = Callable[..., Try]


@pytest.fixture(autouse=True, scope="module")
def bucket(server: ModelServer) -> None:
    server.create_bucket(BUCKET)


def found_in(text: str) -> list[str]:
    """The canaries' names; a KMS context travels as base64 of JSON, so that form counts, too."""
    context = base64.b64encode(CANARIES["KMS context"].encode()).decode().rstrip("=")
    hits = [name for name, secret in CANARIES.items() if secret in text]
    return hits + ["KMS context in base64"] * (context in text)


def told(error: BaseException | None) -> str:
    """An exception in every form that somebody may print or store."""
    if error is None:
        return ""
    words = [str(error), repr(error), repr(error.__dict__), "".join(traceback.format_exception(error))]
    if isinstance(error, OrbitError):
        words.append(repr(pickle.dumps(error)))
    return "\n".join(words)


class Sinks:
    """Everything that a try wrote, as text."""

    def __init__(self, comms: FakeComms, logged: list[str]) -> None:
        self._comms = comms
        self._logged = logged
        self.errors: list[str] = []

    def __str__(self) -> str:
        # The supervisor is told secrets in order to mask them, and it is who gives the connection.
        quiet = ("MaskSecret", "GetConnection")
        sent = [repr(message) for message in self._comms.sent if type(message).__name__ not in quiet]
        stored = [repr(self._comms.xcoms), repr(self._comms.state)]
        return "\n".join([*sent, *stored, *self._logged, *self.errors])


@pytest.fixture
def sinks(comms: FakeComms, s3: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sinks]:
    """At DEBUG: our loggers, and the operator's own log before any masker."""
    logged: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage() + (traceback.format_exc() if record.exc_info else ""))

    class Log:
        def __getattr__(self, level: str) -> Callable[..., None]:
            return lambda text, *args, **fields: logged.append(f"{level} {text} {args} {fields}")

    monkeypatch.setattr(OrbitS3UploadOperator, "log", Log(), raising=False)
    handler, ours = Handler(), logging.getLogger("orbit_airflow")
    ours.addHandler(handler)
    before = ours.level
    ours.setLevel(logging.DEBUG)
    s3.add_credentials(KEYS)
    yield Sinks(comms, logged)
    ours.setLevel(before)
    ours.removeHandler(handler)


@pytest.fixture
def attempt(
    comms: FakeComms, s3: ModelServer, sinks: Sinks, run_try: RunTry, dag: Any, tmp_path: Path
) -> Callable[..., Try]:
    """One try of the operator over a connection with ``service`` and ``extra``, its error told to the sinks."""

    def run(service: dict[str, Any] | None = None, conn_id: str | None = "c", **extra: Any) -> Try:
        base = {"endpoint_url": s3.endpoint_url, "region_name": s3.region, "aws_session_token": KEYS.session_token}
        s3_part = {"orbit": {"retry": "fast", "outage_patience": 0}, **(service or {})}
        comms.add_connection(
            "c", KEYS.access_key, KEYS.secret_key, {**base, "service_config": {"s3": s3_part}, **extra}
        )
        path = tmp_path / "file"
        path.write_bytes(b"x" * (6 * MIB))
        with dag:
            op = OrbitS3UploadOperator(
                task_id=f"t{len(dag.tasks)}", filename=str(path), dest_key=f"s3://{BUCKET}/{tmp_path.name}/{len(dag.tasks)}",
                aws_conn_id=conn_id, retries=1,
            )  # fmt: skip
        done = run_try(op)
        sinks.errors.append(told(done.error))
        sinks.errors.append(repr(vars(op)))
        return done

    return run


def test_the_canaries_are_fourteen_and_would_be_found() -> None:
    """Each in a text of its own."""
    assert len(CANARIES) == len(set(CANARIES.values())) == 14
    assert [name for secret in CANARIES.values() for name in found_in(f"<{secret}>")] == list(CANARIES)


def test_keys_and_a_customer_key_in_an_upload_that_succeeds_and_in_two_that_fail(
    attempt: Callable[..., Try], sinks: Sinks, s3: ModelServer, comms: FakeComms
) -> None:
    """Access denied half-way, and a signature that the store refuses while it repeats what it was sent."""
    assert attempt(CUSTOMER).state == "success"
    s3.inject(Fault("UploadPart", "error", status=403, code="AccessDenied"))
    assert attempt(CUSTOMER).error is not None
    s3.inject(Fault("HeadObject", "error", status=403, code="SignatureDoesNotMatch", times=None))
    s3.add_credentials(Keys(KEYS.access_key, "another", KEYS.session_token))
    failed = attempt(CUSTOMER)
    assert isinstance(failed.error, OrbitError)
    assert failed.error.context.code == "SignatureDoesNotMatch"
    assert found_in(str(sinks)) == []
    masked = [message.value for message in comms.writes("MaskSecret")]
    assert CANARIES["customer key in base64"] in masked
    assert CANARIES["session token"] in masked


def test_a_wrong_customer_key_is_not_repeated(attempt: Callable[..., Try], sinks: Sinks) -> None:
    """The right words, cut short."""
    failed = attempt({CUSTOMER_KEY_PLACE: CANARIES["secret key"]})
    assert "32 bytes" in str(failed.error)
    assert found_in(str(sinks)) == []


def test_a_kms_context(attempt: Callable[..., Try], sinks: Sinks) -> None:
    """It names what the data are about."""
    context = base64.b64encode(f'{{"about": "{CANARIES["KMS context"]}"}}'.encode()).decode()
    arguments = {"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": context}
    assert attempt({"extra_args": arguments}).state == "success"
    assert found_in(str(sinks)) == []


def test_a_proxy_s_password(attempt: Callable[..., Try], sinks: Sinks, comms: FakeComms) -> None:
    """The proxy is not there, and the error names it."""
    address = f"http://user:{CANARIES['proxy password']}@127.0.0.1:9"
    failed = attempt(config_kwargs={"proxies": {"http": address}})
    assert isinstance(failed.error, OrbitError)
    assert "proxy" in str(failed.error).lower()
    assert found_in(str(sinks)) == []
    assert CANARIES["proxy password"] in [message.value for message in comms.writes("MaskSecret")]


def test_an_assumed_role_s_keys_and_external_id(
    attempt: Callable[..., Try], sinks: Sinks, s3: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it works, and when the role's provider refuses."""
    role = {"role_arn": f"arn:aws:iam::123456789012:role/{ROLE}"}
    with cloud_over(s3) as cloud:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", cloud.url)
        done = attempt(**role, assume_role_kwargs={"ExternalId": CANARIES["external id"]})
        assert done.state == "success"
        assert cloud.assumed[0]["ExternalId"] == [CANARIES["external id"]]
        no = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        monkeypatch.setattr(cloud, "answer", lambda *_: (403, no))
        assert attempt(**role, assume_role_kwargs={"ExternalId": CANARIES["external id"]}).error is not None
    assert found_in(str(sinks)) == []


def test_a_container_s_authorization(
    attempt: Callable[..., Try], sinks: Sinks, s3: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the worker's environment."""
    with cloud_over(s3) as cloud:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/container")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", CANARIES["container's authorization"])
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
        monkeypatch.setenv("AWS_REGION", s3.region)
        assert attempt(conn_id=None).state == "success"
        assert cloud.asked == ["GET /container"]
    assert found_in(str(sinks)) == []


@pytest.mark.parametrize(
    "address",
    ["http://user:{endpoint password}@127.0.0.1:9", "http://127.0.0.1:9/?X-Amz-Signature={signature in an address}"],
)
def test_an_endpoint_with_a_secret_in_it_is_refused(attempt: Callable[..., Try], sinks: Sinks, address: str) -> None:
    """Botocore would put it into every message about a lost connection."""
    failed = attempt(endpoint_url=address.format(**CANARIES))
    assert "endpoint" in str(failed.error)
    assert found_in(str(sinks)) == []


def test_a_dag_that_is_serialized_holds_no_secret(dag: Any) -> None:
    """Keys in arguments are refused, so that there is nothing to hold; the message names the option alone."""
    from airflow.serialization.serialized_objects import DagSerialization

    secrets = {"aws_secret_access_key": CANARIES["secret key"]}
    proxy = {"proxies": {"https": f"http://u:{CANARIES['proxy password']}@proxy"}}
    place: dict[str, Any] = {"task_id": "t", "filename": "/f", "dest_key": "s3://b/k"}
    key = {"SSECustomerKey": CANARIES["customer key in base64"]}
    wrongs: list[dict[str, Any]] = [{"botocore_config": secrets}, {"botocore_config": proxy}, {"extra_args": key}]
    with dag:
        for number, wrong in enumerate(wrongs):
            with pytest.raises(ValueError, match="belong") as caught:
                OrbitS3UploadOperator(**{**place, **wrong, "task_id": f"t{number}"})
            assert found_in(told(caught.value.__cause__)) == []
            assert found_in(str(caught.value)) == []
        OrbitS3UploadOperator(**{**place, "task_id": "fine"})
    assert found_in(repr(DagSerialization.to_dict(dag))) == []
    for name in ("aws_secret_access_key", "password"):
        with pytest.raises(OrbitError) as refused:
            OrbitS3Hook(orbit_options={name: CANARIES["secret key"]})
        assert found_in(str(refused.value)) == []


def test_a_script_s_tokens_events_and_settings(s3: ModelServer, sinks: Sinks, tmp_path: Path) -> None:
    """Files, events of a success and of a failure, and the reprs of whatever holds the keys."""
    keys = Credentials(access_key=KEYS.access_key, secret_key=KEYS.secret_key, session_token=KEYS.session_token)
    place = {"endpoint": s3.endpoint_url, "region": s3.region}
    config = EngineConfig(**place, credentials=keys, customer_key=CustomerKey(RAW))  # type: ignore[arg-type]
    path = tmp_path / "file"
    events: list[Any] = []
    path.write_bytes(b"x" * (11 * MIB))
    engine, tokens = open_engine(config), FileTokenStore(tmp_path / "tokens")
    s3.inject(Fault("UploadPart", "error", status=403, code="AccessDenied", part_number=2))
    with pytest.raises(OrbitError) as caught:
        engine.upload(path, ObjectRef(BUCKET, "script"), tokens=tokens, reporter=events.append)
    files = [file.read_text() for file in (tmp_path / "tokens").rglob("*") if file.is_file()]
    engine.upload(path, ObjectRef(BUCKET, "script"), tokens=tokens, reporter=events.append)
    files += [file.read_text() for file in (tmp_path / "tokens").rglob("*") if file.is_file()]
    assert len(files) >= 2
    everything = [*files, repr(events), repr(config), repr(keys), repr(vars(engine)), told(caught.value), str(sinks)]
    assert found_in("\n".join(everything)) == []
