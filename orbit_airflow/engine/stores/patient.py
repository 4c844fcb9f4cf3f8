"""A store that waits for its store: an outage pauses a transfer instead of failing it.

It stands above the retries. When a request's attempts are spent because the store is not well (or throttles without
end, or a breaker refuses to ask it), all workers of the transfer pause, and one of them at a time looks whether the
store is back: first with a HEAD, then with its own request, once. As soon as that one succeeds the others go on. When
it does not come back within the patience, the request's own error is raised, with a note.

During an outage a transfer sends at most two requests per pause, whatever its number of workers. A pause is an eighth
of the time that the outage has lasted, from 1 to 30 seconds, so that a short outage is over soon and a long one costs
little: about 50 requests in its first minute, four a minute later on.

Only what may be repeated waits: a Create or PutObject whose answer was lost is settled by its flow, which asks the
store first, and its question waits here.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from orbit_airflow.engine.errors import CircuitOpen, Garbled, Network, OrbitError, StoreError, Throttled, printable
from orbit_airflow.engine.events import Notice, Reporter
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
from orbit_airflow.engine.resilience.outcome import outage, proves_well
from orbit_airflow.engine.runner import LOOK_SECONDS, Cancellation
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

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# A pause as a share of the outage so far, and how much it is spread, so that many tasks do not come back as one.
SHARE, JITTER = 1 / 8, 0.1
# An outage that follows another one so closely is the same one to a reader of the log.
SAME_STORY = 30.0
# One lost answer is a reset line; the second one in a row is an outage.
LOST_ANSWERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long (``seconds``), on which clock and dice, and how to ask whether the store is well: ``probe`` is one cheap
    request, which raises when it is not.
    """

    seconds: float
    probe: Callable[[ObjectRef], object]
    rng: random.Random
    clock: Callable[[], float] = time.monotonic


class PatientStore:
    """``inner`` (which repeats) for one transfer, and ``once`` (which does not) for asking after an outage."""

    def __init__(
        self, inner: TransferStore, once: TransferStore, patience: Patience, *, cancel: Cancellation, reporter: Reporter
    ) -> None:
        self._inner = inner
        self._once = once
        self._probe = patience.probe
        self._outage = Outage(patience, cancel, reporter)

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """Waits."""
        return self._run(ref, lambda store: store.head(ref))

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """Waits."""
        return self._run(ref, lambda store: store.head_part(ref, number))

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """Waits until the answer's headers are there."""
        return self._run(ref, lambda store: store.get(ref, span, if_match=if_match))

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """Waits when it was surely not done."""
        return self._run(ref, lambda store: store.copy(ref, request), idempotent=False)

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """Waits; without a version only when it was surely not done."""
        return self._run(ref, lambda store: store.delete(ref), idempotent=ref.version_id is not None)

    def list_objects(self, request: ListRequest) -> ListResult:
        """Waits."""
        return self._run(request.where.probe, lambda store: store.list_objects(request))

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """Waits when it was surely not done."""
        call: Callable[[TransferStore], WriteReceipt] = lambda store: store.put(  # noqa: E731
            ref, body, digests, attributes, if_none_match=if_none_match
        )
        return self._run(ref, call, idempotent=False)

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """Waits when it was surely not done."""
        call: Callable[[TransferStore], CreatedUpload] = lambda store: store.create(  # noqa: E731
            ref, attributes, checksums=checksums
        )
        return self._run(ref, call, idempotent=False)

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """Waits; the body is sent again from its first byte."""
        return self._run(ref, lambda store: store.upload_part(ref, upload_id, part, body, digests))

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """Waits."""
        return self._run(ref, lambda store: store.list_parts(ref, upload_id, after))

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """Waits when it was surely not done; a lost answer is for the caller, who looks for the object first."""
        return self._run(ref, lambda store: store.complete(ref, request), idempotent=False)

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """Waits."""
        self._run(ref, lambda store: store.abort(ref, upload_id))

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """Waits."""
        return self._run(ref, lambda store: store.list_uploads(ref, after))

    def _run(self, ref: ObjectRef, call: Callable[[TransferStore], T], *, idempotent: bool = True) -> T:
        out, error, since = self._outage, None, None
        while True:
            turn, number = out.turn(since)
            if turn is Turn.LOST and error is not None:
                raise out.verdict(error) from error
            try:
                answer = self._ask(ref, call, error) if turn is Turn.OURS else call(self._inner)
            except _StillOut:
                continue
            except StoreError as exc:
                if not outage(exc, idempotent=idempotent):
                    out.learn(exc, number)
                    raise
                failed_at = out.fails(exc)
                error, since = exc, failed_at if since is None else since
                continue
            out.over(number)
            return answer

    def _ask(self, ref: ObjectRef, call: Callable[[TransferStore], T], error: StoreError | None) -> T:
        """One look at a store that is out: a pause, a HEAD, and the request itself, once."""
        try:
            self._outage.pause(error)
            try:
                self._probe(ref)
            except StoreError as exc:
                if not proves_well(exc):
                    self._outage.fails(exc)
                    raise _StillOut from exc
            return call(self._once)
        finally:
            self._outage.end_turn()


