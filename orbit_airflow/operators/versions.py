"""Operators on the versions of a bucket and of a key: versioning on and off, lists, comparisons, removal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.engine.versioning import VersioningState
from orbit_airflow.operators._arguments import is_known
from orbit_airflow.operators._store import AtWork, OrbitStoreOperator, check_one_of, check_texts

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.engine.compare import VersionComparison
    from orbit_airflow.engine.versioning import ListedVersion


class OrbitS3BucketVersioningOperator(OrbitStoreOperator):
    """Enable or suspend a bucket's versioning; what it is already is not asked for again.

    Suspended, the bucket keeps the versions that it has; from then on writes and deletes overwrite the version "null"
    of their key. It can never become unversioned again. AWS says that it may take some minutes until all of it sees a
    change.

    The result, as XCom ``return_value``, is a dict of ``bucket``, ``status``, ``previous`` (Unversioned, Enabled or
    Suspended), ``changed`` and ``mfa_delete``.

    :param bucket: the bucket (templated).
    :param status: Enabled or Suspended (templated).
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = ("bucket", "status", "aws_conn_id", "region_name")
    ui_color = "#f0e8f5"

    def __init__(
        self,
        *,
        bucket: str,
        status: str = "Enabled",
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retry_policy=retry_policy,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.bucket = bucket
        self.status = status
        self._checked(lambda: check_texts(bucket=bucket))
        if is_known(status):
            self._checked(lambda: _wanted(status))

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, and change it if it is otherwise."""
        bucket, wanted = self.bucket, _wanted(self.status)

        def work(at: AtWork) -> dict[str, Any]:
            store = at.engine.call(at.run.cancel).store
            before = store.get_versioning(bucket)
            changed = before.status is not wanted
            if changed:
                store.put_versioning(bucket, wanted)
            return {
                "bucket": bucket, "status": wanted.value, "previous": before.status.value, "changed": changed,
                "mfa_delete": before.mfa_delete,
            }  # fmt: skip

        return self._at_work(context, f"s3://{bucket}", work)


class OrbitS3ListVersionsOperator(OrbitStoreOperator):
    """List the versions and delete markers of a key, or of all keys below a prefix, newest first within a key.

    Memory is constant, whatever there is to list. The result, as XCom ``return_value``, is a dict of ``bucket``,
    ``key`` or ``prefix``, ``count`` (versions and markers), ``markers``, ``bytes``, ``versions`` and ``manifest``. A
    list of up to ``max_items`` is in ``versions``: dicts of ``key``, ``version_id``, ``is_latest``, ``last_modified``
    (ISO 8601), ``size``, ``etag``, ``storage_class`` and ``delete_marker``. A longer one is written to ``manifest``,
    one such dict as a line of JSON each, and ``versions`` is empty then; a batch takes it as ManifestKeys.

    :param bucket: the bucket (templated).
    :param key: the one key that is meant, not those that begin with it (templated). Give this or prefix.
    :param prefix: the beginning of the keys that are meant (templated); an empty one is the whole bucket.
    :param max_items: so many entries are returned as they are; more of them go to the manifest.
    :param manifest: where a long list goes, a path or ``s3://bucket/key`` ending in ``.jsonl`` (templated). None is
        ``s3://<bucket>/orbit-versions/<dag>/<run>/<task>-<try>.jsonl``.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = ("bucket", "key", "prefix", "manifest", "aws_conn_id", "region_name")
    ui_color = "#f0e8f5"

    def __init__(
        self,
        *,
        bucket: str,
        key: str | None = None,
        prefix: str | None = None,
        max_items: int = 100,
        manifest: str | None = None,
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retry_policy=retry_policy,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.bucket = bucket
        self.key = key
        self.prefix = prefix
        self.max_items = max_items
        self.manifest = manifest
        check_one_of(key=key, prefix=prefix)
        self._checked(lambda: check_texts(bucket=bucket))
        self._checked(lambda: _check_limit(max_items))

    def execute(self, context: Context) -> dict[str, Any]:
        """List; nothing is changed."""
        place = self.manifest or self._place(context, self.bucket, "orbit-versions")
        named = {"key": self.key} if self.key is not None else {"prefix": self.prefix}

        def work(at: AtWork) -> dict[str, Any]:
            versions = at.engine.versions
            if self.key is not None:
                found = versions.iter_object_versions(ObjectRef(self.bucket, self.key), cancel=at.run.cancel)
            else:
                found = versions.iter_versions(KeyPrefix(self.bucket, self.prefix or ""), cancel=at.run.cancel)
            from orbit_airflow.engine.batch.estimate import ManifestWriter

            listing = _Listing(self.max_items, lambda: ManifestWriter(place, at.engine.upload))
            try:
                for item in found:
                    listing.add(item)
                return {"bucket": self.bucket, **named, **listing.summary()}
            finally:
                listing.close()

        return self._at_work(context, f"s3://{self.bucket}/{self.key or self.prefix or ''}", work)


class OrbitS3DeleteVersionOperator(OrbitStoreOperator):
    """Remove one version, or one delete marker, for good. One that is not there is a success.

    Without the newest delete marker the version below it shows again. A version that Object Lock protects is
    ObjectLocked, and governance is never bypassed; AccessDenied also where MFA delete is on.

    The result, as XCom ``return_value``, is a dict of ``uri``, ``bucket``, ``key``, ``version_id`` and
    ``delete_marker`` (whether it was one).

    :param bucket: the bucket (templated).
    :param key: the key (templated).
    :param version_id: the version's id as S3 gave it, or "null" (templated). There is no default: a delete without a
        version is another thing.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = ("bucket", "key", "version_id", "aws_conn_id", "region_name")
    ui_color = "#f5e0e0"

    def __init__(
        self,
        *,
        bucket: str,
        key: str,
        version_id: str,
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retry_policy=retry_policy,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.bucket = bucket
        self.key = key
        self.version_id = version_id
        self._checked(lambda: check_texts(bucket=bucket, key=key, version_id=version_id))

    def execute(self, context: Context) -> dict[str, Any]:
        """One DeleteObject."""
        # A template that renders to nothing must not become a delete of the key.
        check_texts(version_id=self.version_id or None)
        ref = ObjectRef(self.bucket, self.key, self.version_id)

        def work(at: AtWork) -> dict[str, Any]:
            receipt = at.engine.versions.delete_version(ref, self.version_id, cancel=at.run.cancel)
            return {
                "uri": ref.uri, "bucket": ref.bucket, "key": ref.key, "version_id": ref.version_id,
                "delete_marker": receipt.delete_marker,
            }  # fmt: skip

        return self._at_work(context, ref.uri, work, ref)


class OrbitS3CompareVersionsOperator(OrbitStoreOperator):
    """Compare two versions of a key, from a to b: size, time, and whether the bytes differ.

    Two HEADs decide as far as they tell; ``decided_by`` says by what: same version, size, full-object checksum,
    composite checksum, etag, bytes, or undecided. ObjectDeleted for a delete marker.

    The result, as XCom ``return_value``, is a dict of ``bucket``, ``key``, ``version_id_a``, ``version_id_b``,
    ``size_a``, ``size_b``, ``size_diff`` (bytes, positive when b is larger), ``time_diff`` (seconds, positive when b is
    newer, or None), ``content_differs`` (True, False, or None when it is undecided) and ``decided_by``.

    :param bucket: the bucket (templated).
    :param key: the key (templated).
    :param version_id_a: the first version (templated).
    :param version_id_b: the second version (templated); None is what the key shows now.
    :param read_bytes: whether both are read, in constant memory, where nothing else decides.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = (
        "bucket", "key", "version_id_a", "version_id_b", "aws_conn_id", "region_name",
    )  # fmt: skip
    ui_color = "#f0e8f5"

    def __init__(
        self,
        *,
        bucket: str,
        key: str,
        version_id_a: str,
        version_id_b: str | None = None,
        read_bytes: bool = False,
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retry_policy=retry_policy,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.bucket = bucket
        self.key = key
        self.version_id_a = version_id_a
        self.version_id_b = version_id_b
        self.read_bytes = read_bytes
        self._checked(lambda: check_texts(bucket=bucket, key=key, version_id_a=version_id_a))

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare; nothing is changed."""
        ref = ObjectRef(self.bucket, self.key)

        def work(at: AtWork) -> dict[str, Any]:
            call = at.engine.call(at.run.cancel)
            second = self.version_id_b or call.store.head(ref).version_id or "null"
            found = at.engine.versions.compare_versions(
                ref, self.version_id_a, second, read_bytes=self.read_bytes, cancel=at.run.cancel
            )
            named = {"version_id_a": self.version_id_a, "version_id_b": second}
            return {"bucket": ref.bucket, "key": ref.key, **named, **_compared(found)}

        return self._at_work(context, ref.uri, work, ref)


class _Listing:
    """A list that moves to a manifest when it is long."""

    def __init__(self, most: int, writer: Any) -> None:
        self._most = most
        self._make = writer
        self._writer: Any = None
        self._items: list[dict[str, Any]] = []
        self._count = self._markers = self._bytes = 0

    def add(self, item: ListedVersion) -> None:
        """One more."""
        self._count += 1
        self._markers += item.delete_marker
        self._bytes += item.size
        self._items.append(_row(item))
        if self._count > self._most:
            if self._writer is None:
                self._writer = self._make()
            for row in self._items:
                self._writer.write_line(row)
            self._items.clear()

    def summary(self) -> dict[str, Any]:
        """The figures, and the list or where it is."""
        place = self._writer.finish() if self._writer is not None else None
        return {
            "count": self._count, "markers": self._markers, "bytes": self._bytes, "versions": self._items,
            "manifest": place,
        }  # fmt: skip

    def close(self) -> None:
        """Remove what nobody shall see."""
        if self._writer is not None:
            self._writer.close()


def _row(item: ListedVersion) -> dict[str, Any]:
    return {
        "key": item.key, "version_id": item.version_id, "is_latest": item.is_latest,
        "last_modified": item.last_modified.isoformat() if item.last_modified else None, "size": item.size,
        "etag": item.etag, "storage_class": item.storage_class, "delete_marker": item.delete_marker,
    }  # fmt: skip


def _compared(found: VersionComparison) -> dict[str, Any]:
    return {
        "size_a": found.first.size, "size_b": found.second.size, "size_diff": found.size_diff,
        "time_diff": found.time_diff.total_seconds() if found.time_diff is not None else None,
        "content_differs": found.content_differs, "decided_by": found.decided_by.value,
    }  # fmt: skip


def _wanted(status: object) -> VersioningState:
    for state in (VersioningState.ENABLED, VersioningState.SUSPENDED):
        if str(status).lower() == state.value.lower():
            return state
    raise ConfigError(f"status is Enabled or Suspended, got {status!r}")


def _check_limit(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1000:
        raise ConfigError(f"max_items is a whole number from 0 to 1000, got {value!r}")
