"""Complete: the one request that makes the object visible, and the question what happened when its answer is lost."""

from __future__ import annotations

from collections.abc import Sequence

from orbit_airflow.engine.errors import (
    ChecksumRefused,
    IntegrityError,
    InvalidRequest,
    PreconditionFailed,
    StoreError,
    TargetExists,
    Unavailable,
    UploadGone,
)
from orbit_airflow.engine.job import Unseen, UploadJob, outcome_of
from orbit_airflow.engine.model import ChecksumType, Integrity, ObjectInfo, PartReceipt, WriteReceipt
from orbit_airflow.engine.proof import LocalProof, is_ours, proved
from orbit_airflow.engine.resilience.outcome import outcome_unknown
from orbit_airflow.engine.source import Source
from orbit_airflow.engine.store import CompleteRequest
from orbit_airflow.engine.token import Outcome, Phase, UploadToken

# Codes with which stores say that the parts are not those that the request names.
_PARTS_DIFFER = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge"})
_STRENGTH = (Integrity.SIZE_ETAG, Integrity.MD5, Integrity.PART_CRC, Integrity.FULL_CRC)


class Completion:
    """Completes one upload, or finds out that it is complete."""

    def __init__(self, job: UploadJob, source: Source, *, maybe_done: bool = False) -> None:
        self._job = job
        self._source = source
        # A Complete of this upload was sent and not answered, by this try or by an earlier one.
        self.maybe_done = maybe_done

    def run(
        self, token: UploadToken, receipts: Sequence[PartReceipt], local: LocalProof, *, last: bool
    ) -> Outcome | None:
        """The outcome; None when the store's parts turn out to differ (and it is not the ``last`` chance).

        TargetExists when replace is False and somebody else was first. UploadGone when upload and object are gone.
        """
        job = self._job
        request = self._request(token, receipts, local)
        policy = job.config.policy
        deadline = job.monotonic() + job.config.timeout_seconds
        for attempt in range(1, policy.max_attempts + 1):
            error: StoreError = Unavailable("Complete is answered, but without an ETag and without an object")
            try:
                receipt = job.store.complete(job.ref, request)
            except (ChecksumRefused, InvalidRequest) as exc:
                self._parts_refused(exc, last=last)
                return None
            except StoreError as exc:
                error = exc
            else:
                if receipt.etag:
                    return self._proved(token, local, receipt)
            outcome = self._after_no_answer(error, token)
            if outcome is not None:
                return outcome
            if attempt == policy.max_attempts or job.monotonic() >= deadline:
                raise error
            job.cancel.sleep(policy.delay(attempt, error, job.rng))
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _parts_refused(self, error: StoreError, *, last: bool) -> None:
        """None when comparing and repairing may help; else the error."""
        if not isinstance(error, ChecksumRefused) and error.context.code not in _PARTS_DIFFER:
            raise error
        if last:
            raise IntegrityError(
                f"the store's parts are not what was sent, and sending them again did not help ({error.message})",
                error.context,
            ) from error

    def settled(self, token: UploadToken, *, wait: bool, must_see: bool) -> Outcome | None:
        """The object of this upload, if it is there. ``wait``: a Complete may still be at work, look for a while.
        ``must_see``: AccessDenied when it may not be looked at.

        A dead worker's Complete goes on at the store for minutes; starting again at once would write a second version.
        """
        job = self._job
        deadline = job.monotonic() + (job.config.settle_seconds if wait else 0.0)
        by_checksum = token.phase is Phase.COMPLETING
        pause = 0.25
        while True:
            outcome = job.recovered(token, self._source, token.local, by_checksum=by_checksum, must_see=must_see)
            if outcome is not None or job.monotonic() >= deadline:
                return outcome
            job.cancel.sleep(min(pause, max(0.0, deadline - job.monotonic())))
            pause = min(pause * 2, 5.0)

    def _request(self, token: UploadToken, receipts: Sequence[PartReceipt], local: LocalProof) -> CompleteRequest:
        return CompleteRequest(
            upload_id=token.upload_id or "",
            receipts=tuple(receipts),
            size=local.size,
            full_crc32=local.crc32 if token.checksum_type is ChecksumType.FULL_OBJECT else None,
            send_part_checksums=token.checksum_algorithm is not None,
            if_none_match=not self._job.options.replace,
        )

    def _after_no_answer(self, error: StoreError, token: UploadToken) -> Outcome | None:
        """The object, if it is there all the same; None when Complete may be repeated; else the error."""
        lost = outcome_unknown(error)
        if not lost and not isinstance(error, UploadGone | PreconditionFailed):
            raise error
        self._job.notice(f"Complete ended without a proper answer ({error}); asking the store what it has")
        must_see = self.maybe_done and not lost
        outcome = self.settled(token, wait=isinstance(error, UploadGone), must_see=must_see)
        if outcome is not None or lost:
            self.maybe_done = True
            return outcome
        if isinstance(error, PreconditionFailed):
            raise TargetExists(f"{self._job.ref.uri} exists and replace is False", error.context) from error
        raise error

    def _proved(self, token: UploadToken, local: LocalProof, receipt: WriteReceipt) -> Outcome:
        """From Complete's answer if it is the strongest proof, else with HEAD's help."""
        integrity = proved(local, receipt.etag, receipt.checksum)
        answer = Outcome(
            receipt.etag, local.size, integrity, local.crc32, receipt.version_id, receipt.checksum or local.checksum
        )
        if integrity is Integrity.FULL_CRC:
            return answer
        info = self._job.look(receipt.version_id)
        if info is Unseen.HIDDEN:
            return answer
        if not isinstance(info, ObjectInfo) or not is_ours(info, token.mark, info.size):
            if token.adopted and isinstance(info, ObjectInfo) and info.etag == receipt.etag:
                return answer
            self._refuse_hollow(info, receipt, integrity)
            self._job.notice("another writer has replaced the object already; the proof is Complete's own answer")
            return answer
        if info.size != local.size:
            raise IntegrityError(f"the object has {info.size} bytes, {local.size} were sent")
        seen = proved(local, info.etag, info.checksum)
        best = max(integrity, seen, key=_STRENGTH.index)
        return outcome_of(info, local, best)

    @staticmethod
    def _refuse_hollow(info: ObjectInfo | Unseen, receipt: WriteReceipt, integrity: Integrity) -> None:
        """An answer that proves nothing needs an object to go with it.

        Ceph answers a Complete of an upload that is gone with the ETag of the object under the key, if that is the
        ETag that these parts would have: the answer is about somebody else's object then.
        """
        if integrity is not Integrity.SIZE_ETAG:
            return
        if not isinstance(info, ObjectInfo):
            raise Unavailable("Complete was answered, but there is no object")
        if info.etag == receipt.etag:
            raise Unavailable("Complete was answered, but the key holds an object that is not of this upload")
