"""Storage classes, encryption and the rest of the configuration: the guide's names, AWS's names, and nothing else."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from orbit_airflow.engine.defaults import with_engine_defaults
from orbit_airflow.engine.encryption import CustomerKey, ServerSideEncryption
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.hints import did_you_mean
from orbit_airflow.engine.model import MIB, ObjectAttributes
from orbit_airflow.engine.options import NOT_TUNING, Credentials, EngineConfig, UploadOptions, check_attributes
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.storage_class import StorageClass

GUIDE = {
    "Standard": "STANDARD",
    "StandardIa": "STANDARD_IA",
    "OnezoneIa": "ONEZONE_IA",
    "IntelligentTiering": "INTELLIGENT_TIERING",
    "GlacierInstantRetrieval": "GLACIER_IR",
    "GlacierFlexibleRetrieval": "GLACIER",
    "GlacierDeepArchive": "DEEP_ARCHIVE",
}


@pytest.mark.parametrize(("name", "aws"), GUIDE.items())
def test_the_guide_s_seven_classes_are_understood_in_any_spelling(name: str, aws: str) -> None:
    """As the guide writes them, in snake case, in capitals, with dashes."""
    words = "".join(f"_{char}" if char.isupper() else char for char in name).strip("_")
    for text in (name, name.lower(), name.upper(), words, words.upper(), words.lower().replace("_", "-"), f" {name} "):
        assert StorageClass.parse(text).value == aws


@pytest.mark.parametrize("item", list(StorageClass))
def test_every_class_of_aws_is_itself(item: StorageClass) -> None:
    """REDUCED_REDUNDANCY, OUTPOSTS, SNOW, EXPRESS_ONEZONE and the others, passed on."""
    assert StorageClass.parse(item.value) is item
    assert StorageClass.parse(item.value.lower()) is item


@pytest.mark.parametrize(
    ("text", "hint"),
    [("STANDART", "did you mean 'STANDARD'"), ("glacier_irr", "did you mean 'GLACIER_IR'"), ("qqq", "there are DEEP")],
)
def test_an_unknown_class_gets_a_hint(text: str, hint: str) -> None:
    """Did you mean; else all of them."""
    with pytest.raises(ConfigError, match=hint):
        StorageClass.parse(text)


def test_only_two_classes_need_a_restore() -> None:
    """GLACIER_IR is read at once, whatever its name says."""
    assert [item for item in StorageClass if item.archived] == [StorageClass.GLACIER, StorageClass.DEEP_ARCHIVE]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", ServerSideEncryption.none()),
        ("Aes256", ServerSideEncryption.aes256()),
        ("AES256", ServerSideEncryption.aes256()),
        ("AwsKms", ServerSideEncryption.kms()),
        ("aws:kms", ServerSideEncryption.kms()),
        ("KMS", ServerSideEncryption.kms()),
        ("aws:kms:dsse", ServerSideEncryption.dsse()),
        ("DSSE", ServerSideEncryption.dsse()),
        ({"key_id": "k"}, ServerSideEncryption.kms("k")),
        ({"algorithm": "AwsKms", "key_id": "k", "bucket_key": False}, ServerSideEncryption.kms("k", bucket_key=False)),
        ('{"algorithm": "aws:kms:dsse", "key_id": "k"}', ServerSideEncryption.dsse("k")),
        (ServerSideEncryption.aes256(), ServerSideEncryption.aes256()),
    ],
)
def test_encryption_by_name_by_mapping_and_as_json(given: object, expected: ServerSideEncryption) -> None:
    """A connection's extra holds a mapping, airflow.cfg a text."""
    assert ServerSideEncryption.parse(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("AES265", "did you mean 'AES256'"),
        ("", "no encryption"),
        (5, "a name or a mapping"),
        ("{oops", "begins like JSON"),
        ({"algorithm": "AES256", "key_id": "k"}, "takes no KMS key"),
        ({"algorithm": "none", "key_id": "k"}, "takes no KMS key"),
        ({"algorithm": "aws:kms", "key": "k"}, "did you mean 'key_id'"),
        ({"algorithm": "aws:kms", "key_id": " "}, "id, ARN or alias"),
        ({"algorithm": "AES256", "bucket_key": True}, "only aws:kms"),
        ({"algorithm": "aws:kms", "bucket_key": "yes"}, "true or false"),
        ({"algorithm": None}, "needs an 'algorithm'"),
    ],
)
def test_encryption_that_cannot_be_is_refused(given: object, message: str) -> None:
    """With what was meant."""
    with pytest.raises(ConfigError, match=message):
        ServerSideEncryption.parse(given)


