"""OrbitS3Hook: a connection in, an engine out, and S3Hook as it was."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk.exceptions import AirflowNotFoundException
from boto3.s3.transfer import S3Transfer

from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import ConfigError, TargetExists
from orbit_airflow.engine.model import ObjectAttributes
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.hooks.attributes import (
    ATTRIBUTE_ARGS,
    CUSTOMER_KEY_ARGS,
    ENGINE_ARGS,
    read_extra_args,
    with_defaults,
)
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.hooks.secrets import CUSTOMER_KEY_PLACE, refuse_secrets
from tests.airflow.conftest import BUCKET, MIB, connection_extra
from tests.airflow.fakes import FakeComms
from tests.model_server import ModelServer


def hook_with(comms: FakeComms, s3: ModelServer, extra: dict[str, Any], **kwargs: Any) -> OrbitS3Hook:
    base = {"endpoint_url": s3.endpoint_url, "region_name": s3.region}
    comms.add_connection("c", s3.access_key, s3.secret_key, {**base, **extra})
    return OrbitS3Hook(aws_conn_id="c", **kwargs)


def test_it_redefines_nothing_of_s3hook() -> None:
    """Neither methods nor properties, __init__ apart, which only takes ``orbit_options`` out."""
    own = {name for name in vars(OrbitS3Hook) if not name.startswith("__")}
    assert not own & set(dir(S3Hook))
    assert own >= {"engine", "engine_config", "upload", "upload_attributes", "address"}
    assert issubclass(OrbitS3Hook, S3Hook)
    assert OrbitS3Hook.conn_type == "aws"
    assert "orbit_options" in inspect.signature(OrbitS3Hook.__init__).parameters


def test_s3hooks_own_methods_work(comms: FakeComms, s3: ModelServer) -> None:
    hook = OrbitS3Hook()
    hook.load_string("hello", "by-hook.txt", BUCKET, replace=True)
    assert hook.read_key("by-hook.txt", BUCKET) == "hello"


def test_precedence_section_then_transfer_config_then_connection_then_arguments(
    comms: FakeComms, s3: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ORBIT__CHUNK_SIZE", str(6 * MIB))
    monkeypatch.setenv("AIRFLOW__ORBIT__STALL_TIMEOUT", "11")
    monkeypatch.setenv("AIRFLOW__ORBIT__VERIFY_CHECKSUMS", "False")
    monkeypatch.setenv("AIRFLOW__ORBIT__PARALLEL_OPERATIONS", "2")
    config = hook_with(comms, s3, {}).engine_config
    assert (config.chunk_size, config.stall_timeout, config.verify_checksums) == (6 * MIB, 11, False)

    boto = {"multipart_chunksize": 7 * MIB, "max_concurrency": 3, "max_bandwidth": 10**6, "io_chunksize": 1}
    service: dict[str, Any] = {"service_config": {"s3": {"transfer_config_args": boto}}}
    config = hook_with(comms, s3, service).engine_config
    assert (config.chunk_size, config.parallel_operations, config.max_bandwidth) == (7 * MIB, 3, 10**6)

    service["service_config"]["s3"]["orbit"] = {"chunk_size": 8 * MIB, "stall_timeout": None}
    config = hook_with(comms, s3, service).engine_config
    assert (config.chunk_size, config.parallel_operations, config.stall_timeout) == (8 * MIB, 3, 11)

    config = hook_with(comms, s3, service, orbit_options={"chunk_size": 9 * MIB, "max_retries": None}).engine_config
    assert (config.chunk_size, config.parallel_operations) == (9 * MIB, 3)


def test_the_hooks_own_transfer_config_and_requester_pays_count(comms: FakeComms, s3: ModelServer) -> None:
    hook = hook_with(comms, s3, {}, transfer_config_args={"multipart_chunksize": 1024}, requester_pays=True)
    assert hook.engine_config.chunk_size == 5 * MIB
    assert hook.engine_config.request_payer == "requester"


def test_a_retry_preset_keeps_its_count_unless_a_count_is_chosen(comms: FakeComms, s3: ModelServer) -> None:
    assert hook_with(comms, s3, {}).engine_config.policy.max_attempts == 4
    slow = hook_with(comms, s3, {}, orbit_options={"retry": "slow"})
    assert slow.engine_config.policy == RetryPolicy.slow()
    both = hook_with(comms, s3, {}, orbit_options={"retry": "slow", "max_retries": 7})
    assert both.engine_config.policy.max_attempts == 8


@pytest.mark.parametrize(
    ("option", "hint"),
    [("chunksize", "did you mean 'chunk_size'"), ("endpoint", "unknown orbit option"), ("bucket", "unknown")],
)
def test_an_unknown_option_is_an_error_that_names_its_place(
    comms: FakeComms, s3: ModelServer, option: str, hint: str
) -> None:
    hook = hook_with(comms, s3, {"service_config": {"s3": {"orbit": {option: 1}}}})
    with pytest.raises(ConfigError, match=hint) as caught:
        _ = hook.engine
    assert "service_config.s3.orbit" in str(caught.value)


def test_the_users_client_settings_are_merged_deeply_and_only_the_engine_changes_them(
    comms: FakeComms, s3: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path style, proxies, accelerate and signing together; botocore's retries stay on hook.conn and leave ours."""
    config_kwargs = {
        "s3": {"addressing_style": "path", "use_accelerate_endpoint": False, "payload_signing_enabled": True},
        "retries": {"mode": "adaptive", "max_attempts": 9},
        "proxies": {"https": "http://proxy:3128"},
        "signature_version": "s3v4",
        "user_agent_extra": "mine/1",
    }
    hook = hook_with(comms, s3, {"config_kwargs": config_kwargs}, orbit_options={"parallel_operations": 20})
    made: list[Any] = []
    plain = hook.get_client_type

    def remembered(**kwargs: Any) -> Any:
        made.append(plain(**kwargs))
        return made[-1]

    monkeypatch.setattr(hook, "get_client_type", remembered)
    _ = hook.engine
    (client,) = made
    config = client.meta.config
    assert config.s3["addressing_style"] == "path"
    assert config.s3["payload_signing_enabled"] is True
    assert config.s3["use_accelerate_endpoint"] is False
    assert config.proxies == {"https": "http://proxy:3128"}
    assert config.signature_version == "s3v4"
    assert config.retries["total_max_attempts"] == 1
    assert config.retries.get("mode", "legacy") != "adaptive"
    assert config.max_pool_connections >= 20
    assert "mine/1" in config.user_agent_extra
    assert "orbit-airflow/" in config.user_agent_extra
    theirs = cast("Any", hook.conn).meta.config
    assert theirs.retries == {"mode": "adaptive", "total_max_attempts": 10}
    assert theirs.max_pool_connections == 10
    assert "orbit-airflow/" not in (theirs.user_agent_extra or "")


