"""Uploads whose Create was answered to nobody: found by key, identity and time; aborted when provably ours.

"Abort every upload of this key" would kill a live writer's. Ours-and-lost means: the same initiator as the upload that
we know, begun between our intent and the upload that we know, and without a single part although all our parts are
sent by now. A store that will not list uploads is left as it is, with one line in the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

from orbit_airflow.engine.errors import OrbitError, Paused, StoreError, UploadGone
from orbit_airflow.engine.model import ListedUpload, ObjectRef
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import TransferStore

# S3 writes Initiated in whole seconds, and the intent's second is this machine's.
SLACK = timedelta(seconds=5)
# An upload that has been empty for so long is not one whose writer is just about to send.
EMPTY_SECONDS = 3.0
MAX_PAGES = 20
ABORT_ROUNDS = 3


class Sweeper(Protocol):
    """Whose lost uploads these are: an upload's job, or a copy's."""

    @property
    def store(self) -> TransferStore:
        """Where they are."""

    @property
    def ref(self) -> ObjectRef:
        """Their key."""

    @property
    def cancel(self) -> Cancellation:
        """The stop order."""

    def notice(self, message: str, *, warning: bool = False) -> None:
        """Tell the reader of the log."""


class Known(Protocol):
    """The upload that is known, and when it was begun."""

    @property
    def upload_id(self) -> str | None:
        """Its id."""

    @property
    def intent_at(self) -> int:
        """Seconds of this machine's clock before its Create."""

    @property
    def created_at(self) -> int | None:
        """And behind it."""


def sweep_lost_creates(job: Sweeper, token: Known) -> None:
    """Abort the uploads that lost Creates of this transfer left. Never raises but for a stop order."""
    if job.cancel.orphaned:
        return
    try:
        empty = [item for item in lost_twins(job, token) if is_empty(job, item)]
        if empty:
            job.cancel.sleep(EMPTY_SECONDS)
        for item in empty:
            if is_empty(job, item):
                job.store.abort(job.ref, item.upload_id)
                job.notice(f"aborted the empty upload {item.upload_id}, left by a Create whose answer was lost")
    except Paused:
        raise
    except OrbitError as exc:
        job.notice(f"could not look for an upload left by a lost Create; it may stay until the lifecycle rule ({exc})")


def lost_twins(job: Sweeper, token: Known) -> list[ListedUpload]:
    """Open uploads of this key that the present identity began between this transfer's intent and its known upload."""
    listed = list(_of_this_key(job))
    known = next((item for item in listed if item.upload_id == token.upload_id), None)
    if known is None or known.initiated is None or token.created_at is None:
        return []
    # Measured back from the upload that both clocks know: how long before its Create the intent was, and no more.
    waited = timedelta(seconds=max(0, token.created_at - token.intent_at))
    earliest, latest = known.initiated - waited - SLACK, known.initiated
    return [
        item
        for item in listed
        if item.upload_id != known.upload_id
        and item.initiator is not None
        and item.initiator == known.initiator
        and item.initiated is not None
        and earliest <= item.initiated <= latest
    ]


def _of_this_key(job: Sweeper) -> Iterator[ListedUpload]:
    after: tuple[str, str] | None = None
    for _ in range(MAX_PAGES):
        page = job.store.list_uploads(job.ref, after)
        yield from (item for item in page.uploads if item.key == job.ref.key)
        if page.next_marker is None:
            return
        after = page.next_marker


def is_empty(job: Sweeper, item: ListedUpload) -> bool:
    """True when the upload is there and has no part."""
    try:
        return not job.store.list_parts(job.ref, item.upload_id).parts
    except UploadGone:
        return False


def abort_surely(job: Sweeper, upload_id: str) -> None:
    """Until ListParts says that it is gone: a part in flight may survive the first abort (AWS says so)."""
    try:
        for _ in range(ABORT_ROUNDS):
            job.store.abort(job.ref, upload_id)
            job.store.list_parts(job.ref, upload_id)
    except UploadGone:
        return
    except (StoreError, Paused) as exc:
        job.notice(f"the upload {upload_id} could not be aborted and stays open: {exc}", warning=True)
