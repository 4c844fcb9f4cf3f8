"""The boto3 client that the engine works with: the user's settings, deep-merged with what the engine needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config

from orbit_airflow import __version__
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.stores import http
from orbit_airflow.engine.stores.answers import make_legible

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What the engine needs beside one connection per worker: the checkpoint and the main thread ask, too.
SPARE_CONNECTIONS = 2
# Bytes per second that a store is expected to work off at least, once it has them.
SLOWEST_STORE = 20_000_000


def client_config(config: EngineConfig, base: Config | None = None, *, https: bool = True) -> Config:
    """``base`` (the user's botocore settings) with the engine's on top; nested dicts are merged, not replaced.

    botocore's retries are off (the engine owns them), so are its own trailing checksums (the engine sends headers,
    which every store understands). Over https the payload is not hashed a second time for the signature, as AWS's own
    clients do; over http it is. The user's ``payload_signing_enabled`` wins over both.
    """
    base_s3: dict[str, Any] = dict(getattr(base, "s3", None) or {})
    s3 = dict(base_s3)
    if https:
        s3.setdefault("payload_signing_enabled", False)
    if config.force_path_style:
        s3["addressing_style"] = "path"
    wanted = config.parallel_operations + SPARE_CONNECTIONS
    agent = " ".join(filter(None, [getattr(base, "user_agent_extra", None), f"orbit-airflow/{__version__}"]))
    ours = Config(
        s3=cast("Any", s3) or None,
        retries={"total_max_attempts": 1},
        max_pool_connections=max(wanted, getattr(base, "max_pool_connections", 0) or 0),
        connect_timeout=config.connect_timeout,
        read_timeout=config.stall_timeout,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        user_agent_extra=agent,
    )
    return base.merge(ours) if base is not None else ours


def make_client(config: EngineConfig) -> S3Client:
    """A client from configuration alone; credentials as given, else boto3's standard chain."""
    keys = config.credentials
    session = boto3.session.Session(
        aws_access_key_id=keys.access_key if keys else None,
        aws_secret_access_key=keys.secret_key if keys else None,
        aws_session_token=keys.session_token if keys else None,
        # boto3 reads AWS_DEFAULT_REGION only; every other SDK, and the guide, say AWS_REGION.
        region_name=config.region or os.environ.get("AWS_REGION"),
    )
    https = not (config.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or "").startswith("http://")
    return session.client(
        "s3", endpoint_url=config.endpoint, verify=config.verify, config=client_config(config, https=https)
    )


def prepare_client(client: S3Client, config: EngineConfig) -> S3Client:
    """Our connections, and waits for answers that fit the request, on this client only."""
    http.install(client)

    def patient(request: Any, **_: Any) -> None:
        # A Complete of 10,000 parts may take minutes; botocore reads this per-request limit from the context.
        request.context["read_timeout"] = config.timeout_seconds

    def proportional(request: Any, **_: Any) -> None:
        # Behind the last byte a store still writes and hashes; a part of 5 GiB is not done within a stall time.
        size = len(request.data) if isinstance(request.data, http.RequestBody) else 0
        request.context["read_timeout"] = config.stall_timeout + size / SLOWEST_STORE

    events = client.meta.events
    events.register_first("before-parse.s3.*", make_legible, unique_id="orbit-legible")
    for operation in ("CompleteMultipartUpload", "CopyObject"):
        events.register(f"request-created.s3.{operation}", patient, unique_id=f"orbit-patient-{operation}")
    for operation in ("UploadPart", "PutObject"):
        events.register(f"request-created.s3.{operation}", proportional, unique_id=f"orbit-proportional-{operation}")
    return client
