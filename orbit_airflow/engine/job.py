"""What one upload works with, in one value, so that its steps need few parameters."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from orbit_airflow.engine.errors import (
    AccessDenied,
    ClockSkewed,
    CredentialsExpired,
    IntegrityError,
    InvalidRequest,
    NotFound,
    RequestContext,
    TargetExists,
)
from orbit_airflow.engine.events import Notice, Reporter
from orbit_airflow.engine.model import Integrity, ObjectAttributes, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import EngineConfig, UploadOptions
from orbit_airflow.engine.proof import MARK, LocalProof, comparable, is_ours, proved, same_bytes
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.source import Source, SourceBytes, SourceFile
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.tags import set_dropped_tags
from orbit_airflow.engine.token import Ledger, Outcome, UploadToken

# A HEAD has no body, so a refusal is a bare status; these are its spellings. Any other code says what is wrong.
_BARE_DENIALS = frozenset({"403", "Forbidden", "AccessDenied"})


class Unseen(Enum):
    """Why a look at an object showed none."""

    ABSENT = "absent"
    HIDDEN = "hidden"


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
    ledger: Ledger[UploadToken]
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

    def tag(self, outcome: Outcome) -> None:
        """Behind a Complete: some stores drop the tags that came with Create. As ``set_dropped_tags``."""
        made = replace(self.ref, version_id=outcome.version_id)
        set_dropped_tags(self.store, made, outcome.etag, self.options.attributes.tags, self.notice)

    def look(self, version_id: str | None = None) -> ObjectInfo | Unseen:
        """What the key (or a version of it) holds now.

        HIDDEN: credentials that may only write are fit for a backup; then the conditions and checksums that go with
        the writing requests are all there is. It is never taken for "nothing is there".
        """
        try:
            return self.store.head(replace(self.ref, version_id=version_id))
        except NotFound as exc:
            if exc.context.code == "NoSuchBucket":
                raise
            return Unseen.ABSENT
        except (CredentialsExpired, ClockSkewed) as exc:
            if version_id is not None and exc.context.code == "400":
                return self.look()
            raise
        except AccessDenied as exc:
            if not exc.context.sent or exc.context.code not in _BARE_DENIALS:
                raise
            return Unseen.HIDDEN
        except InvalidRequest:
            # Some stores answer a write with a version id that they refuse to be asked for (moto, unversioned).
            if version_id is None:
                raise
            return self.look()

    def refuse_foreign(self, token: UploadToken, size: int) -> None:
        """For replace=False: TargetExists when the key holds an object that this transfer did not write."""
        if self.options.replace:
            return
        info = self.look()
        if isinstance(info, ObjectInfo) and not is_ours(info, token.mark, size):
            raise TargetExists(f"{info.ref.uri} exists ({info.size} bytes) and replace is False")

    def recovered(
        self,
        token: UploadToken,
        source: Source,
        local: LocalProof | None,
        *,
        by_checksum: bool = False,
        must_see: bool = False,
    ) -> Outcome | None:
        """The object that a lost answer made, if the key holds it and it holds what the file holds now.

        It is recognised by our mark, or, ``by_checksum`` (only when our own request for it was certainly made), by a
        checksum of all bytes; never by its size alone. ``must_see``: AccessDenied when it may not be looked at.
        """
        info = self.look()
        if info is Unseen.HIDDEN and must_see:
            raise AccessDenied(
                "an answer was lost, and whether the object is there cannot be told: these credentials may not look at "
                "it (HEAD: 403, s3:GetObject is missing); nothing is sent twice",
                RequestContext("HeadObject", self.ref.bucket, self.ref.key, token.upload_id, status=403),
            )
        if not isinstance(info, ObjectInfo) or info.size != source.size:
            return None
        ours = is_ours(info, token.mark, source.size)
        if not ours and token.adopted and local is not None:
            return self._proved_by_bytes(info, local)
        if not ours and not (by_checksum and self.options.replace and comparable(info)):
            return None
        unchanged = source.identity == token.source
        if local is None or not unchanged:
            local = self._rehashed(source, local, md5=info.checksum is None)
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

    def _proved_by_bytes(self, info: ObjectInfo, local: LocalProof) -> Outcome | None:
        """The object of an adopted upload: its mark is not known here, its bytes are."""
        try:
            integrity = proved(local, info.etag, info.checksum)
        except IntegrityError:
            return None
        return None if integrity is Integrity.SIZE_ETAG else outcome_of(info, local, integrity)

    def _rehashed(self, source: Source, local: LocalProof | None, *, md5: bool) -> LocalProof:
        """The file's own proof, as of now; what an earlier try had worked out stays when the bytes are the same."""
        crc, digest = source.whole_digest(md5=md5, check=self.cancel.check)
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
