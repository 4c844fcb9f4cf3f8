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
from orbit_airflow.engine.job import UploadJob, outcome_of
from orbit_airflow.engine.model import ChecksumType, Integrity, PartReceipt, WriteReceipt
from orbit_airflow.engine.proof import LocalProof, is_ours, proved
from orbit_airflow.engine.resilience.outcome import outcome_unknown
from orbit_airflow.engine.source import Source
from orbit_airflow.engine.store import CompleteRequest
from orbit_airflow.engine.token import Outcome, UploadToken

# Codes with which stores say that the parts are not those that the request names.
_PARTS_DIFFER = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge"})
_STRENGTH = (Integrity.SIZE_ETAG, Integrity.MD5, Integrity.PART_CRC, Integrity.FULL_CRC)


class Completion:
    """Completes one upload, or finds out that it is complete."""

    def __init__(self, job: UploadJob, source: Source) -> None:
        self._job = job
        self._source = source

    def run(
        self, token: UploadToken, receipts: Sequence[PartReceipt], local: LocalProof, *, last: bool
    ) -> Outcome | None:
        """The outcome; None when the store's parts turn out to differ (and it is not the ``last`` chance).

        TargetExists when replace is False and somebody else was first. UploadGone when upload and object are gone.
        """
        job = self._job
        request = self._request(token, receipts, local)
        policy = job.config.policy
        for attempt in range(1, policy.max_attempts + 1):
            try:
                receipt = job.store.complete(job.ref, request)
            except (ChecksumRefused, InvalidRequest) as exc:
                if not isinstance(exc, ChecksumRefused) and exc.context.code not in _PARTS_DIFFER:
                    raise
                if not last:
                    return None
                raise IntegrityError(
                    f"the store's parts are not what was sent, and sending them again did not help ({exc.message})",
                    exc.context,
                ) from exc
            except StoreError as exc:
                return self._after_error(exc, token)
            if receipt.etag:
                return self._proved(token, local, receipt)
            job.notice("Complete was answered without an ETag; asking the store what it has")
            outcome = self.settled(token, wait=False)
            if outcome is not None:
                return outcome
            job.cancel.sleep(policy.delay(attempt, None, job.rng))
        raise Unavailable("Complete is answered, but without an ETag and without an object")

    def settled(self, token: UploadToken, *, wait: bool) -> Outcome | None:
        """The object of this upload, if it is there. ``wait``: a Complete may still be at work, look for a while.

        A dead worker's Complete goes on at the store for minutes; starting again at once would write a second version.
        """
        job = self._job
        deadline = job.monotonic() + (job.config.settle_seconds if wait else 0.0)
        pause = 0.25
        while True:
            outcome = job.recovered(token, self._source, token.local)
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

    def _after_error(self, error: StoreError, token: UploadToken) -> Outcome:
        """The object is there all the same, or the error stands."""
        unclear = isinstance(error, UploadGone | PreconditionFailed) or outcome_unknown(error)
        if not unclear:
            raise error
        self._job.notice(f"Complete ended without a proper answer ({error}); asking the store what it has")
        outcome = self.settled(token, wait=isinstance(error, UploadGone))
        if outcome is not None:
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
        info = self._job.existing(receipt.version_id)
        if info is None or not is_ours(info, token.mark, info.size):
            if info is not None and integrity is Integrity.SIZE_ETAG:
                # Ceph answers a Complete of an unknown upload with the ETag of whatever lies under the key.
                raise Unavailable("Complete was answered, but the key holds an object that is not of this upload")
            self._job.notice(
                "the object cannot be looked at, or another writer has replaced it; the proof is the answer's"
            )
            return answer
        if info.size != local.size:
            raise IntegrityError(f"the object has {info.size} bytes, {local.size} were sent")
        seen = proved(local, info.etag, info.checksum)
        best = max(integrity, seen, key=_STRENGTH.index)
        return outcome_of(info, local, best)
