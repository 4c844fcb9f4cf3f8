"""FaultyStore: a store whose requests fail on cue, before the work, in the middle of a body, or behind it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeVar, cast, final, get_args

from orbit_airflow.engine.errors import ConnectionLost, RequestContext
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
Operation = Literal[
    "*", "head", "head_part", "get", "put", "copy", "delete", "list_objects",
    "create", "upload_part", "list_parts", "complete", "abort", "list_uploads",
]  # fmt: skip
When = Literal["before", "during", "after"]
_WITH_BODY = frozenset({"*", "get", "put", "upload_part"})


@final
class _Real:
    """The type of REAL_ANSWER."""

    def __repr__(self) -> str:
        return "REAL_ANSWER"


REAL_ANSWER: Final = _Real()


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted misfortune. It strikes the ``nth`` matching request and the ``times`` - 1 after it (None: for ever).

    ``operation`` is a verb of the port, or "*" for all; ``part_number`` narrows it to one part. ``when``: "before" the
    store learns of the request, "during" its body behind ``blocks`` blocks (for get: behind so many reads), or "after"
    the work was done. What happens there: ``call`` is called, if given; then ``error`` is raised (a copy, each time),
    or ``answer`` is returned in place of the store's own ("before": without any work done). With none of the three the
    connection is lost, so ``Fault("complete", when="after")`` is an answer that got lost.
    """

    operation: Operation
    nth: int = 1
    times: int | None = 1
    when: When = "before"
    error: BaseException | None = None
    call: Callable[[], object] | None = None
    answer: object = REAL_ANSWER
    part_number: int | None = None
    blocks: int = 1

    def __post_init__(self) -> None:
        if self.operation not in get_args(Operation) or self.when not in get_args(When):
            raise ValueError(f"no such operation or moment: {self.operation!r} {self.when!r}")
        if self.nth < 1 or (self.times is not None and self.times < 1) or self.blocks < 0:
            raise ValueError(f"counts begin at 1: {self!r}")
        if self.when == "during" and (self.operation not in _WITH_BODY or self.answer is not REAL_ANSWER):
            raise ValueError(f"only a body has a middle, and it has no answer: {self!r}")

    def matches(self, operation: str, part_number: int | None) -> bool:
        """True when the request is of the kind that this fault is about."""
        return self.operation in ("*", operation) and self.part_number in (None, part_number)

    def strike(self, context: RequestContext) -> object:
        """Do what is scripted; return the answer to give, or REAL_ANSWER."""
        if self.call is not None:
            self.call()
        if self.error is not None:
            raise copy.copy(self.error)
        if self.call is None and self.answer is REAL_ANSWER:
            raise ConnectionLost(f"scripted: the connection was lost {self.when} the work", context)
        return self.answer


