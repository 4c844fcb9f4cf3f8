"""Ranges of an object into a part file: what an earlier try left is hashed again, the rest is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orbit_airflow.engine.digests import CrcAlgorithm
from orbit_airflow.engine.download_job import BLOCK, DownloadJob
from orbit_airflow.engine.download_token import same_object
from orbit_airflow.engine.errors import (
    Garbled,
    InvalidRequest,
    Network,
    ObjectChanged,
    PreconditionFailed,
    TargetError,
    printable,
)
from orbit_airflow.engine.events import Meter
from orbit_airflow.engine.journal import Journal
from orbit_airflow.engine.model import KIB, ByteRange, ObjectInfo, Part
from orbit_airflow.engine.partial import PartialFile
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.runner import Cancellation, run_all
from orbit_airflow.engine.store import ObjectStream

_Worker = Callable[[int, int], None]
_RANGE_REFUSED = 416
# A body that breaks off before so many bytes has brought nothing: else a line that dies behind every byte would be
# asked millions of times.
LEAST_GAIN = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """One part file and the object that it is to become. ``crcs`` has the CRC of each range that is certainly there."""

    job: DownloadJob
    info: ObjectInfo
    partial: PartialFile
    journal: Journal
    plan: PartPlan
    meter: Meter
    crcs: dict[int, int] = field(default_factory=dict)
    halt: Cancellation = field(default_factory=Cancellation)

    @property
    def algorithm(self) -> CrcAlgorithm:
        """What ranges are hashed with."""
        return self.job.algorithm(self.info)

    @property
    def workers(self) -> int:
        """Threads, and connections."""
        return min(self.job.call.config.parallel_operations, self.plan.count)

    def recover(self, written_down: dict[int, int]) -> int:
        """Hash what the journal speaks of; count what is really there, and cross out what is not. How many are there.

        The file may have been cut, written to or exchanged since: its bytes are the only witness.
        """
        if not written_down:
            return 0
        buffers = self._buffers()

        def rehash(worker: int, index: int) -> None:
            part = self.plan.part(index + 1)
            if self._crc_on_disk(part, buffers[worker]) == written_down[index]:
                self.crcs[index] = written_down[index]
                self.meter.add_found(part.size)
            else:
                self.journal.drop(index)

        self._run(rehash, sorted(written_down))
        return len(self.crcs)

    def fetch_missing(self) -> None:
        """Fetch every range that is not there. Raises what ended it; what was fetched is kept and written down."""
        buffers = self._buffers()

        def fetch(worker: int, index: int) -> None:
            part = self.plan.part(index + 1)
            with self.partial.in_use():
                crc = self._fetched(part, buffers[worker])
                self.journal.commit(index, crc)
            self.crcs[index] = crc
            self.meter.part_done()

        self._run(fetch, (index for index in range(self.plan.count) if index not in self.crcs))

    def whole_crc(self) -> int:
        """The CRC of the whole object, from those of all its ranges."""
        sizes = (self.plan.part(index + 1).size for index in range(self.plan.count))
        return self.algorithm.combine_all((self.crcs[index], size) for index, size in enumerate(sizes))

    def _run(self, work: _Worker, items: Iterable[int]) -> None:
        cancel = self.job.call.cancel
        run_all(items, work, workers=self.workers, cancel=cancel, halt=self.halt, name="orbit-range")

    def _buffers(self) -> list[memoryview]:
        size = min(BLOCK, self.plan.part_size)
        return [memoryview(bytearray(size)) for _ in range(self.workers)]

    def _crc_on_disk(self, part: Part, buffer: memoryview) -> int | None:
        """None for what the disk cannot read: it is fetched again."""
        crc, done = 0, 0
        with self.partial.in_use():
            while done < part.size:
                self._check()
                view = buffer[: min(len(buffer), part.size - done)]
                try:
                    self.partial.read_into(view, part.offset + done)
                except TargetError as exc:
                    self.job.call.notice(f"{exc.message}; the range is fetched again", warning=True)
                    return None
                crc = self.algorithm.update(view, crc)
                done += len(view)
        return crc

    def _fetched(self, part: Part, buffer: memoryview) -> int:
        """Fetch one range; a body that breaks off goes on where it broke, as long as each request brings something.

        Bodies that bring nothing worth a request are asked for as often as the policy says; what fails before its body
        was repeated, and waited for, by the store already.
        """
        crc, done, fruitless = 0, 0, 0
        try:
            while True:
                before = done
                crc, done, broken = self._asked_once(part, (crc, done), buffer)
                if broken is None:
                    return crc
                fruitless = 0 if done - before >= LEAST_GAIN else fruitless + 1
                # A block that is cut is lost as a whole; from here on in blocks that such a line can carry.
                buffer = buffer[:LEAST_GAIN]
                if fruitless >= self.job.call.config.policy.max_attempts:
                    raise broken
                self.job.call.repeat(part.number, max(1, fruitless), broken)
        except BaseException:
            self.meter.rewind(done)
            raise

    def _asked_once(self, part: Part, state: tuple[int, int], buffer: memoryview) -> tuple[int, int, Network | None]:
        """One request: CRC and length so far, and what broke it off."""
        span = ByteRange(part.offset + state[1], part.offset + part.size)
        try:
            stream = self.job.call.store.get(self.job.pinned(self.info), span, if_match=self.info.etag)
        except InvalidRequest as exc:
            if exc.context.status != _RANGE_REFUSED:
                raise
            # The object has these bytes, as every other answer says; somebody on the way does not know it.
            return *state, Garbled("the range is said to be outside of the object", exc.context)
        except PreconditionFailed as exc:
            return *state, contradicted(self.job, self.info, exc.message, exc)
        with stream:
            if stream.info.size != self.info.size:
                told = f"the object has {self.info.size} bytes, and a range of it is said to be of {stream.info.size}"
                return *state, contradicted(self.job, self.info, told, None)
            return self._drained(stream, part, state, buffer)

    def _drained(
        self, stream: ObjectStream, part: Part, state: tuple[int, int], buffer: memoryview
    ) -> tuple[int, int, Network | None]:
        """The bytes of ``stream`` to their place: CRC and length so far, and what broke it off, if anything did."""
        crc, done = state
        try:
            while done < part.size:
                self._check()
                view = buffer[: min(len(buffer), part.size - done)]
                count = stream.read_into(view)
                self.meter.add_sent(count)
                self.partial.write(view[:count], part.offset + done)
                crc = self.algorithm.update(view[:count], crc)
                done += count
        except Network as exc:
            return crc, done, exc
        return crc, done, None

    def _check(self) -> None:
        self.job.call.cancel.check()
        self.halt.check()


def confirm_empty(job: DownloadJob, info: ObjectInfo) -> None:
    """Return when a GET finds no bytes either: gateways exist whose HEAD says 0 of everything.

    ObjectChanged; Garbled when the two do not agree.
    """
    try:
        stream = job.call.store.get(job.pinned(info), if_match=info.etag)
    except PreconditionFailed as exc:
        raise contradicted(job, info, exc.message, exc) from exc
    with stream:
        if stream.length:
            raise contradicted(
                job, info, f"HEAD says that the object is empty, and GET that it has {stream.length}", None
            )


def contradicted(job: DownloadJob, info: ObjectInfo, told: str, cause: PreconditionFailed | None) -> Garbled:
    """An answer to a GET speaks of another object than ``info``: the store is asked which one is true.

    ObjectChanged when it is really another one by now. Else the error for an answer that is not to be believed: caches
    and proxies give such ones, and a night's bytes are not thrown away for that.
    """
    now = job.head(info.version_id)
    if not same_object((info.etag, info.size, info.version_id), now):
        raise ObjectChanged(
            f"{job.uri} was replaced while it was downloaded (its ETag was {printable(info.etag)})",
            cause.context if cause is not None else None,
        ) from cause
    return Garbled(f"{told}; a HEAD says that it is the same as before", cause.context if cause is not None else None)
