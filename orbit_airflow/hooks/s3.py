"""OrbitS3Hook: the amazon provider's S3Hook with the transfer engine beside its own methods."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret
from boto3.session import Session

from orbit_airflow.engine.compose import open_engine
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef, UploadResult
from orbit_airflow.engine.options import EngineConfig, UploadOptions, check_endpoint
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
        full = dest_key[:5].lower() == "s3://"
        if full and dest_bucket:
            raise TypeError("dest_bucket is given, so dest_key must be a key and not a full s3:// address")
        if full:
            return ObjectRef.parse(dest_key)
        bucket = dest_bucket or self.service_config.get("bucket_name")
        if not bucket:
            raise TypeError("without dest_bucket, dest_key must be a full s3://bucket/key address")
        return ObjectRef(bucket, dest_key)

    def upload(
        self,
        path: str | os.PathLike[str],
        dest_key: str,
        dest_bucket: str | None = None,
        *,
        options: UploadOptions | None = None,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        on_progress: Reporter | None = None,
        cancel: Cancellation | None = None,
    ) -> UploadResult:
        """Upload a file, continuing what ``tokens`` remembers; see TransferEngine.upload for the promise.

        ``on_progress`` is told every event beside ``reporter``; neither can slow or break the upload or the other.
        Without ``tokens`` an interrupted upload starts anew when it is called again. Raises OrbitError, and TypeError
        as ``address`` does.
        """
        ref = self.address(dest_key, dest_bucket)
        chosen = options or UploadOptions()
        chosen = replace(chosen, attributes=with_defaults(chosen.attributes, self.upload_attributes))
        with reporting_to(reporter, on_progress) as told:
            result = self.engine.upload(path, ref, chosen, tokens=tokens, reporter=told, cancel=cancel)
        self._report_lineage(path, ref)
        return result

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

    def _report_lineage(self, path: str | os.PathLike[str], ref: ObjectRef) -> None:
        try:
            collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
            collector.add_input_asset(context=self, scheme="file", asset_kwargs={"path": os.path.abspath(path)})
            collector.add_output_asset(context=self, scheme="s3", asset_kwargs={"bucket": ref.bucket, "key": ref.key})
        except Exception:
            self.log.warning("the lineage of this upload could not be recorded", exc_info=True)
