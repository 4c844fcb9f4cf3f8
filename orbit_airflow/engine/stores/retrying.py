"""A store that repeats what may be repeated. It stands outside of the limits: a sleeping retry holds no permit.

Every attempt goes through the bucket's circuit breaker, and every repetition is paid from the engine's budget.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from orbit_airflow.engine.errors import OrbitError, StoreError, printable
from orbit_airflow.engine.events import Reporter, Retrying
from orbit_airflow.engine.model import (
    ByteRange,
    CreatedUpload,
    DeleteReceipt,
    ListResult,
    ObjectAttributes,
    ObjectInfo,
    ObjectPart,
    ObjectRef,
    Part,
    PartReceipt,
    PartsPage,
    UploadsPage,
    WriteReceipt,
)
from orbit_airflow.engine.resilience.breaker import CircuitBreaker
from orbit_airflow.engine.resilience.budget import RetryBudget
from orbit_airflow.engine.resilience.outcome import repeatable, surely_undone
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.store import (
    Body,
    CompleteRequest,
    CopyRequest,
    ListRequest,
    ObjectStream,
    PartDigests,
    TransferStore,
)

T = TypeVar("T")
BreakerFor = Callable[[str], CircuitBreaker | None]


def no_breaker(bucket: str) -> CircuitBreaker | None:
    """For policies without one."""


def _undone(error: BaseException) -> bool:
    return repeatable(error) and surely_undone(error)


class RetryingStore:
    """``inner`` with ``policy`` around each request.

    Create, Complete, PutObject, CopyObject and a DeleteObject without a version are repeated only when surely undone;
    for a lost answer their caller asks first what the store has. Raises the last attempt's own error, with a note when
    it was not the first one or when the budget had no more. CircuitOpen comes out at once: waiting for a breaker is not
    this store's work.
    """

    def __init__(
        self,
        inner: TransferStore,
        policy: RetryPolicy,
        *,
        sleep: Callable[[float], None],
        rng: random.Random,
        reporter: Reporter,
        budget: RetryBudget | None = None,
        breaker_for: BreakerFor = no_breaker,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._sleep = sleep
        self._rng = rng
        self._reporter = reporter
        self._budget = budget or RetryBudget()
        self._breaker_for = breaker_for

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """Repeated."""
        return self._run("HeadObject", ref, lambda: self._inner.head(ref))

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """Repeated."""
        return self._run("HeadObject", ref, lambda: self._inner.head_part(ref, number), part_number=number)

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """Repeated until the answer's headers are there; a body that breaks off is its reader's affair."""
        return self._run("GetObject", ref, lambda: self._inner.get(ref, span, if_match=if_match))

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """Repeated when surely undone."""
        return self._run("CopyObject", ref, lambda: self._inner.copy(ref, request), retryable=_undone)

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """Repeated; without a version only when surely undone, since each call may lay one more delete marker."""
        retryable = repeatable if ref.version_id else _undone
        return self._run("DeleteObject", ref, lambda: self._inner.delete(ref), retryable=retryable)

    def list_objects(self, request: ListRequest) -> ListResult:
        """Repeated."""
        return self._run("ListObjectsV2", request.where.probe, lambda: self._inner.list_objects(request))

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """Repeated when surely undone."""
        call = lambda: self._inner.put(ref, body, digests, attributes, if_none_match=if_none_match)  # noqa: E731
        return self._run("PutObject", ref, call, retryable=_undone)

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """Repeated when surely undone."""
        call = lambda: self._inner.create(ref, attributes, checksums=checksums)  # noqa: E731
        return self._run("CreateMultipartUpload", ref, call, retryable=_undone)

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """Repeated, the body from its first byte."""
        call = lambda: self._inner.upload_part(ref, upload_id, part, body, digests)  # noqa: E731
        return self._run("UploadPart", ref, call, part_number=part.number)

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """Repeated."""
        return self._run("ListParts", ref, lambda: self._inner.list_parts(ref, upload_id, after))

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """Repeated when surely undone; the caller first looks for the object, and has one deadline for all of it."""
        call = lambda: self._inner.complete(ref, request)  # noqa: E731
        return self._run("CompleteMultipartUpload", ref, call, retryable=_undone)

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Repeated."""
        self._run("AbortMultipartUpload", ref, lambda: self._inner.abort(ref, upload_id))

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """Repeated."""
        return self._run("ListMultipartUploads", ref, lambda: self._inner.list_uploads(ref, after))

    def _run(
        self,
        operation: str,
        ref: ObjectRef,
        call: Callable[[], T],
        *,
        retryable: Callable[[BaseException], bool] = repeatable,
        part_number: int | None = None,
    ) -> T:
        story = _Story(self._budget)
        breaker = self._breaker_for(ref.bucket)

        def announce(attempt: int, delay: float, error: BaseException) -> None:
            reason = error.message if isinstance(error, OrbitError) else str(error)
            self._reporter(Retrying(operation, attempt, delay, printable(reason), part_number))

        try:
            answer = self._policy.run(
                call if breaker is None else lambda: breaker.call(call),
                retryable=retryable,
                sleep=self._sleep,
                rng=self._rng,
                on_retry=announce,
                may_repeat=story.may_repeat,
            )
        except StoreError as exc:
            note = story.note(spent=retryable(exc))
            if not note:
                raise
            raise exc.with_note(note) from exc
        self._budget.give(story.taken or 1)
        return answer


class _Story:
    """What became of one request: how often it was repeated, and what that cost."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._repeats = 0
        self._refused = False
        self.taken = 0

    def may_repeat(self, error: BaseException) -> bool:
        """Pay for one repetition."""
        self.taken = self._budget.take(error)
        self._refused = not self.taken
        self._repeats += not self._refused
        return not self._refused

    def note(self, *, spent: bool) -> str:
        """What a reader of the error wants to know of the attempts before it."""
        if self._refused:
            return f"Not sent again after {_times(self._repeats + 1)}: the engine's retry budget is used up."
        return f"Given up after {_times(self._repeats + 1)}." if spent and self._repeats else ""


def _times(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
