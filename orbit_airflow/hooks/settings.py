"""Where an engine's settings come from, and which of them wins. Pure: mappings in, an EngineConfig out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.options import MAX_WORKERS, EngineConfig
from orbit_airflow.engine.plan import AWS_LIMITS
from orbit_airflow.engine.resilience.policy import RetryPolicy


def from_transfer_config(transfer_config: Mapping[str, Any]) -> dict[str, Any]:
    """boto3's ``TransferConfig`` arguments as engine options; those that have no meaning here are left out."""
    options: dict[str, Any] = {}
    if transfer_config.get("multipart_chunksize"):
        # boto3 lifts a part size that S3 would refuse; so do we, since it is boto3's option.
        options["chunk_size"] = max(int(transfer_config["multipart_chunksize"]), AWS_LIMITS.min_part_size)
    if transfer_config.get("max_concurrency"):
        options["parallel_operations"] = min(int(transfer_config["max_concurrency"]), MAX_WORKERS)
    if transfer_config.get("use_threads") is False:
        options["parallel_operations"] = 1
    if transfer_config.get("max_bandwidth"):
        options["max_bandwidth"] = int(transfer_config["max_bandwidth"])
    return options


def engine_config(
    *,
    section: Mapping[str, Any],
    transfer_config: Mapping[str, Any],
    requests: Mapping[str, Any],
    connection: Mapping[str, Any],
    arguments: Mapping[str, Any],
    customer_key: CustomerKey | None = None,
) -> EngineConfig:
    """The settings in force, the later winning: airflow.cfg's ``[orbit]``, boto3's transfer config, what belongs to
    every request (requester pays), the connection's ``orbit`` options, the caller's arguments. None never wins.

    A retry preset that is chosen anywhere keeps its own number of attempts, unless ``max_retries`` is chosen as well.
    Raises ConfigError for an unknown option, with the name that was probably meant.
    """
    options: dict[str, Any] = {}
    for where, given in (
        ("airflow.cfg [orbit]", section),
        ("transfer_config_args", from_transfer_config(transfer_config)),
        ("extra_args", requests),
        ("the connection's service_config.s3.orbit", connection),
        ("the arguments", arguments),
    ):
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where} must be an object with options, got {type(given).__name__}")
        try:
            options |= EngineConfig.tuning_from(given)
        except ConfigError as exc:
            raise ConfigError(f"{exc.message} (in {where})") from exc
    if "retry" in options:
        if not isinstance(options["retry"], RetryPolicy):
            raise ConfigError(f"retry is 'fast', 'slow', 'network' or a RetryPolicy, got {options['retry']!r}")
        options.setdefault("max_retries", None)
    return EngineConfig(**options, customer_key=customer_key)


# boto3's names for what has an engine option as well.
_TWINS = {
    "StorageClass": "storage_class",
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "server_side_encryption",
}


def without_overridden(extra_args: object, *chosen: object) -> dict[str, Any]:
    """A connection's ``extra_args`` but for those that one of ``chosen`` (later places) says in the engine's words."""
    if not isinstance(extra_args, Mapping):
        raise ConfigError("the connection's service_config.s3.extra_args must be an object with upload arguments")
    said: set[str] = set()
    for options in chosen:
        if isinstance(options, Mapping):
            said |= {name for name, value in options.items() if value is not None}
    return {name: value for name, value in extra_args.items() if _TWINS.get(name) not in said}