def test_a_customer_key_is_32_bytes_and_stays_here() -> None:
    """Read from base64; neither repr nor pickle gives it away, and no message repeats a wrong one."""
    key = CustomerKey(bytes(range(32)))
    assert CustomerKey.parse(key.base64) == key
    assert key.md5 == "tP/LI3N87DFaSk0aoqYgzg=="
    for words in (repr(key), repr(EngineConfig(customer_key=key))):
        assert key.base64 not in words
        assert repr(key.key) not in words
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(EngineConfig(customer_key=key))
    for wrong in ("c2hvcnQ=", "no base64 at all!", 5, None):
        with pytest.raises(ConfigError, match="32 bytes") as caught:
            CustomerKey.parse(wrong)
        assert not isinstance(wrong, str) or wrong not in str(caught.value)
    with pytest.raises(ConfigError, match="exactly 32"):
        CustomerKey(b"short")


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "a b"},
        {"region": "EU West"},
        {"region": "eu-west-1.evil.example"},
        {"endpoint": "minio:9000"},
        {"endpoint": "ftp://minio"},
        {"endpoint": "https://minio/?a=b"},
        {"endpoint": "http://minio:99999"},
        {"verify": 1.5},
        {"force_path_style": "yes"},
        {"credentials": "AKIA"},
        {"storage_class": "COLD"},
        {"server_side_encryption": "rot13"},
        {"customer_key": "a2V5"},
        {"verify_checksums": 1},
    ],
)
def test_a_wrong_setting_is_refused_by_the_constructor(wrong: dict[str, Any]) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigError):
        EngineConfig(**wrong)


def test_an_endpoint_with_a_password_is_refused_without_repeating_it() -> None:
    """It would be in every log line that names the endpoint."""
    with pytest.raises(ConfigError, match="must not contain credentials") as caught:
        EngineConfig(endpoint="https://me:hidden-word@minio:9000")
    assert "hidden-word" not in str(caught.value)


def test_the_guide_s_builder_is_the_constructor() -> None:
    """Its advanced example, and its defaults."""
    config = EngineConfig(
        bucket="my-data-lake",
        region="us-west-2",
        storage_class="IntelligentTiering",
        server_side_encryption="Aes256",
        chunk_size=10 * MIB,
        parallel_operations=8,
        timeout_seconds=600,
        verify_checksums=True,
    )
    assert config.storage_class is StorageClass.INTELLIGENT_TIERING
    assert config.encryption == ServerSideEncryption.aes256()
    plain = EngineConfig(bucket="my-bucket")
    assert (plain.region, plain.endpoint, plain.storage_class, plain.encryption) == (None, None, None, None)
    assert (plain.chunk_size, plain.parallel_operations, plain.timeout_seconds) == (5 * MIB, 4, 300)
    assert (plain.max_retries, plain.verify_checksums, plain.force_path_style) == (3, True, False)


def test_a_script_s_own_file_as_configuration() -> None:
    """Texts as the option's type; unknown names with a hint; keys do not come from there."""
    text = {"bucket": "my-bucket", "force_path_style": "true", "verify": "no", "storage_class": "glacier",
            "retry": "slow", "timeout_seconds": "5", "max_bandwidth": None}  # fmt: skip
    config = EngineConfig.from_options(text)
    assert (config.force_path_style, config.verify, config.timeout_seconds) == (True, False, 5)
    assert (config.storage_class, config.retry) == (StorageClass.GLACIER, RetryPolicy.slow())
    assert EngineConfig.from_options({"verify": "/etc/ca.pem"}).verify == "/etc/ca.pem"
    with pytest.raises(ConfigError, match="did you mean 'endpoint'"):
        EngineConfig.from_options({"endpoints": "http://x"})
    with pytest.raises(ConfigError, match="unknown option 'credentials'"):
        EngineConfig.from_options({"credentials": "x"})


