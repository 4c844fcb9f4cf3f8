"""The guide's four ways to credentials, for scripts and for the hook, and credentials that run out on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, ObjectRef, TransferEngine, UploadResult, open_engine
from orbit_airflow.engine.errors import AccessDenied
from orbit_airflow.engine.token import FileTokenStore
from orbit_airflow.hooks.s3 import OrbitS3Hook
from tests.airflow.cloud import IMDS, ROLE, Cloud, cloud_over
from tests.airflow.conftest import MIB
from tests.airflow.fakes import FakeComms
from tests.model_server import ModelServer

BUCKET = "abroad"
REGION = "eu-west-3"
ROLE_ARN = f"arn:aws:iam::123456789012:role/{ROLE}"


@pytest.fixture(scope="module")
def far() -> Iterator[ModelServer]:
    """A server in another region than boto3's default."""
    with ModelServer(region=REGION) as running:
        running.create_bucket(BUCKET)
        yield running


@pytest.fixture(autouse=True)
def bare(far: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials and no region anywhere, but for the server's endpoint."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", far.endpoint_url)
    far.reset()


@pytest.fixture
def cloud(far: ModelServer) -> Iterator[Cloud]:
    with cloud_over(far) as running:
        yield running


@pytest.fixture(params=["script", "hook"])
def engine(request: pytest.FixtureRequest, comms: FakeComms) -> Callable[[], TransferEngine]:
    """The engine that a script makes, and the one that the hook makes without a connection."""

    def make() -> TransferEngine:
        if request.param == "script":
            return open_engine(EngineConfig(bucket=BUCKET))
        return OrbitS3Hook(aws_conn_id=None).engine

    return make


def send(engine: TransferEngine, tmp_path: Path, size: int = 100, **options: Any) -> UploadResult:
    path = tmp_path / "file"
    if not path.exists():
        path.write_bytes(os.urandom(size))
    return engine.upload(path, ObjectRef(BUCKET, "k"), **options)


def test_the_environment(
    engine: Callable[[], TransferEngine], far: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The guide's three variables, AWS_REGION among them, which boto3 alone does not read."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", far.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", far.secret_key)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert send(engine(), tmp_path).size == 100
    assert not far.records("HeadBucket")


@pytest.mark.parametrize("profile", ["default", "backups"])
def test_the_credentials_file(
    engine: Callable[[], TransferEngine],
    far: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    profile: str,
) -> None:
    """Keys and region of the profile that AWS_PROFILE names, else of the default one."""
    keys = f"aws_access_key_id = {far.access_key}\naws_secret_access_key = {far.secret_key}\n"
    (tmp_path / "credentials").write_text(f"[{profile}]\n{keys}")
    section = "default" if profile == "default" else f"profile {profile}"
    (tmp_path / "config").write_text(f"[{section}]\nregion = {REGION}\n")
    if profile != "default":
        monkeypatch.setenv("AWS_PROFILE", profile)
    assert send(engine(), tmp_path).size == 100
    assert not far.records("HeadBucket")


def test_a_container_s_role(
    engine: Callable[[], TransferEngine], cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ECS, EKS and Lambda-like endpoints give a key pair with a token."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/container")
    monkeypatch.setenv("AWS_REGION", REGION)
    assert send(engine(), tmp_path).size == 100
    assert cloud.asked == ["GET /container"]


def test_an_instance_s_role(
    engine: Callable[[], TransferEngine], cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """EC2's metadata, in its second version: a token first."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.url)
    monkeypatch.setenv("AWS_REGION", REGION)
    assert send(engine(), tmp_path).size == 100
    assert cloud.asked == ["PUT /latest/api/token", f"GET {IMDS}", f"GET {IMDS}{ROLE}"]


def test_explicit_keys_of_a_script(far: ModelServer, tmp_path: Path) -> None:
    """In the configuration; without a region the bucket is asked for its own, once."""
    keys = Credentials(access_key=far.access_key, secret_key=far.secret_key)
    engine = open_engine(EngineConfig(endpoint=far.endpoint_url, credentials=keys, force_path_style=True))
    for _ in range(2):
        assert send(engine, tmp_path).size == 100
    assert {item.status for item in far.records("PutObject")} == {200}
    # A refusal names the region as well: one question is enough, however it is answered.
    assert len(far.records("HeadBucket")) == 1


def connect(comms: FakeComms, far: ModelServer, **extra: Any) -> OrbitS3Hook:
    comms.add_connection("c", far.access_key, far.secret_key, {"endpoint_url": far.endpoint_url, **extra})
    return OrbitS3Hook(aws_conn_id="c")


def test_explicit_keys_of_a_connection(
    comms: FakeComms, far: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Login and password; a region of its own wins over AWS_REGION."""
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert send(connect(comms, far, region_name=REGION).engine, tmp_path).size == 100


def test_a_connection_without_a_region_takes_aws_region_then_the_chain_then_the_bucket_s(
    comms: FakeComms, far: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this order; S3Hook's own client is left as it is."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_REGION", REGION)
    hook = connect(comms, far)
    assert send(hook.engine, tmp_path).size == 100
    theirs: Any = hook.get_client_type()
    assert theirs.meta.region_name == "us-west-2"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    assert send(connect(comms, far).engine, tmp_path).size == 100
    assert not far.records("HeadBucket")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert send(connect(comms, far).engine, tmp_path).size == 100
    assert far.records("HeadBucket")


def test_a_connection_s_profile(comms: FakeComms, far: ModelServer, tmp_path: Path) -> None:
    """``profile_name`` in the extra, the keys in the worker's files."""
    (tmp_path / "credentials").write_text(
        f"[backups]\naws_access_key_id = {far.access_key}\naws_secret_access_key = {far.secret_key}\n"
    )
    (tmp_path / "config").write_text(f"[profile backups]\nregion = {REGION}\n")
    comms.conns["c"] = {"host": None, "schema": None, "port": None, "conn_type": "aws", "login": None,
                        "password": None, "extra": '{"profile_name": "backups"}'}  # fmt: skip
    assert send(OrbitS3Hook(aws_conn_id="c").engine, tmp_path).size == 100
    assert not far.records("HeadBucket")


def test_an_assumed_role(
    comms: FakeComms, far: ModelServer, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The amazon provider assumes it, with its external id; S3 sees the role's keys alone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", cloud.url)
    hook = connect(comms, far, region_name=REGION, role_arn=ROLE_ARN, assume_role_kwargs={"ExternalId": "ours-1"})
    assert send(hook.engine, tmp_path).size == 100
    assert [asked["RoleArn"] for asked in cloud.assumed] == [[ROLE_ARN]]
    assert cloud.assumed[0]["ExternalId"] == ["ours-1"]
    masked = [message.value for message in comms.writes("MaskSecret")]
    assert cloud.given[0].secret_key in masked
    assert cloud.given[0].session_token in masked


@pytest.mark.parametrize("way", ["container", "role"])
def test_credentials_that_run_out_every_few_parts_are_renewed_and_the_upload_goes_on(
    comms: FakeComms, far: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """The store says ExpiredToken although they look good for an hour: one upload, every part sent, none twice."""
    with cloud_over(far, uses=4) as cloud:
        if way == "container":
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/container")
            monkeypatch.setenv("AWS_REGION", REGION)
            hook = OrbitS3Hook(aws_conn_id=None)
        else:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", cloud.url)
            hook = connect(comms, far, region_name=REGION, role_arn=ROLE_ARN)
        result = send(hook.engine, tmp_path, size=62 * MIB, tokens=FileTokenStore(tmp_path / "tokens"))
    (version,) = far.versions(BUCKET, "k")[:1]
    assert version.read() == (tmp_path / "file").read_bytes()
    assert (result.resumed, result.size) == (False, 62 * MIB)
    assert len([item for item in far.records("CreateMultipartUpload") if item.status == 200]) == 1
    assert len([item for item in far.records("UploadPart") if item.status == 200]) == 13
    # 13 parts, Create, Complete, and a HEAD at most, four to a key pair.
    assert 4 <= len(cloud.given) <= 6
    assert not far.open_uploads(BUCKET)


def test_fixed_credentials_that_run_out_keep_the_upload_for_the_next_try(
    comms: FakeComms, far: ModelServer, tmp_path: Path
) -> None:
    """Nobody can renew them; with others the upload continues."""
    with cloud_over(far, uses=3) as cloud:
        keys = cloud.credentials()
        tokens = FileTokenStore(tmp_path / "tokens")
        comms.add_connection(
            "t", keys.access_key, keys.secret_key,
            {"endpoint_url": far.endpoint_url, "region_name": REGION, "aws_session_token": keys.session_token},
        )  # fmt: skip
        with pytest.raises(AccessDenied, match="keeps") as caught:
            hook = OrbitS3Hook(aws_conn_id="t", orbit_options={"parallel_operations": 1})
            send(hook.engine, tmp_path, size=30 * MIB, tokens=tokens)
    assert caught.value.context.code == "ExpiredToken"
    result = send(connect(comms, far, region_name=REGION).engine, tmp_path, tokens=tokens)
    assert (result.resumed, result.parts_found) == (True, 2)


def test_a_role_that_may_not_be_assumed_any_more_is_no_refusal_of_the_object(
    comms: FakeComms, far: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message names the provider of the credentials, and a later try may find it well again."""
    with cloud_over(far, uses=1) as cloud:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", cloud.url)
        hook = connect(
            comms, far, region_name=REGION, role_arn=ROLE_ARN, service_config={"s3": {"orbit": {"retry": "fast"}}}
        )
        engine = hook.engine
        send(engine, tmp_path)
        monkeypatch.setattr(
            cloud,
            "answer",
            lambda *_: (403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"),
        )
        with pytest.raises(AccessDenied, match="no usable credentials") as caught:
            send(engine, tmp_path)
    assert caught.value.context.sent is False
