"""Addresses and options: refused when they are built, with a message that helps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import MIB, ObjectAttributes, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import MAX_METADATA_BYTES, Credentials, EngineConfig, UploadOptions, check_attributes
from orbit_airflow.engine.resilience.policy import RetryPolicy


@pytest.mark.parametrize(
    "key", ["a", "a b+c%20", "/leading", "a//b", "a?versionId=x", "a#b", "é/ü", "a/../b", "x" * 1024]
)
def test_parse_takes_the_key_as_it_is(key: str) -> None:
    """No decoding, no normalising, no query."""
    ref = ObjectRef.parse(f"s3://bucket/{key}")
    assert (ref.bucket, ref.key, ref.version_id) == ("bucket", key, None)
    assert ObjectRef.parse(ref.uri) == ref


@given(st.text(min_size=1, max_size=200).filter(lambda key: len(key.encode("utf-8", "surrogatepass")) < 1024))
def test_parse_is_the_inverse_of_uri(key: str) -> None:
    """For every key that is UTF-8."""
    try:
        ref = ObjectRef("bucket", key)
    except ConfigError:
        assert any("\ud800" <= char <= "\udfff" for char in key)
        return
    assert ObjectRef.parse(ref.uri) == ref


@pytest.mark.parametrize(
    "uri",
    ["", "bucket/key", "s3:/bucket/key", "http://bucket/key", "s3://bucket", "s3://bucket/", "s3:///key", "s3://"],
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    """ConfigError, before anything is asked."""
    with pytest.raises(ConfigError):
        ObjectRef.parse(uri)


@pytest.mark.parametrize("bucket", ["", "a", "-ab", "a b", "a\nb", "a?b", "b" * 300])
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    """Names, ARNs and access point aliases pass; what would change the request's meaning does not."""
    with pytest.raises(ConfigError, match="bucket"):
        ObjectRef(bucket, "key")


@pytest.mark.parametrize("key", ["x" * 1025, "é" * 513, "\ud800"])
def test_what_is_no_key_is_refused(key: str) -> None:
    """1 to 1,024 bytes of UTF-8."""
    with pytest.raises(ConfigError):
        ObjectRef("bucket", key)


def test_the_copy_source_is_quoted() -> None:
    """As the header wants it, with the version behind it."""
    assert ObjectRef("bucket", "a b/ü+").copy_source == "bucket/a%20b/%C3%BC%2B"
    assert ObjectRef("bucket", "a", "v1").copy_source == "bucket/a?versionId=v1"