@pytest.mark.parametrize("name", sorted(NOT_TUNING))
def test_an_option_of_the_connection_s_own_is_refused_with_its_place(name: str) -> None:
    """Where it stands instead."""
    with pytest.raises(ConfigError, match="unknown orbit option") as caught:
        EngineConfig.tuning_from({name: "x"})
    assert NOT_TUNING[name] in str(caught.value)


def test_class_and_encryption_are_tuning() -> None:
    """As text from airflow.cfg, as a mapping from a connection."""
    read = EngineConfig.tuning_from(
        {"storage_class": "standard_ia", "server_side_encryption": {"algorithm": "aws:kms", "key_id": "k"}}
    )
    assert read == {"storage_class": StorageClass.STANDARD_IA, "server_side_encryption": ServerSideEncryption.kms("k")}


def test_a_hint_ignores_case_and_lists_what_there_is() -> None:
    """The nearest name, or all."""
    assert did_you_mean("CHUNKSIZE", ["chunk_size", "other"]) == "; did you mean 'chunk_size'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; there are a, b"


def test_the_configuration_fills_what_an_upload_leaves_open() -> None:
    """And nothing else; the given options are not changed."""
    config = EngineConfig(
        storage_class="GLACIER", server_side_encryption=ServerSideEncryption.kms("k", bucket_key=True)
    )
    filled = with_engine_defaults(UploadOptions(), config).attributes
    assert (filled.storage_class, filled.server_side_encryption, filled.kms_key_id) == ("GLACIER", "aws:kms", "k")
    assert filled.extra_args == (("BucketKeyEnabled", True),)
    own = UploadOptions(attributes=ObjectAttributes(storage_class="STANDARD", kms_key_id="mine"))
    assert with_engine_defaults(own, config) is own
    silent = UploadOptions(attributes=ObjectAttributes(server_side_encryption="none"))
    assert with_engine_defaults(silent, config).attributes.server_side_encryption is None
    assert with_engine_defaults(UploadOptions(), EngineConfig()) == UploadOptions()


@pytest.mark.parametrize(
    "attributes",
    [
        ObjectAttributes(metadata=(("a b", "x"),)),
        ObjectAttributes(metadata=(("a:b", "x"),)),
        ObjectAttributes(metadata=(("Name", "x"), ("name", "y"))),
        ObjectAttributes(tags=(("aws:x", "y"),)),
        ObjectAttributes(tags=(("x", "1"), ("x", "2"))),
        ObjectAttributes(extra_args=(("ObjectLockMode", "GOVERNANCE"),)),
        ObjectAttributes(extra_args=(("ObjectLockMode", "FOREVER"), ("ObjectLockRetainUntilDate", "2031-01-01"))),
        ObjectAttributes(extra_args=(("ObjectLockLegalHoldStatus", "yes"),)),
    ],
)
def test_more_that_s3_would_refuse(attributes: ObjectAttributes) -> None:
    """Before a byte moves."""
    with pytest.raises(ConfigError):
        check_attributes(attributes)


def test_keys_in_the_code_of_a_dag_are_told(recwarn: pytest.WarningsRecorder) -> None:
    """Airflow's name for a DAG file's module is the sign; elsewhere nothing is said."""
    code = (
        "from orbit_airflow.engine import Credentials\ndef made(): return Credentials(access_key='a', secret_key='b')"
    )
    for module in ("unusual_prefix_0123_my_dag", "my_script"):
        scope: dict[str, Any] = {"__name__": module}
        exec(code, scope)
        scope["made"]()
    assert ["stand in the code of a DAG" in str(item.message) for item in recwarn] == [True]


@pytest.mark.parametrize("wrong", [{"access_key": ""}, {"secret_key": None}, {"session_token": ""}])
def test_credentials_are_texts(wrong: dict[str, Any]) -> None:
    """Half a key pair would be found out only by the store."""
    with pytest.raises(ConfigError, match="is a text"):
        Credentials(**{"access_key": "a", "secret_key": "b", **wrong})
