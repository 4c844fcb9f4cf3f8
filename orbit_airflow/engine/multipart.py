"""Files with parts: begin or continue, send what is missing, prove, complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orbit_airflow.engine.adopt import adopt_lost_upload
from orbit_airflow.engine.body import MeteredBody, PartBody, WorkerBuffers
from orbit_airflow.engine.complete import Completion
from orbit_airflow.engine.errors import (
    ChecksumRefused,
    IntegrityError,
    InvalidRequest,
    OrbitError,
    SourceChanged,
    StoreError,
    TargetExists,
    UploadGone,
    WrongEndpoint,
)
from orbit_airflow.engine.events import Meter, TransferStarted
from orbit_airflow.engine.fence import verify_unchanged
from orbit_airflow.engine.inventory import Inventory
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.model import CreatedUpload, ObjectInfo, Part, PartReceipt
from orbit_airflow.engine.plan import PartPlan, part_size_for
from orbit_airflow.engine.proof import MARK, LocalProof, is_ours
from orbit_airflow.engine.resilience.outcome import outcome_unknown, refuses_checksums
from orbit_airflow.engine.runner import Cancellation, run_all
from orbit_airflow.engine.source import Source
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.engine.sweep import sweep_lost_creates
from orbit_airflow.engine.token import Outcome, Phase, UploadToken

# How often the parts are compared and repaired when Complete says that they are not what we say they are.
MAX_REPAIRS = 2
# How often a part's bytes are read when the store says that others arrived.
MAX_READINGS = 3


class MultipartUpload:
    """One multipart upload of one open file."""

    def __init__(self, job: UploadJob, source: Source, meter: Meter) -> None:
        self._job = job
        self._source = source
        self._meter = meter
        self._receipts: dict[int, PartReceipt] = {}
        self._abort_date: str | None = None
        self._maybe_done = False

    def run(self, token: UploadToken) -> tuple[Outcome, int]:
        """The outcome, saved as done, and the number of parts that earlier tries had sent.

        UploadGone only when the upload is gone *and* its object is not there. On every other error the parts are kept
        and the error says so.
        """
        try:
            return self._run(token)
        except (SourceChanged, TargetExists, UploadGone):
            raise
        except OrbitError as exc:
            raise self._with_what_is_kept(exc) from exc

    def _run(self, token: UploadToken) -> tuple[Outcome, int]:
        if token.upload_id is None:
            token = self._adopted(self._begin(token))
        else:
            settled = self._continue(token)
            if settled is not None:
                return self._done(token, settled), PartPlan(self._source.size, token.part_size or 1).count
            if not self._receipts:
                # Killed before it had sent, or adopted, anything.
                token = self._adopted(token)
        found = len(self._receipts)
        plan = PartPlan(self._source.size, token.part_size or 1)
        self._announce(token, plan, found)
        try:
            self._send_missing(token, plan)
            return self._finish(token, plan), found
        except _Settled as settled:
            return self._done(token, settled.outcome), found

    def _begin(self, token: UploadToken) -> UploadToken:
        job = self._job
        part_size = part_size_for(self._source.size, job.chunk_size, job.config.limits)
        if part_size != job.chunk_size:
            job.notice(f"parts of {part_size} bytes instead of {job.chunk_size}, so that 10,000 are enough")
        created = self._create(token)
        current = job.ledger.current or token
        if created.abort_date is not None:
            self._abort_date = created.abort_date.isoformat()
            job.notice(
                f"left unfinished, this upload would stay until {self._abort_date} (the bucket's lifecycle rule)"
            )
        if job.checksums and created.checksum_algorithm is None:
            job.notice("this store keeps no CRC32 for parts; each part is proved by its MD5 instead")
        return job.ledger.save(current.started(created, part_size, job.clock()))

    def _adopted(self, token: UploadToken) -> UploadToken:
        """When a Create or a state may have been lost: that upload with its parts, if it can be told from others."""
        if not token.sweep:
            return token
        found = adopt_lost_upload(self._job, self._source, token)
        if found is None:
            return token
        self._receipts = found.receipts
        for receipt in found.receipts.values():
            self._meter.add_found(receipt.size)
        return self._job.ledger.save(found.token)

    def _create(self, token: UploadToken) -> CreatedUpload:
        """A lost answer may have left an upload that nobody knows: remembered, and swept before Complete."""
        job, policy = self._job, self._job.config.policy
        checksums = job.checksums
        for attempt in range(1, policy.max_attempts + 1):
            try:
                return job.store.create(job.ref, job.marked(token), checksums=checksums)
            except InvalidRequest as exc:
                if not checksums or isinstance(exc, WrongEndpoint) or not refuses_checksums(exc):
                    raise
                job.notice("the store refuses an upload with checksums; trying without")
                checksums = False
            except StoreError as exc:
                if not outcome_unknown(exc) or attempt == policy.max_attempts:
                    raise
                job.notice(f"the answer to CreateMultipartUpload was lost ({exc.message})")
                token = job.ledger.save(replace(token, sweep=True))
                job.cancel.sleep(policy.delay(attempt, exc, job.rng))
        return job.store.create(job.ref, job.marked(token), checksums=checksums)

    def _continue(self, token: UploadToken) -> Outcome | None:
        """Compare what the store has with the file. An outcome when the object turns out to be complete."""
        job = self._job
        self._maybe_done = token.phase is Phase.COMPLETING
        self._refuse_impossible(token)
        if token.source is not None and token.source.size != self._source.size:
            self._refuse_completed(token)
            raise SourceChanged(
                f"{job.path} had {token.source.size} bytes when its upload began and has {self._source.size} now"
            )
        try:
            self._receipts = self._inventory(token).compared()
        except UploadGone:
            completing = token.phase is Phase.COMPLETING
            outcome = Completion(job, self._source).settled(token, wait=completing, must_see=completing)
            if outcome is None:
                raise
            job.notice("the object of an earlier try's Complete is there; nothing is sent")
            self._meter.add_found(self._source.size)
            return outcome
        for receipt in self._receipts.values():
            self._meter.add_found(receipt.size)
        return None

    def _refuse_impossible(self, token: UploadToken) -> None:
        """A state that was edited by hand may name a part size that no upload can have: a clean start, not an error."""
        limits, part_size = self._job.config.limits, token.part_size or 0
        fits = self._source.size <= part_size * limits.max_parts
        if not limits.min_part_size <= part_size <= limits.max_part_size or not fits:
            raise UploadGone(f"the saved part size of {part_size} bytes cannot be")

    def _refuse_completed(self, token: UploadToken) -> None:
        """The file is another one now; if the old one's object is there, that transfer is over and a new one begins."""
        info = self._job.look() if token.phase is Phase.COMPLETING else None
        if isinstance(info, ObjectInfo) and token.local is not None and is_ours(info, token.mark, token.local.size):
            raise UploadGone("an earlier try has completed this upload, and the file is another one now")

    def _inventory(self, token: UploadToken) -> Inventory:
        return Inventory(self._job, self._source, token)

    def _announce(self, token: UploadToken, plan: PartPlan, found: int) -> None:
        self._job.reporter(
            TransferStarted(
                key=self._job.ref.key,
                total_bytes=plan.size,
                part_size=plan.part_size,
                parts=plan.count,
                upload_id=token.upload_id,
                parts_found=found,
                bytes_found=self._meter.found,
            )
        )

    def _send_missing(self, token: UploadToken, plan: PartPlan) -> None:
        """All parts without a receipt, in parallel; the workers' buffers are the transfer's whole memory."""
        job, halt = self._job, Cancellation()
        missing = plan.count - len(self._receipts)
        if not missing:
            return
        workers = min(job.config.parallel_operations, missing)
        buffers = WorkerBuffers(min(plan.part_size, plan.size))

        def check() -> None:
            job.cancel.check()
            halt.check()

        def send(worker: int, part: Part) -> None:
            self._receipts[part.number] = self._send_part(token, part, buffers.of(worker), check)
            self._meter.part_done()

        todo = (part for part in plan if part.number not in self._receipts)
        try:
            run_all(todo, send, workers=workers, cancel=job.cancel, halt=halt)
        except UploadGone:
            self._raise_unless_settled(token)

    def _send_part(self, token: UploadToken, part: Part, buffer: memoryview, check: Callable[[], None]) -> PartReceipt:
        """Read, hash and send. Bytes that the store refuses are read again: a bit may have flipped here or there."""
        job = self._job
        for reading in range(1, MAX_READINGS + 1):
            body = PartBody(self._source, part, buffer, md5=job.checksums and token.checksum_algorithm is None)
            metered = MeteredBody(body, self._meter, check)
            digests = PartDigests(body.crc32 if token.checksum_algorithm else None, body.md5)
            try:
                receipt = job.store.upload_part(job.ref, token.upload_id or "", part, metered, digests)
            except ChecksumRefused as exc:
                metered.take_back()
                job.notice(f"the store got other bytes of part {part.number} than were hashed; reading them again")
                if reading == MAX_READINGS:
                    raise IntegrityError(
                        f"part {part.number} never arrived as it was read: memory, disk or line are not sound",
                        exc.context,
                    ) from exc
            except BaseException:
                metered.take_back()
                raise
            else:
                return replace(receipt, crc32=body.crc32)
        raise AssertionError("the last reading returns or raises")  # pragma: no cover

    def _raise_unless_settled(self, token: UploadToken) -> None:
        """Another try of this very transfer may have completed the upload under us; then its object is our object."""
        outcome = Completion(self._job, self._source).settled(token, wait=True, must_see=self._maybe_done)
        if outcome is None:
            raise UploadGone(f"the multipart upload {token.upload_id} was aborted by somebody")
        raise _Settled(outcome)

    def _finish(self, token: UploadToken, plan: PartPlan) -> Outcome:
        job = self._job
        for repair in range(MAX_REPAIRS + 1):
            receipts = tuple(self._receipts[number] for number in range(1, plan.count + 1))
            verify_unchanged(job, self._source, plan, receipts)
            if token.sweep:
                sweep_lost_creates(job, token)
            job.refuse_foreign(token, plan.size)
            local = LocalProof.of_parts(receipts)
            token = job.ledger.save(token.completing(local))
            completion = Completion(job, self._source, maybe_done=self._maybe_done)
            outcome = completion.run(token, receipts, local, last=repair == MAX_REPAIRS)
            self._maybe_done = self._maybe_done or completion.maybe_done
            if outcome is not None:
                return self._done(token, outcome)
            job.notice("the store holds other parts than those that were sent; comparing and repairing", warning=True)
            try:
                self._receipts = self._inventory(token).compared()
            except UploadGone:
                self._raise_unless_settled(token)
            self._send_missing(token, plan)
        raise AssertionError("the last repair returns or raises")  # pragma: no cover

    def _done(self, token: UploadToken, outcome: Outcome) -> Outcome:
        # Before the state says done: a try that is killed here leaves it to the next one.
        self._job.tag(outcome)
        if token.adopted:
            info = self._job.look(outcome.version_id)
            token = token.with_mark(info.metadata_value(MARK) if isinstance(info, ObjectInfo) else None)
        self._job.ledger.save(token.done(outcome))
        return outcome

    def _with_what_is_kept(self, error: OrbitError) -> OrbitError:
        current = self._job.ledger.current
        if current is None or current.upload_id is None:
            return error
        kept = sum(receipt.size for receipt in self._receipts.values())
        until = f" until {self._abort_date}" if self._abort_date else ""
        return error.with_note(f"Upload {current.upload_id} keeps {kept} bytes{until}; the next try continues it.")


class _Settled(Exception):
    """Carries an outcome out of the middle of the sending."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome
