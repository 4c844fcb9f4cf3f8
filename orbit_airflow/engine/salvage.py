"""Where a download's bytes go: a part file with its journal, taken over from an earlier try or made anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from orbit_airflow.engine.download_job import DownloadJob
from orbit_airflow.engine.download_token import same_object
from orbit_airflow.engine.errors import TargetBusy, printable
from orbit_airflow.engine.host import host_id
from orbit_airflow.engine.journal import MAX_RANGES, Found, Journal, read_journal, remove_journal
from orbit_airflow.engine.model import ObjectInfo
from orbit_airflow.engine.partial import PART, PartialFile, hidden_name, is_held, left_overs
from orbit_airflow.engine.target import Target

# How often one of two transfers that began in the same instant looks whether the other one has left. Seconds.
RIVAL_LOOKS, RIVAL_SECONDS = 20, 0.05


@dataclass(frozen=True, slots=True)
class Workplace:
    """A locked part file and its journal. ``written_down``: what the journal says of its ranges, not yet believed."""

    partial: PartialFile
    journal: Journal
    range_size: int
    written_down: dict[int, int]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held; the files stay."""
        self.journal.close()
        self.partial.close()

    def discard(self) -> None:
        """Remove both files: they are worthless."""
        remove_journal(self.partial.target, self.partial.nonce)
        self.partial.discard()


def workplace(job: DownloadJob, target: Target, info: ObjectInfo) -> Workplace:
    """What an earlier try left of this very object, else new files. What else lies there under the target's hidden
    names, unlocked and of this host, is removed: nobody will ever finish it.

    TargetBusy when a live transfer works on the same target; DiskFull.
    """
    kept: tuple[PartialFile, Found] | None = None
    try:
        for nonce in left_overs(target):
            found = read_journal(target, nonce)
            if found is not None and not _within_reach(job, found):
                job.call.notice(
                    f"a part file of host {printable(found.header.host)} is beside {printable(target.path)}; it is "
                    "left alone (shared_storage=True continues it)"
                )
                continue
            partial = PartialFile.reopen(target, nonce)
            if partial is None:
                if not target.holds(hidden_name(target, nonce, PART)):
                    remove_journal(target, nonce)
            elif kept is None and found is not None and _usable(job, partial, found, info):
                kept = (partial, found)
            else:
                _clear_away(job, partial, found)
        return _taken_over(*kept) if kept is not None else _made_alone(job, target, info)
    except BaseException:
        if kept is not None:
            kept[0].close()
        raise


def _within_reach(job: DownloadJob, found: Found) -> bool:
    """A lock of another host may not be seen here: only who says that the storage is shared may take its files."""
    return job.options.shared_storage or found.header.host == host_id()


def _usable(job: DownloadJob, partial: PartialFile, found: Found, info: ObjectInfo) -> bool:
    header = found.header
    return (
        job.options.resume
        and header.target == job.target
        and same_object((header.etag, header.size, header.version_id), info)
        # Not the device's number: a reboot or a new mount may change it, and the bytes are hashed again anyway.
        and header.ino == partial.ino
        # With a second name it is a file that somebody may be reading already.
        and partial.links == 1
        and header.algorithm == job.algorithm(info).name
        and -(-header.size // header.range_size) <= MAX_RANGES
    )


def _clear_away(job: DownloadJob, partial: PartialFile, found: Found | None) -> None:
    why = "of another object or transfer, or without its journal" if job.options.resume else "and resume is off"
    kept = len(found.ranges) if found is not None else 0
    job.call.notice(f"a part file was left here ({kept} ranges), {why}; it is removed")
    remove_journal(partial.target, partial.nonce)
    partial.discard()
    partial.close()


def _taken_over(partial: PartialFile, found: Found) -> Workplace:
    partial.restore_size(found.header.size)
    return Workplace(partial, Journal.reopen(partial, found), found.header.range_size, found.ranges)


def _made_alone(job: DownloadJob, target: Target, info: ObjectInfo) -> Workplace:
    """New files, unless somebody made some in the same instant: then one of them goes on, and the others are told.

    Whoever looked before the other's file was there does not see it any more; so each looks again. The one with the
    smaller name stays a little, since the other one, if it sees this one, leaves at once.
    """
    place = _made(job, target, info)
    try:
        for _ in range(RIVAL_LOOKS):
            rivals = [nonce for nonce in left_overs(target) if _is_live(job, target, nonce, place.partial.nonce)]
            if not rivals:
                return place
            if min(rivals) < place.partial.nonce:
                break
            job.call.cancel.sleep(RIVAL_SECONDS)
        raise TargetBusy(f"another transfer began to write {printable(target.path)} at the same time")
    except BaseException:
        place.discard()
        place.close()
        raise


def _is_live(job: DownloadJob, target: Target, nonce: str, own: str) -> bool:
    if nonce == own:
        return False
    found = read_journal(target, nonce)
    return (found is None or _within_reach(job, found)) and is_held(target, nonce)


def _made(job: DownloadJob, target: Target, info: ObjectInfo) -> Workplace:
    partial = PartialFile.new(target, info.size)
    range_size = job.range_size(info.size)
    try:
        return Workplace(partial, Journal.new(partial, job.header(info, partial, range_size)), range_size, {})
    except BaseException:
        remove_journal(target, partial.nonce)
        partial.discard()
        partial.close()
        raise