def test_metadata_is_found_by_name() -> None:
    """None for what is not there."""
    info = ObjectInfo(ObjectRef("bucket", "key"), 1, "e", metadata=(("a", "1"),))
    assert (info.metadata_value("a"), info.metadata_value("b")) == ("1", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_size": 5 * MIB - 1},
        {"chunk_size": True},
        {"chunk_size": 5.5 * MIB},
        {"parallel_operations": 0},
        {"parallel_operations": 257},
        {"timeout_seconds": 0},
        {"connect_timeout": -1},
        {"stall_timeout": float("nan")},
        {"settle_seconds": float("inf")},
        {"timeout_seconds": True},
        {"max_retries": -1},
        {"max_retries": 101},
        {"max_bandwidth": 1},
        {"request_payer": "me"},
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    """The message begins with the option."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        EngineConfig(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"on_source_change": "ignore"}, {"chunk_size": 0}, {"max_restarts": -1}, {"max_restarts": "3"}]
)
def test_a_wrong_choice_is_named(wrong: dict[str, Any]) -> None:
    """As for the engine's settings."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        UploadOptions(**wrong)


def test_max_retries_overrides_the_preset() -> None:
    """It counts repetitions: attempts are one more. None leaves the preset's count."""
    assert EngineConfig(max_retries=0).policy.max_attempts == 1
    assert EngineConfig(max_retries=7, retry=RetryPolicy.fast()).policy == RetryPolicy(
        use_circuit_breaker=False, max_attempts=8, initial_delay=0.05, max_delay=1.0
    )
    assert EngineConfig(max_retries=None, retry=RetryPolicy.slow()).policy == RetryPolicy.slow()


def test_text_becomes_the_option_s_type() -> None:
    """As airflow.cfg gives it; None means not given."""
    text = {
        "chunk_size": "8388608",
        "stall_timeout": "2.5",
        "verify_checksums": "no",
        "retry": "fast",
        "max_retries": None,
    }
    assert EngineConfig.tuning_from(text) == {
        "chunk_size": 8 * MIB,
        "stall_timeout": 2.5,
        "verify_checksums": False,
        "retry": RetryPolicy.fast(),
    }


@pytest.mark.parametrize(
    ("name", "value"), [("chunk_size", "8 MiB"), ("verify_checksums", "maybe"), ("retry", "never")]
)
def test_text_that_cannot_be_read_is_refused(name: str, value: str) -> None:
    """Never a guess."""
    with pytest.raises(ConfigError, match=value):
        EngineConfig.tuning_from({name: value})


@pytest.mark.parametrize(
    ("wrong", "right"), [("chunksize", "chunk_size"), ("paralel_operations", "parallel_operations")]
)
def test_an_unknown_option_gets_a_hint(wrong: str, right: str) -> None:
    """Did you mean."""
    with pytest.raises(ConfigError, match=f"did you mean '{right}'"):
        EngineConfig.tuning_from({wrong: 1})


@pytest.mark.parametrize("name", ["endpoint", "bucket", "credentials", "region", "verify", "limits"])
def test_tuning_cannot_say_where(name: str) -> None:
    """Endpoint, bucket and credentials come from elsewhere."""
    with pytest.raises(ConfigError, match="unknown orbit option"):
        EngineConfig.tuning_from({name: "x"})


def test_credentials_are_not_shown() -> None:
    """Not by repr, not by the repr of what holds them."""
    keys = Credentials(access_key="AKIAX", secret_key="SECRETX", session_token="TOKENX")
    text = repr(EngineConfig(credentials=keys)) + str(keys)
    assert not [word for word in ("AKIAX", "SECRETX", "TOKENX") if word in text]


@pytest.mark.parametrize(
    "attributes",
    [
        ObjectAttributes(metadata=(("name", "ü"),)),
        ObjectAttributes(metadata=(("name", "a\r\nx-amz-acl: public-read"),)),
        ObjectAttributes(metadata=(("Orbit-Upload", "x"),)),
        ObjectAttributes(metadata=(("name", "x" * MAX_METADATA_BYTES),)),
        ObjectAttributes(tags=tuple((f"t{number}", "") for number in range(11))),
        ObjectAttributes(tags=(("", "x"),)),
        ObjectAttributes(tags=(("x" * 129, ""),)),
        ObjectAttributes(tags=(("x", "y" * 257),)),
    ],
)
def test_attributes_that_s3_would_refuse_are_refused_here(attributes: ObjectAttributes) -> None:
    """Before a byte moves; header injection included."""
    with pytest.raises(ConfigError):
        UploadOptions(attributes=attributes)


def test_attributes_up_to_the_limits_pass() -> None:
    """Ten tags, and metadata that leaves room for our mark."""
    tags = tuple((f"t{number}" + "x" * 126, "y" * 256) for number in range(10))
    check_attributes(ObjectAttributes(metadata=(("n", "x" * 1983),), tags=tags))


@pytest.mark.parametrize("settings", [{"minimum_rate": 0}, {"minimum_rate": 1.5}, {"lean": "yes"}])
def test_wire_options_are_checked(settings: dict[str, Any]) -> None:
    """A rate is a whole number of bytes per second above 0, a switch is a boolean."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        EngineConfig(**settings)


def test_wire_options_are_read_from_text() -> None:
    """As airflow.cfg has them."""
    read = EngineConfig.tuning_from({"minimum_rate": "1000", "lean": "off"})
    assert read == {"minimum_rate": 1000, "lean": False}
