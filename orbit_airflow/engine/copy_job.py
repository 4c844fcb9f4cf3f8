"""What a copy in parts works with, and what it knows of its target: is that our copy, and what does it prove?"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.copy_plan import STRENGTH, compared, equals
from orbit_airflow.engine.copy_token import CopyToken
from orbit_airflow.engine.errors import (
    AccessDenied,
    ChecksumRefused,
    IntegrityError,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    StoreError,
    TargetExists,
    Unavailable,
    UploadGone,
)
from orbit_airflow.engine.events import Notice
from orbit_airflow.engine.job import Unseen
from orbit_airflow.engine.model import Checksum, ChecksumType, ObjectInfo, ObjectRef, PartReceipt, WriteReceipt
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.proof import MARK, is_ours
from orbit_airflow.engine.resilience.outcome import outcome_unknown
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import CompleteRequest, CopyRequest, TransferStore
from orbit_airflow.engine.token import Ledger, Outcome

# Codes with which stores say that the parts are not those that the request names.
_PARTS_DIFFER = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyJob:
    """One copy's fixed things. ``info`` is the source as it is pinned, ``request`` what the copy is to have, ``target``
    the hash that its token is bound to.
    """

    call: Call
    info: ObjectInfo
    ref: ObjectRef
    request: CopyRequest
    options: CopyOptions
    ledger: Ledger[CopyToken]
    target: str
    clock: Callable[[], float] = time.time

    @property
    def store(self) -> TransferStore:
        """The call's."""
        return self.call.store

    @property
    def cancel(self) -> Cancellation:
        """The call's."""
        return self.call.cancel

    def notice(self, message: str, *, warning: bool = False) -> None:
        """Tell the reader of the log."""
        self.call.reporter(Notice(message, warning))

    def look(self, version_id: str | None = None) -> ObjectInfo | Unseen:
        """What the key (or a version of it) holds now. HIDDEN is never taken for "nothing is there"."""
        try:
            return self.store.head(replace(self.ref, version_id=version_id))
        except NotFound as exc:
            if exc.context.code == "NoSuchBucket":
                raise
            return Unseen.ABSENT
        except AccessDenied:
            return Unseen.HIDDEN
        except InvalidRequest:
            # Some stores answer a write with a version id that they refuse to be asked for (moto, unversioned).
            if version_id is None:
                raise
            return self.look()

    def ours(self, found: ObjectInfo, token: CopyToken) -> bool:
        """True for what this copy made: by its mark, or by all that can be compared where there was no room for one."""
        if fits(self.request.attributes.metadata):
            return is_ours(found, token.mark, self.info.size)
        return equals(found, self.info, self.request)

    def refuse_foreign(self, token: CopyToken | None) -> None:
        """For replace=False: TargetExists when the key holds an object that this copy did not make."""
        if self.options.replace:
            return
        found = self.look()
        if isinstance(found, ObjectInfo) and (token is None or not self.ours(found, token)):
            raise TargetExists(f"{self.ref.uri} exists ({found.size} bytes) and replace is False")

    def refuse_another_source(self) -> None:
        """Some stores copy whatever is there, whatever If-Match says: look once more behind the last part."""
        if self.info.version_id is not None:
            return
        if self.store.head(self.request.source).etag != self.info.etag:
            raise PreconditionFailed(
                f"{self.info.ref.uri} was replaced while it was copied; the parts may be of either"
            )

    def outcome_of(self, found: ObjectInfo) -> Outcome:
        """The result that HEAD shows."""
        if found.size != self.info.size:
            raise IntegrityError(f"the copy has {found.size} bytes, its source {self.info.size}")
        integrity = compared(self.info, found.etag, found.checksum, in_parts=True)
        return Outcome(found.etag, found.size, integrity, None, found.version_id, found.checksum)


def fits(metadata: Sequence[tuple[str, str]]) -> bool:
    """True when there is room for a mark in S3's 2 KiB of user metadata."""
    return sum(len(name) + len(value) for name, value in metadata if name != MARK) + len(MARK) + 32 <= 2048


