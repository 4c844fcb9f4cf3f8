"""One download, from an object to a file that has its name, continued wherever an earlier try ended.

The order of steps is the promise: look -> part file -> token -> ranges, each written down when it is on the disk ->
proof -> publishing -> name -> done. Killed between any two of them, the next try finds in the directory, the journal
and the token what is true, and goes on from there. Nothing incomplete or unproved ever has the target's name.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from orbit_airflow.engine.download_job import DownloadJob, refuses_versions
from orbit_airflow.engine.download_proof import prove
from orbit_airflow.engine.download_token import DownloadPhase, DownloadToken, same_object
from orbit_airflow.engine.errors import (
    AccessDenied,
    IntegrityError,
    IntegrityTooWeak,
    NotFound,
    ObjectChanged,
    OrbitError,
    RestartsExhausted,
    StoreError,
    TargetBusy,
    printable,
)
from orbit_airflow.engine.events import Meter, TransferCompleted, TransferDirection, TransferFailed, TransferStarted
from orbit_airflow.engine.fetch import Fetching, confirm_empty
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.finished import already_finished, clear_up, still_finished
from orbit_airflow.engine.host import host_id
from orbit_airflow.engine.journal import SyncFailed
from orbit_airflow.engine.model import DownloadResult, Integrity, ObjectInfo
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.prefix import adopt_prefix
from orbit_airflow.engine.publish import publish
from orbit_airflow.engine.salvage import Workplace, workplace
from orbit_airflow.engine.target import Target
from orbit_airflow.engine.verify import LocalBytes, refuse_weak

# How often an object is fetched whose bytes are not what the store says they are.
MAX_READINGS = 2
# How long a later try waits for the file that an earlier one still holds, and how often it looks. Seconds.
BUSY_SECONDS, BUSY_LOOK = 10.0, 0.5


class DownloadFlow:
    """Runs one DownloadJob. Not reusable, not shared between threads."""

    def __init__(self, job: DownloadJob) -> None:
        self._job = job
        self._started = job.call.monotonic()
        self._meter = Meter(0, job.call.reporter, clock=job.call.monotonic)

    def run(self) -> DownloadResult:
        """The finished download. Raises OrbitError; whatever it raises, nothing partial has the target's name."""
        job = self._job
        try:
            with Target(job.path, create_parents=job.options.create_parents) as target:
                result = self._run(target)
        except OrbitError as exc:
            kept = self._meter.snapshot().bytes_done
            job.call.reporter(TransferFailed(key=job.ref.key, error=str(exc), kept_bytes=kept))
            raise
        job.call.reporter(
            TransferCompleted(
                key=result.ref.key,
                total_bytes=result.size,
                bytes_sent=result.bytes_received,
                bytes_saved=result.bytes_saved,
                duration=result.duration,
                integrity=result.integrity,
                resumed=result.resumed,
                peak_bps=self._meter.peak_bps,
            )
        )
        return result

    def _run(self, target: Target) -> DownloadResult:
        job = self._job
        token = self._load()
        restarts = readings = 0
        while True:
            job.call.cancel.check()
            try:
                return self._attempt(target, token)
            except ObjectChanged as exc:
                restarts += 1
                job.ledger.drop()
                if job.options.on_object_change == "fail":
                    raise
                if restarts > job.options.max_restarts:
                    raise RestartsExhausted(f"gave up on {job.uri}: it was replaced {restarts} times") from exc
                job.call.notice(f"{exc.message}; starting again with the object as it is now", warning=True)
            except IntegrityTooWeak:
                raise
            except IntegrityError as exc:
                readings += 1
                if readings >= MAX_READINGS:
                    job.ledger.drop()
                    raise
                job.call.notice(f"{exc.message}; fetching all of it again", warning=True)
                # What the caller had may be what is wrong.
                self._job = replace(job, prefix=0)
            token = None

    def _load(self) -> DownloadToken | None:
        job = self._job
        if not job.options.resume:
            return None
        try:
            return job.ledger.load()
        except TokenRejected as exc:
            job.call.notice(f"the saved state is not used: {exc.message}; the journal decides", warning=True)
            return None

    def _attempt(self, target: Target, token: DownloadToken | None) -> DownloadResult:
        job = self._job
        try:
            info = self._pinned(token)
        except NotFound:
            proof = still_finished(job, target, token) if token is not None else None
            if token is None or proof is None:
                raise
            info = ObjectInfo(job.ref, token.size, token.etag, token.version_id)
        else:
            refuse_weak(job.best_proof(info), job.options.require_integrity, info, ahead=True)
            proof = already_finished(job, target, token, info)
        if proof is not None:
            refuse_weak(proof, job.options.require_integrity, info)
            return self._found_finished(target, token, info, proof)
        try:
            return self._worked_on(target, info)
        except AccessDenied as exc:
            if info.version_id is None or job.ref.version_id is not None or not refuses_versions(exc):
                raise
            job.call.notice(f"{job.uri} may not be read by version (s3:GetObjectVersion); its ETag alone pins it")
            return self._worked_on(target, replace(info, version_id=None))

    def _worked_on(self, target: Target, info: ObjectInfo) -> DownloadResult:
        """Fetched and published; whatever fails, no file stays that is worth nothing to a later try."""
        with self._workplace(target, info) as place:
            try:
                return self._finished_meanwhile(target, place, info) or self._fetched(target, place, info)
            except IntegrityTooWeak:
                raise
            except (ObjectChanged, SyncFailed):
                place.discard()
                raise
            except IntegrityError as exc:
                place.discard()
                self._refuse_another(info, exc)
                raise
            except OrbitError:
                if not place.journal.holds_ranges:
                    place.discard()
                raise

    def _finished_meanwhile(self, target: Target, place: Workplace, info: ObjectInfo) -> DownloadResult | None:
        """With ``replace=False``: whether another transfer gave a file the name before this one had its lock."""
        if self._job.options.replace or target.occupant() is None:
            return None
        proof = already_finished(self._job, target, None, info)
        if proof is None:
            return None
        refuse_weak(proof, self._job.options.require_integrity, info)
        place.discard()
        return self._found_finished(target, None, info, proof)

    def _refuse_another(self, info: ObjectInfo, error: IntegrityError) -> None:
        """ObjectChanged when the store showed wrong things about the bytes because it has other ones by now."""
        with suppress(StoreError):
            if not same_object((info.etag, info.size, info.version_id), self._job.head(info.version_id)):
                raise ObjectChanged(f"{self._job.uri} was replaced while it was downloaded") from error

    def _workplace(self, target: Target, info: ObjectInfo) -> Workplace:
        """A later try waits a little: what holds the file may be the one before it, which is just ending."""
        job, waited = self._job, 0.0
        patience = BUSY_SECONDS if job.options.try_number > 1 else 0.0
        while True:
            try:
                return workplace(job, target, info)
            except TargetBusy:
                if waited >= patience:
                    raise
            job.call.cancel.sleep(BUSY_LOOK)
            waited += BUSY_LOOK

    def _pinned(self, token: DownloadToken | None) -> ObjectInfo:
        """The object that every request of this attempt is about. ObjectChanged when an earlier try's is gone."""
        job = self._job
        info = job.look()
        if token is None or token.phase is not DownloadPhase.STARTED or token.is_of(info):
            return info
        earlier = job.still_there(token)
        if earlier is None:
            raise ObjectChanged(f"{job.uri} was replaced since an earlier try began to download it")
        job.call.notice(f"the key has a newer version by now; going on with {printable(str(token.version_id))}")
        return earlier

    def _found_finished(
        self, target: Target, token: DownloadToken | None, info: ObjectInfo, proof: Integrity
    ) -> DownloadResult:
        job = self._job
        job.call.notice(f"{printable(target.path)} holds the object already ({proof}); nothing is fetched")
        target.sync()
        if token is not None and token.phase is DownloadPhase.PUBLISHING:
            job.ledger.save(token.done())
        clear_up(target)
        return self._result(target, info, proof, received=0, saved=info.size, found=0, resumed=True)

    def _fetched(self, target: Target, place: Workplace, info: ObjectInfo) -> DownloadResult:
        job = self._job
        # Before the first byte moves: another host's try must know that it was here.
        number = job.options.try_number
        token = job.ledger.save(DownloadToken.started(job.target, info, host_id(), place.partial.nonce, number))
        meter = self._meter = Meter(info.size, job.call.reporter, clock=job.call.monotonic)
        adopt_prefix(job, target, place, info)
        crc, found = self._filled(place, info, meter)
        local = LocalBytes(
            size=info.size,
            algorithm=job.algorithm(info),
            crc=crc,
            read_into=place.partial.read_into,
            check=job.call.cancel.check,
        )
        proof = prove(job, info, local)
        refuse_weak(proof, job.options.require_integrity, info)
        publish(job, target, place, info, token, (proof, crc))
        return self._result(target, info, proof, received=meter.sent, saved=meter.found, found=found, resumed=found > 0)

    def _filled(self, place: Workplace, info: ObjectInfo, meter: Meter) -> tuple[int, int]:
        """All ranges are in the part file: the CRC of the whole, and how many earlier tries had fetched."""
        if not info.size:
            self._announce(info, place.range_size, 0, 0)
            confirm_empty(self._job, info)
            return 0, 0
        fetching = Fetching(
            job=self._job,
            info=info,
            partial=place.partial,
            journal=place.journal,
            plan=PartPlan(info.size, place.range_size),
            meter=meter,
        )
        found = fetching.recover(place.written_down)
        lost = len(place.written_down) - found
        if lost:
            self._job.call.notice(f"{lost} ranges of the part file are not what was written; they are fetched again")
        self._announce(info, place.range_size, fetching.plan.count, found)
        fetching.fetch_missing()
        return fetching.whole_crc(), found

    def _announce(self, info: ObjectInfo, range_size: int, count: int, found: int) -> None:
        self._job.call.reporter(
            TransferStarted(
                key=info.ref.key,
                total_bytes=info.size,
                direction=TransferDirection.DOWNLOAD,
                part_size=range_size,
                parts=count,
                parts_found=found,
                bytes_found=self._meter.found,
            )
        )

    def _result(
        self,
        target: Target,
        info: ObjectInfo,
        proof: Integrity,
        *,
        received: int,
        saved: int,
        found: int,
        resumed: bool,
    ) -> DownloadResult:
        return DownloadResult(
            ref=replace(self._job.ref, version_id=info.version_id or self._job.ref.version_id),
            path=target.path,
            etag=info.etag,
            size=info.size,
            checksum=info.checksum,
            integrity=proof,
            duration=self._job.call.monotonic() - self._started,
            version_id=info.version_id,
            last_modified=info.last_modified,
            resumed=resumed,
            bytes_received=received,
            bytes_saved=saved,
            ranges_found=found,
        )
