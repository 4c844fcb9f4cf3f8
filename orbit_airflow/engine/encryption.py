"""Encryption at rest: S3's own keys, KMS, and keys that the customer sends along (SSE-C)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn, cast

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.hints import did_you_mean

# "none" is the choice to send nothing, also where a default says otherwise; the bucket then decides.
NO_ENCRYPTION = "none"
Algorithm = Literal["none", "AES256", "aws:kms", "aws:kms:dsse"]
# AWS's names and the guide's.
_ALGORITHMS: Mapping[str, Algorithm] = {
    "none": "none",
    "aes256": "AES256",
    "sse-s3": "AES256",
    "aws:kms": "aws:kms",
    "awskms": "aws:kms",
    "aws-kms": "aws:kms",
    "aws_kms": "aws:kms",
    "kms": "aws:kms",
    "aws:kms:dsse": "aws:kms:dsse",
    "dsse": "aws:kms:dsse",
}
_FIELDS = ("algorithm", "key_id", "bucket_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSideEncryption:
    """What an upload asks for. ``key_id`` is a KMS key's id, ARN or alias; None means the account's default key.

    ``bucket_key`` (only with aws:kms) lets S3 ask KMS once per bucket key instead of once per object; None leaves it to
    the bucket. A KMS encryption context is given as ``extra_args={"SSEKMSEncryptionContext": ...}``.
    """

    algorithm: Algorithm
    key_id: str | None = None
    bucket_key: bool | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in ("none", "AES256", "aws:kms", "aws:kms:dsse"):
            raise ConfigError(f"no encryption {self.algorithm!r}{did_you_mean(str(self.algorithm), _ALGORITHMS)}")
        if self.key_id is not None and (not isinstance(self.key_id, str) or not self.key_id.strip()):
            raise ConfigError(f"key_id is the id, ARN or alias of a KMS key, got {self.key_id!r}")
        if self.key_id is not None and self.algorithm in ("none", "AES256"):
            raise ConfigError(f"{self.algorithm} takes no KMS key; say 'aws:kms' or 'aws:kms:dsse'")
        if self.bucket_key is not None and (self.algorithm != "aws:kms" or not isinstance(self.bucket_key, bool)):
            raise ConfigError("bucket_key is true or false, and only aws:kms has one")

    @classmethod
    def none(cls) -> ServerSideEncryption:
        """Send nothing; the bucket's own default decides."""
        return cls(algorithm="none")

    @classmethod
    def aes256(cls) -> ServerSideEncryption:
        """Keys that S3 keeps (SSE-S3)."""
        return cls(algorithm="AES256")

    @classmethod
    def kms(cls, key_id: str | None = None, *, bucket_key: bool | None = None) -> ServerSideEncryption:
        """A key in KMS. The writer needs kms:GenerateDataKey, and for uploads in parts kms:Decrypt as well."""
        return cls(algorithm="aws:kms", key_id=key_id, bucket_key=bucket_key)

    @classmethod
    def dsse(cls, key_id: str | None = None) -> ServerSideEncryption:
        """Two layers of KMS encryption (DSSE-KMS)."""
        return cls(algorithm="aws:kms:dsse", key_id=key_id)

    @classmethod
    def parse(cls, value: object) -> ServerSideEncryption:
        """A name (``none``, ``AES256``, ``aws:kms``, ``aws:kms:dsse``, or the guide's ``Aes256`` and ``AwsKms``; in any
        case), a mapping ``{"algorithm": ..., "key_id": ..., "bucket_key": ...}``, or that mapping as JSON.

        Raises ConfigError with the name that was probably meant.
        """
        if isinstance(value, ServerSideEncryption):
            return value
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _from_json(value)
        if isinstance(value, Mapping):
            return cls._from_mapping(value)
        if not isinstance(value, str):
            raise ConfigError(f"server_side_encryption is a name or a mapping, got {type(value).__name__}")
        return cls(algorithm=_algorithm(value))

    @classmethod
    def _from_mapping(cls, value: Mapping[str, object]) -> ServerSideEncryption:
        for name in value:
            if name not in _FIELDS:
                raise ConfigError(
                    f"unknown option {name!r} of server_side_encryption{did_you_mean(str(name), _FIELDS)}"
                )
        algorithm = value.get("algorithm", "aws:kms" if value.get("key_id") else None)
        if not isinstance(algorithm, str):
            raise ConfigError("server_side_encryption as a mapping needs an 'algorithm' as text")
        key_id, bucket_key = cast("str | None", value.get("key_id")), cast("bool | None", value.get("bucket_key"))
        return cls(algorithm=_algorithm(algorithm), key_id=key_id, bucket_key=bucket_key)


def _algorithm(text: str) -> Algorithm:
    found = _ALGORITHMS.get(text.strip().casefold())
    if found is None:
        raise ConfigError(f"no encryption {text!r}{did_you_mean(text, ('none', 'AES256', 'aws:kms', 'aws:kms:dsse'))}")
    return found


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ConfigError("server_side_encryption begins like JSON and is none") from exc


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """A key of the customer's own (SSE-C): S3 uses it for one request and forgets it; lost, the objects are lost.

    256 bits. Never shown by ``repr``, and refused by pickle, so that it cannot leave the process by accident.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.key, bytes) or len(self.key) != 32:
            raise ConfigError("a customer key (SSE-C) has exactly 32 bytes")

    @classmethod
    def parse(cls, text: object) -> CustomerKey:
        """From base64. Raises ConfigError, which does not repeat what was given."""
        try:
            raw = base64.b64decode(text.strip(), validate=True) if isinstance(text, str) else b""
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            # No "from": the original error may hold the text.
            raise ConfigError("a customer key (SSE-C) is given as base64 of exactly 32 bytes")
        return cls(raw)

    @property
    def base64(self) -> str:
        """As the header has it."""
        return base64.b64encode(self.key).decode()

    @property
    def md5(self) -> str:
        """The key's MD5 in base64, with which S3 checks that the key arrived whole."""
        return base64.b64encode(hashlib.md5(self.key, usedforsecurity=False).digest()).decode()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a customer key (SSE-C) is not pickled")