class _StillOut(Exception):
    """The HEAD before the request found the store as it was."""


class Turn(Enum):
    """What a request does now."""

    FREE = "nothing is wrong"
    OURS = "the store is out, and this request's worker is the one that asks"
    LOST = "the store is out, and the patience is over"


class Outage:
    """One transfer's outage, seen by all its workers. It is on from the first failure to the first success."""

    def __init__(self, patience: Patience, cancel: Cancellation, reporter: Reporter) -> None:
        self._patience = patience
        self._cancel = cancel
        self._reporter = reporter
        self._clock = patience.clock
        self._changed = threading.Condition()
        self._began: float | None = None
        self._ended = -SAME_STORY
        self._number = 0
        self._asking = False
        self._queue: deque[object] = deque()
        self._announced = False
        self._lost = 0
        self._cause: StoreError | None = None

    def turn(self, since: float | None) -> tuple[Turn, int]:
        """Wait until something may be done, and say what; with the number of the present outage, for ``over``.

        ``since`` is the request's own first failure: its patience does not begin anew with another outage. Raises
        Paused on a stop order.
        """
        ticket = object()
        with self._changed:
            # In the order of coming: a request that always fails must not take every turn.
            self._queue.append(ticket)
            try:
                while (turn := self._turn_of(ticket, since)) is None:
                    # Real time: the one who asks is the one who waits on the clock.
                    self._changed.wait(LOOK_SECONDS)
                    self._cancel.check()
            finally:
                self._queue.remove(ticket)
            return turn, self._number

    def _turn_of(self, ticket: object, since: float | None) -> Turn | None:
        if self._began is None:
            return Turn.FREE
        began = self._began if since is None else min(since, self._began)
        if self._clock() - began >= self._patience.seconds:
            return Turn.LOST
        if self._asking or self._queue[0] is not ticket:
            return None
        self._asking = True
        return Turn.OURS

    def end_turn(self) -> None:
        """The next one may ask."""
        with self._changed:
            self._asking = False
            self._changed.notify_all()

    def fails(self, error: StoreError) -> float:
        """The store is out; the time of this is returned. The first to notice tells the reader of the log."""
        with self._changed:
            now = self._clock()
            self._begin(now)
            self._cause = self._cause if isinstance(error, CircuitOpen) else error
            told, self._announced = self._announced, self._announced or self._worth_telling(now)
            tell = self._announced and not told
        if tell:
            why, seconds = printable(error.message, 200), self._patience.seconds
            self._reporter(
                Notice(f"the store is not well ({why}); waiting for it for up to {seconds:.0f} s", warning=True)
            )
        return now

    def learn(self, error: StoreError, number: int) -> None:
        """From an error that is not waited for. A well store's answer ends the outage. Lost answers to requests that
        must not be repeated begin one quietly when nothing good comes between them: the flow's next request waits.
        """
        if proves_well(error):
            self.over(number)
        elif isinstance(error, Network) and not isinstance(error, Garbled):
            with self._changed:
                self._lost += 1
                if self._lost >= LOST_ANSWERS:
                    self._begin(self._clock())

    def over(self, number: int) -> None:
        """A request that was sent during this outage (or in its absence) was answered well."""
        with self._changed:
            self._lost = 0
            if self._began is None or number != self._number:
                return
            lasted = self._clock() - self._began
            self._began, self._ended = None, self._clock()
            tell, self._announced = self._announced, False
            self._changed.notify_all()
        if tell:
            self._reporter(Notice(f"the store answers again, after {lasted:.0f} s; the transfer goes on"))

    def pause(self, error: OrbitError | None) -> None:
        """As long as the next look may wait, or as the store asked for; Paused on a stop order."""
        with self._changed:
            lasted = self._lasted()
        share = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, lasted * SHARE))
        share *= 1 + JITTER * (2 * self._patience.rng.random() - 1)
        asked = error.context.retry_after if isinstance(error, Throttled) else None
        self._cancel.sleep(min(max(share, asked or 0.0), max(0.1, self._patience.seconds - lasted)))

    def verdict(self, error: StoreError) -> OrbitError:
        """The error of a request that waited in vain: its own, or what opened the breaker that refused it."""
        with self._changed:
            cause = self._cause if isinstance(error, CircuitOpen) and self._cause is not None else error
            return cause.with_note(f"Waited {self._lasted():.0f} s for the store (outage_patience).")

    def _begin(self, now: float) -> None:
        if self._began is None:
            self._began = now
            self._cause = None
            self._number += 1

    def _lasted(self) -> float:
        return 0.0 if self._began is None else self._clock() - self._began

    def _worth_telling(self, now: float) -> bool:
        return now - self._ended >= SAME_STORY or self._lasted() >= SAME_STORY
