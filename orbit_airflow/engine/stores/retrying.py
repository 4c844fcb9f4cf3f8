"""A store that repeats what may be repeated. It stands outside of the limits: a sleeping retry holds no permit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from orbit_airflow.engine.errors import OrbitError, printable
from orbit_airflow.engine.events import Reporter, Retrying
from orbit_airflow.engine.model import (
    CreatedUpload,
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
from orbit_airflow.engine.store import Body, CompleteRequest, PartDigests, TransferStore

T = TypeVar("T")


class RetryingStore:
    """``inner`` with ``policy`` around each request.

    Create, Complete and PutObject are repeated only when surely undone; for a lost answer their caller asks first what
    the store has.
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
        """Repeated when surely undone; the caller first looks for the object, and has one deadline for all of it."""
        call = lambda: self._inner.complete(ref, request)  # noqa: E731
        return self._run("CompleteMultipartUpload", call, retryable=surely_undone)

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