class FaultyStore:
    """``inner`` with a script of faults. Thread-safe; each fault counts the requests that match it by itself.

    ``fired`` lists (operation, fault) in the order in which they struck.
    """

    def __init__(self, inner: TransferStore, script: Sequence[Fault] = ()) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._script: list[Fault] = list(script)
        self._seen: list[int] = [0] * len(self._script)
        self.fired: list[tuple[str, Fault]] = []

    def add(self, *faults: Fault) -> None:
        """Put more faults in force; they count from now on."""
        with self._lock:
            self._script.extend(faults)
            self._seen.extend([0] * len(faults))

    def clear(self) -> None:
        """Forget the script."""
        with self._lock:
            self._script.clear()
            self._seen.clear()

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """As scripted, else passed on."""
        return self._run("head", ref, None, lambda: self._inner.head(ref))

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """As scripted, else passed on."""
        return self._run("head_part", ref, number, lambda: self._inner.head_part(ref, number))

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """As scripted, else passed on."""
        faults = self._claim("get", None)
        context = _context("get", ref, None)
        stream = self._edges(faults, context, lambda: self._inner.get(ref, span, if_match=if_match))
        for fault in faults:
            if fault.when == "during":
                stream = _BrokenStream(stream, fault, context)
        return stream

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """As scripted, else passed on."""
        return self._run("copy", ref, None, lambda: self._inner.copy(ref, request))

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """As scripted, else passed on."""
        return self._run("delete", ref, None, lambda: self._inner.delete(ref))

    def list_objects(self, request: ListRequest) -> ListResult:
        """As scripted, else passed on."""
        context = RequestContext("list_objects", request.where.bucket, request.where.prefix)
        return self._edges(self._claim("list_objects", None), context, lambda: self._inner.list_objects(request))

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """As scripted, else passed on."""
        return self._run_body(
            "put", ref, None, body,
            lambda sent: self._inner.put(ref, sent, digests, attributes, if_none_match=if_none_match),
        )  # fmt: skip

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """As scripted, else passed on."""
        return self._run("create", ref, None, lambda: self._inner.create(ref, attributes, checksums=checksums))

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """As scripted, else passed on."""
        return self._run_body(
            "upload_part", ref, part.number, body,
            lambda sent: self._inner.upload_part(ref, upload_id, part, sent, digests),
        )  # fmt: skip

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """As scripted, else passed on."""
        return self._run("list_parts", ref, None, lambda: self._inner.list_parts(ref, upload_id, after))

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """As scripted, else passed on."""
        return self._run("complete", ref, None, lambda: self._inner.complete(ref, request))

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """As scripted, else passed on."""
        self._run("abort", ref, None, lambda: self._inner.abort(ref, upload_id))

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """As scripted, else passed on."""
        return self._run("list_uploads", ref, None, lambda: self._inner.list_uploads(ref, after))

    def _claim(self, operation: str, part_number: int | None) -> list[Fault]:
        """The faults that strike this request, counted."""
        struck = []
        with self._lock:
            for index, fault in enumerate(self._script):
                if not fault.matches(operation, part_number):
                    continue
                self._seen[index] += 1
                last = None if fault.times is None else fault.nth + fault.times - 1
                if self._seen[index] >= fault.nth and (last is None or self._seen[index] <= last):
                    struck.append(fault)
                    self.fired.append((operation, fault))
        return struck

    def _run(self, operation: str, ref: ObjectRef, part_number: int | None, work: Callable[[], T]) -> T:
        faults = self._claim(operation, part_number)
        return self._edges(faults, _context(operation, ref, part_number), work)

    def _run_body(
        self, operation: str, ref: ObjectRef, part_number: int | None, body: Body, work: Callable[[Body], T]
    ) -> T:
        faults = self._claim(operation, part_number)
        context = _context(operation, ref, part_number)
        sent: Body = body
        for fault in faults:
            if fault.when == "during":
                sent = _BrokenBody(sent, fault, context)
        return self._edges(faults, context, lambda: work(sent))

    @staticmethod
    def _edges(faults: list[Fault], context: RequestContext, work: Callable[[], T]) -> T:
        for fault in faults:
            if fault.when == "before":
                given = fault.strike(_unsent(context))
                if given is not REAL_ANSWER:
                    return cast("T", given)
        answer: Any = work()
        for fault in faults:
            if fault.when == "after":
                given = fault.strike(context)
                answer = answer if given is REAL_ANSWER else given
        return cast("T", answer)


class _BrokenBody:
    """A body in whose middle something happens: behind so many blocks, or behind its last one."""

    def __init__(self, inner: Body, fault: Fault, context: RequestContext) -> None:
        self._inner = inner
        self._fault = fault
        self._context = context

    @property
    def size(self) -> int:
        """As of the inner body."""
        return self._inner.size

    def blocks(self) -> Iterator[memoryview]:
        """The inner blocks up to the scripted moment, and the rest if that moment passes without an error."""
        struck = False
        for count, block in enumerate(self._inner.blocks()):
            if count == self._fault.blocks:
                struck = True
                self._fault.strike(self._context)
            yield block
        if not struck:
            self._fault.strike(self._context)

    def read_at(self, position: int, size: int) -> bytes:
        """As of the inner body."""
        return self._inner.read_at(position, size)


class _BrokenStream:
    """A stream in whose middle something happens: behind so many reads."""

    def __init__(self, inner: ObjectStream, fault: Fault, context: RequestContext) -> None:
        self._inner = inner
        self._fault = fault
        self._context = context
        self._reads = 0

    @property
    def info(self) -> ObjectInfo:
        """As of the inner stream."""
        return self._inner.info

    @property
    def length(self) -> int:
        """As of the inner stream."""
        return self._inner.length

    def read_into(self, view: memoryview) -> int:
        """The inner bytes, until the scripted moment has come."""
        if self._reads == self._fault.blocks:
            self._fault.strike(self._context)
        self._reads += 1
        return self._inner.read_into(view)

    def close(self) -> None:
        """As of the inner stream."""
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _context(operation: str, ref: ObjectRef, part_number: int | None) -> RequestContext:
    return RequestContext(operation, ref.bucket, ref.key, part_number=part_number)


def _unsent(context: RequestContext) -> RequestContext:
    return RequestContext(context.operation, context.bucket, context.key, part_number=context.part_number, sent=False)
