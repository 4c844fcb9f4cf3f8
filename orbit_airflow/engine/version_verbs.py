"""The guide's versioning verbs, as ``engine.versions``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.compare import VersionComparison, compare_versions
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.model import CopyResult, DeleteReceipt, DownloadResult, KeyPrefix, ObjectRef
from orbit_airflow.engine.options import CopyOptions, DownloadOptions
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.token import TokenStore
from orbit_airflow.engine.versioning import NULL, ListedVersion, ObjectVersions, VersioningState, VersioningStatus
from orbit_airflow.engine.versions import (
    RestoreResult,
    UndeleteResult,
    all_of,
    every_version,
    refuse_loss_of_null,
    shows,
    undelete,
    version_at,
    versions_of,
)


class Copy(Protocol):
    """The engine's ``copy_object``."""

    def __call__(
        self,
        source: str | ObjectRef,
        target: str | ObjectRef,
        options: CopyOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> CopyResult:
        """Copy inside the store."""


class Download(Protocol):
    """The engine's ``download``."""

    def __call__(
        self,
        target: str | ObjectRef,
        path: str | os.PathLike[str],
        options: DownloadOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> DownloadResult:
        """Download an object to a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbs:
    """What the versions need of their engine."""

    call: Callable[[Cancellation | None, Reporter], Call]
    address: Callable[[str | ObjectRef, str | None], ObjectRef]
    where: Callable[[str | KeyPrefix], KeyPrefix]
    bucket: Callable[[], str]
    copy: Copy
    download: Download


class Versions:
    """Versions of objects. Addresses and errors are the engine's; every verb takes ``cancel``.

    A bucket is the configured one unless it is named. A version id is text as S3 gave it, "null" for what was written
    while the bucket kept no versions.
    """

    def __init__(self, engine: Verbs) -> None:
        self._engine = engine

    def enable_versioning(self, bucket: str | None = None, *, cancel: Cancellation | None = None) -> None:
        """From now on every write makes a version of its own. Objects that are there become the version "null".

        AWS says that it may take some minutes until all of it sees that.
        """
        self._put(bucket, VersioningState.ENABLED, cancel)

    def suspend_versioning(self, bucket: str | None = None, *, cancel: Cancellation | None = None) -> None:
        """Keep the versions that are there; from now on a write or delete overwrites the version "null" of its key."""
        self._put(bucket, VersioningState.SUSPENDED, cancel)

    def get_versioning_status(
        self, bucket: str | None = None, *, cancel: Cancellation | None = None
    ) -> VersioningStatus:
        """Whether the bucket keeps versions: ``.enabled``, ``.status`` and ``.mfa_delete``."""
        return self._call(cancel).store.get_versioning(bucket or self._engine.bucket())

    def list_object_versions(self, target: str | ObjectRef, *, cancel: Cancellation | None = None) -> ObjectVersions:
        """All versions and delete markers of this very key, newest first; empty when it never was. In memory: a key
        may have any number of them, see ``iter_object_versions``.
        """
        return all_of(self._call(cancel), self._engine.address(target, None))

    def iter_object_versions(
        self, target: str | ObjectRef, *, cancel: Cancellation | None = None
    ) -> Iterator[ListedVersion]:
        """The same, page by page in constant memory."""
        return versions_of(self._call(cancel), self._engine.address(target, None))

    def iter_versions(
        self, prefix: str | KeyPrefix = "", *, cancel: Cancellation | None = None
    ) -> Iterator[ListedVersion]:
        """All versions and delete markers of all keys that begin with ``prefix``, page by page in constant memory."""
        return every_version(self._call(cancel), self._engine.where(prefix))

    def version_at(
        self, target: str | ObjectRef, moment: datetime, *, cancel: Cancellation | None = None
    ) -> ListedVersion | None:
        """What the key showed at ``moment`` (with a time zone): a version, a delete marker, or None: it was not there.

        By the store's LastModified, in whole seconds; what was written in the very second counts as there.
        """
        return version_at(self._call(cancel), self._engine.address(target, None), moment)

    def download_version(
        self,
        target: str | ObjectRef,
        version_id: str,
        path: str | os.PathLike[str],
        options: DownloadOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> DownloadResult:
        """The engine's ``download`` of this very version: it continues where an earlier try ended."""
        ref = self._engine.address(target, version_id)
        return self._engine.download(ref, path, options, tokens=tokens, reporter=reporter, cancel=cancel)

    def restore_version(
        self,
        target: str | ObjectRef,
        version_id: str,
        options: CopyOptions | None = None,
        *,
        overwrite_null: bool = False,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> RestoreResult:
        """Make this version what the key shows, by a copy of it onto the key, inside the store, of any size.

        The version itself stays as it was. The copy keeps headers, metadata, tags, class and encryption, unless
        ``options`` say otherwise; ``result.not_kept`` names what it has not. A version that the key shows already is
        not copied (unless ``options`` change it). ObjectDeleted for a delete marker, NotFound for no such version.
        ConfigError in a bucket whose versioning is suspended when the copy would destroy the version "null", which it
        replaces, and the one to be restored is another; ``overwrite_null`` allows that. The version "null" is never
        copied over itself there. A copy in parts continues what an earlier try left in ``tokens``.
        """
        ref, chosen = self._engine.address(target, version_id), options or CopyOptions()
        key = replace(ref, version_id=None)
        with OperationReporter(reporter) as told:
            call = self._call(cancel, told)
            if not chosen.changes_something and shows(call, ref):
                return RestoreResult(ref=key, version_id=version_id, changed=False)
            if not overwrite_null or version_id == NULL:
                refuse_loss_of_null(call, ref)
        copied = self._engine.copy(ref, key, chosen, tokens=tokens, reporter=reporter, cancel=cancel)
        return RestoreResult(ref=copied.ref, version_id=copied.version_id, changed=True, copy=copied)

    def undelete(self, target: str | ObjectRef, *, cancel: Cancellation | None = None) -> UndeleteResult:
        """Take the delete markers off the key, so that its newest version shows again, with all that it has.

        Nothing is copied, and a key that is not deleted stays as it is. NotFound when there is no version to show.
        """
        return undelete(self._call(cancel), self._engine.address(target, None))

    def delete_version(
        self, target: str | ObjectRef, version_id: str, *, cancel: Cancellation | None = None
    ) -> DeleteReceipt:
        """Remove this version, or this delete marker, for good. One that is not there is a success.

        ObjectLocked when a retention or legal hold protects it; AccessDenied also where MFA delete is on.
        """
        return self._call(cancel).store.delete(self._engine.address(target, version_id))

    def compare_versions(
        self,
        target: str | ObjectRef,
        version_id_a: str,
        version_id_b: str,
        *,
        read_bytes: bool = False,
        cancel: Cancellation | None = None,
    ) -> VersionComparison:
        """From version a to version b: size and time, and whether the bytes differ, as far as two HEADs tell.

        ``read_bytes``: where they do not, both are read, in constant memory, until the first difference.
        ObjectDeleted for a delete marker, which has neither size nor bytes.
        """
        refs = self._engine.address(target, version_id_a), self._engine.address(target, version_id_b)
        return compare_versions(self._call(cancel), *refs, read_bytes=read_bytes)

    def _put(self, bucket: str | None, state: VersioningState, cancel: Cancellation | None) -> None:
        self._call(cancel).store.put_versioning(bucket or self._engine.bucket(), state)

    def _call(self, cancel: Cancellation | None, reporter: Reporter = no_reporter) -> Call:
        return self._engine.call(cancel, reporter)
