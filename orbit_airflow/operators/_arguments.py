"""What may be said to a transfer operator: checked once for what is certain when the DAG is parsed, and once for the
rendered values. A template (``{{``, ``{%``, ``{#``), or a value that another task will give, is left for the second
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orbit_airflow.engine.encryption import NO_ENCRYPTION, ServerSideEncryption
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import ObjectAttributes
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.storage_class import StorageClass
from orbit_airflow.hooks.attributes import check_extra_args, pairs, read_extra_args, with_defaults

# amazon's word for "send no ACL"; it means the same here.
NO_ACL = "no-acl"
# Two ways to say one thing: an operator's own parameter and boto3's name in extra_args.
_TWINS = {
    "storage_class": "StorageClass",
    "server_side_encryption": "ServerSideEncryption",
    "kms_key_id": "SSEKMSKeyId",
    "metadata": "Metadata",
    "tags": "Tagging",
    "content_type": "ContentType",
    "acl_policy": "ACL",
}


def is_known(value: object) -> bool:
    """True when ``value`` is what it will be in ``execute``: no template, and nothing that another task will give."""
    if isinstance(value, Mapping):
        return all(is_known(key) and is_known(item) for key, item in value.items())
    if isinstance(value, str):
        return not any(mark in value for mark in ("{{", "{%", "{#"))
    return value is None or isinstance(value, bool)


def check_address(side: str, key: object, bucket: object) -> None:
    """TypeError when a bucket and a full address are both given; ``side`` is how the parameters' names begin."""
    full = isinstance(key, str) and key[:5].lower() == "s3://"
    if full and bucket is not None:
        raise TypeError(f"{side}_bucket is given, so {side}_key must be a key and not a full s3:// address")


def check_retry(transfer_retry: object) -> None:
    """ConfigError when ``transfer_retry`` is neither a preset's name nor an engine RetryPolicy."""
    if isinstance(transfer_retry, str):
        RetryPolicy.named(transfer_retry)
    elif transfer_retry is not None and not isinstance(transfer_retry, RetryPolicy):
        raise ConfigError(f"transfer_retry is 'fast', 'slow', 'network' or a RetryPolicy, got {transfer_retry!r}")


def check_callable(name: str, value: object) -> None:
    """TypeError when ``value`` is neither None nor something that can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is a function or None, got {type(value).__name__}")


def check_known(values: Mapping[str, Any]) -> None:
    """All of ``object_attributes``' checks that need only those values that are known when the DAG is parsed."""
    extra_args = values["extra_args"]
    if extra_args is not None:
        if not isinstance(extra_args, Mapping):
            raise ConfigError(f"extra_args is a mapping of boto3's upload arguments, got {type(extra_args).__name__}")
        check_extra_args(extra_args)
    _refuse_twins(values)
    known = {name: value for name, value in values.items() if is_known(value)}
    _storage_class(known.get("storage_class"))
    if all(name in known for name in ("encrypt", "server_side_encryption", "kms_key_id")):
        _encryption(known["encrypt"], known["server_side_encryption"], known["kms_key_id"])
    for name in ("metadata", "tags"):
        pairs(name, known.get(name))


def object_attributes(values: Mapping[str, Any]) -> ObjectAttributes:
    """The object's attributes from an operator's rendered values. ConfigError says which value is wrong."""
    _refuse_twins(values)
    encryption = _encryption(values["encrypt"], values["server_side_encryption"], values["kms_key_id"])
    acl = values["acl_policy"]
    named = ObjectAttributes(
        metadata=pairs("metadata", values["metadata"] or None),
        tags=pairs("tags", values["tags"] or None),
        content_type=values["content_type"] or None,
        storage_class=_storage_class(values["storage_class"]),
        server_side_encryption=encryption.algorithm if encryption else None,
        kms_key_id=encryption.key_id if encryption else None,
        extra_args=_bucket_key(encryption),
        acl=None if acl == NO_ACL else acl,
    )
    return with_defaults(named, read_extra_args(values["extra_args"] or {}).attributes)


def _refuse_twins(values: Mapping[str, Any]) -> None:
    extra_args = values["extra_args"] or {}
    for ours, theirs in _TWINS.items():
        if values[ours] and theirs in extra_args:
            raise ConfigError(f"{ours} and extra_args[{theirs!r}] say the same thing twice; give one of them")


def _storage_class(value: object) -> str | None:
    return StorageClass.parse(str(value)).value if value else None


def _bucket_key(encryption: ServerSideEncryption | None) -> tuple[tuple[str, bool], ...]:
    chosen = encryption.bucket_key if encryption else None
    return () if chosen is None else (("BucketKeyEnabled", chosen),)


def _encryption(encrypt: object, chosen: object, key: object) -> ServerSideEncryption | None:
    """The encryption that the three parameters mean together, None when they say nothing.

    ``encrypt`` is amazon's switch: True is AES256, unless an algorithm says otherwise; False is "none", which also
    overrides what connection and configuration have as a default.
    """
    if encrypt is not None and not isinstance(encrypt, bool):
        raise ConfigError(f"encrypt is True, False or None, got {encrypt!r}")
    named = ServerSideEncryption.parse(chosen) if chosen else None
    if encrypt is False:
        if key or (named is not None and named.algorithm != NO_ENCRYPTION):
            raise ConfigError("encrypt=False contradicts server_side_encryption or kms_key_id")
        return ServerSideEncryption.none()
    if encrypt and named is not None and named.algorithm != "AES256":
        raise ConfigError(f"encrypt=True means AES256 and contradicts server_side_encryption={chosen!r}")
    if encrypt and named is None:
        named = ServerSideEncryption.aes256()
    if not key:
        return named
    if named is None:
        return ServerSideEncryption.kms(str(key))
    if named.algorithm in (NO_ENCRYPTION, "AES256"):
        raise ConfigError(f"{named.algorithm} takes no kms_key_id; say server_side_encryption='aws:kms'")
    if named.key_id is not None:
        raise ConfigError("kms_key_id and server_side_encryption's key_id say the same thing twice; give one of them")
    return replace(named, key_id=str(key))
