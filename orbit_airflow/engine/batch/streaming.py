"""Copies between stores, or between accounts that may not read each other: through this machine, object by object."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orbit_airflow.engine.batch.change import Copy
from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.second_look import Likeness, likeness
from orbit_airflow.engine.batch.work import Hands
from orbit_airflow.engine.copy_plan import copy_request, not_kept
from orbit_airflow.engine.errors import AccessDenied, NotFound, Unsupported
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import ObjectAttributes, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import DownloadOptions, UploadOptions
from orbit_airflow.engine.proof import MARK


@dataclass(frozen=True, kw_only=True)
class StreamedCopy(Copy):
    """As Copy, with one engine that reads and another one that writes.

    Each object is downloaded into a file in ``directory`` (None: the system's temporary one) and uploaded from there,
    both proved as downloads and uploads are; the file is gone afterwards. Memory is that of transfers, the disk must
    have room for as many objects as run at once. A key that was interrupted begins anew. KMS keys belong to an account
    and are not taken along: the target's bucket decides, unless ``options`` do.
    """

    reader: TransferEngine = field(repr=False)
    writer: TransferEngine = field(repr=False)
    directory: str | None = None

    def __post_init__(self) -> None:
        """The same address in another store is another object."""
        self._check_addresses()

    def words(self) -> list[object]:
        """What is copied whereto; the engines are how."""
        return [self.bucket, self.dest_prefix, self.dest_bucket, self.strip_prefix, self.options, "streamed"]

    def change(self, hands: Hands, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """One copy; when it may have been made, the target is looked at first."""
        source, target = entry.ref(self.bucket), self.target(entry.key)
        info = hands.call.store.head(source)
        attributes, lost = self._attributes(hands, info)
        if again:
            found = self._found(target)
            if found is not None and likeness(found, info, self.options) is Likeness.SAME:
                return KeyOutcome.done(entry, found.version_id, lost)
        hands.untimed()
        pinned = replace(source, version_id=source.version_id or info.version_id)
        made = self._through_file(hands, pinned, target, attributes)
        return KeyOutcome.done(entry, made, lost)

    def _through_file(
        self, hands: Hands, source: ObjectRef, target: ObjectRef, attributes: ObjectAttributes
    ) -> str | None:
        """The version that was made."""
        cancel = hands.call.cancel
        with tempfile.TemporaryDirectory(prefix="orbit-copy-", dir=self.directory) as folder:
            path = os.path.join(folder, "object")
            self.reader.download(source, path, DownloadOptions(resume=False), cancel=cancel)
            options = UploadOptions(replace=self.options.replace, attributes=attributes, resume=False)
            return self.writer.upload(path, target, options, cancel=cancel).version_id

    def _found(self, target: ObjectRef) -> ObjectInfo | None:
        try:
            return self.writer.get_metadata(target)
        except NotFound:
            return None

    def _attributes(self, hands: Hands, info: ObjectInfo) -> tuple[ObjectAttributes, tuple[str, ...]]:
        """What the target gets, and the names of what it does not."""
        lost = list(not_kept(info))
        wanted = copy_request(info.ref, info, self.options, in_parts=True).attributes
        tags, extra = self.options.tags, wanted.extra_args
        if tags is None:
            tags = _unless_refused(lambda: hands.call.store.get_tags(info.ref), lost)
        encryption, key = self.options.server_side_encryption, self.options.kms_key_id
        if encryption is None:
            lost += ["encryption"] if (info.server_side_encryption or "").startswith("aws:kms") else []
            extra = tuple(item for item in extra if item[0] != "BucketKeyEnabled")
        metadata = tuple(item for item in wanted.metadata if item[0] != MARK)
        kept = replace(
            wanted, tags=tags, metadata=metadata, extra_args=extra, server_side_encryption=encryption, kms_key_id=key
        )
        return kept, tuple(lost)


def _unless_refused(ask: Callable[[], tuple[tuple[str, str], ...]], lost: list[str]) -> tuple[tuple[str, str], ...]:
    """Tags need a right of their own, and some stores have none."""
    try:
        return tuple(ask())
    except (AccessDenied, Unsupported):
        lost.append("tags")
        return ()
