"""The engine's public verbs. Each makes a job and runs its flow; none knows a store's name."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.copy import CopyFlow
from orbit_airflow.engine.defaults import with_engine_defaults
from orbit_airflow.engine.download import DownloadFlow
from orbit_airflow.engine.download_job import DownloadJob
from orbit_airflow.engine.download_token import DownloadToken
from orbit_airflow.engine.errors import ConfigError, NotFound, OrbitError
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.listing import every_object
from orbit_airflow.engine.model import (
    MIB,
    CopyResult,
    DeleteReceipt,
    DownloadResult,
    KeyPrefix,
    ListedObject,
    ListResult,
    ObjectInfo,
    ObjectRef,
    ReadResult,
    UploadResult,
)
from orbit_airflow.engine.options import CopyOptions, DownloadOptions, EngineConfig, UploadOptions
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.read import read_whole
from orbit_airflow.engine.remove import delete_object
from orbit_airflow.engine.resilience.pace import Pace
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.scripts import default_state_directory, state_mapping, state_of
from orbit_airflow.engine.store import ListRequest, TransferStore
from orbit_airflow.engine.token import (
    FileTokenStore,
    Ledger,
    NoTokens,
    ResumeState,
    TokenStore,
    UploadToken,
    state_key,
    target_hash,
)
from orbit_airflow.engine.upload import UploadFlow
from orbit_airflow.engine.version_verbs import Verbs, Versions

if TYPE_CHECKING:
    from orbit_airflow.engine.batch.result import BatchResult
    from orbit_airflow.engine.batch.verbs import Batches
    from orbit_airflow.engine.point_in_time import PointInTime
    from orbit_airflow.engine.prune import OldVersions

StoreFor = Callable[[Cancellation, Reporter], TransferStore]
PacedStoreFor = Callable[[Cancellation, Reporter, Pace, RetryPolicy], TransferStore]
# What download_bytes takes into memory unless it is told otherwise.
MAX_IN_MEMORY = 64 * MIB
MAX_PAGE = 1000


class TransferEngine:
    """Transfers between files and an S3 store. Made by ``open_engine``; may be shared by threads.

    The verbs on objects take a ``target``: a key in the configured bucket, taken to the letter; or a full
    ``s3://bucket/key``; or an ObjectRef (the only way to say a key that itself begins with ``s3://``). Prefixes
    likewise: a str in the configured bucket, ``s3://bucket/prefix``, or a KeyPrefix. All raise ConfigError for an
    address that S3 cannot hold, NotFound, AccessDenied, and the other OrbitErrors; ``cancel`` ends their waits.

    ``store_for`` gives each transfer its own retrying view of the one store, so that a stop order ends its waits.
    """

    def __init__(
        self,
        config: EngineConfig,
        store_for: StoreFor,
        *,
        paced_store_for: PacedStoreFor | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.config = config
        self._on_close = on_close
        self._store_for = store_for
        self._paced_store_for = paced_store_for
        self._clock = clock
        self._monotonic = monotonic
        self._rng = rng or random.Random()  # noqa: S311 - jitter

    def close(self) -> None:
        """End the engine's background thread now; without it, it ends by itself soon after the last transfer."""
        if self._on_close is not None:
            self._on_close()

    def upload(
        self,
        path: str | os.PathLike[str],
        ref: ObjectRef,
        options: UploadOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> UploadResult:
        """Upload the file at ``path`` to ``ref``, continuing what an earlier try left in ``tokens``.

        Success means that the object is complete, equals one snapshot of the file, and is proved as
        ``result.integrity`` says. Raises OrbitError: see ``errors`` for what each class asks of you; after every
        failure but SourceChanged and TargetExists the parts are kept for the next call with the same arguments.
        ``cancel`` may be set from any thread or signal handler; the call then raises Paused between two blocks, waits
        or requests; a request that hangs ends by its own time limits first (parts are left behind after half a second).
        """
        local_path, chosen = os.fspath(path), options or UploadOptions()
        kept = tokens if tokens is not None and chosen.resume else NoTokens()
        target = target_hash("upload", ref, local_path)
        with OperationReporter(reporter) as told:
            return UploadFlow(
                self._job(local_path, ref, chosen, Ledger(kept, target, UploadToken.from_mapping), target, told, cancel)
            ).run()

    def upload_bytes(
        self,
        data: bytes | bytearray | memoryview,
        target: str | ObjectRef,
        options: UploadOptions | None = None,
        *,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> UploadResult:
        """Upload bytes in one PutObject, proved as ``result.integrity`` says; a lost answer is settled, not repeated.

        ConfigError for more than one PutObject can carry (5 GiB on S3): put them into a file and use ``upload``. The
        bytes must not be changed meanwhile; SourceChanged, or one snapshot of them, is what comes of it.
        """
        ref, view = self.address(target), memoryview(data).cast("B")
        if len(view) > self.config.limits.max_put_size:
            raise ConfigError(f"one PutObject carries at most {self.config.limits.max_put_size} bytes, got {len(view)}")
        name = f"<{len(view)} bytes>"
        hashed = target_hash("upload", ref, name)
        ledger, chosen = Ledger(NoTokens(), hashed, UploadToken.from_mapping), options or UploadOptions()
        with OperationReporter(reporter) as told:
            job = self._job(name, ref, chosen, ledger, hashed, told, cancel)
            return UploadFlow(replace(job, data=view)).run()

    def download(
        self,
        target: str | ObjectRef,
        path: str | os.PathLike[str],
        options: DownloadOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> DownloadResult:
        """Download an object to the file ``path``, continuing what an earlier try left beside it and in ``tokens``.

        Success means that the file is complete, on the disk, one snapshot of the object, and proved as
        ``result.integrity`` says; until then nothing has its name. The bytes go to a hidden file beside it, which with
        its journal is enough to continue; ``tokens`` add what no file can say (a download that is done, another host).
        Raises OrbitError: after every failure but IntegrityError and ObjectChanged what was fetched is kept for the
        next call with the same arguments. ``cancel`` as for ``upload``.
        """
        return self._download(self.address(target), os.fspath(path), options, tokens, reporter, cancel)

    def download_file_resumable(
        self,
        key: str | ObjectRef,
        path: str | os.PathLike[str],
        offset: int = 0,
        *,
        options: DownloadOptions | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> DownloadResult:
        """The guide's resumable download for scripts: ``download``, which continues by itself when it is called again.

        ``offset``: the file at ``path`` has the object's first bytes already. They are used where a checksum of the
        whole object can prove them in the end (and fetched again when it does not), else everything is fetched.
        ConfigError when the file or the object is shorter than that.
        """
        return self._download(self.address(key), os.fspath(path), options, None, reporter, cancel, prefix=offset)

    def _download(
        self,
        ref: ObjectRef,
        path: str,
        options: DownloadOptions | None,
        tokens: TokenStore | None,
        reporter: Reporter,
        cancel: Cancellation | None,
        *,
        prefix: int = 0,
    ) -> DownloadResult:
        if prefix < 0:
            raise ConfigError(f"offset is a number of bytes from 0 on, got {prefix}")
        chosen, hashed = options or DownloadOptions(), target_hash("download", ref, path)
        kept = tokens if tokens is not None and chosen.resume else NoTokens()
        ledger = Ledger(kept, hashed, DownloadToken.from_mapping)
        with OperationReporter(reporter) as told:
            call = self._call(cancel, told)
            job = DownloadJob(
                call=call, ref=ref, path=path, options=chosen, ledger=ledger, target=hashed, prefix=prefix
            )
            return DownloadFlow(job).run()

    def download_bytes(
        self,
        target: str | ObjectRef,
        *,
        version_id: str | None = None,
        max_size: int = MAX_IN_MEMORY,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> bytes:
        """The object's bytes, compared with the store's checksum or MD5 where there is one; see ``read_object``."""
        found = self.read_object(target, version_id=version_id, max_size=max_size, reporter=reporter, cancel=cancel)
        return found.data

    def read_object(
        self,
        target: str | ObjectRef,
        *,
        version_id: str | None = None,
        max_size: int = MAX_IN_MEMORY,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> ReadResult:
        """The object in memory, with its properties and what was proved about its bytes.

        One GetObject; a body that breaks off is fetched again. ConfigError, and nothing fetched, when the object has
        more than ``max_size`` bytes. IntegrityError when the bytes are not those that the store describes.
        """
        ref = self.address(target, version_id)
        with OperationReporter(reporter) as told:
            return read_whole(self._call(cancel, told), ref, max_size, verify=self.config.verify_checksums)

    def exists(self, target: str | ObjectRef, *, cancel: Cancellation | None = None) -> bool:
        """True when the key shows an object; False also for a delete marker, and for a bucket that is not there (a HEAD
        cannot tell). AccessDenied when the store does not say: without s3:ListBucket a missing key is a 403, too.
        """
        try:
            self.get_metadata(target, cancel=cancel)
        except NotFound:
            return False
        return True

    def get_metadata(
        self, target: str | ObjectRef, *, version_id: str | None = None, cancel: Cancellation | None = None
    ) -> ObjectInfo:
        """Size, time, ETag, checksum, version, class, restore state, headers and user metadata, by one HeadObject.

        NotFound; ObjectDeleted (a NotFound) when a delete marker is what is there.
        """
        return self._call(cancel).store.head(self.address(target, version_id))

    def list_objects(self, prefix: str | KeyPrefix = "", *, cancel: Cancellation | None = None) -> ListResult:
        """The first page (at most 1,000) of the objects whose keys begin with ``prefix``."""
        return self.list_objects_paginated(prefix, cancel=cancel)

    def list_objects_paginated(
        self,
        prefix: str | KeyPrefix = "",
        continuation_token: str | None = None,
        max_keys: int | None = None,
        *,
        delimiter: str | None = None,
        cancel: Cancellation | None = None,
    ) -> ListResult:
        """One page, behind the page that gave ``continuation_token``; None begins at the beginning.

        ``max_keys``: 1 to 1,000. ``delimiter`` folds what has it behind the prefix into ``common_prefixes``.
        """
        most = MAX_PAGE if max_keys is None else max_keys
        if not 1 <= most <= MAX_PAGE:
            raise ConfigError(f"max_keys is 1 to {MAX_PAGE}, got {max_keys}")
        request = ListRequest(where=self._where(prefix), token=continuation_token, max_keys=most, delimiter=delimiter)
        return self._call(cancel).store.list_objects(request)

    def iter_objects(
        self, prefix: str | KeyPrefix = "", *, start_after: str | None = None, cancel: Cancellation | None = None
    ) -> Iterator[ListedObject]:
        """All objects whose keys begin with ``prefix``, page by page in constant memory, behind ``start_after``."""
        request = ListRequest(where=self._where(prefix), start_after=start_after)
        return every_object(self._call(cancel), request)

    def copy_object(
        self,
        source: str | ObjectRef,
        target: str | ObjectRef,
        options: CopyOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> CopyResult:
        """Copy inside the store, keeping metadata, tags, headers, class and KMS key: by one CopyObject, or above 5 GiB
        in parts, continuing what an earlier try left in ``tokens``.

        The source is pinned to the version and ETag that it has when the copy begins; ``result.not_kept`` names what a
        copy loses. TargetExists; PreconditionFailed when the source changed meanwhile. After every other failure the
        parts are kept for the next call with the same arguments.
        """
        with OperationReporter(reporter) as told:
            call = self._call(cancel, told)
            addresses = self.address(source), self.address(target)
            return CopyFlow(call, *addresses, options or CopyOptions(), tokens).run()

    def delete(
        self,
        target: str | ObjectRef,
        *,
        version_id: str | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> DeleteReceipt:
        """Delete an object; a key that is not there is a success. Where versions are kept this lays a delete marker
        over them, and with ``version_id`` it removes that version for good.
        """
        with OperationReporter(reporter) as told:
            return delete_object(self._call(cancel, told), self.address(target, version_id))

    @property
    def versions(self) -> Versions:
        """The guide's versioning verbs."""
        verbs = Verbs(
            call=self._call,
            address=self.address,
            where=self._where,
            bucket=self._bucket,
            copy=self.copy_object,
            download=self.download,
        )
        return Versions(verbs)

    @cached_property
    def batch(self) -> Batches:
        """The verbs on many keys."""
        from orbit_airflow.engine.batch.verbs import Batches

        return Batches(self)

    @cached_property
    def point_in_time(self) -> PointInTime:
        """A prefix as it was at a moment: planned, done, put back."""
        from orbit_airflow.engine.point_in_time import PointInTime

        return PointInTime(self, self._clock)

    @cached_property
    def old_versions(self) -> OldVersions:
        """What the versions that nothing shows any more cost, and their removal."""
        from orbit_airflow.engine.prune import OldVersions

        return OldVersions(self, self._clock)

    @property
    def batch_delete(self) -> Callable[..., BatchResult]:
        """The guide's name of ``batch.delete``."""
        return self.batch.delete

    @property
    def batch_copy(self) -> Callable[..., BatchResult]:
        """The guide's name of ``batch.copy``."""
        return self.batch.copy

    @property
    def batch_change_storage_class(self) -> Callable[..., BatchResult]:
        """The guide's name of ``batch.change_storage_class``."""
        return self.batch.change_storage_class

    @property
    def batch_update_metadata(self) -> Callable[..., BatchResult]:
        """The guide's name of ``batch.update_metadata``."""
        return self.batch.update_metadata

    @property
    def batch_tag_objects(self) -> Callable[..., BatchResult]:
        """The guide's name of ``batch.tag_objects``."""
        return self.batch.tag_objects

    def call(self, cancel: Cancellation | None = None, reporter: Reporter = no_reporter) -> Call:
        """What one verb works with, for verbs that live elsewhere."""
        return self._call(cancel, reporter)

    def paced_store(self, call: Call, pace: Pace, policy: RetryPolicy) -> TransferStore:
        """A view of the store whose every attempt keeps ``pace``, repeating by ``policy``; nobody waits out an outage.

        An engine that was made without one (by ``store_for`` alone) gives its usual view.
        """
        if self._paced_store_for is None:
            return call.store
        return self._paced_store_for(call.cancel, call.reporter, pace, policy)

    def address(self, target: str | ObjectRef, version_id: str | None = None) -> ObjectRef:
        """The object that is meant; see the class. ConfigError without a configured bucket, or for two versions."""
        if isinstance(target, ObjectRef):
            ref = target
        elif target[:5].lower() == "s3://":
            ref = ObjectRef.parse(target)
        else:
            ref = ObjectRef(self._bucket(), target)
        if version_id is None:
            return ref
        if ref.version_id not in (None, version_id):
            raise ConfigError(f"two versions are named: {ref.version_id!r} and {version_id!r}")
        return replace(ref, version_id=version_id)

    def _where(self, prefix: str | KeyPrefix) -> KeyPrefix:
        if isinstance(prefix, KeyPrefix):
            return prefix
        return KeyPrefix.parse(prefix) if prefix[:5].lower() == "s3://" else KeyPrefix(self._bucket(), prefix)

    def _bucket(self) -> str:
        if self.config.bucket is None:
            raise ConfigError("a key alone needs EngineConfig(bucket=...); without it give s3://bucket/key")
        return self.config.bucket

    def _call(self, cancel: Cancellation | None, reporter: Reporter = no_reporter) -> Call:
        stop = cancel or Cancellation()
        return Call(
            store=self._store_for(stop, reporter),
            config=self.config,
            reporter=reporter,
            cancel=stop,
            rng=self._rng,
            monotonic=self._monotonic,
        )

    def _job(
        self,
        path: str,
        ref: ObjectRef,
        options: UploadOptions,
        ledger: Ledger[UploadToken],
        target: str,
        reporter: Reporter,
        cancel: Cancellation | None,
    ) -> UploadJob:
        stop = cancel or Cancellation()
        return UploadJob(
            path=path,
            ref=ref,
            options=with_engine_defaults(options, self.config),
            config=self.config,
            store=self._store_for(stop, reporter),
            ledger=ledger,
            target=target,
            reporter=reporter,
            cancel=stop,
            clock=self._clock,
            monotonic=self._monotonic,
            rng=self._rng,
        )

    def upload_file_multipart(
        self,
        path: str | os.PathLike[str],
        key: str,
        resume_state: ResumeState | None = None,
        *,
        options: UploadOptions | None = None,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> ResumeState:
        """The guide's resumable upload for scripts: into the configured bucket, returning a state that says how far
        it came.

        The state is kept in files as well (``tokens``, by default a FileTokenStore in the user's state directory), so
        that a script that was killed continues when it is run again with the same arguments. An error carries the
        state as ``resume_state``; pass it back, or nothing, to continue.
        """
        if self.config.bucket is None:
            raise ConfigError("upload_file_multipart needs EngineConfig(bucket=...)")
        ref = ObjectRef(self.config.bucket, key)
        kept = tokens or FileTokenStore(default_state_directory())
        name = state_key(target_hash("upload", ref, os.fspath(path)))
        if resume_state is not None:
            kept.save(name, state_mapping(resume_state))
        try:
            self.upload(path, ref, options, tokens=kept, reporter=reporter, cancel=cancel)
        except OrbitError as exc:
            exc.resume_state = state_of(key, kept.load(name))
            raise
        return state_of(key, kept.load(name)) or ResumeState(key, "{}")
