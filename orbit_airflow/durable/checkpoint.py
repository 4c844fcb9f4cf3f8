"""The one thread that talks to the supervisor while a transfer runs.

Why a thread of its own: a signal that raises in the middle of a request to the supervisor (execution_timeout does)
leaves its answer in the channel, and the next request reads the wrong one; a signal handler that sends while the main
thread sends waits for ever; and a slow API server must not hold up the bytes. Here nothing interrupts a request, and
nobody but this thread waits for one.
"""

from __future__ import annotations

import contextvars
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError

from orbit_airflow.engine.errors import printable
from orbit_airflow.engine.runner import Cancellation

CHECKPOINT_SECONDS = 5.0
RETRY_SECONDS = 2.0
TICK_SECONDS = 0.1
# SIGKILL follows SIGTERM after 5 s; the transfer's own end needs a part of them, too.
CLOSE_SECONDS = 1.2

Call = Callable[[], object]


def why_orphaned(error: BaseException) -> str | None:
    """The reason, when ``error`` says that nobody waits for this try any more; None for every other failure.

    A broken channel means that the supervisor is dead. A task instance that is not found, or conflicts, was cleared:
    from that moment it has a new id and its next try may already run.
    """
    if isinstance(error, BrokenPipeError | EOFError | ConnectionResetError):
        return "the task's supervisor is gone"
    if not isinstance(error, AirflowRuntimeError):
        return None
    detail = error.error.detail or {}
    status = detail.get("status_code")
    # A route that an older server lacks answers 404 as well; only the server's own words tell the two apart.
    if status in (409, 410) or (status == 404 and "task instance" in json.dumps(detail, default=str).lower()):
        return "this task instance was cleared or taken over"
    return None


@dataclass(slots=True)
class _Write:
    """Something to be written. ``version`` grows with each replacement under the same name."""

    name: str
    call: Call
    version: int
    milestone: bool
    not_before: float


@dataclass(slots=True)
class _Question:
    """Something to be read, and where its asker looks for the answer."""

    call: Call
    not_before: float = 0.0
    answers: list[object] = field(default_factory=list)


