"""boto3's ``extra_args`` as the engine's ObjectAttributes. Imports neither boto3 nor Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.hints import did_you_mean
from orbit_airflow.engine.model import ObjectAttributes

# boto3's S3Transfer.ALLOWED_UPLOAD_ARGS, in three groups. A literal, since boto3 is not imported when a DAG is parsed;
# a test compares it with the installed boto3.
ATTRIBUTE_ARGS = frozenset(
    [
        "ACL", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType",
        "ExpectedBucketOwner", "Expires", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP",
        "Metadata", "ObjectLockLegalHoldStatus", "ObjectLockMode", "ObjectLockRetainUntilDate",
        "RequestPayer", "ServerSideEncryption", "StorageClass", "SSEKMSKeyId", "SSEKMSEncryptionContext",
        "Tagging", "WebsiteRedirectLocation",
    ]
)  # fmt: skip
CUSTOMER_KEY_ARGS = frozenset(["SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5"])
# The engine computes, sends and checks these itself.
ENGINE_ARGS = frozenset(
    [
        "ChecksumAlgorithm", "ChecksumType", "MpuObjectSize", "ChecksumCRC32", "ChecksumCRC32C",
        "ChecksumCRC64NVME", "ChecksumMD5", "ChecksumSHA1", "ChecksumSHA256", "ChecksumSHA512",
        "ChecksumXXHASH3", "ChecksumXXHASH64", "ChecksumXXHASH128",
    ]
)  # fmt: skip
# These belong to the requests, not to the object; they become settings of the engine.
REQUEST_ARGS = {"RequestPayer": "request_payer", "ExpectedBucketOwner": "expected_bucket_owner"}
# boto3's S3Transfer.ALLOWED_DOWNLOAD_ARGS that are said elsewhere, and where.
_SAID_ELSEWHERE = {
    "ChecksumMode": "the engine always asks for the checksum, and compares it unless verify_checksums is False",
    "VersionId": "a version is the argument version_id",
}
_NAMED = {
    "ACL": "acl",
    "ContentType": "content_type",
    "StorageClass": "storage_class",
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "kms_key_id",
}


@dataclass(frozen=True, slots=True)
class ExtraArgs:
    """``extra_args`` understood: what the object gets, and what goes with every request."""

    attributes: ObjectAttributes
    settings: Mapping[str, str]


def check_extra_args(extra_args: Mapping[str, Any]) -> None:
    """Refuse names that are not upload arguments, or not the caller's to give. Raises ConfigError."""
    for name in extra_args:
        _refuse_customer_key(name)
        if name in ENGINE_ARGS:
            raise ConfigError(f"{name} is not accepted in extra_args: the engine computes and checks it itself")
        if name not in ATTRIBUTE_ARGS:
            hint = did_you_mean(str(name), ATTRIBUTE_ARGS)
            raise ConfigError(f"unknown upload argument {name!r} in extra_args{hint}")


def read_extra_args(extra_args: Mapping[str, Any]) -> ExtraArgs:
    """``extra_args`` as the engine takes them. Raises ConfigError for an unknown name or a wrong type."""
    check_extra_args(extra_args)
    named = {ours: _text(theirs, extra_args[theirs]) for theirs, ours in _NAMED.items() if extra_args.get(theirs)}
    handled = {*_NAMED, *REQUEST_ARGS, "Metadata", "Tagging"}
    rest = tuple((name, _plain(name, value)) for name, value in extra_args.items() if name not in handled)
    attributes = ObjectAttributes(
        metadata=pairs("Metadata", extra_args.get("Metadata")),
        tags=_tags(extra_args.get("Tagging")),
        extra_args=rest,
        **named,
    )
    settings = {REQUEST_ARGS[name]: _text(name, extra_args[name]) for name in REQUEST_ARGS if extra_args.get(name)}
    return ExtraArgs(attributes, settings)


def read_download_args(extra_args: Mapping[str, Any]) -> dict[str, str]:
    """A download's ``extra_args`` (boto3's names for GetObject) as settings of the engine. Raises ConfigError for a
    name that is not accepted, and why, and for a wrong type.
    """
    if not isinstance(extra_args, Mapping):
        raise ConfigError(f"extra_args is a mapping of boto3's download arguments, got {type(extra_args).__name__}")
    for name in extra_args:
        _refuse_customer_key(name)
        if name in _SAID_ELSEWHERE:
            raise ConfigError(f"{name} is not accepted in extra_args: {_SAID_ELSEWHERE[name]}")
        if name not in REQUEST_ARGS:
            hint = did_you_mean(str(name), REQUEST_ARGS)
            raise ConfigError(f"unknown download argument {name!r} in extra_args{hint}")
    return {REQUEST_ARGS[name]: _text(name, value) for name, value in extra_args.items() if value}


def _refuse_customer_key(name: str) -> None:
    if name in CUSTOMER_KEY_ARGS:
        raise ConfigError(
            f"{name} is not accepted in extra_args: arguments are stored and shown in plain text, and a customer "
            "key (SSE-C) belongs to the connection, as service_config.s3.orbit_sse_customer_secret"
        )


def pairs(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """A mapping of texts as a tuple; ConfigError for anything else. ``name`` is for the message."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is a mapping of texts, got {type(value).__name__}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise ConfigError(f"{name} is a mapping of texts, got {key!r}: {item!r}")
    return tuple(value.items())


def with_defaults(given: ObjectAttributes, defaults: ObjectAttributes) -> ObjectAttributes:
    """``given`` where it says something, else ``defaults``; metadata, tags and other arguments are merged by name.

    Encryption is one choice: a given one is never completed with the default's key or KMS context.
    """
    names = ("content_type", "storage_class", "acl")
    changes: dict[str, Any] = {name: getattr(given, name) or getattr(defaults, name) for name in names}
    if given.server_side_encryption is None and given.kms_key_id is None:
        changes["server_side_encryption"] = defaults.server_side_encryption
        changes["kms_key_id"] = defaults.kms_key_id
        rest = dict(defaults.extra_args)
    else:
        rest = {name: value for name, value in defaults.extra_args if name != "SSEKMSEncryptionContext"}
    changes["extra_args"] = tuple({**rest, **dict(given.extra_args)}.items())
    for name in ("metadata", "tags"):
        changes[name] = tuple({**dict(getattr(defaults, name)), **dict(getattr(given, name))}.items())
    return replace(given, **changes)


def _tags(value: object) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    try:
        return tuple(parse_qsl(_text("Tagging", value), keep_blank_values=True, strict_parsing=True))
    except ValueError as exc:
        raise ConfigError(f"Tagging is written like a query string (a=1&b=2), got {value!r}") from exc


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} in extra_args is a text, got {type(value).__name__}")
    return value


def _plain(name: str, value: object) -> str | bool | datetime:
    if not isinstance(value, str | bool | datetime):
        raise ConfigError(f"{name} in extra_args is a text or a datetime, got {type(value).__name__}")
    return value
