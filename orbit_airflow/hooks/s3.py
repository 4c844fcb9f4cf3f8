"""OrbitS3Hook: the amazon provider's S3Hook with the transfer engine beside its own methods."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret
from boto3.session import Session

from orbit_airflow.durable.ambient import transferring
from orbit_airflow.durable.results import download_summary, upload_summary
from orbit_airflow.durable.running import Run
from orbit_airflow.engine.compose import open_engine
from orbit_airflow.engine.events import Reporter, TransferDirection, no_reporter
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import DownloadResult, ObjectAttributes, ObjectRef, UploadResult
from orbit_airflow.engine.options import DownloadOptions, EngineConfig, UploadOptions, check_endpoint
from orbit_airflow.engine.progress import reporting_to
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.stores.client import client_config
from orbit_airflow.engine.stores.credentials import held_secrets
from orbit_airflow.engine.stores.region import follow_buckets
from orbit_airflow.engine.token import TokenStore
from orbit_airflow.hooks.attributes import ExtraArgs, read_extra_args, with_defaults
from orbit_airflow.hooks.secrets import customer_key_of, refuse_secrets, secrets_of
from orbit_airflow.hooks.settings import engine_config, without_overridden

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG_SECTION = "orbit"


class OrbitS3Hook(S3Hook):
    """An S3Hook that also holds a TransferEngine; nothing of S3Hook is overridden, its methods keep their own client.

    Credentials, endpoint and region come from the ``aws`` connection alone, and so does a customer key (SSE-C), as
    ``extra.service_config.s3.orbit_sse_customer_secret``. Without a region in the connection it is ``AWS_REGION``'s,
    then that of boto3's chain, and at last each bucket's own. Tuning comes, the later winning, from
    airflow.cfg's ``[orbit]``, ``transfer_config_args`` (the hook's and the connection's), the connection's
    ``extra.service_config.s3.orbit``, and ``orbit_options``.

    :param orbit_options: options of EngineConfig (``chunk_size``, ``parallel_operations``, ``retry``, ...); None means
        "not chosen here". An unknown name raises ConfigError when the engine is made.
    """

    def __init__(self, *args: Any, orbit_options: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_secrets("orbit_options", orbit_options)
        self._orbit_options = dict(orbit_options or {})
        self._place: tuple[str, str | None] | None = None

    @cached_property
    def engine(self) -> TransferEngine:
        """The transfer engine over this connection. Raises ConfigError when an option is unknown or out of range."""
        client = self._engine_client()
        self._place = client.meta.endpoint_url, client.meta.region_name
        return open_engine(self.engine_config, client=client)

    @property
    def place(self) -> tuple[str, str | None]:
        """Endpoint and region of the engine's client, wherever they were configured."""
        if self._place is None:
            # Made by the engine; a property that may raise ConfigError, as the engine does.
            _ = self.engine
        return self._place or ("", None)

    @cached_property
    def engine_config(self) -> EngineConfig:
        """The settings in force."""
        requests = dict(self._upload_args.settings)
        if self._requester_pays:
            requests["request_payer"] = "requester"
        config = engine_config(
            section=conf.getsection(CONFIG_SECTION) or {},
            transfer_config={**self._transfer_config_args, **self.service_config.get("transfer_config_args", {})},
            requests=requests,
            connection=self.service_config.get("orbit", {}),
            arguments=self._orbit_options,
            customer_key=customer_key_of(self.service_config),
        )
        # The engine's verbs then take a key alone, as S3Hook's methods do.
        return replace(config, bucket=self.service_config.get("bucket_name"))

    @property
    def upload_attributes(self) -> ObjectAttributes:
        """What every upload's object gets: the connection's ``extra_args``, then the hook's."""
        return self._upload_args.attributes

    def address(self, dest_key: str, dest_bucket: str | None = None) -> ObjectRef:
        """The object that is meant: bucket and key, or a full ``s3://bucket/key`` alone, or a key in the connection's
        own bucket (``service_config.s3.bucket_name``).

        The key is taken to the letter: neither ``//`` nor ``?`` means anything in it. Raises TypeError when both a
        bucket and a full address are given, or neither; ConfigError for what S3 cannot hold.
        """
        return self._address(dest_key, dest_bucket, "dest")

    def source_address(
        self, source_key: str, source_bucket: str | None = None, version_id: str | None = None
    ) -> ObjectRef:
        """The object, or the version of it, that a download's arguments mean; read as ``address`` reads its own.

        Raises ConfigError also when address and ``version_id`` name two versions.
        """
        ref = self._address(source_key, source_bucket, "source")
        return self.engine.address(ref, version_id)

    def _address(self, key: str, bucket: str | None, side: str) -> ObjectRef:
        full = key[:5].lower() == "s3://"
        if full and bucket:
            raise TypeError(f"{side}_bucket is given, so {side}_key must be a key and not a full s3:// address")
        if full:
            return ObjectRef.parse(key)
        chosen = bucket or self.service_config.get("bucket_name")
        if not chosen:
            raise TypeError(f"without {side}_bucket, {side}_key must be a full s3://bucket/key address")
        return ObjectRef(chosen, key)

    def upload(
        self,
        path: str | os.PathLike[str],
        dest_key: str,
        dest_bucket: str | None = None,
        *,
        options: UploadOptions | None = None,
        durable: bool = True,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        on_progress: Reporter | None = None,
        cancel: Cancellation | None = None,
    ) -> UploadResult:
        """Upload a file; see TransferEngine.upload for the promise.

        In a running task (a ``@task``, or one of its threads) it is as durable as OrbitS3UploadOperator: the state is
        kept in the task state store, so that the next try continues; the XCom ``orbit_progress`` and the log show how
        far it is; a stop order or a timeout ends it by Paused (or the timeout's own error) within seconds, its parts
        kept. ``durable=False`` keeps no state. A caller who gives ``tokens`` or ``cancel`` manages all of that itself,
        as scripts do: without ``tokens`` an interrupted upload then starts anew when it is called again.

        ``reporter`` and ``on_progress`` are told every event; neither can slow or break the upload or the other.
        Raises OrbitError, and TypeError as ``address`` does.
        """
        chosen = options or UploadOptions()
        if not durable:
            chosen = replace(chosen, resume=False)

        def upload(run: Run) -> UploadResult:
            ref = self.address(dest_key, dest_bucket)
            now = chosen
            if (now.try_number, now.begun_after) == (1, None):
                now = replace(now, try_number=run.try_number, begun_after=run.begun_after)
            now = replace(now, attributes=with_defaults(now.attributes, self.upload_attributes))
            with _telling(run.reporter, reporter, on_progress) as told:
                result = self.engine.upload(path, ref, now, tokens=run.tokens, reporter=told, cancel=run.cancel)
            self._report_lineage(("file", _file(path)), ("s3", _object(ref)))
            return result

        address = f"s3://{dest_bucket}/{dest_key}" if dest_bucket else dest_key
        return transferring(
            upload, address=address, durable=durable, tokens=tokens, cancel=cancel, summary=upload_summary
        )

    def download(
        self,
        source_key: str,
        local_path: str | os.PathLike[str],
        source_bucket: str | None = None,
        *,
        version_id: str | None = None,
        options: DownloadOptions | None = None,
        durable: bool = True,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        on_progress: Reporter | None = None,
        cancel: Cancellation | None = None,
    ) -> DownloadResult:
        """Download an object, or one version of it, into a file; see TransferEngine.download for the promise.

        ``source_key`` and ``source_bucket`` are read as ``address`` reads them. In a running task it is as durable as
        OrbitS3DownloadOperator; ``durable``, ``tokens``, ``reporter``, ``on_progress`` and ``cancel`` are as in
        ``upload``. Raises OrbitError, and TypeError as ``address`` does.
        """
        chosen = options or DownloadOptions()
        if not durable:
            chosen = replace(chosen, resume=False)

        def download(run: Run) -> DownloadResult:
            ref = self.source_address(source_key, source_bucket, version_id)
            now = replace(chosen, try_number=run.try_number) if chosen.try_number == 1 else chosen
            with _telling(run.reporter, reporter, on_progress) as told:
                result = self.engine.download(ref, local_path, now, tokens=run.tokens, reporter=told, cancel=run.cancel)
            self._report_lineage(("s3", _object(ref)), ("file", _file(local_path)))
            return result

        address = f"s3://{source_bucket}/{source_key}" if source_bucket else source_key
        return transferring(
            download,
            address=address,
            durable=durable,
            tokens=tokens,
            cancel=cancel,
            summary=download_summary,
            direction=TransferDirection.DOWNLOAD,
            target=os.fspath(local_path),
        )

    @cached_property
    def _upload_args(self) -> ExtraArgs:
        service = self.service_config
        connection = without_overridden(service.get("extra_args", {}), service.get("orbit"), self._orbit_options)
        return read_extra_args({**connection, **self.extra_args})

    def _engine_client(self) -> S3Client:
        """A client of the engine's own. Over plain http its payloads are signed; only the client itself knows its
        endpoint for sure (it may come from the environment or a shared configuration file).
        """
        self._refuse_lost_connection()
        named = self.conn_config.get_service_endpoint_url(service_name=self.service_name)
        # A right guess saves a second client, and with it a second request for a role's credentials.
        endpoint = named or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        if endpoint:
            check_endpoint(endpoint)
        expected = not endpoint.startswith("http://")
        client = self._client_for(https=expected)
        actual = client.meta.endpoint_url.startswith("https://")
        if actual != expected:
            client = self._client_for(https=actual)
        for secret in (
            *secrets_of(self.conn_config, self.config, self.engine_config.customer_key),
            *held_secrets(client),
        ):
            mask_secret(secret)
        return client

    def _refuse_lost_connection(self) -> None:
        """AirflowNotFoundException for a named connection that is not there.

        The amazon hook goes on with boto3's credential chain then; but the supervisor's look-up also says "not found"
        when the API server is merely unwell, and a backup must not go elsewhere, or fail for good, because of that.
        """
        named = self.aws_conn_id and self.aws_conn_id != self.default_conn_name
        if named and not self.conn_config:
            raise AirflowNotFoundException(
                f"the connection {self.aws_conn_id!r} was not found; aws_conn_id=None uses boto3's credential chain"
            )

    def _client_for(self, *, https: bool) -> S3Client:
        config = client_config(self.engine_config, base=self.config, https=https)
        # boto3 reads AWS_DEFAULT_REGION only; every other SDK, and the guide, say AWS_REGION.
        region = self.region_name or os.environ.get("AWS_REGION")
        client: S3Client = self.get_client_type(region_name=region, config=config)
        if region or Session(**self.conn_config.session_kwargs).region_name:
            return client
        return follow_buckets(client, self.engine_config.expected_bucket_owner)

    def _report_lineage(self, source: tuple[str, dict[str, str]], target: tuple[str, dict[str, str]]) -> None:
        try:
            collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
            collector.add_input_asset(context=self, scheme=source[0], asset_kwargs=source[1])
            collector.add_output_asset(context=self, scheme=target[0], asset_kwargs=target[1])
        except Exception:
            self.log.warning("the lineage of this transfer could not be recorded", exc_info=True)


def _file(path: str | os.PathLike[str]) -> dict[str, str]:
    return {"path": os.path.abspath(path)}


def _object(ref: ObjectRef) -> dict[str, str]:
    return {"bucket": ref.bucket, "key": ref.key}


@contextmanager
def _telling(task: Reporter, reporter: Reporter, on_progress: Reporter | None) -> Iterator[Reporter]:
    """One reporter for the task's own and both of the caller's."""
    given = None if reporter is no_reporter else reporter
    with reporting_to(task, given) as first, reporting_to(first, on_progress) as told:
        yield told
