"""An upload whose token was lost, with its parts: taken over when every one of them is the file's.

The token may be lost because the API was down when it was to be saved, or because somebody emptied the task's state.
The upload is ours when the present identity began it since our intent, when each of its parts holds the local bytes at
the place where our plan has them, and when nobody works on it any more (its list of parts stands still for a while).
A part may still arrive behind its sender's death, out of the buffers of a dead machine's kernel or of a proxy: a list
that has moved gets another, longer look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orbit_airflow.engine.errors import AccessDenied, OrbitError, Paused
from orbit_airflow.engine.inventory import Inventory
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.model import ListedUpload, PartReceipt
from orbit_airflow.engine.source import Source
from orbit_airflow.engine.sweep import is_empty, lost_twins
from orbit_airflow.engine.token import UploadToken

# A live try finishes some part within this time, or it is too slow to be worth waiting for.
QUIET_SECONDS = 10.0
# How often that long each look waits; the last part of a dead sender has arrived behind the first of them.
_WAITS = (1, 2, 2)


@dataclass(frozen=True, slots=True)
class Adopted:
    """The upload that goes on, and its parts."""

    token: UploadToken
    receipts: dict[int, PartReceipt]


def adopt_lost_upload(job: UploadJob, source: Source, token: UploadToken) -> Adopted | None:
    """The lost upload with the most parts, in place of the empty one of ``token``, which is aborted, as are the empty
    uploads that other lost Creates left.

    None when there is none, or when it cannot be told from another writer's. Never raises but for a stop order.
    """
    try:
        twins = lost_twins(job, token)
        found = [item for item in (_matching(job, source, token, twin) for twin in twins) if item]
        best = max(found, key=lambda item: len(item.receipts), default=None)
        if best is None:
            return None
        empty = [twin for twin in twins if is_empty(job, twin)]
        best = _at_rest(job, source, best)
        if best is None:
            return None
        _abort_empty(job, token, empty)
    except Paused:
        raise
    except AccessDenied:
        # The sweep meets the same refusal before Complete, and says so once.
        return None
    except OrbitError as exc:
        job.notice(f"could not look for an upload that an earlier try left ({exc})")
        return None
    job.notice(
        f"found upload {best.token.upload_id} of an earlier try whose state was lost: {len(best.receipts)} parts"
    )
    return best


def _matching(job: UploadJob, source: Source, token: UploadToken, twin: ListedUpload) -> Adopted | None:
    candidate = replace(token, upload_id=twin.upload_id, adopted=True, sweep=False)
    inventory = Inventory(job, source, candidate, quiet=True)
    receipts = inventory.compared()
    return Adopted(candidate, receipts) if receipts and len(receipts) == inventory.seen else None


def _at_rest(job: UploadJob, source: Source, found: Adopted) -> Adopted | None:
    """The upload with the parts that it has once it stands still; None when it does not, or has a stranger's part."""
    for times in _WAITS:
        job.cancel.sleep(times * QUIET_SECONDS)
        inventory = Inventory(job, source, found.token, quiet=True)
        receipts = inventory.compared(found.receipts)
        if len(receipts) != inventory.seen:
            return None
        still = _etags(receipts) == _etags(found.receipts)
        found = Adopted(found.token, receipts)
        if still:
            return found
    job.notice(f"upload {found.token.upload_id} of this key is not continued: somebody still sends parts of it")
    return None


def _etags(receipts: dict[int, PartReceipt]) -> dict[int, str]:
    return {number: receipt.etag for number, receipt in receipts.items()}


def _abort_empty(job: UploadJob, token: UploadToken, twins: list[ListedUpload]) -> None:
    """What lost Creates left, and our own new upload, which is not needed."""
    for twin in twins:
        if is_empty(job, twin):
            job.store.abort(job.ref, twin.upload_id)
    job.store.abort(job.ref, token.upload_id or "")
