"""Copies of more than one CopyObject can carry: an upload whose parts are ranges of one pinned version of the source.

No byte comes here. Killed anywhere, the next try asks ListParts what is there: every part of the upload that the token
names was copied from the same pinned source, so a part of the right size is a part that is done. A source that is
another one by then makes the parts worthless: they are aborted, and the copy begins anew.

The copy has what is sent with Create, and nothing else: headers, metadata, tags, class and encryption are read from the
source and sent again, all with Create, so that the copy is never seen without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

from orbit_airflow.engine.copy_job import CopyCompletion, CopyJob, crc32_of, fits
from orbit_airflow.engine.copy_token import CopyToken, mark_of, source_hash
from orbit_airflow.engine.errors import (
    InvalidRequest,
    NotFound,
    OrbitError,
    PreconditionFailed,
    RestartsExhausted,
    StateUnavailable,
    StoreError,
    TargetExists,
    Unsupported,
    UploadGone,
    WrongEndpoint,
)
from orbit_airflow.engine.events import Meter, TransferDirection, TransferStarted
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.model import MIB, ChecksumType, CreatedUpload, ObjectAttributes, ObjectInfo, Part, PartReceipt
from orbit_airflow.engine.plan import PartPlan, part_size_for
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.resilience.outcome import outcome_unknown, refuses_checksums
from orbit_airflow.engine.runner import Cancellation, run_all
from orbit_airflow.engine.store import CopyPartRequest, CopyRequest
from orbit_airflow.engine.sweep import abort_surely, sweep_lost_creates
from orbit_airflow.engine.tags import set_dropped_tags
from orbit_airflow.engine.token import Outcome, Phase, attributes_hash

# No byte travels, so parts may be large: fewer requests, and little is lost with a killed one.
PART_SIZE = 128 * MIB
MAX_RESTARTS = 3
MAX_REPAIRS = 1
# Checksums over the full object that stores make of parts, beside CRC32; the copy gets the kind that its source has.
_OTHER_WHOLE = frozenset({"CRC64NVME", "CRC32C"})
_Pairs = tuple[tuple[str, str], ...]


class PartsCopy:
    """One copy in parts. Not reusable. ``found`` is the number of parts that earlier tries had copied.

    ``tagged_again``: the store had dropped the tags.
    """

    def __init__(self, job: CopyJob) -> None:
        self._job = job
        self.meter = self._new_meter()
        self._receipts: dict[int, PartReceipt] = {}
        self._tags: _Pairs | None = None
        self.found = 0
        self.resumed = False
        self.tagged_again = False

    def run(self) -> Outcome:
        """The outcome, saved as done. On every error that somebody can mend the parts are kept, and the error says so.

        PreconditionFailed when the source is replaced meanwhile, TargetExists, Unsupported: then nothing is kept.
        """
        try:
            return self._run()
        except (PreconditionFailed, TargetExists, Unsupported):
            self._throw_away()
            raise
        except OrbitError as exc:
            raise self._with_what_is_kept(exc) from exc

    def _run(self) -> Outcome:
        job = self._job
        token = self._load()
        if token is not None and token.phase is Phase.DONE:
            finished = self._already_done(token)
            if finished is not None:
                return finished
            token = None
        for _ in range(MAX_RESTARTS + 1):
            job.cancel.check()
            try:
                return self._attempt(token)
            except UploadGone as exc:
                job.notice(f"the multipart upload is gone and its copy is not there; starting again ({exc.message})")
            job.ledger.drop()
            self._receipts, self.found, token = {}, 0, None
            self.meter = self._new_meter()
        raise RestartsExhausted(f"gave up on {job.ref.uri} after {MAX_RESTARTS} restarts")

    def _load(self) -> CopyToken | None:
        """What an earlier try left, if it is about this very source and copy; else its parts are aborted."""
        job = self._job
        if not job.options.resume:
            return None
        try:
            token = job.ledger.load()
        except StateUnavailable:
            job.cancel.check()
            raise
        except TokenRejected as exc:
            job.notice(f"the saved state is not used: {exc.message}; starting anew", warning=True)
            return None
        if token is None:
            return None
        changed = ""
        if token.source != source_hash(job.info):
            changed = "the source is another one now"
        elif token.attributes != self._attributes_hash():
            changed = "what the copy is to be was changed since"
        elif token.phase in (Phase.STARTED, Phase.COMPLETING) and not self._possible(token.part_size or 0):
            changed = f"the saved part size of {token.part_size} bytes cannot be"
        if not changed:
            return token
        job.notice(f"{changed}; starting anew", warning=True)
        self._throw_away()
        return None

    def _possible(self, part_size: int) -> bool:
        limits = self._job.call.config.limits
        fits_in = self._job.info.size <= part_size * limits.max_parts
        return fits_in and limits.min_part_size <= part_size <= limits.max_part_size

    def _already_done(self, token: CopyToken) -> Outcome | None:
        """The earlier try's result, if its copy is still there."""
        job, outcome = self._job, token.outcome
        found = job.look(outcome.version_id if outcome is not None else None)
        gone = not isinstance(found, ObjectInfo) or not job.ours(found, token)
        if outcome is None or gone:
            job.notice("an earlier try had finished, but its copy is not there now; copying again")
            return None
        job.notice("an earlier try had finished this copy; nothing is copied")
        self.meter.add_found(job.info.size)
        self.resumed = True
        return outcome

    def _new_meter(self) -> Meter:
        call = self._job.call
        return Meter(self._job.info.size, call.reporter, clock=call.monotonic)

    def _attempt(self, token: CopyToken | None) -> Outcome:
        if token is None or token.phase is Phase.INTENT:
            token = self._begin(self._intent(token))
        else:
            settled = self._continue(token)
            if settled is not None:
                self.resumed = True
                return self._done(token, settled)
        plan = PartPlan(self._job.info.size, token.part_size or 1)
        self.found = len(self._receipts)
        self.resumed = self.found > 0
        self._announce(token, plan)
        try:
            self._refuse_another_key(token, plan)
            self._copy_missing(token, plan)
            return self._finish(token, plan)
        except UploadGone:
            # Another try of this very copy may have completed the upload under us; then its copy is our copy.
            settled = CopyCompletion(self._job).settled(token, wait=True)
            if settled is None:
                raise
            return self._done(token, settled)

    def _intent(self, earlier: CopyToken | None) -> CopyToken:
        """What is known before the first request. An earlier intent's Create may have been lost: it is swept."""
        job = self._job
        job.refuse_foreign(None)
        token = CopyToken.intent(job.target, source_hash(job.info), self._attributes_hash(), job.clock())
        if earlier is not None:
            token = replace(token, mark=earlier.mark, intent_at=earlier.intent_at, sweep=True)
        return job.ledger.save(token)

    def _begin(self, token: CopyToken) -> CopyToken:
        job = self._job
        limits = job.call.config.limits
        wished = job.options.chunk_size or min(max(job.call.config.chunk_size, PART_SIZE), limits.max_part_size)
        created = self._create(token)
        current = job.ledger.current or token
        return job.ledger.save(current.started(created, part_size_for(job.info.size, wished, limits), job.clock()))

    def _create(self, token: CopyToken) -> CreatedUpload:
        """With the kind of checksum that the source has, if the store knows it; a lost answer is swept later."""
        job, policy = self._job, self._job.call.config.policy
        kind = job.info.checksum
        checksums = job.call.config.verify_checksums
        other = kind is not None and kind.algorithm in _OTHER_WHOLE and kind.type is ChecksumType.FULL_OBJECT
        attributes, plain = self._attributes(token, kind.algorithm if other and kind and checksums else None)
        for attempt in range(1, policy.max_attempts + 1):
            try:
                return job.store.create(job.ref, attributes, checksums=checksums and attributes is plain)
            except InvalidRequest as exc:
                if not checksums or isinstance(exc, WrongEndpoint) or not refuses_checksums(exc):
                    raise
                job.notice("the store refuses a copy with checksums; trying without")
                attributes, checksums = plain, False
            except StoreError as exc:
                if not outcome_unknown(exc) or attempt == policy.max_attempts:
                    raise
                job.notice(f"the answer to CreateMultipartUpload was lost ({exc.message})")
                token = job.ledger.save(replace(token, sweep=True))
                job.call.pause(attempt, exc)
        return job.store.create(job.ref, attributes, checksums=checksums and attributes is plain)

    def _attributes(self, token: CopyToken, algorithm: str | None) -> tuple[ObjectAttributes, ObjectAttributes]:
        """All that the copy is to have, with a wish for that checksum over the full object, and without."""
        wanted = self._job.request.attributes
        metadata = wanted.metadata
        if fits(metadata):
            metadata = (*((name, value) for name, value in metadata if name != MARK), (MARK, token.mark))
        plain = replace(wanted, metadata=metadata, tags=self._wanted_tags())
        if algorithm is None:
            return plain, plain
        wish = (("ChecksumAlgorithm", algorithm), ("ChecksumType", "FULL_OBJECT"))
        return replace(plain, extra_args=(*plain.extra_args, *wish)), plain

    def _wanted_tags(self) -> _Pairs:
        """The caller's, else the source's. AccessDenied when these may not be read: a copy without is not asked for."""
        job = self._job
        if job.request.replace_tags:
            return job.request.attributes.tags
        if self._tags is None:
            try:
                self._tags = job.store.get_tags(job.request.source)
            except Unsupported:
                self._tags = ()
        return self._tags

    def _attributes_hash(self) -> str:
        """An open upload cannot be given others. Without metadata, as for uploads; the source's own is in its hash."""
        return wish_hash(self._job.request)

    def _continue(self, token: CopyToken) -> Outcome | None:
        """The parts that are there. An outcome when the copy turns out to be complete."""
        job = self._job
        completing = token.phase is Phase.COMPLETING
        try:
            self._receipts = dict(self._listed(token))
        except UploadGone:
            outcome = CopyCompletion(job).settled(token, wait=completing) if completing else None
            if outcome is None:
                raise
            job.notice("the copy of an earlier try's Complete is there; nothing is copied")
            self.meter.add_found(job.info.size)
            return outcome
        for receipt in self._receipts.values():
            self.meter.add_found(receipt.size)
        return None

    def _listed(self, token: CopyToken) -> Iterator[tuple[int, PartReceipt]]:
        """The parts with a number and a size of the plan; Complete does not name the others."""
        plan, after = PartPlan(self._job.info.size, token.part_size or 1), 0
        while True:
            page = self._job.store.list_parts(self._job.ref, token.upload_id or "", after)
            for item in page.parts:
                if 1 <= item.number <= plan.count and item.size == plan.part(item.number).size:
                    yield item.number, PartReceipt(item.number, item.size, item.etag, crc32_of(item.checksum))
            if page.next_marker is None:
                return
            after = page.next_marker

    def _announce(self, token: CopyToken, plan: PartPlan) -> None:
        self._job.call.reporter(
            TransferStarted(
                key=self._job.ref.key,
                total_bytes=plan.size,
                direction=TransferDirection.COPY,
                part_size=plan.part_size,
                parts=plan.count,
                upload_id=token.upload_id,
                parts_found=self.found,
                bytes_found=self.meter.found,
            )
        )

    def _refuse_another_key(self, token: CopyToken, plan: PartPlan) -> None:
        """Some stores decode the source's key twice, and would copy from "50A" for "50%41". If-Match is what keeps them
        from it, where they obey it: for such keys that is tried, with an ETag that no object has. Unsupported if not.
        """
        job = self._job
        source = job.request.source
        if "?" not in source.key and unquote(source.key) == source.key:
            return
        request = CopyPartRequest(
            upload_id=token.upload_id or "", part=plan.part(1), source=source, if_match="0" * 32, whole=plan.count == 1
        )
        try:
            job.store.copy_part(job.ref, request)
        except (PreconditionFailed, NotFound):
            # NotFound: no such object under the other name either. The copy itself will say whose fault that is.
            return
        raise Unsupported(
            f"the store copies parts whatever If-Match says; for {source.key!r} they might be another object's"
        )

    def _copy_missing(self, token: CopyToken, plan: PartPlan) -> None:
        """All parts without a receipt, in parallel."""
        job, halt = self._job, Cancellation()
        missing = plan.count - len(self._receipts)
        if not missing:
            return

        def copy(worker: int, part: Part) -> None:
            del worker
            job.cancel.check()
            halt.check()
            self._receipts[part.number] = self._copy_part(token, part, whole=plan.count == 1)
            self.meter.add_sent(part.size)
            self.meter.part_done()

        todo = (part for part in plan if part.number not in self._receipts)
        workers = min(job.call.config.parallel_operations, missing)
        run_all(todo, copy, workers=workers, cancel=job.cancel, halt=halt, name="orbit-copy")

    def _copy_part(self, token: CopyToken, part: Part, *, whole: bool) -> PartReceipt:
        job = self._job
        request = CopyPartRequest(
            upload_id=token.upload_id or "", part=part, source=job.request.source, if_match=job.info.etag, whole=whole
        )
        try:
            return job.store.copy_part(job.ref, request)
        except NotFound as exc:
            # Some stores call an upload that is gone a key that is not there: ask for the source, and for the upload.
            job.store.head(job.request.source)
            job.store.list_parts(job.ref, token.upload_id or "")
            raise NotFound(f"the store does not find {job.info.ref.uri} to copy, but shows it", exc.context) from exc
        except PreconditionFailed as exc:
            raise PreconditionFailed(f"{job.info.ref.uri} was replaced while it was copied", exc.context) from exc

    def _finish(self, token: CopyToken, plan: PartPlan) -> Outcome:
        job = self._job
        for repair in range(MAX_REPAIRS + 1):
            job.refuse_another_source()
            if token.sweep:
                sweep_lost_creates(job, token)
            job.refuse_foreign(token)
            token = job.ledger.save(token.completing())
            receipts = tuple(self._receipts[number] for number in range(1, plan.count + 1))
            outcome = CopyCompletion(job).run(token, receipts, last=repair == MAX_REPAIRS)
            if outcome is not None:
                return self._done(token, outcome)
            job.notice("the store's parts are not what it said they are; copying all of them again", warning=True)
            self._receipts = {}
            self._copy_missing(token, plan)
        raise AssertionError("the last repair returns or raises")  # pragma: no cover

    def _done(self, token: CopyToken, outcome: Outcome) -> Outcome:
        job = self._job
        made = replace(job.ref, version_id=outcome.version_id)
        # Some stores drop the tags that came with Create.
        self.tagged_again = set_dropped_tags(job.store, made, outcome.etag, self._wanted_tags(), job.notice)
        job.ledger.save(token.done(outcome))
        return outcome

    def _throw_away(self) -> None:
        """The parts are worthless: abort them, then forget the token. Never in a try that nobody waits for."""
        job, token = self._job, self._job.ledger.current
        if job.cancel.orphaned:
            return
        if token is not None and token.upload_id is not None and token.phase is not Phase.DONE:
            if token.sweep:
                # While our own upload is still listed: it is what the lost ones are told by.
                sweep_lost_creates(job, token)
            abort_surely(job, token.upload_id)
        job.ledger.drop()

    def _with_what_is_kept(self, error: OrbitError) -> OrbitError:
        current = self._job.ledger.current
        if current is None or current.upload_id is None:
            return error
        kept = sum(receipt.size for receipt in self._receipts.values())
        return error.with_note(f"Upload {current.upload_id} keeps {kept} bytes; the next try continues it.")


def wish_hash(request: CopyRequest) -> str:
    """What a copy in parts is to be, beside its source; tags taken away are another wish than tags of the source's."""
    tagless = (("", ""),) if request.replace_tags else ()
    return attributes_hash(replace(request.attributes, tags=request.attributes.tags or tagless))


def made_in_parts(found: ObjectInfo, info: ObjectInfo, target: str, request: CopyRequest) -> bool:
    """True when ``found`` is a copy in parts of that very source (as ``info`` shows it) for that very ``target`` hash:
    by its mark, also when nobody has its token any more.
    """
    mark = found.metadata_value(MARK) or ""
    return found.size == info.size and mark.startswith(mark_of(target, source_hash(info), wish_hash(request)))
