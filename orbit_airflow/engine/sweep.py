"""Uploads whose Create was answered to nobody: found by key, identity and time; aborted when provably ours.

"Abort every upload of this key" would kill a live writer's. Ours-and-lost means: the same initiator as the upload that
we know, begun between our intent and the upload that we know, and without a single part although all our parts are
sent by now. A store that will not list uploads is left as it is, with one line in the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from orbit_airflow.engine.errors import OrbitError, Paused, StoreError, UploadGone
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.model import ListedUpload
from orbit_airflow.engine.token import UploadToken

# S3 writes Initiated in whole seconds, and the intent's second is this machine's.
SLACK = timedelta(seconds=5)
MAX_PAGES = 20


def sweep_lost_creates(job: UploadJob, token: UploadToken) -> None:
    """Abort the uploads that lost Creates of this transfer left. Never raises but for a stop order."""
    if job.cancel.orphaned:
        return
    try:
        listed = list(_of_this_key(job))
        known = next((item for item in listed if item.upload_id == token.upload_id), None)
        if known is None or known.initiated is None:
            return
        for item in listed:
            if _is_lost_twin(item, known, token, job.clock()) and _has_no_parts(job, item):
                job.store.abort(job.ref, item.upload_id)
                job.notice(f"aborted the empty upload {item.upload_id}, left by a Create whose answer was lost")
    except Paused:
        raise
    except (StoreError, OrbitError) as exc:
        job.notice(f"could not look for an upload left by a lost Create; it may stay until the lifecycle rule ({exc})")


def _of_this_key(job: UploadJob) -> Iterator[ListedUpload]:
    after: tuple[str, str] | None = None
    for _ in range(MAX_PAGES):
        page = job.store.list_uploads(job.ref, after)
        yield from (item for item in page.uploads if item.key == job.ref.key)
        if page.next_marker is None:
            return
        after = page.next_marker


def _is_lost_twin(item: ListedUpload, known: ListedUpload, token: UploadToken, now: float) -> bool:
    if item.upload_id == known.upload_id or item.initiated is None or known.initiated is None:
        return False
    if item.initiator is None or item.initiator != known.initiator:
        return False
    # The known upload began at most (now - intent) ago; measured back from it, both clocks cancel out.
    earliest = known.initiated - timedelta(seconds=max(0.0, now - token.intent_at)) - SLACK
    return earliest <= item.initiated <= known.initiated + SLACK


def _has_no_parts(job: UploadJob, item: ListedUpload) -> bool:
    try:
        return not job.store.list_parts(job.ref, item.upload_id).parts
    except UploadGone:
        return False
