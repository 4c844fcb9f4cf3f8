"""What a caller may choose, validated when it is built. Sizes are bytes, times are seconds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import MIB, ObjectAttributes
from orbit_airflow.engine.plan import AWS_LIMITS, StoreLimits
from orbit_airflow.engine.resilience.policy import RetryPolicy

OnSourceChange = Literal["fail", "restart"]
MAX_WORKERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Explicit keys for scripts and tests. DAGs keep theirs in a connection. Never shown by ``repr``."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """An engine's settings; the names and defaults are the guide's, the rest is ours.

    ``bucket``: default bucket of the script verbs. ``region``, ``endpoint``, ``credentials``, ``verify`` (False, True
    or a CA file) and ``force_path_style`` are used when the engine makes its own client. ``chunk_size``: the size of a
    part and the size from which an upload has parts; it grows by itself for files of more than 10,000 parts.
    ``max_retries`` counts repetitions per request and overrides ``retry``'s count. ``connect_timeout`` bounds a
    connect, ``stall_timeout`` the time without a single byte in either direction, ``timeout_seconds`` the wait for the
    answer to a Complete. ``settle_seconds``: how long the object of a Complete whose answer was lost is looked for,
    when its upload is gone, before the upload starts again. ``max_bandwidth``: bytes per second of all its transfers.
    ``parallel_operations``: worker threads, and connections, per transfer.
    """

    bucket: str | None = None
    region: str | None = None
    endpoint: str | None = None
    credentials: Credentials | None = None
    verify: bool | str | None = None
    force_path_style: bool = False
    chunk_size: int = 5 * MIB
    parallel_operations: int = 4
    timeout_seconds: float = 300.0
    connect_timeout: float = 5.0
    stall_timeout: float = 30.0
    settle_seconds: float = 60.0
    max_retries: int | None = 3
    retry: RetryPolicy = field(default_factory=RetryPolicy.network)
    verify_checksums: bool = True
    max_bandwidth: int | None = None
    limits: StoreLimits = AWS_LIMITS
    expected_bucket_owner: str | None = None
    request_payer: str | None = None

    def __post_init__(self) -> None:
        _whole("chunk_size", self.chunk_size, self.limits.min_part_size, self.limits.max_part_size)
        _whole("parallel_operations", self.parallel_operations, 1, MAX_WORKERS)
        for name in ("timeout_seconds", "connect_timeout", "stall_timeout", "settle_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86_400:
                raise ConfigError(f"{name} is a number of seconds above 0 and at most a day, got {value!r}")
        if not isinstance(self.retry, RetryPolicy):
            raise ConfigError(f"retry is 'fast', 'slow', 'network' or a RetryPolicy, got {self.retry!r}")
        if not isinstance(self.verify_checksums, bool):
            raise ConfigError(f"verify_checksums is true or false, got {self.verify_checksums!r}")
        if self.expected_bucket_owner is not None and not isinstance(self.expected_bucket_owner, str):
            raise ConfigError(f"expected_bucket_owner is an account id as text, got {self.expected_bucket_owner!r}")
        if self.max_retries is not None:
            _whole("max_retries", self.max_retries, 0, 100)
        if self.max_bandwidth is not None:
            _whole("max_bandwidth", self.max_bandwidth, 1024, 2**50)
        if self.request_payer not in (None, "requester"):
            raise ConfigError(f"request_payer is 'requester' or None, got {self.request_payer!r}")

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy of one request, with ``max_retries`` applied."""
        return self.retry if self.max_retries is None else self.retry.with_max_retries(self.max_retries)

    @classmethod
    def tuning_from(cls, mapping: Mapping[str, object]) -> dict[str, object]:
        """The tuning options of ``mapping`` (a connection's or a config section's), checked by name.

        Raises ConfigError with a "did you mean" for an unknown name, and for a name that must not come from there
        (endpoint, bucket, credentials).
        """
        known = {item.name for item in fields(cls)} - NOT_TUNING
        for name in mapping:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
                raise ConfigError(f"unknown orbit option {name!r}{hint}")
        return {name: _coerced(name, value) for name, value in mapping.items() if value is not None}


