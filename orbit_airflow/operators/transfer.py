"""OrbitS3UploadOperator: a local file becomes an object, over as many tries as it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from orbit_airflow.durable.results import upload_summary
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.events import Reporter
from orbit_airflow.engine.model import ObjectRef, UploadResult
from orbit_airflow.engine.options import EngineConfig, OnSourceChange, UploadOptions
from orbit_airflow.engine.resilience.policy import RetryPolicy as TransferRetryPolicy
from orbit_airflow.hooks.attributes import read_extra_args
from orbit_airflow.operators._arguments import (
    check_address,
    check_callable,
    check_known,
    check_retry,
    object_attributes,
)
from orbit_airflow.operators._base import OrbitTransferOperator
from orbit_airflow.operators._lineage import Ends

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.durable.running import Run

_ATTRIBUTE_NAMES = (
    "storage_class", "server_side_encryption", "encrypt", "kms_key_id", "metadata", "tags", "content_type",
    "acl_policy", "extra_args",
)  # fmt: skip


class OrbitS3UploadOperator(OrbitTransferOperator):
    """Upload a local file to S3; a try that follows an interrupted one sends only what is missing.

    **Durable execution.** With ``durable=True`` the upload's state (upload id, part size, what the file looked like)
    is written to the task's state store before the first byte moves, and the parts stay in the store when the task is
    killed, times out, loses its worker or fails. The next try lists the parts, compares each with the file, sends the
    others and completes the upload. The state also says when the upload is done, so a try that died after that returns
    the result without sending anything. What the state says is never believed without asking the store.

    Clearing the task: Airflow 3.3 keeps the state, so a cleared task continues an unfinished upload; of a finished one
    it compares object and file again and sends nothing if neither changed. Airflow 3.4 discards the state on a clear
    (unless it is told to keep it), so the upload starts anew; the parts of an unfinished one then stay in the bucket
    until its lifecycle rule aborts them. Set such a rule (AbortIncompleteMultipartUpload) on every bucket.

    While it runs, the XCom ``orbit_progress`` tells how far it is. The result, as XCom ``return_value``, is a dict of
    ``uri``, ``bucket``, ``key``, ``version_id``, ``etag``, ``size``, ``checksum`` (``"CRC32:<base64>"``, or None when
    the store keeps none), ``integrity`` (what was proved: ``full-crc``, ``part-crc``, ``md5`` or ``size+etag``),
    ``duration`` (seconds, of the last try), ``resumed``, ``bytes_sent``, ``bytes_saved`` and ``try_number``.

    :param filename: the local file (templated).
    :param dest_key: the object's key, or a full ``s3://bucket/key`` address when dest_bucket is not given (templated).
    :param dest_bucket: the bucket (templated); without it, that of dest_key's address or of the connection.
    :param replace: whether an existing object may be replaced. False is atomic: the store itself refuses the upload
        when the key was taken in the meantime.
    :param durable: whether an interrupted upload is continued by the next try.
    :param storage_class: a storage class by AWS's name or the guide's, such as STANDARD_IA or GlacierFlexibleRetrieval
        (templated); None leaves it to the connection and the configuration.
    :param server_side_encryption: AES256, aws:kms or aws:kms:dsse, or a mapping with ``algorithm``, ``key_id`` and
        ``bucket_key`` (templated); None leaves it to the connection, the configuration and the bucket, "none" to the
        bucket alone.
    :param encrypt: True is short for server_side_encryption="AES256", False for "none".
    :param kms_key_id: the KMS key (templated); without server_side_encryption it implies aws:kms.
    :param chunk_size: size of a part in bytes, and the size from which a file has parts.
    :param parallel_operations: how many parts are sent at once.
    :param verify_checksums: whether checksums travel with the bytes, so that the store verifies them.
    :param metadata: the object's user metadata, texts to texts (templated).
    :param tags: the object's tags, texts to texts (templated).
    :param content_type: the object's Content-Type (templated).
    :param acl_policy: a canned ACL; None and "no-acl" send none.
    :param extra_args: further upload arguments by boto3's names (CacheControl, ObjectLockMode, ...). Customer keys
        (SSECustomerKey) are refused, since arguments are stored and shown in plain text.
    :param transfer_retry: how single requests are repeated within a try: "fast", "slow", "network" or an engine
        RetryPolicy. (``retry_policy`` and ``retries`` are Airflow's own and are about whole tries.)
    :param on_progress: a function that is given every TransferEvent of the engine, on a thread of its own in the task:
        what it raises is logged once, and when it is slow it misses figures, never a start or an end. Not templated.
    :param on_source_change: "fail" when the file's bytes change during the upload, or "restart" with the new file.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = (
        "filename", "dest_key", "dest_bucket", "storage_class", "server_side_encryption", "kms_key_id", "metadata",
        "tags", "content_type", "aws_conn_id", "region_name",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json", "tags": "json"}
    ui_color = "#e8f4e5"

    def __init__(
        self,
        *,
        filename: str,
        dest_key: str,
        dest_bucket: str | None = None,
        replace: bool = False,
        durable: bool = True,
        storage_class: str | None = None,
        server_side_encryption: str | Mapping[str, Any] | None = None,
        encrypt: bool | None = None,
        kms_key_id: str | None = None,
        chunk_size: int | None = None,
        parallel_operations: int | None = None,
        verify_checksums: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str | None = None,
        acl_policy: str | None = None,
        extra_args: Mapping[str, Any] | None = None,
        transfer_retry: str | TransferRetryPolicy | None = None,
        on_progress: Reporter | None = None,
        on_source_change: OnSourceChange = "fail",
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
        self.filename = filename
        self.dest_key = dest_key
        self.dest_bucket = dest_bucket
        self.replace = replace
        self.storage_class = storage_class
        self.server_side_encryption = server_side_encryption
        self.encrypt = encrypt
        self.kms_key_id = kms_key_id
        self.chunk_size = chunk_size
        self.parallel_operations = parallel_operations
        self.verify_checksums = verify_checksums
        self.metadata = metadata
        self.tags = tags
        self.content_type = content_type
        self.acl_policy = acl_policy
        self.extra_args = extra_args
        self.transfer_retry = transfer_retry
        self.on_progress = on_progress
        self.on_source_change = on_source_change
        self._check_arguments()

    def _check_arguments(self) -> None:
        """What is certain when the DAG is parsed; TypeError and ValueError, as operators raise them."""
        check_address("dest", self.dest_key, self.dest_bucket)
        check_callable("on_progress", self.on_progress)
        try:
            check_retry(self.transfer_retry)
            check_known(self._attribute_values())
            UploadOptions(on_source_change=self.on_source_change)
            tuning = {"chunk_size": self.chunk_size, "parallel_operations": self.parallel_operations}
            given: dict[str, Any] = {name: value for name, value in tuning.items() if value is not None}
            EngineConfig(**given)
        except ConfigError as exc:
            raise ValueError(f"{self.task_id}: {exc.message}") from exc

    def _attribute_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _ATTRIBUTE_NAMES}

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload, or continue. Raises the engine's errors as they are; OrbitRetryPolicy reads them."""
        check_address("dest", self.dest_key, self.dest_bucket or None)
        attributes = object_attributes(self._attribute_values())
        requests = read_extra_args(self.extra_args or {}).settings

        def upload(run: Run) -> UploadResult:
            run.details["file"] = self.filename
            options = UploadOptions(
                replace=self.replace,
                attributes=attributes,
                on_source_change=self.on_source_change,
                resume=self.durable,
                try_number=run.try_number,
                begun_after=run.begun_after,
            )
            hook = self._hook(
                {
                    "chunk_size": self.chunk_size,
                    "parallel_operations": self.parallel_operations,
                    "verify_checksums": self.verify_checksums,
                    "retry": self.transfer_retry,
                    **requests,
                }
            )
            self._show_object(run, hook, hook.address(self.dest_key, self.dest_bucket or None))
            return hook.upload(
                self.filename,
                self.dest_key,
                self.dest_bucket or None,
                options=options,
                tokens=run.tokens,
                reporter=run.reporter,
                on_progress=self.on_progress,
                cancel=run.cancel,
            )

        uri = f"s3://{self.dest_bucket}/{self.dest_key}" if self.dest_bucket else self.dest_key
        result = self._run_transfer(context, uri, upload)
        return self._finished(context, upload_summary(result, context["ti"].try_number))

    def _ends(self) -> Ends:
        """The bucket may be the connection's own; then the object is known when it is there."""
        try:
            ref = ObjectRef(self.dest_bucket, self.dest_key) if self.dest_bucket else ObjectRef.parse(self.dest_key)
        except ConfigError:
            return Ends(path=self.filename)
        return Ends(path=self.filename, ref=ref)
