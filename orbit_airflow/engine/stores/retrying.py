"""A store that repeats what may be repeated. It stands outside of the limits: a sleeping retry holds no permit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from orbit_airflow.engine.errors import OrbitError, printable
from orbit_airflow.engine.events import Reporter, Retrying
from orbit_airflow.engine.model import (
    ByteRange,
    CreatedUpload,
    DeleteReceipt,
    ListResult,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
    Part,
    PartReceipt,
    PartsPage,
    UploadsPage,
    WriteReceipt,
)
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


class RetryingStore:
    """``inner`` with ``policy`` around each request. Create, PutObject, CopyObject and a DeleteObject without
    a version are repeated only when surely undone; for a lost answer their caller asks first what the store has.
    """

    def __init__(
        self,
        inner: TransferStore,
        policy: RetryPolicy,
        *,
        sleep: Callable[[float], None],
        rng: random.Random,
        reporter: Reporter,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._sleep = sleep
        self._rng = rng
        self._reporter = reporter

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """Repeated."""
        return self._run("HeadObject", lambda: self._inner.head(ref))

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """Repeated until the answer's headers are there; a body that breaks off is its reader's affair."""
        return self._run("GetObject", lambda: self._inner.get(ref, span, if_match=if_match))

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """Repeated when surely undone."""
        return self._run("CopyObject", lambda: self._inner.copy(ref, request), retryable=surely_undone)

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """Repeated; without a version only when surely undone, since each call may lay one more delete marker."""
        retryable = repeatable if ref.version_id else surely_undone
        return self._run("DeleteObject", lambda: self._inner.delete(ref), retryable=retryable)

    def list_objects(self, request: ListRequest) -> ListResult:
        """Repeated."""
        return self._run("ListObjectsV2", lambda: self._inner.list_objects(request))

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """Repeated when surely undone."""
        call = lambda: self._inner.put(ref, body, digests, attributes, if_none_match=if_none_match)  # noqa: E731
        return self._run("PutObject", call, retryable=surely_undone)

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """Repeated when surely undone."""
        call = lambda: self._inner.create(ref, attributes, checksums=checksums)  # noqa: E731
        return self._run("CreateMultipartUpload", call, retryable=surely_undone)

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """Repeated, the body from its first byte."""
        call = lambda: self._inner.upload_part(ref, upload_id, part, body, digests)  # noqa: E731
        return self._run("UploadPart", call, part_number=part.number)

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """Repeated."""
        return self._run("ListParts", lambda: self._inner.list_parts(ref, upload_id, after))

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """Repeated: the same parts give the same object, or UploadGone, which the caller settles."""
        return self._run("CompleteMultipartUpload", lambda: self._inner.complete(ref, request))

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Repeated."""
        self._run("AbortMultipartUpload", lambda: self._inner.abort(ref, upload_id))

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """Repeated."""
        return self._run("ListMultipartUploads", lambda: self._inner.list_uploads(ref, after))

    def _run(
        self,
        operation: str,
        call: Callable[[], T],
        *,
        retryable: Callable[[BaseException], bool] = repeatable,
        part_number: int | None = None,
    ) -> T:
        def announce(attempt: int, delay: float, error: BaseException) -> None:
            reason = error.message if isinstance(error, OrbitError) else str(error)
            self._reporter(Retrying(operation, attempt, delay, printable(reason), part_number))

        return self._policy.run(call, retryable=retryable, sleep=self._sleep, rng=self._rng, on_retry=announce)
