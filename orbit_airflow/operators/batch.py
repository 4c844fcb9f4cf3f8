"""Operators for many objects at once: delete, copy, change the storage class, update metadata, tag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from orbit_airflow.engine.batch.change import ChangeStorageClass, Copy, TagObjects, UpdateMetadata
from orbit_airflow.engine.batch.delete import Delete
from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.keys import KeySource, PrefixKeys
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.storage_class import StorageClass
from orbit_airflow.engine.version_keys import VersionKeys
from orbit_airflow.hooks.attributes import pairs
from orbit_airflow.operators._arguments import NO_ACL, is_known
from orbit_airflow.operators._batch_keys import given_of
from orbit_airflow.operators._batch_lineage import BatchEnds, below
from orbit_airflow.operators.batching import OrbitBatchOperator

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine
    from orbit_airflow.hooks.s3 import OrbitS3Hook

# A bucket for checks that are about everything else.
_ANY_BUCKET = "bucket"
_COMMON = OrbitBatchOperator.template_fields
# What must not be rendered to nothing, either.
_PLACES = ("source_bucket", "dest_bucket", "dest_prefix", "strip_prefix")


class OrbitS3BatchDeleteOperator(OrbitBatchOperator):
    """Delete objects, 1,000 per request, whatever their number; a key that is not there is a success.

    Where versions are kept, a key is hidden behind one delete marker (never two, whatever becomes of an answer or of a
    worker); a pair of key and version id deletes that version for good. With ``all_versions`` every version and marker
    goes for good: of a prefix, each of them counts as a key; of a list, each key counts once.

    Keys, pace, guards, report, retries and result: see ``OrbitBatchOperator``.

    :param all_versions: delete all versions and delete markers, for good.
    """

    ui_color = "#f4e5e5"

    def __init__(self, *, all_versions: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.all_versions = all_versions
        if self.max_delete_percent is not None and self.prefix is None:
            raise ValueError(f"{self.task_id}: max_delete_percent needs a prefix: a share of what is there")

    def _work(self, bucket: str) -> BatchWork:
        return Delete(bucket=bucket, all_versions=self.all_versions and self.prefix is None)

    def _source(self, bucket: str) -> KeySource:
        source = super()._source(bucket)
        if self.all_versions and isinstance(source, PrefixKeys):
            # Keys that are hidden behind a marker are in no listing of objects.
            return VersionKeys(where=source.where, select=source.select, whole_bucket=source.whole_bucket)
        return source


class OrbitS3BatchCopyOperator(OrbitBatchOperator):
    """Copy objects inside a store, or between two, each to ``dest_prefix`` + its key without ``strip_prefix``.

    With one connection the store copies: above 5 GiB in parts, which a retry continues. A copy keeps metadata, tags,
    headers, class and KMS key; what it cannot keep is in the report as ``not_preserved``.

    With two connections (``source_aws_conn_id`` and ``dest_aws_conn_id`` differ) each object goes through the worker:
    it is downloaded into a temporary file and uploaded from there, both proved like single transfers. The disk needs
    room for ``max_concurrent`` of the largest objects; memory is that of transfers. An object that was interrupted
    goes on with the parts that are there, those that are there are not copied again. KMS keys are not taken along.
    ``max_concurrent`` and ``rate_limit`` hold for the requests of both sides together. An ``s3://`` report is written
    by the connection that writes the copies, since a source may be one that can only be read.

    Keys, pace, guards, report, retries and result: see ``OrbitBatchOperator``.

    :param source_bucket: the bucket to copy from (templated); None is the source connection's own.
    :param dest_prefix: what the copies' keys begin with (templated).
    :param dest_bucket: the bucket to copy into (templated); None is the source's.
    :param strip_prefix: taken off the keys first (templated); a key that does not begin with it fails.
    :param replace: whether an existing target may be replaced.
    :param storage_class: the copies' class (templated); None: as the source has it.
    :param metadata: the copies' whole user metadata (templated); None: as the source has it.
    :param tags: the copies' whole tags (templated); None: as the source has them.
    :param server_side_encryption: AES256, aws:kms or aws:kms:dsse.
    :param kms_key_id: the KMS key (templated).
    :param acl_policy: a canned ACL; None and "no-acl" send none, and the bucket's default holds.
    :param source_aws_conn_id: the connection that reads (templated); None: ``aws_conn_id``.
    :param dest_aws_conn_id: the connection that writes (templated); None: the one that reads.
    :param temporary_directory: where objects lie between two connections; None: the system's.
    """

    template_fields: Sequence[str] = (
        *_COMMON, "source_bucket", "dest_prefix", "dest_bucket", "strip_prefix", "storage_class", "metadata", "tags",
        "kms_key_id", "source_aws_conn_id", "dest_aws_conn_id",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"keys": "json", "metadata": "json", "tags": "json"}

    def __init__(
        self,
        *,
        source_bucket: str | None = None,
        dest_prefix: str,
        dest_bucket: str | None = None,
        strip_prefix: str = "",
        replace: bool = True,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        server_side_encryption: str | None = None,
        kms_key_id: str | None = None,
        acl_policy: str | None = None,
        source_aws_conn_id: str | None = None,
        dest_aws_conn_id: str | None = None,
        temporary_directory: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("bucket") is not None:
            raise TypeError("a copy has a source_bucket and a dest_bucket, and no bucket")
        super().__init__(**kwargs)
        self.source_bucket = source_bucket
        self.dest_prefix = dest_prefix
        self.dest_bucket = dest_bucket
        self.strip_prefix = strip_prefix
        self.replace = replace
        self.storage_class = storage_class
        self.metadata = metadata
        self.tags = tags
        self.server_side_encryption = server_side_encryption
        self.kms_key_id = kms_key_id
        self.acl_policy = acl_policy
        self.source_aws_conn_id = source_aws_conn_id
        self.dest_aws_conn_id = dest_aws_conn_id
        self.temporary_directory = temporary_directory
        self._given += given_of({name: getattr(self, name) for name in _PLACES})
        if all(is_known(value) for value in (storage_class, metadata, tags, kms_key_id)):
            _checked(self.task_id, self._options)

    def _options(self) -> CopyOptions:
        return CopyOptions(
            replace=self.replace,
            storage_class=StorageClass.parse(self.storage_class).value if self.storage_class else None,
            metadata=None if self.metadata is None else pairs("metadata", self.metadata),
            tags=None if self.tags is None else pairs("tags", self.tags),
            server_side_encryption=self.server_side_encryption,
            kms_key_id=self.kms_key_id or None,
            acl=None if self.acl_policy == NO_ACL else self.acl_policy,
        )

    def _conn_id(self) -> str | None:
        return self.source_aws_conn_id or self.aws_conn_id

    def _bucket_argument(self) -> str | None:
        return self.source_bucket

    def _work_with(self, hook: OrbitS3Hook, bucket: str) -> BatchWork:
        dest = self.dest_aws_conn_id or self._conn_id()
        named = {"bucket": bucket, "dest_prefix": self.dest_prefix, "strip_prefix": self.strip_prefix}
        if dest == self._conn_id():
            return Copy(**named, dest_bucket=self.dest_bucket or None, options=self._options())
        from orbit_airflow.engine.batch.streaming import StreamedCopy

        writer = self._hook_of(dest, {}).engine
        return StreamedCopy(
            **named,
            # The other connection's own bucket, if it has one.
            dest_bucket=self.dest_bucket or writer.config.bucket,
            options=self._options(),
            reader=hook.engine,
            writer=writer,
            directory=self.temporary_directory,
        )

    def _report_engine(self, work: BatchWork) -> TransferEngine | None:
        """The one that may write: a source of another account often may only be read."""
        return getattr(work, "writer", None)

    def _batch_ends(self, work: BatchWork | None = None) -> BatchEnds:
        source = super()._batch_ends(work)
        if isinstance(work, Copy):
            bucket: str | None = work.target_bucket
        else:
            other = (self.dest_aws_conn_id or self._conn_id()) != self._conn_id()
            # The other connection may have a bucket of its own.
            bucket = self.dest_bucket or (None if other else self._bucket_argument())
        return replace(source, read=source.changed, changed=below(bucket, self.dest_prefix))


class OrbitS3ChangeStorageClassOperator(OrbitBatchOperator):
    """Move objects to a storage class, by a copy of each onto itself; what is in it already is skipped.

    Metadata, tags, headers and KMS key are kept. Where versions are kept each object gains a version, and the old one
    is still billed; the log warns of that, of minimum durations and of retrieval, and so does the plan. What is
    archived fails with ``InvalidObjectState`` until it is restored. For whole prefixes without a deadline a lifecycle
    rule of the bucket is cheaper.

    Keys, pace, guards, report, retries and result: see ``OrbitBatchOperator``.

    :param storage_class: the class by AWS's name or the guide's, such as GLACIER_IR or GlacierFlexibleRetrieval
        (templated).
    """

    template_fields: Sequence[str] = (*_COMMON, "storage_class")

    def __init__(self, *, storage_class: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.storage_class = storage_class
        if is_known(storage_class):
            _checked(self.task_id, lambda: self._work(_ANY_BUCKET))

    def _work(self, bucket: str) -> BatchWork:
        return ChangeStorageClass(bucket=bucket, storage_class=self.storage_class)


class OrbitS3UpdateMetadataOperator(OrbitBatchOperator):
    """Set user metadata of objects, by a copy of each onto itself; what has it already is skipped.

    Headers, class, tags and KMS key stay. Where versions are kept each object gains a version.

    Keys, pace, guards, report, retries and result: see ``OrbitBatchOperator``.

    :param metadata: names and values, texts (templated). Names are lower case, as S3 gives them back.
    :param replace: True makes it the whole set; by default it is merged into what is there.
    """

    template_fields: Sequence[str] = (*_COMMON, "metadata")
    template_fields_renderers: ClassVar[dict[str, str]] = {"keys": "json", "metadata": "json"}

    def __init__(self, *, metadata: Mapping[str, str], replace: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metadata = metadata
        self.replace = replace
        if is_known(metadata):
            _checked(self.task_id, lambda: self._work(_ANY_BUCKET))

    def _work(self, bucket: str) -> BatchWork:
        return UpdateMetadata(bucket=bucket, metadata=pairs("metadata", self.metadata), replace=self.replace)


class OrbitS3TagObjectsOperator(OrbitBatchOperator):
    """Set tags of objects; what has them already is skipped, and no version is made.

    S3 replaces sets only, so a merge reads first: of two writers at the same moment one may win. More than ten tags
    after merging are a failure of that key.

    Keys, pace, guards, report, retries and result: see ``OrbitBatchOperator``.

    :param tags: names and values, texts (templated); S3's limits are checked before anything is sent.
    :param replace: True makes it the whole set; by default it is merged into what is there.
    """

    template_fields: Sequence[str] = (*_COMMON, "tags")
    template_fields_renderers: ClassVar[dict[str, str]] = {"keys": "json", "tags": "json"}

    def __init__(self, *, tags: Mapping[str, str], replace: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tags = tags
        self.replace = replace
        if is_known(tags):
            _checked(self.task_id, lambda: self._work(_ANY_BUCKET))

    def _work(self, bucket: str) -> BatchWork:
        return TagObjects(bucket=bucket, tags=pairs("tags", self.tags), replace=self.replace)


def _checked(task_id: str, make: Callable[[], object]) -> None:
    """ValueError, as operators raise it, for what is certain to be wrong when the DAG is parsed."""
    try:
        make()
    except ConfigError as exc:
        raise ValueError(f"{task_id}: {exc.message}") from exc
