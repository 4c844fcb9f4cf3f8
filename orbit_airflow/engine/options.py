"""What a caller may choose, validated when it is built. Sizes are bytes, times are seconds."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from urllib.parse import urlsplit

from orbit_airflow.engine.encryption import CustomerKey, ServerSideEncryption
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.hints import did_you_mean
from orbit_airflow.engine.model import MIB, Integrity, ObjectAttributes, ObjectRef
from orbit_airflow.engine.plan import AWS_LIMITS, StoreLimits
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.storage_class import StorageClass

OnSourceChange = Literal["fail", "restart"]
OnObjectChange = Literal["fail", "restart"]
Pairs = tuple[tuple[str, str], ...]
MAX_WORKERS = 256
# Airflow gives a DAG file's module this name, so that no two files collide.
_DAG_MODULE = "unusual_prefix_"
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Explicit keys for scripts and tests. DAGs keep theirs in a connection. Never shown by ``repr``.

    Warns when it is built by the code of a DAG file: whoever may read the file, or the version that Airflow keeps of
    it, has the keys.
    """

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key", "session_token"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and not (name == "session_token" and value is None):
                raise ConfigError(f"{name} is a text that is not empty")
        # 0 is this function, 1 the dataclass' __init__, 2 whoever called it.
        if str(sys._getframe(2).f_globals.get("__name__", "")).startswith(_DAG_MODULE):
            message = "credentials stand in the code of a DAG; keep them in an `aws` connection and name that"
            warnings.warn(message, UserWarning, stacklevel=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """An engine's settings; the names and defaults are the guide's, the rest is ours.

    The guide's builder is this constructor: ``EngineConfig(bucket="b", region="us-west-2", chunk_size=10 * MIB)``. What
    cannot be is refused here, with a ConfigError that names the option.

    ``bucket``: default bucket of the script verbs. ``region``, ``endpoint``, ``credentials``, ``verify`` (False, True
    or a CA file) and ``force_path_style`` are used when the engine makes its own client; without a region the bucket
    is asked for its own. ``storage_class`` and ``server_side_encryption`` are what an upload gets when it says nothing
    itself; None sends nothing, and the bucket decides. ``customer_key`` (SSE-C) goes with every request that S3 wants
    it on; https and verified certificates are required then. ``chunk_size``: the size of a
    part and the size from which an upload has parts; it grows by itself for files of more than 10,000 parts.
    ``max_retries`` counts repetitions per request and overrides ``retry``'s count. ``connect_timeout`` bounds a
    connect, ``stall_timeout`` the time in which fewer bytes than at ``minimum_rate`` (bytes per second of one
    connection) move in either direction, ``timeout_seconds`` the wait for the
    answer to a Complete. ``settle_seconds``: how long the object of a Complete whose answer was lost is looked for,
    when its upload is gone, before the upload starts again. ``max_bandwidth``: bytes per second of all its transfers.
    ``parallel_operations``: worker threads, and connections, per transfer. ``lean``: plain requests for objects and
    parts go past botocore's serialiser and hooks; False sends everything through botocore. ``outage_patience``: how
    long a transfer waits for a store that is not well, once a request's attempts are spent, before it fails; 0 fails at
    once.
    """

    bucket: str | None = None
    region: str | None = None
    endpoint: str | None = None
    credentials: Credentials | None = None
    verify: bool | str | None = None
    force_path_style: bool = False
    storage_class: StorageClass | str | None = None
    server_side_encryption: ServerSideEncryption | Mapping[str, object] | str | None = None
    customer_key: CustomerKey | None = field(default=None, repr=False)
    chunk_size: int = 5 * MIB
    parallel_operations: int = 4
    timeout_seconds: float = 300.0
    connect_timeout: float = 5.0
    stall_timeout: float = 30.0
    settle_seconds: float = 60.0
    outage_patience: float = 600.0
    max_retries: int | None = 3
    retry: RetryPolicy = field(default_factory=RetryPolicy.network)
    verify_checksums: bool = True
    max_bandwidth: int | None = None
    limits: StoreLimits = AWS_LIMITS
    expected_bucket_owner: str | None = None
    request_payer: str | None = None
    minimum_rate: int = 64
    lean: bool = True

    def __post_init__(self) -> None:
        _check_place(self)
        self._understand()
        self._check_numbers()
        if not isinstance(self.retry, RetryPolicy):
            raise ConfigError(f"retry is 'fast', 'slow', 'network' or a RetryPolicy, got {self.retry!r}")
        for name in ("verify_checksums", "lean"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is true or false, got {getattr(self, name)!r}")
        if self.expected_bucket_owner is not None and not isinstance(self.expected_bucket_owner, str):
            raise ConfigError(f"expected_bucket_owner is an account id as text, got {self.expected_bucket_owner!r}")
        if self.request_payer not in (None, "requester"):
            raise ConfigError(f"request_payer is 'requester' or None, got {self.request_payer!r}")

    def _check_numbers(self) -> None:
        _whole("chunk_size", self.chunk_size, self.limits.min_part_size, self.limits.max_part_size)
        _whole("parallel_operations", self.parallel_operations, 1, MAX_WORKERS)
        _whole("minimum_rate", self.minimum_rate, 1, 2**30)
        if self.max_retries is not None:
            _whole("max_retries", self.max_retries, 0, 100)
        if self.max_bandwidth is not None:
            _whole("max_bandwidth", self.max_bandwidth, 1024, 2**50)
        for name in ("timeout_seconds", "connect_timeout", "stall_timeout", "settle_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86_400:
                raise ConfigError(f"{name} is a number of seconds above 0 and at most a day, got {value!r}")
        patience = self.outage_patience
        if isinstance(patience, bool) or not isinstance(patience, (int, float)) or not 0 <= patience <= 86_400:
            raise ConfigError(f"outage_patience is a number of seconds from 0 (off) to a day, got {patience!r}")

    def _understand(self) -> None:
        """Names as values. The only place where a field is set after the constructor's own assignment."""
        if self.storage_class is not None:
            object.__setattr__(self, "storage_class", StorageClass.parse(self.storage_class))
        if self.server_side_encryption is not None:
            parsed = ServerSideEncryption.parse(self.server_side_encryption)
            object.__setattr__(self, "server_side_encryption", parsed)
        if self.customer_key is not None and not isinstance(self.customer_key, CustomerKey):
            raise ConfigError("customer_key is a CustomerKey; CustomerKey.parse reads base64")
        if self.customer_key is not None and self.encryption not in (None, ServerSideEncryption.none()):
            raise ConfigError("an object has a customer key (SSE-C) or server_side_encryption, not both")

    @property
    def encryption(self) -> ServerSideEncryption | None:
        """``server_side_encryption`` as the value that it became."""
        return None if self.server_side_encryption is None else ServerSideEncryption.parse(self.server_side_encryption)

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
        known = {item.name for item in fields(cls)} - NOT_TUNING.keys()
        for name in mapping:
            if name not in known:
                hint = f"; {NOT_TUNING[name]}" if name in NOT_TUNING else did_you_mean(name, known)
                raise ConfigError(f"unknown orbit option {name!r}{hint}")
        return {name: _coerced(name, value) for name, value in mapping.items() if _is_chosen(value)}

    @classmethod
    def from_options(cls, mapping: Mapping[str, object]) -> EngineConfig:
        """A script's configuration from a mapping (its own file, say): every option but ``limits`` and the keys, texts
        read as the option's type. Raises ConfigError with a "did you mean" for an unknown name.
        """
        known = {item.name for item in fields(cls)} - {"limits", "credentials", "customer_key"}
        for name in mapping:
            if name not in known:
                raise ConfigError(f"unknown option {name!r}{did_you_mean(name, known)}")
        given: dict[str, Any] = {name: _coerced(name, value) for name, value in mapping.items() if _is_chosen(value)}
        return cls(**given)


# Where these stand instead.
NOT_TUNING = {
    "bucket": "the bucket is the connection's service_config.s3.bucket_name, or an argument",
    "region": "the region is the connection's region_name",
    "endpoint": "the endpoint is the connection's endpoint_url",
    "credentials": "credentials are the connection's login and password",
    "verify": "TLS verification is the connection's verify",
    "force_path_style": "path style is the connection's config_kwargs: {'s3': {'addressing_style': 'path'}}",
    "customer_key": "a customer key is the connection's service_config.s3.orbit_sse_customer_secret",
    "limits": "a store's limits are set in Python only",
}
_WHOLE = frozenset({"chunk_size", "parallel_operations", "max_retries", "max_bandwidth", "minimum_rate"})
_SECONDS = frozenset({"timeout_seconds", "connect_timeout", "stall_timeout", "settle_seconds", "outage_patience"})
_TRUTHS = frozenset({"verify_checksums", "force_path_style", "lean"})
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _is_chosen(value: object) -> bool:
    """False for None and for an empty text, which is what an option without a value is in airflow.cfg."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _coerced(name: str, value: object) -> object:
    """Text (from airflow.cfg or JSON) as the option's type; what cannot be read is a ConfigError, never a guess."""
    if name == "retry" and isinstance(value, str):
        return RetryPolicy.named(value)
    if name == "storage_class" and isinstance(value, str):
        return StorageClass.parse(value)
    if name == "server_side_encryption":
        return ServerSideEncryption.parse(value)
    if name == "verify" and isinstance(value, str):
        # Anything else is the path of a CA file.
        return _TRUTH.get(value.strip().lower(), value)
    if not isinstance(value, str):
        return value
    try:
        if name in _WHOLE:
            return int(value)
        if name in _SECONDS:
            return float(value)
        return _TRUTH[value.strip().lower()] if name in _TRUTHS else value
    except (ValueError, KeyError) as exc:
        raise ConfigError(f"{name} cannot be {value!r}") from exc


def _check_place(config: EngineConfig) -> None:
    """Bucket, region, endpoint, TLS and addressing: what the engine's own client is made with."""
    if config.bucket is not None:
        ObjectRef(config.bucket, "key")
    if config.region is not None and not (isinstance(config.region, str) and _REGION.fullmatch(config.region)):
        raise ConfigError(f"region is a name like 'eu-central-1', or None to ask the bucket, got {config.region!r}")
    if config.endpoint is not None:
        check_endpoint(config.endpoint)
    if config.credentials is not None and not isinstance(config.credentials, Credentials):
        raise ConfigError("credentials is a Credentials(access_key=..., secret_key=...)")
    if not (config.verify is None or isinstance(config.verify, bool | str)):
        raise ConfigError(f"verify is true, false, or the path of a CA file, got {type(config.verify).__name__}")
    if not isinstance(config.force_path_style, bool):
        raise ConfigError(f"force_path_style is true or false, got {config.force_path_style!r}")


def check_endpoint(endpoint: object) -> None:
    """ConfigError unless ``endpoint`` is an address alone. Its message never repeats what may hold a secret."""
    try:
        parts = urlsplit(endpoint if isinstance(endpoint, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigError("endpoint is an address like https://minio.example:9000") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("endpoint must not contain credentials; they have their own option")
    if parts.query or parts.fragment:
        raise ConfigError(f"endpoint is an address without a query or fragment, got one of {parts.hostname}")
    if not usable:
        raise ConfigError(f"endpoint is an address like https://minio.example:9000, got {endpoint!r}")


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is a whole number from {low} to {high}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """One upload's choices. None means: as the engine's configuration says.

    ``replace=False`` never overwrites: If-None-Match goes with the request that makes the object visible.
    ``on_source_change``: "fail" ends the upload when the file's bytes change under it, "restart" begins again with
    the new file, at most ``max_restarts`` times. ``resume=False`` ignores (and leaves) any earlier try's state.
    ``try_number`` and ``begun_after`` (seconds since 1970): earlier tries may have begun since then, so that, should
    their state be lost, the store is asked for the upload that they left.
    """

    replace: bool = True
    attributes: ObjectAttributes = field(default_factory=ObjectAttributes)
    on_source_change: OnSourceChange = "fail"
    chunk_size: int | None = None
    verify_checksums: bool | None = None
    max_restarts: int = 3
    resume: bool = True
    try_number: int = 1
    begun_after: float | None = None

    def __post_init__(self) -> None:
        if self.on_source_change not in ("fail", "restart"):
            raise ConfigError(f"on_source_change is 'fail' or 'restart', got {self.on_source_change!r}")
        if self.chunk_size is not None:
            _whole("chunk_size", self.chunk_size, 1, 5 * 1024 * MIB)
        _whole("max_restarts", self.max_restarts, 0, 100)
        check_attributes(self.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadOptions:
    """One download's choices. None means: as the engine's configuration says.

    ``replace=False`` never replaces a file, not even one that appears while the download runs. ``chunk_size``: bytes of
    one range, which is what is fetched again after a kill (per worker). ``require_integrity``: the weakest proof that
    will do ("full-crc", "part-crc", "md5"); IntegrityTooWeak before the file becomes visible. ``on_object_change``:
    "fail" when the object is replaced meanwhile and its bytes are not to be had by version, or "restart" with the new
    object, at most ``max_restarts`` times. ``file_mode``: permission bits (0 to 0o777); None is 0o666 less the umask.
    ``create_parents``: make missing directories. ``max_size``: refuse larger objects before a byte moves.
    ``keep_mtime``: the file gets the object's LastModified. ``shared_storage``: the directory is the same on all hosts
    that tries may run on. ``resume=False`` removes what earlier tries left and does not use it. ``try_number``: 1 for
    the first try.
    """

    replace: bool = True
    chunk_size: int | None = None
    verify_checksums: bool | None = None
    require_integrity: Integrity | str | None = None
    on_object_change: OnObjectChange = "fail"
    max_restarts: int = 3
    file_mode: int | None = None
    create_parents: bool = False
    max_size: int | None = None
    keep_mtime: bool = False
    shared_storage: bool = False
    resume: bool = True
    try_number: int = 1

    def __post_init__(self) -> None:
        if self.on_object_change not in ("fail", "restart"):
            raise ConfigError(f"on_object_change is 'fail' or 'restart', got {self.on_object_change!r}")
        if self.chunk_size is not None:
            _whole("chunk_size", self.chunk_size, 1, 5 * 1024 * MIB)
        if self.file_mode is not None:
            _whole("file_mode", self.file_mode, 0, 0o777)
        if self.max_size is not None:
            _whole("max_size", self.max_size, 0, 2**63)
        _whole("max_restarts", self.max_restarts, 0, 100)
        if self.require_integrity is not None:
            try:
                object.__setattr__(self, "require_integrity", Integrity(self.require_integrity))
            except ValueError:
                names = ", ".join(repr(item.value) for item in Integrity)
                raise ConfigError(f"require_integrity is one of {names}, got {self.require_integrity!r}") from None
            if self.verify_checksums is False and self.require_integrity is not Integrity.SIZE_ETAG:
                raise ConfigError("require_integrity needs verify_checksums, which is False")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """One copy's choices. None means: as the source has it.

    ``replace=False`` never overwrites. ``if_match``: only while the source's ETag is this one (else it is pinned to
    what it is when the copy begins). ``metadata``, ``tags``: the whole new set; an empty one takes all away.
    ``server_side_encryption=None`` keeps KMS keys of the source, and else lets the target's bucket decide. An ACL is
    never copied by S3; without ``acl`` the copy has the bucket's default. Objects of more than ``multipart_threshold``
    bytes (None: of more than one CopyObject can carry, 5 GiB) are copied in parts of ``chunk_size`` bytes (None: 128
    MiB, or the engine's if that is more), and ``resume=False`` ignores (and leaves) what earlier tries copied.
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
    multipart_threshold: int | None = None
    chunk_size: int | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        check_attributes(ObjectAttributes(metadata=self.metadata or (), tags=self.tags or ()))
        if self.multipart_threshold is not None:
            _whole("multipart_threshold", self.multipart_threshold, 0, 5 * 1024 * MIB)
        if self.chunk_size is not None:
            _whole("chunk_size", self.chunk_size, 1, 5 * 1024 * MIB)
        if self.kms_key_id is not None and self.server_side_encryption is None:
            raise ConfigError("kms_key_id needs server_side_encryption ('aws:kms' or 'aws:kms:dsse')")

    @property
    def changes_something(self) -> bool:
        """True when a copy of an object onto itself would not be the same."""
        chosen = (self.metadata, self.tags, self.content_type, self.storage_class, self.server_side_encryption)
        return any(value is not None for value in chosen)


MAX_TAGS, MAX_TAG_KEY, MAX_TAG_VALUE, MAX_METADATA_BYTES = 10, 128, 256, 2048
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Room for our own mark inside S3's 2 KiB of user metadata: the name, 32 hex digits, and slack.
MARK_BYTES = 64


def check_attributes(attributes: ObjectAttributes) -> None:
    """Refuse metadata, tags and locks that S3 would refuse, before a byte moves. Raises ConfigError."""
    _check_metadata(attributes.metadata)
    _check_tags(attributes.tags)
    extra = dict(attributes.extra_args)
    if ("ObjectLockMode" in extra) != ("ObjectLockRetainUntilDate" in extra):
        raise ConfigError("ObjectLockMode and ObjectLockRetainUntilDate go together")
    if extra.get("ObjectLockMode", "GOVERNANCE") not in ("GOVERNANCE", "COMPLIANCE"):
        raise ConfigError(f"ObjectLockMode is GOVERNANCE or COMPLIANCE, got {extra['ObjectLockMode']!r}")
    if extra.get("ObjectLockLegalHoldStatus", "ON") not in ("ON", "OFF"):
        raise ConfigError(f"ObjectLockLegalHoldStatus is ON or OFF, got {extra['ObjectLockLegalHoldStatus']!r}")


def _check_metadata(metadata: Pairs) -> None:
    total, names = 0, set()
    for name, value in metadata:
        if not (name.isascii() and value.isascii()) or any(ord(char) < 32 for char in name + value):
            raise ConfigError(f"metadata travels as HTTP headers and must be printable ASCII: {name!r}={value!r}")
        if not _TOKEN.fullmatch(name) or name.lower() in names:
            raise ConfigError(f"a metadata name is an HTTP header's, and stands once in any case, got {name!r}")
        if name.lower() == "orbit-upload":
            raise ConfigError("the metadata name 'orbit-upload' is the engine's own mark")
        names.add(name.lower())
        total += len(name) + len(value)
    if total > MAX_METADATA_BYTES - MARK_BYTES:
        raise ConfigError(f"metadata may have {MAX_METADATA_BYTES - MARK_BYTES} bytes beside our mark, got {total}")


def _check_tags(tags: Pairs) -> None:
    if len(tags) > MAX_TAGS:
        raise ConfigError(f"an object has at most {MAX_TAGS} tags, got {len(tags)}")
    if len({name for name, _ in tags}) != len(tags):
        raise ConfigError("a tag's name stands once")
    for name, value in tags:
        if name.startswith("aws:"):
            raise ConfigError(f"tags that begin with 'aws:' are AWS's own, got {name!r}")
        if not 1 <= len(name) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
            raise ConfigError(f"a tag has 1 to {MAX_TAG_KEY} and 0 to {MAX_TAG_VALUE} characters: {name!r}={value!r}")