NOT_TUNING = frozenset({"bucket", "region", "endpoint", "credentials", "verify", "force_path_style", "limits"})
_WHOLE = frozenset({"chunk_size", "parallel_operations", "max_retries", "max_bandwidth"})
_SECONDS = frozenset({"timeout_seconds", "connect_timeout", "stall_timeout", "settle_seconds"})
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _coerced(name: str, value: object) -> object:
    """Text (from airflow.cfg or JSON) as the option's type; what cannot be read is a ConfigError, never a guess."""
    if name == "retry" and isinstance(value, str):
        return RetryPolicy.named(value)
    if not isinstance(value, str):
        return value
    try:
        if name in _WHOLE:
            return int(value)
        if name in _SECONDS:
            return float(value)
        return _TRUTH[value.strip().lower()] if name == "verify_checksums" else value
    except (ValueError, KeyError) as exc:
        raise ConfigError(f"{name} cannot be {value!r}") from exc


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is a whole number from {low} to {high}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """One upload's choices. None means: as the engine's configuration says.

    ``replace=False`` never overwrites: If-None-Match goes with the request that makes the object visible.
    ``on_source_change``: "fail" ends the upload when the file's bytes change under it, "restart" begins again with
    the new file, at most ``max_restarts`` times. ``resume=False`` ignores (and leaves) any earlier try's state.
    """

    replace: bool = True
    attributes: ObjectAttributes = field(default_factory=ObjectAttributes)
    on_source_change: OnSourceChange = "fail"
    chunk_size: int | None = None
    verify_checksums: bool | None = None
    max_restarts: int = 3
    resume: bool = True
    try_number: int = 1

    def __post_init__(self) -> None:
        if self.on_source_change not in ("fail", "restart"):
            raise ConfigError(f"on_source_change is 'fail' or 'restart', got {self.on_source_change!r}")
        if self.chunk_size is not None:
            _whole("chunk_size", self.chunk_size, 1, 5 * 1024 * MIB)
        _whole("max_restarts", self.max_restarts, 0, 100)
        check_attributes(self.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """One copy's choices. None means: as the source has it.

    ``replace=False`` never overwrites. ``if_match``: only while the source's ETag is this one (else it is pinned to
    what it is when the copy begins). ``metadata``, ``tags``: the whole new set; an empty one takes all away.
    ``server_side_encryption=None`` keeps KMS keys of the source, and else lets the target's bucket decide. An ACL is
    never copied by S3; without ``acl`` the copy has the bucket's default.
    """

    replace: bool = True
    if_match: str | None = None
    metadata: tuple[tuple[str, str], ...] | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    content_type: str | None = None
    storage_class: str | None = None
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    acl: str | None = None

    def __post_init__(self) -> None:
        check_attributes(ObjectAttributes(metadata=self.metadata or (), tags=self.tags or ()))
        if self.kms_key_id is not None and self.server_side_encryption is None:
            raise ConfigError("kms_key_id needs server_side_encryption ('aws:kms' or 'aws:kms:dsse')")

    @property
    def changes_something(self) -> bool:
        """True when a copy of an object onto itself would not be the same."""
        chosen = (self.metadata, self.tags, self.content_type, self.storage_class, self.server_side_encryption)
        return any(value is not None for value in chosen)


MAX_TAGS, MAX_TAG_KEY, MAX_TAG_VALUE, MAX_METADATA_BYTES = 10, 128, 256, 2048
# Room for our own mark inside S3's 2 KiB of user metadata: the name, 32 hex digits, and slack.
MARK_BYTES = 64


def check_attributes(attributes: ObjectAttributes) -> None:
    """Refuse metadata and tags that S3 would refuse, before a byte moves. Raises ConfigError."""
    total = 0
    for name, value in attributes.metadata:
        if not (name.isascii() and value.isascii()) or any(ord(char) < 32 for char in name + value):
            raise ConfigError(f"metadata travels as HTTP headers and must be printable ASCII: {name!r}={value!r}")
        if name.lower() == "orbit-upload":
            raise ConfigError("the metadata name 'orbit-upload' is the engine's own mark")
        total += len(name) + len(value)
    if total > MAX_METADATA_BYTES - MARK_BYTES:
        raise ConfigError(f"metadata may have {MAX_METADATA_BYTES - MARK_BYTES} bytes beside our mark, got {total}")
    if len(attributes.tags) > MAX_TAGS:
        raise ConfigError(f"an object has at most {MAX_TAGS} tags, got {len(attributes.tags)}")
    for name, value in attributes.tags:
        if not 1 <= len(name) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
            raise ConfigError(f"a tag has 1 to {MAX_TAG_KEY} and 0 to {MAX_TAG_VALUE} characters: {name!r}={value!r}")
