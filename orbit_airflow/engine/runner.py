"""A bounded number of worker threads over a stream of work: first error wins, and everybody can be told to stop.

The main thread only waits, in short joins, so that a signal handler or an alarm runs at once. Workers are daemons:
one that sits in a socket call when the transfer is cancelled is left behind and dies with the process.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from orbit_airflow.engine.errors import Paused

W = TypeVar("W")
R = TypeVar("R")

JOIN_SECONDS = 0.1
LOOK_SECONDS = 0.05
LEAVE_SECONDS = 0.5


class Cancellation:
    """A stop order that any thread may give and all threads look at.

    Giving it takes no lock: a ``threading.Event`` set in a signal handler can meet its own lock, held by the very
    thread that the handler interrupted, and hang for ever. ``orphaned``: the one who gave the order knows that nobody
    waits for this try any more. ``left_behind``: a worker was still in a system call when ``run_all`` returned; what
    it holds (file, buffer) must not be reused.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self.orphaned = False
        self.left_behind = False

    def cancel(self, reason: str = "stopped on request", *, orphaned: bool = False) -> None:
        """Ask everybody to stop; the first reason stays. ``orphaned``: this try must not abort anything."""
        if self._reason is None:
            self.orphaned = orphaned
            self._reason = reason

    @property
    def cancelled(self) -> bool:
        """True from the first ``cancel`` on."""
        return self._reason is not None

    def check(self) -> None:
        """Raise Paused when told to stop."""
        if self._reason is not None:
            raise Paused(f"{self._reason}; what was done is kept and the next try continues")

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the stop order: then Paused is raised."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(remaining, LOOK_SECONDS))
        self.check()


class _Shared(Generic[W, R]):
    """The state of one ``run``: the work that is left, the results, the first error."""

    def __init__(self, work: Iterator[W], cancel: Cancellation, workers: int) -> None:
        self.lock = threading.Lock()
        self.work = work
        self.cancel = cancel
        self.results: list[R] = []
        self.error: BaseException | None = None
        # Held until the last worker has ended: the main thread waits for this lock and not in Thread.join, in which
        # (before Python 3.13) an exception from a signal handler marks a running thread as ended.
        self.gate = threading.Lock()
        self.gate.acquire()
        self.working = workers

    def next(self) -> tuple[bool, W | None]:
        with self.lock:
            if self.error is not None or self.cancel.cancelled:
                return False, None
            for item in self.work:
                return True, item
            return False, None

    def end(self) -> None:
        """A worker has ended; the last one opens the gate."""
        with self.lock:
            self.working -= 1
            if not self.working:
                self.gate.release()

    def fail(self, error: BaseException) -> None:
        with self.lock:
            if self.error is None:
                self.error = error


def run_all(
    work: Iterable[W],
    do: Callable[[int, W], R],
    *,
    workers: int,
    cancel: Cancellation,
    halt: Cancellation | None = None,
    name: str = "orbit-part",
) -> list[R]:
    """``do(worker_index, item)`` for every item on up to ``workers`` threads; the results in order of completion.

    Raises the first error as it is, after the other workers ended (or, when cancelled, were given half a second).
    ``halt`` is cancelled by the first error: work in progress that looks at it ends early.
    Threads start with a copy of the caller's context variables, so that their log lines belong to the task.
    """
    shared: _Shared[W, R] = _Shared(iter(work), cancel, workers)

    def work_on(index: int) -> None:
        try:
            loop(index)
        finally:
            shared.end()

    def loop(index: int) -> None:
        while True:
            try:
                # The stream of work may fail as well: it can be a listing.
                more, item = shared.next()
                if not more:
                    return
                result = do(index, item)  # type: ignore[arg-type]  # `more` says that item is a W
            except BaseException as exc:  # noqa: BLE001 - whatever it is, the main thread raises it
                shared.fail(exc)
                if halt is not None:
                    halt.cancel("another part failed")
                return
            with shared.lock:
                shared.results.append(result)

    threads = [
        threading.Thread(
            target=contextvars.copy_context().run, args=(work_on, index), name=f"{name}-{index}", daemon=True
        )
        for index in range(workers)
    ]
    for thread in threads:
        thread.start()
    _wait(shared, cancel)
    if shared.error is not None and not (cancel.cancelled and isinstance(shared.error, Paused)):
        raise shared.error
    cancel.check()
    return shared.results


def _wait(shared: _Shared[W, R], cancel: Cancellation) -> None:
    """Until all workers ended; once cancelled, no longer than LEAVE_SECONDS."""
    try:
        while shared.working and not cancel.cancelled:
            shared.gate.acquire(timeout=JOIN_SECONDS)
    except BaseException:
        cancel.cancel("interrupted")
        raise
    finally:
        deadline = time.monotonic() + LEAVE_SECONDS
        while shared.working and time.monotonic() < deadline:
            shared.gate.acquire(timeout=LOOK_SECONDS)
        cancel.left_behind = cancel.left_behind or shared.working > 0
