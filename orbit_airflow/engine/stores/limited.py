"""A store that is asked by so many threads at once, and sends so many bytes per second, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

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
from orbit_airflow.engine.resilience.limits import BandwidthLimiter, Permits
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import (
    Body,
    CompleteRequest,
    CopyRequest,
    ListRequest,
    ObjectStream,
    PartDigests,
    TransferStore,
)

# Small pieces keep a limited line even; a whole block of 1 MiB would be a burst of seconds on a slow one.
SLICE = 64 * 1024


class LimitedBody:
    """A body whose bytes wait for their turn."""

    def __init__(self, inner: Body, limiter: BandwidthLimiter, cancel: Cancellation) -> None:
        self._inner = inner
        self._limiter = limiter
        self._cancel = cancel

    @property
    def size(self) -> int:
        """As of the inner body."""
        return self._inner.size

    def blocks(self) -> Iterator[memoryview]:
        """The inner blocks, in slices, each at its time."""
        for block in self._inner.blocks():
            for start in range(0, len(block), SLICE):
                piece = block[start : start + SLICE]
                self._limiter.take(len(piece), self._cancel.sleep)
                yield piece

    def read_at(self, position: int, size: int) -> bytes:
        """As of the inner body: reading for a signature is not sending."""
        return self._inner.read_at(position, size)


class LimitedStream:
    """A stream whose bytes wait for their turn, and which holds a permit until it is closed."""

    def __init__(
        self, inner: ObjectStream, permit: ExitStack, limiter: BandwidthLimiter | None, cancel: Cancellation
    ) -> None:
        self._inner = inner
        self._permit = permit
        self._limiter = limiter
        self._cancel = cancel

    @property
    def info(self) -> ObjectInfo:
        """As of the inner stream."""
        return self._inner.info

    @property
    def length(self) -> int:
        """As of the inner stream."""
        return self._inner.length

    def read_into(self, view: memoryview) -> int:
        """The inner bytes, in slices when there is a limit, each at its time."""
        if self._limiter is None:
            return self._inner.read_into(view)
        done = 0
        while done < len(view):
            wanted = min(SLICE, len(view) - done)
            self._limiter.take(wanted, self._cancel.sleep)
            count = self._inner.read_into(view[done : done + wanted])
            done += count
            if count < wanted:
                break
        return done

    def close(self) -> None:
        """Give both back, the permit once."""
        with self._permit:
            self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LimitedStore:
    """``inner`` with at most ``permits`` bodies in flight and, if given, a bandwidth limit over all of them.

    Each transfer has a view of its own over the shared permits and limit, so that its stop order ends its waits.
    """

    def __init__(
        self,
        inner: TransferStore,
        permits: Permits,
        limiter: BandwidthLimiter | None = None,
        *,
        cancel: Cancellation | None = None,
    ) -> None:
        self._inner = inner
        self._permits = permits
        self._limiter = limiter
        self._cancel = cancel or Cancellation()

    def _paced(self, body: Body) -> Body:
        return LimitedBody(body, self._limiter, self._cancel) if self._limiter is not None else body

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """Passed on."""
        return self._inner.head(ref)

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """Passed on."""
        return self._inner.head_part(ref, number)

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """With a permit, until the stream is closed."""
        with ExitStack() as stack:
            stack.enter_context(self._permits.one(self._cancel.check))
            inner = self._inner.get(ref, span, if_match=if_match)
            return LimitedStream(inner, stack.pop_all(), self._limiter, self._cancel)

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """Passed on."""
        return self._inner.copy(ref, request)

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """Passed on."""
        return self._inner.delete(ref)

    def list_objects(self, request: ListRequest) -> ListResult:
        """Passed on."""
        return self._inner.list_objects(request)

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """With a permit."""
        with self._permits.one(self._cancel.check):
            return self._inner.put(ref, self._paced(body), digests, attributes, if_none_match=if_none_match)

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """Passed on."""
        return self._inner.create(ref, attributes, checksums=checksums)

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """With a permit."""
        with self._permits.one(self._cancel.check):
            return self._inner.upload_part(ref, upload_id, part, self._paced(body), digests)

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """Passed on."""
        return self._inner.list_parts(ref, upload_id, after)

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """Passed on."""
        return self._inner.complete(ref, request)

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Passed on."""
        self._inner.abort(ref, upload_id)

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """Passed on."""
        return self._inner.list_uploads(ref, after)
