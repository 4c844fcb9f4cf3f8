"""What an upload gets when its caller says nothing: the engine's configuration fills what was left open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orbit_airflow.engine.encryption import NO_ENCRYPTION
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import ObjectAttributes
from orbit_airflow.engine.options import EngineConfig, UploadOptions

_LOCKS = frozenset({"ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus"})


def with_engine_defaults(options: UploadOptions, config: EngineConfig) -> UploadOptions:
    """``options`` with the configuration's storage class and encryption where they say nothing.

    Encryption is one choice: an upload that names an algorithm or a KMS key gets nothing of the default. The word
    "none" means that no header is sent. A write under Object Lock always carries its checksums: S3 demands it.
    Raises ConfigError when a customer key (SSE-C) meets another encryption.
    """
    attributes = _encrypted(options.attributes, config)
    if attributes.storage_class is None and config.storage_class is not None:
        attributes = replace(attributes, storage_class=str(config.storage_class))
    changes: dict[str, Any] = {}
    if any(name in _LOCKS for name, _ in attributes.extra_args):
        changes["verify_checksums"] = True
    if attributes != options.attributes:
        changes["attributes"] = attributes
    return replace(options, **changes) if changes else options


def _encrypted(attributes: ObjectAttributes, config: EngineConfig) -> ObjectAttributes:
    default = config.encryption
    silent = attributes.server_side_encryption is None and attributes.kms_key_id is None
    if silent and default is not None:
        extra = dict(attributes.extra_args)
        if default.bucket_key is not None:
            extra.setdefault("BucketKeyEnabled", default.bucket_key)
        attributes = replace(
            attributes,
            server_side_encryption=default.algorithm,
            kms_key_id=default.key_id,
            extra_args=tuple(extra.items()),
        )
    if attributes.server_side_encryption == NO_ENCRYPTION:
        return replace(attributes, server_side_encryption=None)
    if config.customer_key is not None and (attributes.server_side_encryption or attributes.kms_key_id):
        raise ConfigError("an object has a customer key (SSE-C) or another encryption, not both")
    return attributes
