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
from orbit_airflow.engine.stores.clock import StoreClock
from orbit_airflow.engine.stores.deletions import add_content_md5
from orbit_airflow.engine.stores.documents import ROOTS, refuse_strangers
from orbit_airflow.engine.stores.region import follow_buckets
from orbit_airflow.engine.stores.session import GuardedSession
from orbit_airflow.engine.stores.sigv4 import CLOCK, SIGNATURE, register_signer
from orbit_airflow.engine.stores.watchdog import Watchdog

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What the engine needs beside one connection per worker: the checkpoint and the main thread ask, too.
SPARE_CONNECTIONS = 2


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
    """A client from configuration alone; credentials as given, else boto3's standard chain. Without a region anywhere,
    each bucket is asked for its own.
    """
    keys = config.credentials
    session = boto3.session.Session(
        aws_access_key_id=keys.access_key if keys else None,
        aws_secret_access_key=keys.secret_key if keys else None,
        aws_session_token=keys.session_token if keys else None,
        # boto3 reads AWS_DEFAULT_REGION only; every other SDK, and the guide, say AWS_REGION.
        region_name=config.region or os.environ.get("AWS_REGION"),
    )
    https = not (config.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or "").startswith("http://")
    client = session.client(
        "s3", endpoint_url=config.endpoint, verify=config.verify, config=client_config(config, https=https)
    )
    return client if session.region_name else follow_buckets(client, config.expected_bucket_owner)


def prepare_client(client: S3Client, config: EngineConfig) -> S3Client:
    """Our connections, guard, watchdog and clock, and waits for answers that fit the request, on this client only.

    A client that is prepared already is left as it is. Handlers that a user registered stay, and switch the lean path
    off for their operations.
    """
    inner: Any = client
    if isinstance(inner._endpoint.http_session, GuardedSession):
        return client
    watchdog = Watchdog(config.stall_timeout, config.minimum_rate)
    http.install(client, watchdog)
    session = GuardedSession(inner._endpoint.http_session, client.meta.endpoint_url, watchdog, StoreClock())
    inner._endpoint.http_session = session
    _sign_with(session.clock, client)

    def patient(request: Any, **_: Any) -> None:
        # A Complete of 10,000 parts may take minutes; botocore reads this per-request limit from the context.
        request.context["read_timeout"] = config.timeout_seconds

    def proportional(request: Any, **_: Any) -> None:
        size = len(request.data) if isinstance(request.data, http.RequestBody) else 0
        request.context["read_timeout"] = http.answer_limit(config.stall_timeout, size)

    events = client.meta.events
    events.register_first("before-parse.s3.*", make_legible, unique_id="orbit-legible")
    events.register("before-call.s3.HeadBucket", _not_redirected, unique_id="orbit-head-bucket")
    events.register("before-call.s3.DeleteObjects", add_content_md5, unique_id="orbit-content-md5")
    for operation in ROOTS:
        events.register(f"before-parse.s3.{operation}", refuse_strangers, unique_id=f"orbit-strangers-{operation}")
    for operation in ("CompleteMultipartUpload", "CopyObject", "UploadPartCopy", "DeleteObjects"):
        events.register(f"request-created.s3.{operation}", patient, unique_id=f"orbit-patient-{operation}")
    for operation in ("UploadPart", "PutObject"):
        events.register(f"request-created.s3.{operation}", proportional, unique_id=f"orbit-proportional-{operation}")
    return client


def _not_redirected(params: dict[str, Any], **_: Any) -> None:
    """Botocore asks the bucket where it is when an answer redirects; where that answer is a redirect as well, it would
    ask the bucket again, without end. A refused HEAD names the region, too.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def close_client(client: S3Client) -> None:
    """End the watchdog's thread of a prepared client. Its connections stay usable."""
    inner: Any = client
    session = inner._endpoint.http_session
    if isinstance(session, GuardedSession):
        session.watchdog.close()


def _sign_with(clock: StoreClock, client: S3Client) -> None:
    """SigV4 requests of this client are signed with the store's time, and never by awscrt."""
    register_signer()

    def choose(signature_version: Any, **_: Any) -> str | None:
        return SIGNATURE if signature_version in ("v4", "s3v4") else None

    def give(request: Any, **_: Any) -> None:
        request.context[CLOCK] = clock

    events: Any = client.meta.events
    events.register_last("choose-signer.s3", choose, unique_id="orbit-signer")
    events.register_first("before-sign.s3", give, unique_id="orbit-clock")
