"""The end of a download: a complete and proved part file gets the target's name."""

from __future__ import annotations

from datetime import datetime

from orbit_airflow.engine.download_job import DownloadJob
from orbit_airflow.engine.download_token import DownloadToken, LocalFile
from orbit_airflow.engine.errors import TargetError, printable
from orbit_airflow.engine.journal import SyncFailed, remove_journal
from orbit_airflow.engine.model import Integrity, ObjectInfo
from orbit_airflow.engine.salvage import Workplace
from orbit_airflow.engine.target import Target


def publish(
    job: DownloadJob,
    target: Target,
    place: Workplace,
    info: ObjectInfo,
    token: DownloadToken,
    proof: tuple[Integrity, int],
) -> DownloadToken:
    """File synced -> journal says proved -> token says publishing -> name -> directory synced -> token says done.

    TargetError, and nothing visible, when the part file or the directory is not the one that it was.

    ``proof``: what was proved, and the CRC of all bytes. TargetExists with ``replace=False`` when the name was taken
    meanwhile; the part file stays then.
    """
    integrity, crc = proof
    place.partial.dress(job.options.file_mode, _nanoseconds(info.last_modified) if job.options.keep_mtime else None)
    try:
        found = place.partial.sync()
    except OSError as exc:
        raise SyncFailed.of(exc, target) from exc
    if found.st_size != info.size or found.st_nlink != 1 or not place.partial.is_named:
        raise TargetError(f"{printable(place.partial.name)} was changed by somebody else; nothing was made visible")
    place.journal.proved(integrity)
    file = LocalFile(
        dev=found.st_dev,
        ino=found.st_ino,
        mtime_ns=found.st_mtime_ns,
        algorithm=job.algorithm(info).name,
        crc=crc,
    )
    token = job.ledger.save(token.publishing(integrity, file))
    target.occupant()
    target.check_directory()
    target.put_in_place(place.partial.name, found, replace=job.options.replace)
    # The name has changed the file's change time: from now on only somebody else can.
    token = job.ledger.save(token.done(place.partial.stat().st_ctime_ns))
    remove_journal(target, place.partial.nonce)
    return token


def _nanoseconds(when: datetime | None) -> int | None:
    return int(when.timestamp()) * 1_000_000_000 if when is not None else None