@pytest.mark.parametrize("by", ["connection", "environment"])
def test_payloads_are_signed_over_plain_http_wherever_the_endpoint_comes_from(
    comms: FakeComms, s3: ModelServer, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    extra: dict[str, Any] = {"region_name": s3.region}
    if by == "connection":
        extra["endpoint_url"] = s3.endpoint_url
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
    comms.add_connection("e", s3.access_key, s3.secret_key, extra)
    client: Any = OrbitS3Hook(aws_conn_id="e")._engine_client()
    assert client.meta.endpoint_url == s3.endpoint_url
    assert "payload_signing_enabled" not in (client.meta.config.s3 or {})


def test_upload_takes_bucket_and_key_or_an_address(comms: FakeComms, s3: ModelServer, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    hook = OrbitS3Hook()
    for arguments in ((f"s3://{BUCKET}/a//b?c",), ("a//b?c", BUCKET)):
        result = hook.upload(path, *arguments)
        assert result.ref.key == "a//b?c"
    assert s3.versions(BUCKET, "a//b?c")[0].read() == b"x" * 100


def test_an_address_beside_a_bucket_is_a_type_error(comms: FakeComms, s3: ModelServer) -> None:
    hook = OrbitS3Hook()
    with pytest.raises(TypeError, match="dest_key must be a key"):
        hook.address("s3://b/k", "b")
    with pytest.raises(TypeError, match="without dest_bucket"):
        hook.address("k")


def test_the_connections_own_bucket_is_used_when_none_is_named(comms: FakeComms, s3: ModelServer) -> None:
    hook = hook_with(comms, s3, {"service_config": {"s3": {"bucket_name": "mine"}}})
    assert hook.engine.config.bucket == "mine"
    assert hook.address("k").uri == "s3://mine/k"


def test_extra_args_of_hook_and_connection_reach_the_object(comms: FakeComms, s3: ModelServer, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    extra = connection_extra(s3)
    extra["service_config"]["s3"]["extra_args"] = {"ContentType": "a/b", "Metadata": {"from": "connection"}}
    hook = hook_with(comms, s3, extra, extra_args={"ContentType": "c/d", "CacheControl": "no-store"})
    hook.upload(path, "extra.txt", BUCKET)
    (version,) = s3.versions(BUCKET, "extra.txt")
    assert version.content_type == "c/d"
    assert version.metadata["from"] == "connection"


def test_every_upload_argument_of_boto3_has_its_place() -> None:
    assert {*ATTRIBUTE_ARGS, *CUSTOMER_KEY_ARGS, *ENGINE_ARGS} == set(S3Transfer.ALLOWED_UPLOAD_ARGS)


def test_extra_args_are_understood() -> None:
    read = read_extra_args(
        {
            "ACL": "private",
            "Tagging": "a=1&b=",
            "Metadata": {"m": "n"},
            "RequestPayer": "requester",
            "CacheControl": "x",
        }
    )
    assert read.attributes == ObjectAttributes(
        acl="private", tags=(("a", "1"), ("b", "")), metadata=(("m", "n"),), extra_args=(("CacheControl", "x"),)
    )
    assert read.settings == {"request_payer": "requester"}


@pytest.mark.parametrize(
    "extra_args",
    [
        {"Nonsense": "1"}, {"SSECustomerKey": "k"}, {"ChecksumCRC32": "x"}, {"Tagging": "a&&"}, {"Metadata": "x"},
        {"Metadata": {"a": 1}}, {"ACL": 1}, {"CacheControl": 1},
    ],
)  # fmt: skip
def test_extra_args_that_are_not_are_refused(extra_args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read_extra_args(extra_args)


def test_a_given_encryption_is_not_completed_with_the_defaults_key() -> None:
    defaults = ObjectAttributes(server_side_encryption="aws:kms", kms_key_id="K", metadata=(("a", "1"), ("b", "1")))
    given = ObjectAttributes(server_side_encryption="AES256", metadata=(("b", "2"),))
    merged = with_defaults(given, defaults)
    assert (merged.server_side_encryption, merged.kms_key_id) == ("AES256", None)
    assert dict(merged.metadata) == {"a": "1", "b": "2"}
    assert with_defaults(ObjectAttributes(), defaults).kms_key_id == "K"


def test_customer_keys_in_arguments_are_refused_and_their_place_is_named(comms: FakeComms, s3: ModelServer) -> None:
    with pytest.raises(ConfigError, match="orbit_sse_customer_secret"):
        _ = hook_with(comms, s3, {}, extra_args={"SSECustomerKey": "k"}).upload_attributes


def test_a_named_connection_that_is_not_there_is_an_error_and_not_another_identity(
    comms: FakeComms, s3: ModelServer
) -> None:
    with pytest.raises(AirflowNotFoundException, match="'lost' was not found"):
        _ = OrbitS3Hook(aws_conn_id="lost").engine


def traits(s3: ModelServer, key: str) -> Any:
    """What the server keeps of the newest version beside its bytes."""
    return s3._world.store.versions(BUCKET, key)[0].traits


def customer_key() -> str:
    return CustomerKey(b"0123456789abcdef0123456789abcdef").base64


def test_a_customer_key_comes_from_the_connection_alone(comms: FakeComms, s3: ModelServer, tmp_path: Path) -> None:
    """Its place has a name that Airflow itself hides; the same key goes with the next upload's HEAD."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    service = {"s3": {CUSTOMER_KEY_PLACE: customer_key()}}
    hook = hook_with(comms, s3, {"service_config": service})
    hook.upload(path, "customer.txt", BUCKET)
    assert traits(s3, "customer.txt").customer_key_md5 == CustomerKey.parse(customer_key()).md5
    with pytest.raises(TargetExists):
        hook.upload(path, "customer.txt", BUCKET, options=UploadOptions(replace=False))
    from airflow.sdk._shared.secrets_masker import redact

    assert redact({"service_config": service}, "extra")["service_config"]["s3"][CUSTOMER_KEY_PLACE] == "***"  # type: ignore[index, call-overload]
    with pytest.raises(ConfigError, match="orbit_sse_customer_secret"):
        _ = hook_with(comms, s3, {}, orbit_options={"customer_key": customer_key()}).engine


@pytest.mark.parametrize(
    ("section", "connection_args", "connection", "arguments", "hook_args", "given", "expected"),
    [
        ("glacier", {}, {}, {}, {}, None, "GLACIER"),
        ("glacier", {"StorageClass": "ONEZONE_IA"}, {}, {}, {}, None, "ONEZONE_IA"),
        ("glacier", {"StorageClass": "ONEZONE_IA"}, {"storage_class": "StandardIa"}, {}, {}, None, "STANDARD_IA"),
        ("", {"StorageClass": "ONEZONE_IA"}, {}, {"storage_class": "GLACIER_IR"}, {}, None, "GLACIER_IR"),
        ("", {}, {}, {"storage_class": "GLACIER_IR"}, {"StorageClass": "SNOW_"}, "DEEP_ARCHIVE", "DEEP_ARCHIVE"),
        ("glacier", {}, {"storage_class": "StandardIa"}, {}, {"StorageClass": "DEEP_ARCHIVE"}, None, "DEEP_ARCHIVE"),
    ],
)
def test_the_nearest_word_about_the_storage_class_wins(
    comms: FakeComms, s3: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    section: str, connection_args: dict[str, str], connection: dict[str, str], arguments: dict[str, str],
    hook_args: dict[str, str], given: str | None, expected: str,
) -> None:  # fmt: skip
    """airflow.cfg, the connection's extra_args, its orbit options, the hook's options, its extra_args, the upload."""
    monkeypatch.setenv("AIRFLOW__ORBIT__STORAGE_CLASS", section)
    path = tmp_path / "f"
    path.write_bytes(b"x")
    extra = {"service_config": {"s3": {"extra_args": connection_args, "orbit": connection}}}
    hook = hook_with(comms, s3, extra, orbit_options=arguments, extra_args=hook_args)
    options = UploadOptions(attributes=ObjectAttributes(storage_class=given))
    hook.upload(path, "class.txt", BUCKET, options=options)
    assert traits(s3, "class.txt").storage_class == expected


def test_an_encryption_that_is_given_takes_nothing_of_the_connection_s(
    comms: FakeComms, s3: ModelServer, tmp_path: Path
) -> None:
    """Neither its key nor its context; "none" sends nothing at all."""
    path = tmp_path / "f"
    path.write_bytes(b"x")
    kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k", "SSEKMSEncryptionContext": "e30="}
    hook = hook_with(comms, s3, {"service_config": {"s3": {"extra_args": kms}}})
    for algorithm, expected in (("AES256", {"x-amz-server-side-encryption": "AES256"}), ("none", {})):
        options = UploadOptions(attributes=ObjectAttributes(server_side_encryption=algorithm))
        hook.upload(path, "sse.txt", BUCKET, options=options)
        assert traits(s3, "sse.txt").encryption == expected


@pytest.mark.parametrize("where", ["orbit_options", "botocore_config"])
def test_keys_in_the_code_are_refused_by_name(where: str) -> None:
    """The value is not repeated."""
    with pytest.raises(ConfigError, match="aws_secret_access_key does not belong into") as caught:
        refuse_secrets(where, {"aws_secret_access_key": "hidden-word"})
    assert "hidden-word" not in str(caught.value)
    refuse_secrets(where, None)
    refuse_secrets(where, {"proxies": {"https": "http://proxy:3128"}, "s3": {"addressing_style": "path"}})
