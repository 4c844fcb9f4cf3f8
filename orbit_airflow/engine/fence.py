"""The source fence: before an object becomes visible, its parts must be one snapshot of the file."""

from __future__ import annotations

from collections.abc import Sequence

from orbit_airflow.engine.body import WorkerBuffers
from orbit_airflow.engine.errors import SourceChanged, SourceError
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.model import Part, PartReceipt
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.runner import run_all
from orbit_airflow.engine.source import BLOCK, Source


def verify_unchanged(job: UploadJob, source: Source, plan: PartPlan, receipts: Sequence[PartReceipt]) -> None:
    """Return when every part holds what the file holds now; SourceChanged otherwise.

    An equal stat is enough. A different one is a doubt: the file (the one that the path names now) is hashed again,
    and only different bytes count, so that a chmod or a copy onto itself does not lose a night's run.
    """
    change = source.change()
    if change is None:
        if not source.just_written:
            return
        change = "was being written right before the upload"
    job.notice(f"{job.path} {change}; comparing its bytes with what was sent")
    try:
        with job.opened() as now:
            _compare(job, now, plan, receipts, change)
            if now.change() is not None:
                raise SourceChanged(f"{job.path} is still being written ({now.change()})")
    except SourceChanged:
        raise
    except SourceError:
        # Deleted or moved away: what is open here is the last snapshot there is, if it is still whole.
        _compare(job, source, plan, receipts, change)
    source.settle()


def _compare(job: UploadJob, now: Source, plan: PartPlan, receipts: Sequence[PartReceipt], change: str) -> None:
    if now.size != plan.size:
        raise SourceChanged(f"{job.path} {change} while it was uploaded: {plan.size} bytes became {now.size}")
    buffers = WorkerBuffers(BLOCK)

    def compare(worker: int, part: Part) -> None:
        job.cancel.check()
        if (
            now.digest(part, buffers.of(worker), md5=False, check=job.cancel.check)[0]
            != receipts[part.number - 1].crc32
        ):
            raise SourceChanged(f"{job.path} {change} while it was uploaded: the bytes of part {part.number} differ")

    try:
        run_all(plan, compare, workers=job.config.parallel_operations, cancel=job.cancel, name="orbit-fence")
    finally:
        if job.cancel.left_behind:
            now.lend()
