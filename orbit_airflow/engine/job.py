"""What one upload works with, in one value, so that its steps need few parameters."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orbit_airflow.engine.errors import AccessDenied, IntegrityError, InvalidRequest, NotFound, TargetExists
from orbit_airflow.engine.events import Notice, Reporter
from orbit_airflow.engine.model import Integrity, ObjectAttributes, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import EngineConfig, UploadOptions
from orbit_airflow.engine.proof import MARK, LocalProof, is_ours, proved, same_bytes
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.source import Source, SourceBytes, SourceFile
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.token import Ledger, Outcome, UploadToken


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadJob:
    """One upload's fixed things; the same for all its restarts. With ``data`` these bytes are sent, in one request, and
    ``path`` is only what messages call them.
    """

    path: str
    ref: ObjectRef
    options: UploadOptions
    config: EngineConfig
    store: TransferStore
    ledger: Ledger
    target: str
    reporter: Reporter
    cancel: Cancellation
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)
    data: memoryview | None = field(default=None, repr=False)

    def opened(self) -> Source:
        """What is sent, opened now. SourceError for a path that is no regular file."""
        return SourceFile(self.path) if self.data is None else SourceBytes(self.data)

    def in_one_request(self, size: int) -> bool:
        """True for what a PutObject carries; the rest has parts."""
        return self.data is not None or size < self.chunk_size

    @property
    def chunk_size(self) -> int:
        """The wished part size, which is also the size from which an upload has parts."""
        return self.options.chunk_size or self.config.chunk_size

    @property
    def checksums(self) -> bool:
        """True when checksums travel with the bytes."""
        chosen = self.options.verify_checksums
        return self.config.verify_checksums if chosen is None else chosen

    def marked(self, token: UploadToken) -> ObjectAttributes:
        """The object's attributes with this transfer's mark among its metadata."""
        attributes = self.options.attributes
        return replace(attributes, metadata=(*attributes.metadata, (MARK, token.mark)))

    def notice(self, message: str, *, warning: bool = False) -> None:
        """Tell the reader of the log."""
        self.reporter(Notice(message, warning))

    def existing(self, version_id: str | None = None) -> ObjectInfo | None:
        """What the key (or a version of it) holds now; None when nothing is there, or when it may not be looked at.

        Credentials that may only write are fit for a backup: then the conditions and checksums that go with the
        writing requests are all there is, and they are enough.
        """
        try:
            return self.store.head(replace(self.ref, version_id=version_id))
        except NotFound as exc:
            if exc.context.code == "NoSuchBucket":
                raise
            return None
        except AccessDenied:
            self.notice("these credentials may not look at the object (HEAD: 403); going on without")
            return None
        except InvalidRequest:
            # Some stores answer a write with a version id that they refuse to be asked for (moto, unversioned).
            if version_id is None:
                raise
            return self.existing()

    def refuse_foreign(self, token: UploadToken, size: int) -> None:
        """For replace=False: TargetExists when the key holds an object that this transfer did not write."""
        if self.options.replace:
            return
        info = self.existing()
        if info is not None and not is_ours(info, token.mark, size):
            raise TargetExists(f"{info.ref.uri} exists ({info.size} bytes) and replace is False")

    def recovered(self, token: UploadToken, source: Source, local: LocalProof | None) -> Outcome | None:
        """The object that a lost answer made, if the key holds it: recognised by our mark or by a checksum of all
        bytes, never by its size alone, and only if it holds what the file holds now.
        """
        info = self.existing()
        if info is None or info.size != source.size:
            return None
        ours = is_ours(info, token.mark, source.size)
        if not ours and (info.checksum is None or not self.options.replace):
            return None
        unchanged = source.identity == token.source
        if local is None or not unchanged:
            local = _rehashed(source, local, md5=info.checksum is None)
        if not ours:
            return outcome_of(info, local, Integrity.FULL_CRC) if same_bytes(info, local) else None
        try:
            integrity = proved(local, info.etag, info.checksum)
        except IntegrityError:
            if unchanged:
                raise
            return None
        certain = unchanged or integrity is not Integrity.SIZE_ETAG
        return outcome_of(info, local, integrity) if certain else None


def _rehashed(source: Source, local: LocalProof | None, *, md5: bool) -> LocalProof:
    """The file's own proof, read now; what an earlier try had worked out stays when the bytes are the same."""
    crc, digest = source.whole_digest(md5=md5)
    if local is not None and local.crc32 == crc:
        return local
    return LocalProof(source.size, crc, md5_etag=digest.hex() if digest is not None else None)


def outcome_of(info: ObjectInfo, local: LocalProof, integrity: Integrity) -> Outcome:
    """The result that HEAD shows."""
    return Outcome(
        etag=info.etag,
        size=info.size,
        integrity=integrity,
        crc32=local.crc32,
        version_id=info.version_id,
        checksum=info.checksum or local.checksum,
    )
