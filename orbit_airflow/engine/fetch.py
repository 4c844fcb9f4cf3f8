"""Ranges of an object into a part file: what an earlier try left is hashed again, the rest is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from orbit_airflow.engine.digests import CrcAlgorithm
from orbit_airflow.engine.download_job import BLOCK, DownloadJob
from orbit_airflow.engine.errors import Network, ObjectChanged, PreconditionFailed
from orbit_airflow.engine.events import Meter
from orbit_airflow.engine.journal import Journal
from orbit_airflow.engine.model import ByteRange, ObjectInfo, Part
from orbit_airflow.engine.partial import PartialFile
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.runner import Cancellation, run_all
from orbit_airflow.engine.store import ObjectStream

_Worker = Callable[[int, int], None]


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

    def _crc_on_disk(self, part: Part, buffer: memoryview) -> int:
        crc, done = 0, 0
        with self.partial.in_use():
            while done < part.size:
                self._check()
                view = buffer[: min(len(buffer), part.size - done)]
                self.partial.read_into(view, part.offset + done)
                crc = self.algorithm.update(view, crc)
                done += len(view)
        return crc

    def _fetched(self, part: Part, buffer: memoryview) -> int:
        """Fetch one range; a body that breaks off goes on where it broke, as long as each request brings something.

        Bodies that bring nothing are asked for as often as the policy says; what fails before its body was repeated,
        and waited for, by the store already.
        """
        crc, done, fruitless = 0, 0, 0
        try:
            while True:
                before = done
                with self._opened(part, done) as stream:
                    crc, done, broken = self._drained(stream, part, (crc, done), buffer)
                if broken is None:
                    return crc
                fruitless = 0 if done > before else fruitless + 1
                if fruitless >= self.job.call.config.policy.max_attempts:
                    raise broken
                self.job.call.repeat(part.number, max(1, fruitless), broken)
        except BaseException:
            self.meter.rewind(done)
            raise

    def _opened(self, part: Part, done: int) -> ObjectStream:
        """The range's bytes behind the first ``done``, of the pinned object. ObjectChanged when there is another."""
        pinned = replace(self.job.ref, version_id=self.info.version_id or self.job.ref.version_id)
        span = ByteRange(part.offset + done, part.offset + part.size)
        try:
            stream = self.job.call.store.get(pinned, span, if_match=self.info.etag)
        except PreconditionFailed as exc:
            raise ObjectChanged(
                f"{self.info.ref.uri} was replaced while it was downloaded (its ETag was {self.info.etag})", exc.context
            ) from exc
        if stream.info.size != self.info.size:
            stream.close()
            raise ObjectChanged(f"{self.info.ref.uri} had {self.info.size} bytes and has {stream.info.size} now")
        return stream

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
