"""A file's own beginning as the beginning of a download: for callers who say that they have the first bytes already."""

from __future__ import annotations

import os

from orbit_airflow.engine.download_job import BLOCK, DownloadJob
from orbit_airflow.engine.errors import ConfigError, TargetError, printable
from orbit_airflow.engine.model import Integrity, ObjectInfo
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.salvage import Workplace
from orbit_airflow.engine.target import Target, failure
from orbit_airflow.engine.verify import best_proof


def adopt_prefix(job: DownloadJob, target: Target, place: Workplace, info: ObjectInfo) -> None:
    """Copy the whole ranges of the target's first ``job.prefix`` bytes into the part file.

    Nothing shows yet that these bytes are the object's: only a checksum over all of it will. Where the store keeps
    none, they are not used, and everything is fetched. ConfigError when the file or the object is shorter than that.
    """
    if not job.prefix or place.written_down:
        return
    occupant = target.occupant()
    has = occupant.st_size if occupant is not None else 0
    if job.prefix > min(has, info.size):
        raise ConfigError(
            f"offset is {job.prefix}, {printable(target.path)} has {has} bytes and {job.uri} has {info.size}"
        )
    if not job.checksums or best_proof(info) is Integrity.SIZE_ETAG:
        job.call.notice(f"nothing could prove the first {job.prefix} bytes of {printable(target.path)}; fetching all")
        return
    plan = PartPlan(info.size, place.range_size)
    whole = plan.count if job.prefix == info.size else job.prefix // place.range_size
    try:
        fd = os.open(target.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target.directory)
    except OSError as exc:
        raise failure(exc, f"cannot read {printable(target.path)}") from exc
    try:
        for index in range(whole):
            part = plan.part(index + 1)
            crc = _copied(job, fd, place, part.offset, part.size, info)
            place.journal.commit(index, crc)
            place.written_down[index] = crc
    finally:
        os.close(fd)


def _copied(job: DownloadJob, fd: int, place: Workplace, offset: int, size: int, info: ObjectInfo) -> int:
    algorithm, crc, done = job.algorithm(info), 0, 0
    while done < size:
        job.call.cancel.check()
        try:
            block = os.pread(fd, min(BLOCK, size - done), offset + done)
        except OSError as exc:
            raise failure(exc, f"cannot read {printable(place.partial.target.path)}") from exc
        if not block:
            raise TargetError(f"{printable(place.partial.target.path)} was cut while it was read")
        place.partial.write(memoryview(block), offset + done)
        crc = algorithm.update(block, crc)
        done += len(block)
    return crc
