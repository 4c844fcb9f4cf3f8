"""Small and empty files: one PutObject, which is atomic by itself."""

from __future__ import annotations

from dataclasses import replace

from orbit_airflow.engine.body import MeteredBody, PartBody, buffer_for
from orbit_airflow.engine.errors import (
    ChecksumRefused,
    IntegrityError,
    InvalidRequest,
    PreconditionFailed,
    SourceChanged,
    StoreError,
    TargetExists,
    Unavailable,
)
from orbit_airflow.engine.events import Meter, TransferStarted
from orbit_airflow.engine.job import Unseen, UploadJob, outcome_of
from orbit_airflow.engine.model import Integrity, ObjectInfo, Part, WriteReceipt
from orbit_airflow.engine.proof import LocalProof, proved
from orbit_airflow.engine.resilience.outcome import outcome_unknown, refuses_checksums
from orbit_airflow.engine.source import Source
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.engine.token import Outcome, UploadToken

# How often the bytes are read when the store says that others arrived.
MAX_READINGS = 3


class SinglePut:
    """One file below the chunk size. A lost answer is settled by our mark before anything is sent again."""

    def __init__(self, job: UploadJob, source: Source, meter: Meter) -> None:
        self._job = job
        self._source = source
        self._meter = meter

    def run(self, token: UploadToken) -> Outcome:
        """The object's outcome, already saved as done. TargetExists, SourceChanged and StoreError as they come."""
        job, size = self._job, self._source.size
        job.reporter(TransferStarted(key=job.ref.key, total_bytes=size, part_size=size))
        for reading in range(1, MAX_READINGS + 1):
            body = PartBody(self._source, Part(1, 0, size), buffer_for(size), md5=False)
            self._fence(body)
            local = LocalProof(size, body.crc32)
            try:
                receipt = self._send(token, body, local)
            except ChecksumRefused as exc:
                job.notice("the store got other bytes than were hashed; reading them again")
                if reading == MAX_READINGS:
                    raise IntegrityError(
                        f"{job.path} never arrived as it was read: memory, disk or line are not sound", exc.context
                    ) from exc
            else:
                outcome = receipt if isinstance(receipt, Outcome) else self._proved(local, receipt)
                job.ledger.save(token.done(outcome))
                return outcome
        raise AssertionError("the last reading returns or raises")  # pragma: no cover

    def _fence(self, body: PartBody) -> None:
        """Before the one request that makes the object visible: what was read is what the file holds."""
        change = self._source.change()
        if change is None:
            if not self._source.just_written:
                return
            change = "was being written"
        with self._job.opened() as now:
            if now.size != body.size or now.whole_digest(md5=False)[0] != body.crc32:
                raise SourceChanged(f"{self._job.path} {change} while it was read; nothing was sent")
        self._source.settle()

    def _send(self, token: UploadToken, body: PartBody, local: LocalProof) -> WriteReceipt | Outcome:
        job = self._job
        digests = PartDigests(crc32=body.crc32) if job.checksums else PartDigests()
        metered = MeteredBody(body, self._meter, job.cancel.check)
        policy = job.config.policy
        lost, attempt = token.sweep, 1
        while True:
            try:
                receipt = job.store.put(
                    job.ref, metered, digests, job.marked(token), if_none_match=not job.options.replace
                )
                if receipt.etag:
                    return receipt
                # A captive portal answers 200 to everything; what no ETag comes with is no object.
                raise Unavailable("the answer to PutObject has no ETag")
            except PreconditionFailed as exc:
                return self._ours_or_taken(token, local, exc, lost=lost)
            except InvalidRequest as exc:
                metered.take_back()
                if digests.crc32 is None or not refuses_checksums(exc):
                    raise
                job.notice("the store refuses checksum headers; sending a Content-MD5 instead")
                digests = PartDigests(md5=self._source.whole_digest(md5=True)[1])
            except StoreError as exc:
                metered.take_back()
                if not outcome_unknown(exc):
                    raise
                lost = True
                job.notice(f"the answer to PutObject was lost ({exc.message}); asking the store what it has")
                recovered = job.recovered(token, self._source, local)
                if recovered is not None:
                    return recovered
                if attempt == policy.max_attempts:
                    raise
                job.cancel.sleep(policy.delay(attempt, exc, job.rng))
                attempt += 1

    def _ours_or_taken(
        self, token: UploadToken, local: LocalProof, error: PreconditionFailed, *, lost: bool
    ) -> Outcome:
        """412: the key is taken, by us if an answer was lost before."""
        recovered = self._job.recovered(token, self._source, local, must_see=lost)
        if recovered is not None:
            return recovered
        raise TargetExists(f"{self._job.ref.uri} exists and replace is False", error.context) from error

    def _proved(self, local: LocalProof, receipt: WriteReceipt) -> Outcome:
        """From the answer if it says enough, else from HEAD."""
        job = self._job
        integrity = proved(local, receipt.etag, receipt.checksum)
        if integrity is Integrity.FULL_CRC:
            checksum = receipt.checksum or local.checksum
            return Outcome(receipt.etag, local.size, integrity, local.crc32, receipt.version_id, checksum)
        md5 = self._source.whole_digest(md5=True, check=job.cancel.check)[1] if job.checksums else None
        full = replace(local, md5_etag=md5.hex() if md5 is not None else None)
        integrity = proved(full, receipt.etag, receipt.checksum)
        answer = Outcome(receipt.etag, local.size, integrity, local.crc32, receipt.version_id, local.checksum)
        info = job.look(receipt.version_id)
        if isinstance(info, ObjectInfo) and info.size == local.size and info.etag == receipt.etag:
            return outcome_of(info, full, proved(full, info.etag, info.checksum))
        if info is Unseen.ABSENT and integrity is Integrity.SIZE_ETAG:
            raise Unavailable("PutObject was answered, but there is no object")
        job.notice("the object cannot be looked at, or another writer has replaced it; the proof is the answer's")
        return answer
