"""OrbitS3DownloadOperator: an object becomes a local file, over as many tries as it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as dataclass_replace
from typing import TYPE_CHECKING, Any

from orbit_airflow.durable.results import download_summary
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.events import Reporter, TransferDirection
from orbit_airflow.engine.model import DownloadResult, Integrity, ObjectRef
from orbit_airflow.engine.options import DownloadOptions, EngineConfig, OnObjectChange
from orbit_airflow.engine.resilience.policy import RetryPolicy as TransferRetryPolicy
from orbit_airflow.hooks.attributes import read_download_args
from orbit_airflow.operators._arguments import check_address, check_callable, check_retry
from orbit_airflow.operators._base import OrbitTransferOperator
from orbit_airflow.operators._lineage import Ends

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.durable.running import Run


class OrbitS3DownloadOperator(OrbitTransferOperator):
    """Download an object to a local file; a try that follows an interrupted one fetches only what is missing.

    The file appears under its name when it is complete, proved and on the disk, and never before: until then the bytes
    are in a temporary file beside it (``.<name>.<random>.orbit-part``, with a journal of what is finished).

    **Durable execution.** With ``durable=True`` the download's state (which version of the object, where its temporary
    file is) is written to the task's state store before the first byte moves, and temporary file and journal stay when
    the task is killed, times out, loses its worker or fails with an error that a person can mend (no access, no room on
    the disk, a store that is down). The next try hashes the finished ranges again, drops those that are not what the
    journal says, and fetches the others, all of the same version of the object. The state also says when the download
    is done: a try that died after that, or a rerun, finds the file as it was left and the object unchanged, and returns
    the result without fetching anything. What the state says is never believed without looking at disk and store.

    Another host: bytes on a worker's disk are of no use on another one. When a try runs elsewhere and the temporary
    file is absent there, the log says so and the download starts again; what the other host kept stays there. On a file
    system that all workers mount under the same path say ``shared_storage=True``, and the temporary file is found.

    Clearing the task: Airflow 3.3 keeps the state, so a cleared task continues an unfinished download, and of a
    finished one fetches nothing when file and object are unchanged. Airflow 3.4 discards the state on a clear (unless
    it is told to keep it): the download starts anew then, and with ``replace=False`` an existing file is TargetExists.

    While it runs, the XCom ``orbit_progress`` tells how far it is. The result, as XCom ``return_value``, is a dict of
    ``uri``, ``bucket``, ``key``, ``version_id``, ``path`` (absolute), ``etag``, ``size``, ``checksum``
    (``"CRC64NVME:<base64>"``, or None when the store keeps none), ``integrity`` (what was proved: ``full-crc``,
    ``part-crc``, ``md5`` or ``size+etag``), ``duration`` (seconds, of the last try), ``resumed``, ``bytes_received``,
    ``bytes_saved`` and ``try_number``.

    :param source_key: the object's key, or a full ``s3://bucket/key`` address when source_bucket is not given
        (templated).
    :param local_path: the file to make (templated).
    :param source_bucket: the bucket (templated); without it, that of source_key's address or of the connection.
    :param version_id: the version to fetch (templated); None means the newest one when the first try begins.
    :param replace: whether an existing file may be replaced, which happens in one step at the end. With False an
        existing file is TargetExists, also one that appears while the download runs.
    :param durable: whether an interrupted download is continued by the next try.
    :param chunk_size: bytes of one range; that much per worker is fetched again after a kill.
    :param parallel_operations: how many ranges are fetched at once.
    :param verify_checksums: whether the bytes are compared with the object's checksum.
    :param require_integrity: the weakest proof that will do: "full-crc", "part-crc" or "md5". A weaker one is
        IntegrityTooWeak, and the file does not appear.
    :param on_object_change: "fail" when the object is replaced during the download and its old bytes are not to be had
        (ObjectChanged), or "restart" with the new object.
    :param file_mode: the file's permission bits, such as 0o640; None leaves them to the worker's umask.
    :param transfer_retry: how single requests are repeated within a try: "fast", "slow", "network" or an engine
        RetryPolicy. (``retry_policy`` and ``retries`` are Airflow's own and are about whole tries.)
    :param shared_storage: whether local_path's directory is the same one on all workers that tries may run on.
    :param create_parents: whether missing directories are made.
    :param extra_args: RequestPayer and ExpectedBucketOwner, by boto3's names. Customer keys (SSECustomerKey) are
        refused, since arguments are stored and shown in plain text.
    :param on_progress: a function that is given every TransferEvent of the engine, on a thread of its own in the task:
        what it raises is logged once, and when it is slow it misses figures, never a start or an end. Not templated.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = (
        "source_key", "source_bucket", "version_id", "local_path", "aws_conn_id", "region_name",
    )  # fmt: skip
    ui_color = "#e5eef4"
    direction = TransferDirection.DOWNLOAD

    def __init__(
        self,
        *,
        source_key: str,
        local_path: str,
        source_bucket: str | None = None,
        version_id: str | None = None,
        replace: bool = False,
        durable: bool = True,
        chunk_size: int | None = None,
        parallel_operations: int | None = None,
        verify_checksums: bool | None = None,
        require_integrity: Integrity | str | None = None,
        on_object_change: OnObjectChange = "fail",
        file_mode: int | None = None,
        transfer_retry: str | TransferRetryPolicy | None = None,
        shared_storage: bool = False,
        create_parents: bool = False,
        extra_args: Mapping[str, Any] | None = None,
        on_progress: Reporter | None = None,
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            durable=durable,
            retry_policy=retry_policy,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.source_key = source_key
        self.local_path = local_path
        self.source_bucket = source_bucket
        self.version_id = version_id
        self.replace = replace
        self.chunk_size = chunk_size
        self.parallel_operations = parallel_operations
        self.verify_checksums = verify_checksums
        self.require_integrity = require_integrity
        self.on_object_change = on_object_change
        self.file_mode = file_mode
        self.transfer_retry = transfer_retry
        self.shared_storage = shared_storage
        self.create_parents = create_parents
        self.extra_args = extra_args
        self.on_progress = on_progress
        self._check_arguments()

    def _check_arguments(self) -> None:
        """What is certain when the DAG is parsed; TypeError and ValueError, as operators raise them."""
        check_address("source", self.source_key, self.source_bucket)
        check_callable("on_progress", self.on_progress)
        try:
            check_retry(self.transfer_retry)
            read_download_args(self.extra_args or {})
            self._options(try_number=1)
            if self.parallel_operations is not None:
                EngineConfig(parallel_operations=self.parallel_operations)
        except ConfigError as exc:
            raise ValueError(f"{self.task_id}: {exc.message}") from exc

    def _options(self, try_number: int) -> DownloadOptions:
        return DownloadOptions(
            replace=self.replace,
            chunk_size=self.chunk_size,
            verify_checksums=self.verify_checksums,
            require_integrity=self.require_integrity,
            on_object_change=self.on_object_change,
            file_mode=self.file_mode,
            create_parents=self.create_parents,
            shared_storage=self.shared_storage,
            resume=self.durable,
            try_number=try_number,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Download, or continue. Raises the engine's errors as they are; OrbitRetryPolicy reads them."""
        bucket = self.source_bucket or None
        check_address("source", self.source_key, bucket)
        tuning = {"parallel_operations": self.parallel_operations, "retry": self.transfer_retry}
        settings = {**tuning, **read_download_args(self.extra_args or {})}

        def download(run: Run) -> DownloadResult:
            run.details["file"] = self.local_path
            hook = self._hook(settings)
            self._show_object(run, hook, self._versioned(hook.source_address(self.source_key, bucket)))
            return hook.download(
                self.source_key,
                self.local_path,
                bucket,
                version_id=self.version_id or None,
                options=self._options(run.try_number),
                tokens=run.tokens,
                reporter=run.reporter,
                on_progress=self.on_progress,
                cancel=run.cancel,
            )

        uri = f"s3://{bucket}/{self.source_key}" if bucket else self.source_key
        result = self._run_transfer(context, uri, download)
        return self._finished(context, download_summary(result, context["ti"].try_number))

    def _target(self) -> str:
        return self.local_path

    def _ends(self) -> Ends:
        """The bucket may be the connection's own; then the object is known when it was found."""
        bucket = self.source_bucket or None
        try:
            ref = ObjectRef(bucket, self.source_key) if bucket else ObjectRef.parse(self.source_key)
        except ConfigError:
            return Ends(path=self.local_path)
        return Ends(path=self.local_path, ref=self._versioned(ref))

    def _versioned(self, ref: ObjectRef) -> ObjectRef:
        return dataclass_replace(ref, version_id=self.version_id) if self.version_id else ref
