"""One upload, from a file to a proved object, continued wherever an earlier try ended.

The order of steps is the promise: intent -> create -> token -> parts -> fence -> completing -> Complete -> proof ->
done. Killed between any two of them, the next try asks the store what is true and goes on from there. Parts are kept
on every failure; they are aborted only when they are worthless (the source changed, the target is taken).
"""

from __future__ import annotations

from dataclasses import replace

from orbit_airflow.engine.errors import (
    OrbitError,
    Paused,
    RestartsExhausted,
    SourceChanged,
    SourceError,
    StateUnavailable,
    StoreError,
    TargetExists,
    UploadGone,
)
from orbit_airflow.engine.events import Meter, TransferCompleted, TransferFailed
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.job import Unseen, UploadJob
from orbit_airflow.engine.model import ObjectInfo, UploadResult
from orbit_airflow.engine.multipart import MultipartUpload
from orbit_airflow.engine.proof import is_ours
from orbit_airflow.engine.put import SinglePut
from orbit_airflow.engine.source import Source
from orbit_airflow.engine.sweep import sweep_lost_creates
from orbit_airflow.engine.token import Outcome, Phase, UploadToken, attributes_hash

ABORT_ROUNDS = 3


class UploadFlow:
    """Runs one UploadJob. Not reusable, not shared between threads."""

    def __init__(self, job: UploadJob) -> None:
        self._job = job
        self._started = job.monotonic()
        self._meter = Meter(0, job.reporter, clock=job.monotonic)
        self._lost_since: int | None = None

    def run(self) -> UploadResult:
        """The finished upload. Raises OrbitError; whatever it raises, nothing partial is visible."""
        job = self._job
        try:
            result = self._run()
        except OrbitError as exc:
            kept = self._meter.snapshot().bytes_done
            sent = self._meter.sent
            job.reporter(TransferFailed(key=job.ref.key, error=str(exc), kept_bytes=kept, bytes_sent=sent))
            raise
        job.reporter(
            TransferCompleted(
                key=result.ref.key,
                total_bytes=result.size,
                bytes_sent=result.bytes_sent,
                bytes_saved=result.bytes_saved,
                duration=result.duration,
                integrity=result.integrity,
                resumed=result.resumed,
                peak_bps=self._meter.peak_bps,
                checksum=result.checksum,
                version_id=result.version_id,
            )
        )
        return result

    def _run(self) -> UploadResult:
        job = self._job
        token = self._load()
        if token is not None and token.phase is Phase.DONE:
            finished = self._already_done(token)
            if finished is not None:
                return finished
            self._remember_lost()
            token = None
        for _ in range(job.options.max_restarts + 1):
            job.cancel.check()
            try:
                return self._attempt(token)
            except UploadGone as exc:
                job.notice(f"the multipart upload is gone and its object is not there; starting again ({exc.message})")
            except SourceChanged as exc:
                if job.options.on_source_change == "fail":
                    raise
                job.notice(f"{exc.message}; starting again with the file as it is now", warning=True)
            self._remember_lost()
            token = None
        raise RestartsExhausted(f"gave up on {job.ref.uri} after {job.options.max_restarts} restarts")

    def _load(self) -> UploadToken | None:
        job, options = self._job, self._job.options
        if not options.resume:
            return None
        try:
            token = job.ledger.load()
        except StateUnavailable:
            job.cancel.check()
            raise
        except TokenRejected as exc:
            job.notice(f"the saved state is not used: {exc.message}; starting anew", warning=True)
            return None
        if token is None and options.try_number > 1 and options.begun_after is not None:
            job.notice("an earlier try has left no state; asking the store for its upload")
            self._lost_since = int(options.begun_after)
        if token is not None and token.attributes not in (None, attributes_hash(options.attributes)):
            job.notice("encryption, class, ACL, tags or headers were changed since; starting anew", warning=True)
            self._throw_away(keep_outcome=token.phase is Phase.DONE)
            return None
        return token

    def _remember_lost(self) -> None:
        """A new start must not forget that a Create of this transfer may have been lost."""
        token = self._job.ledger.current
        if token is not None and (token.sweep or token.phase is Phase.INTENT):
            self._lost_since = min(token.intent_at, self._lost_since or token.intent_at)

    def _already_done(self, token: UploadToken) -> UploadResult | None:
        """The earlier try's result, if its object is still there and the file is still the one that it holds."""
        job, outcome = self._job, token.outcome
        if outcome is None:
            return None
        info = job.look(outcome.version_id)
        if info is Unseen.ABSENT or (isinstance(info, ObjectInfo) and not is_ours(info, token.mark, outcome.size)):
            job.notice("an earlier try had finished, but its object is not there now; uploading again")
            return None
        if not self._source_unchanged(token, outcome):
            job.notice("an earlier try had finished, but the file is another one now; uploading again")
            return None
        unseen = " (its object may not be looked at)" if info is Unseen.HIDDEN else ""
        job.notice(f"an earlier try had finished this upload{unseen}; nothing is sent")
        return self._result(outcome, sent=0, saved=outcome.size, resumed=True, parts=0)

    def _source_unchanged(self, token: UploadToken, outcome: Outcome) -> bool:
        try:
            with self._job.opened() as source:
                if source.identity == token.source:
                    return True
                if source.size != outcome.size or outcome.crc32 is None:
                    return False
                return source.whole_digest(md5=False, check=self._job.cancel.check)[0] == outcome.crc32
        except SourceError:
            # The file may be gone once it is safe in the store: that is what backups are for.
            return True

    def _attempt(self, token: UploadToken | None) -> UploadResult:
        job = self._job
        with job.opened() as source:
            self._meter = Meter(source.size, job.reporter, clock=job.monotonic)
            try:
                return self._transfer(source, token)
            except (SourceChanged, TargetExists):
                self._throw_away()
                raise
            finally:
                if job.cancel.left_behind:
                    source.lend()

    def _transfer(self, source: Source, token: UploadToken | None) -> UploadResult:
        job, meter = self._job, self._meter
        if token is None or token.phase is Phase.INTENT:
            recovered = job.recovered(token, source, None) if token is not None else None
            if token is not None and recovered is not None:
                job.notice("the object of an earlier try's request is there; nothing is sent")
                job.tag(recovered)
                job.ledger.save(token.done(recovered))
                return self._result(recovered, sent=0, saved=recovered.size, resumed=True, parts=0)
            token = self._intent(token, source)
        if token.upload_id is None and job.in_one_request(source.size):
            outcome = SinglePut(job, source, meter).run(token)
            return self._result(outcome, sent=meter.sent, saved=0, resumed=False, parts=0)
        outcome, found = MultipartUpload(job, source, meter).run(token)
        return self._result(outcome, sent=meter.sent, saved=meter.found, resumed=found > 0, parts=found)

    def _intent(self, earlier: UploadToken | None, source: Source) -> UploadToken:
        """What is known before the first request.

        An earlier intent's mark stays while the file is the same: its request may yet arrive, and only the mark tells
        whose object it makes. For another file the mark is a new one, since the old one may be on an older object.
        """
        job = self._job
        token = UploadToken.intent(job.target, source.identity, job.clock(), job.options.try_number)
        if earlier is not None and earlier.source == source.identity:
            token = replace(token, mark=earlier.mark)
        since = earlier.intent_at if earlier is not None else self._lost_since
        if since is not None:
            token = replace(token, sweep=True, intent_at=since)
        token = replace(token, attributes=attributes_hash(job.options.attributes))
        job.refuse_foreign(token, source.size)
        return job.ledger.save(token)

    def _throw_away(self, *, keep_outcome: bool = False) -> None:
        """The parts are worthless: abort them, then forget the token. Never in a try that nobody waits for."""
        job, token = self._job, self._job.ledger.current
        if job.cancel.orphaned:
            return
        if token is not None and token.upload_id is not None and not keep_outcome:
            if token.sweep:
                # While our own upload is still listed: it is what the lost ones are told by.
                sweep_lost_creates(job, token)
            self._abort(token.upload_id)
        self._remember_lost()
        job.ledger.drop()

    def _abort(self, upload_id: str) -> None:
        """Until ListParts says that it is gone: a part in flight may survive the first abort (AWS says so)."""
        job = self._job
        try:
            for _ in range(ABORT_ROUNDS):
                job.store.abort(job.ref, upload_id)
                job.store.list_parts(job.ref, upload_id)
        except UploadGone:
            return
        except (StoreError, Paused) as exc:
            job.notice(f"the upload {upload_id} could not be aborted and stays open: {exc}", warning=True)

    def _result(self, outcome: Outcome, *, sent: int, saved: int, resumed: bool, parts: int) -> UploadResult:
        return UploadResult(
            ref=self._job.ref,
            etag=outcome.etag,
            size=outcome.size,
            checksum=outcome.checksum,
            integrity=outcome.integrity,
            duration=self._job.monotonic() - self._started,
            version_id=outcome.version_id,
            resumed=resumed,
            bytes_sent=sent,
            bytes_saved=saved,
            parts_found=parts,
        )