class CopyCompletion:
    """Completes one copy, or finds out that it is complete."""

    def __init__(self, job: CopyJob) -> None:
        self._job = job

    def run(self, token: CopyToken, receipts: Sequence[PartReceipt], *, last: bool) -> Outcome | None:
        """The outcome; None when the store's parts turn out to differ (and it is not the ``last`` chance).

        TargetExists when replace is False and somebody else was first. UploadGone when upload and copy are gone.
        """
        job, request = self._job, self._request(token, receipts)
        policy = job.call.config.policy
        for attempt in range(1, policy.max_attempts + 1):
            error: StoreError = Unavailable("Complete is answered, but without an ETag and without an object")
            try:
                receipt = job.store.complete(job.ref, request)
            except (ChecksumRefused, InvalidRequest) as exc:
                if not isinstance(exc, ChecksumRefused) and exc.context.code not in _PARTS_DIFFER:
                    raise
                if last:
                    raise IntegrityError(f"the copy's parts are not its source's ({exc.message})", exc.context) from exc
                return None
            except StoreError as exc:
                error = exc
            else:
                if receipt.etag:
                    return self._proved(token, receipt)
            outcome = self._after_no_answer(error, token)
            if outcome is not None:
                return outcome
            if attempt == policy.max_attempts:
                raise error
            job.call.pause(attempt, error)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def settled(self, token: CopyToken, *, wait: bool) -> Outcome | None:
        """The copy, if it is there. ``wait``: a Complete may still be at work, look for a while."""
        job = self._job
        deadline = job.call.monotonic() + (job.call.config.settle_seconds if wait else 0.0)
        pause = 0.25
        while True:
            found = job.look()
            if found is Unseen.HIDDEN and wait:
                raise AccessDenied(
                    "whether the copy is there cannot be told: the target may not be looked at (HEAD: 403)"
                )
            if isinstance(found, ObjectInfo) and job.ours(found, token):
                return job.outcome_of(found)
            if job.call.monotonic() >= deadline:
                return None
            job.cancel.sleep(pause)
            pause = min(pause * 2, 5.0)

    def _request(self, token: CopyToken, receipts: Sequence[PartReceipt]) -> CompleteRequest:
        job = self._job
        had = job.info.checksum
        comparable = token.checksum_type is ChecksumType.FULL_OBJECT and had is not None
        return CompleteRequest(
            upload_id=token.upload_id or "",
            receipts=tuple(receipts),
            size=job.info.size,
            # The store itself refuses a copy with another checksum than its source's, before it is visible.
            full_crc32=crc32_of(had) if comparable and had is not None else None,
            send_part_checksums=token.checksum_type is not None and all(item.crc32 is not None for item in receipts),
            if_none_match=not job.options.replace,
        )

    def _after_no_answer(self, error: StoreError, token: CopyToken) -> Outcome | None:
        """The copy, if it is there all the same; None when Complete may be repeated; else the error."""
        lost = outcome_unknown(error)
        if not lost and not isinstance(error, UploadGone | PreconditionFailed):
            raise error
        self._job.notice(f"Complete ended without a proper answer ({error}); asking the store what it has")
        outcome = self.settled(token, wait=isinstance(error, UploadGone))
        if outcome is not None or lost:
            return outcome
        if isinstance(error, PreconditionFailed):
            raise TargetExists(f"{self._job.ref.uri} exists and replace is False", error.context) from error
        raise error

    def _proved(self, token: CopyToken, receipt: WriteReceipt) -> Outcome:
        """From Complete's answer if it is the strongest proof, else with HEAD's help."""
        job = self._job
        integrity = compared(job.info, receipt.etag, receipt.checksum, in_parts=True)
        answer = Outcome(receipt.etag, job.info.size, integrity, None, receipt.version_id, receipt.checksum)
        if integrity is STRENGTH[-1]:
            return answer
        found = job.look()
        if not isinstance(found, ObjectInfo):
            return answer
        if not job.ours(found, token):
            if found.etag == receipt.etag:
                raise Unavailable("Complete was answered, but the key holds an object that is not of this copy")
            job.notice("another writer has replaced the copy already; the proof is Complete's own answer")
            return answer
        seen = job.outcome_of(found)
        return seen if STRENGTH.index(seen.integrity) >= STRENGTH.index(integrity) else answer


def crc32_of(checksum: Checksum | None) -> int | None:
    """The number behind a CRC32 over the full object (or a part), as S3 writes it; None for anything else."""
    if checksum is None or checksum.algorithm != "CRC32" or checksum.type is not ChecksumType.FULL_OBJECT:
        return None
    try:
        raw = b64decode(checksum.value, validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None