class Checkpoint:
    """Reads and writes at the supervisor, for the transfer's threads, on a thread of its own.

    Milestones are written at once and in order, snapshots at most every ``every`` seconds; of each name only the
    newest waits. What could not be written stays and is tried again after ``retry_after``, unless something newer came.
    Nothing raises: failures are logged once per kind. When nobody waits for this try any more, ``cancel`` is told so.

    ``start`` and ``close`` are for the main thread; they take no lock that a signal could leave behind.
    """

    def __init__(
        self,
        cancel: Cancellation,
        log: Any,
        *,
        every: float = CHECKPOINT_SECONDS,
        retry_after: float = RETRY_SECONDS,
        tick: float = TICK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        parent: Callable[[], int] = os.getppid,
    ) -> None:
        self._cancel = cancel
        self._log = log
        self._every = every
        self._retry_after = retry_after
        self._tick = tick
        self._clock = clock
        self._parent = parent
        self._first_parent = parent()
        self._changed = threading.Condition()
        self._writes: dict[str, _Write] = {}
        self._questions: deque[_Question] = deque()
        self._kept: dict[str, int] = {}
        self._versions = 0
        self._snapshot_due = float("-inf")
        self._complaints: set[tuple[str, str]] = set()
        self._closing = False
        self._ended = False
        self.orphaned = False

    def start(self) -> None:
        """Begin; the thread has the caller's context variables, so that its log lines belong to the task."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="orbit-checkpoint", daemon=True).start()

    def close(self, leave: float = CLOSE_SECONDS) -> bool:
        """Write once more what is left, and end; True when that took no longer than ``leave`` seconds.

        A thread that still waits for the supervisor then is left behind; it is a daemon and dies with the process.
        """
        self._closing = True
        deadline = self._clock() + leave
        while not self._ended and self._clock() < deadline:
            time.sleep(0.02)
        return self._ended

    def ask(self, call: Call, *, wait: float) -> tuple[bool, object]:
        """Whether there was an answer, and ``call()``'s; tried again until ``wait`` seconds are over."""
        question = _Question(call)
        with self._changed:
            self._questions.append(question)
            self._changed.notify_all()
        self._wait_for(lambda: bool(question.answers), wait)
        return (True, question.answers[0]) if question.answers else (False, None)

    def keep(self, name: str, call: Call, *, wait: float = 0.0) -> bool:
        """Write a milestone; True when it (or a newer one of that name) is certainly written within ``wait`` seconds.

        False means "not yet": it goes on being tried until ``close``.
        """
        version = self._put(name, call, milestone=True)
        kept = self._wait_for(lambda: self._kept.get(name, 0) >= version, wait)
        if not kept and wait > 0 and not self._cancel.cancelled:
            self._complain((name, "late"), f"{name} is not saved after {wait:.0f} s; the transfer goes on without")
        return kept

    def show(self, name: str, call: Call, *, at_once: bool = False) -> None:
        """Write a snapshot when the next one is due, or ``at_once``. Returns without waiting."""
        self._put(name, call, milestone=at_once)

    def step(self, *, last: bool = False) -> None:
        """One round of the thread: is anybody there, then all that is due (everything, in the ``last`` round)."""
        if self._parent() != self._first_parent:
            self._orphan("the task's supervisor is gone (another process adopted this one)")
        for item in self._take_due(last=last):
            if self.orphaned:
                return
            if isinstance(item, _Question):
                self._answer(item)
            else:
                self._write(item)

    def _run(self) -> None:
        try:
            while not self._closing:
                self.step()
                with self._changed:
                    if not self._any_due():
                        self._changed.wait(self._tick)
            self.step(last=True)
        finally:
            self._ended = True

    def _put(self, name: str, call: Call, *, milestone: bool) -> int:
        with self._changed:
            self._versions += 1
            earlier = self._writes.pop(name, None)
            due = milestone or (earlier is not None and earlier.milestone)
            self._writes[name] = _Write(name, call, self._versions, due, float("-inf"))
            self._changed.notify_all()
            return self._versions

    def _wait_for(self, reached: Callable[[], bool], wait: float) -> bool:
        """Until ``reached``, at most ``wait`` seconds, and not beyond a stop order or the thread's end."""
        deadline = self._clock() + wait
        with self._changed:
            while not reached():
                left = deadline - self._clock()
                if left <= 0 or self._cancel.cancelled or self._ended or self.orphaned:
                    return reached()
                self._changed.wait(min(left, self._tick))
        return True

    def _is_due(self, item: _Write, now: float) -> bool:
        return item.not_before <= now and (item.milestone or self._snapshot_due <= now)

    def _any_due(self) -> bool:
        now = self._clock()
        return any(question.not_before <= now for question in self._questions) or any(
            self._is_due(item, now) for item in self._writes.values()
        )

    def _take_due(self, *, last: bool) -> list[_Question | _Write]:
        """Questions, then milestones, then snapshots; taken off the list."""
        now = self._clock()
        with self._changed:
            questions = [item for item in self._questions if last or item.not_before <= now]
            writes = [item for item in self._writes.values() if last or self._is_due(item, now)]
            for question in questions:
                self._questions.remove(question)
            for write in writes:
                del self._writes[write.name]
        return [*questions, *sorted(writes, key=lambda item: not item.milestone)]

    def _answer(self, question: _Question) -> None:
        try:
            answer = question.call()
        except Exception as exc:  # noqa: BLE001 - what a broken channel or a state backend raises is not known
            self._failed("read", exc)
            question.not_before = self._clock() + self._retry_after
            with self._changed:
                self._questions.append(question)
            return
        with self._changed:
            question.answers.append(answer)
            self._changed.notify_all()

    def _write(self, item: _Write) -> None:
        try:
            item.call()
        except Exception as exc:  # noqa: BLE001 - a failed checkpoint must never fail the transfer
            self._failed(item.name, exc)
            item.not_before = self._clock() + self._retry_after
            with self._changed:
                self._writes.setdefault(item.name, item)
            return
        with self._changed:
            self._kept[item.name] = max(item.version, self._kept.get(item.name, 0))
            self._snapshot_due = self._clock() + self._every
            self._changed.notify_all()

    def _failed(self, name: str, error: Exception) -> None:
        reason = why_orphaned(error)
        if reason is not None:
            self._orphan(f"{reason} ({type(error).__name__})")
            return
        self._complain(
            (name, type(error).__name__),
            f"a checkpoint could not be made ({name}); the transfer goes on and it is tried again",
            error=printable(f"{type(error).__name__}: {error}", 300),
        )

    def _complain(self, kind: tuple[str, str], text: str, **fields: object) -> None:
        """Once per kind."""
        if kind not in self._complaints:
            self._complaints.add(kind)
            self._log.warning(text, **fields)

    def _orphan(self, reason: str) -> None:
        if self.orphaned:
            return
        with self._changed:
            self.orphaned = True
            self._writes.clear()
            self._changed.notify_all()
        self._cancel.cancel(reason, orphaned=True)
        self._log.warning(f"{reason}; this try stops by itself and leaves the transfer to the next one")
