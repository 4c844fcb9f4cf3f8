"""Whether the target holds the object already: then nothing is fetched."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orbit_airflow.engine.digests import CrcAlgorithm, crc_algorithm
from orbit_airflow.engine.download_job import BLOCK, DownloadJob
from orbit_airflow.engine.download_proof import prove
from orbit_airflow.engine.download_token import DownloadPhase, DownloadToken, LocalFile, same_object
from orbit_airflow.engine.errors import IntegrityError, TargetError, TargetExists, printable
from orbit_airflow.engine.host import host_id
from orbit_airflow.engine.journal import Found, read_journal, remove_journal
from orbit_airflow.engine.model import ChecksumType, Integrity, ObjectInfo
from orbit_airflow.engine.partial import PART, hidden_name, left_overs
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.target import Target, failure
from orbit_airflow.engine.verify import LocalBytes, suffices, weaker


def already_finished(
    job: DownloadJob, target: Target, token: DownloadToken | None, info: ObjectInfo
) -> Integrity | None:
    """What is proved about the file that has the target's name, when it certainly is the object; else None.

    TargetExists when it is not and ``replace=False``. TargetError when something else than a file is there.
    """
    occupant = target.occupant()
    if occupant is None:
        _tell_of_absence(job, token)
        return None
    proof = None
    if occupant.st_size == info.size:
        proof = _by_token(job, target, token, info, occupant) or _by_journal(job, target, info, occupant)
        if proof is None and not job.options.replace and job.checksums:
            # A size and an ETag are too little for a file of unknown making.
            proof = _by_bytes(job, target, info, None)
    if proof is None and not job.options.replace:
        raise TargetExists(f"{printable(target.path)} exists ({occupant.st_size} bytes) and replace is False")
    return proof


def still_finished(job: DownloadJob, target: Target, token: DownloadToken) -> Integrity | None:
    """The earlier try's proof, when the object is not there any more and the file is the very one that this try left.

    There is nothing left to compare it with: a file that was copied or touched since does not count.
    """
    occupant, file = target.occupant(), token.file
    if occupant is None or file is None or token.phase is DownloadPhase.STARTED or occupant.st_size != token.size:
        return None
    if not _same_file(job, file, occupant):
        return None
    algorithm = crc_algorithm(file.algorithm)
    if occupant.st_ctime_ns != file.ctime_ns and (
        algorithm is None or _crc_of(job, target, occupant.st_size, algorithm) != file.crc
    ):
        return None
    job.call.notice("the object is not there any more; an earlier try had fetched all of it")
    return token.integrity


def clear_up(target: Target) -> None:
    """Remove what a finished download may have left: a journal without its part file, a part file that is the target.

    A part file of another transfer, and its journal, stay; what cannot be looked at stays, too.
    """
    with suppress(TargetError):
        occupant = target.occupant()
        for nonce in left_overs(target):
            name = hidden_name(target, nonce, PART)
            if not target.holds(name):
                remove_journal(target, nonce)
            elif occupant is not None and target.is_file(name, occupant):
                target.remove(name)
                remove_journal(target, nonce)


def _tell_of_absence(job: DownloadJob, token: DownloadToken | None) -> None:
    if token is None:
        return
    here = token.host == host_id()
    if token.phase is DownloadPhase.DONE:
        where = "" if here else f" on another host ({printable(token.host)})"
        job.call.notice(f"an earlier try had finished{where}, but its file is not here now; downloading again")
    elif not here and not job.options.shared_storage:
        job.call.notice(
            f"the earlier try ran on another host ({printable(token.host)}) and what it fetched is not here; starting "
            "again (shared_storage=True, if the directory is the same on all hosts, continues)",
            warning=True,
        )


def _by_token(
    job: DownloadJob, target: Target, token: DownloadToken | None, info: ObjectInfo, occupant: os.stat_result
) -> Integrity | None:
    """The earlier try's proof, while nobody has touched the file since; else what its bytes prove, when they are those
    that this try had. The token is never believed more than the object itself could prove.
    """
    if token is None or token.file is None or token.integrity is None or not token.is_of(info):
        return None
    file, proof = token.file, weaker(token.integrity, job.best_proof(info))
    untouched = _same_file(job, file, occupant) and occupant.st_ctime_ns == file.ctime_ns
    if untouched and suffices(proof, job.options.require_integrity) and not _contradicts(file, info):
        return proof
    found = _by_bytes(job, target, info, (file.algorithm, file.crc))
    if found is None:
        job.call.notice(f"an earlier try had finished, but {printable(target.path)} is another file now")
    return found


def _same_file(job: DownloadJob, file: LocalFile, occupant: os.stat_result) -> bool:
    same_place = occupant.st_ino == file.ino and (occupant.st_dev == file.dev or job.options.shared_storage)
    return same_place and occupant.st_mtime_ns == file.mtime_ns


def _contradicts(file: LocalFile, info: ObjectInfo) -> bool:
    """Whether the object's own checksum says that the file's CRC is that of other bytes."""
    checksum, algorithm = info.checksum, crc_algorithm(file.algorithm)
    if checksum is None or checksum.type is not ChecksumType.FULL_OBJECT or checksum.algorithm != file.algorithm:
        return False
    return algorithm is None or algorithm.to_base64(file.crc) != checksum.value


def _by_journal(job: DownloadJob, target: Target, info: ObjectInfo, occupant: os.stat_result) -> Integrity | None:
    """What is proved of the file of a try that was killed after it had given it its name, and whose token is lost."""
    for nonce in left_overs(target):
        found = read_journal(target, nonce)
        if found is None or found.proof is None or not _is_of(job, found, info, occupant):
            continue
        algorithm = crc_algorithm(found.header.algorithm)
        expected = _combined(found, algorithm) if algorithm is not None else None
        if expected is not None:
            proof = _by_bytes(job, target, info, (found.header.algorithm, expected))
            if proof is not None:
                return proof
    return None


def _is_of(job: DownloadJob, found: Found, info: ObjectInfo, occupant: os.stat_result) -> bool:
    header = found.header
    of_it = same_object((header.etag, header.size, header.version_id), info)
    return header.target == job.target and of_it and header.ino == occupant.st_ino


def _combined(found: Found, algorithm: CrcAlgorithm) -> int | None:
    """The CRC of all bytes as the journal has it; None when ranges are missing."""
    if not found.header.size:
        return 0
    plan = PartPlan(found.header.size, found.header.range_size)
    if len(found.ranges) != plan.count:
        return None
    return algorithm.combine_all((found.ranges[part.number - 1], part.size) for part in plan)


def _by_bytes(job: DownloadJob, target: Target, info: ObjectInfo, expected: tuple[str, int] | None) -> Integrity | None:
    """What the file's own bytes prove; None when they are others than ``expected`` (by algorithm and CRC), or than the
    object's. With nothing expected, a size and an ETag prove nothing.
    """
    algorithm = job.algorithm(info)
    with suppress(IntegrityError, _Unreadable), _opened(target) as fd:
        crc = _crc(job, fd, info.size, algorithm)
        if expected is not None and expected != (algorithm.name, crc):
            return None
        local = LocalBytes(
            size=info.size,
            algorithm=algorithm,
            crc=crc,
            read_into=lambda view, offset: _filled(fd, view, offset, target),
            check=job.call.cancel.check,
        )
        proof = prove(job, info, local)
        return None if proof is Integrity.SIZE_ETAG and expected is None else proof
    return None


def _crc_of(job: DownloadJob, target: Target, size: int, algorithm: CrcAlgorithm) -> int | None:
    with suppress(_Unreadable), _opened(target) as fd:
        return _crc(job, fd, size, algorithm)
    return None


class _Unreadable(TargetError):
    """What has the target's name cannot be read: it is not the object as far as anybody can tell."""


def _crc(job: DownloadJob, fd: int, size: int, algorithm: CrcAlgorithm) -> int:
    buffer, crc, done = memoryview(bytearray(BLOCK)), 0, 0
    while done < size:
        job.call.cancel.check()
        count = os.preadv(fd, [buffer[: min(BLOCK, size - done)]], done)
        if not count:
            break
        crc = algorithm.update(buffer[:count], crc)
        done += count
    return crc


def _filled(fd: int, view: memoryview, offset: int, target: Target) -> int:
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if not count:
            raise _Unreadable(f"{printable(target.path)} was cut while it was read")
        done += count
    return done


@contextmanager
def _opened(target: Target) -> Iterator[int]:
    try:
        fd = os.open(target.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=target.directory)
    except OSError as exc:
        raise _Unreadable(failure(exc, f"cannot read {printable(target.path)}").message) from exc
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _Unreadable(f"{printable(target.path)} is no regular file")
        yield fd
    except OSError as exc:
        raise _Unreadable(failure(exc, f"cannot read {printable(target.path)}").message) from exc
    finally:
        os.close(fd)
