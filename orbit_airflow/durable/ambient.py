"""The task that runs in this process, found by a transfer that was told nothing of it: a hook's call in a ``@task``.

Such a task has no ``on_kill`` of ours. While a transfer runs, a stop order reaches it by a handler of SIGTERM that is
chained before Airflow's own; in threads of the task, which cannot have signal handlers, by the task's ``on_kill``.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from airflow.sdk import get_current_context

from orbit_airflow.durable.outlets import emit_assets
from orbit_airflow.durable.progress import Push
from orbit_airflow.durable.running import Run, TaskSide, run_in_task
from orbit_airflow.engine.errors import Paused
from orbit_airflow.engine.events import TransferDirection
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.token import TokenStore

T = TypeVar("T")

# So many of a task's transfers are named in its XCom; a task may have thousands.
TRANSFERS_SHOWN = 20
# The alarm of execution_timeout rings in the main thread first; the task's other threads follow.
AFTER_ALARM_SECONDS = 1.0
_SHOWN = ("key", "phase", "percentage", "bytes_done", "bytes_total")


class Board:
    """One task's XCom ``orbit_progress``, for all its transfers: the figures of the one that began last.

    From the second one on it also says which one that is (``transfer``, counted from 1) and, in ``transfers``, how far
    each of the last twenty is.
    """

    def __init__(self, push: Push) -> None:
        self._push = push
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._newest = 0
        self._figures: dict[str, Any] = {}
        self._lines: dict[int, dict[str, Any]] = {}

    def push(self) -> Push:
        """The way to the XCom for one more transfer."""
        number = next(self._numbers)
        return lambda key, figures: self._tell(number, key, figures)

    def _tell(self, number: int, key: str, figures: dict[str, Any]) -> None:
        # Pushed under the lock: two transfers' last words must not overtake each other.
        with self._lock:
            if number >= self._newest:
                self._newest, self._figures = number, figures
            self._lines[number] = {name: figures.get(name) for name in _SHOWN}
            for oldest in sorted(self._lines)[:-TRANSFERS_SHOWN]:
                del self._lines[oldest]
            shown = dict(self._figures)
            if self._newest > 1:
                transfers = [{"transfer": each, **self._lines[each]} for each in sorted(self._lines)]
                shown |= {"transfer": self._newest, "transfers": transfers}
            self._push(key, shown)


class RunningTask:
    """One try of a task. Its threads may run transfers at the same time; a stop order reaches them all."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.ti = context["ti"]
        self._operator = self.ti.task
        self._board = Board(self.ti.xcom_push) if self._operator.do_xcom_push else None
        # A plain attribute: a signal handler sets it, and a lock could be held by the thread that it interrupted.
        self._stop_wanted = False
        self._lock = threading.Lock()
        self._listening = 0

    @property
    def log(self) -> Any:
        """The operator's."""
        return self._operator.log

    def run(
        self,
        transfer: Callable[[Run], T],
        *,
        address: str,
        durable: bool,
        direction: TransferDirection,
        target: str | None,
    ) -> T:
        """``transfer`` as the operators run theirs; see ``run_in_task``. Paused at once when the task is to stop."""
        main = threading.current_thread() is threading.main_thread()
        with self._handling_sigterm() if main else self._hearing_on_kill():
            stop_wanted = self._told if main else self._told_or_late
            if stop_wanted():
                raise Paused("stopped by Airflow before the transfer began")
            push = self._board.push() if self._board is not None else None
            side = TaskSide(
                context=self.context,
                log=self._operator.log,
                push=push,
                stop_wanted=stop_wanted,
                direction=direction,
                target=target,
            )
            return run_in_task(side, transfer, address=address, durable=durable)

    def _told(self) -> bool:
        return self._stop_wanted

    def _told_or_late(self) -> bool:
        """Also when execution_timeout is over: its alarm rings in the main thread alone, which may then wait for this
        very thread (a pool's ``with`` does).
        """
        timeout, began = self._operator.execution_timeout, getattr(self.ti, "start_date", None)
        if timeout is None or began is None:
            return self._stop_wanted
        return self._stop_wanted or time.time() > (began + timeout).timestamp() + AFTER_ALARM_SECONDS

    @contextmanager
    def _handling_sigterm(self) -> Iterator[None]:
        """Chained: whoever handled the signal before handles it, too. Without such a handler nothing is changed: the
        signal then ends the process at once (or is ignored), and the next try continues.
        """
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before):
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self._stop_wanted = True
            before(number, frame)

        signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def _hearing_on_kill(self) -> Iterator[None]:
        """Chained likewise, onto the operator that runs: Airflow calls its ``on_kill`` on SIGTERM."""
        with self._lock:
            self._listening += 1
            if self._listening == 1:
                self._wrap_on_kill()
        try:
            yield
        finally:
            with self._lock:
                self._listening -= 1
                if not self._listening:
                    # The instance's own attribute; the class still has the method.
                    vars(self._operator).pop("on_kill", None)

    def _wrap_on_kill(self) -> None:
        before = self._operator.on_kill

        def note() -> None:
            self._stop_wanted = True
            before()

        # Past BaseOperator.__setattr__, which is for arguments.
        vars(self._operator)["on_kill"] = note


_lock = threading.Lock()
_current: RunningTask | None = None


def running_task() -> RunningTask | None:
    """The try that runs in this process; None in a script, a unit test, the process of a ``@task.virtualenv``, and one
    that the task's code has forked.
    """
    global _current  # noqa: PLW0603 - Airflow's own current context is the process's, too
    try:
        context: Any = get_current_context()
    except RuntimeError:
        return None
    ti = context.get("ti")
    if getattr(ti, "task", None) is None or _is_forked_by_the_task():
        return None
    with _lock:
        if _current is None or _current.ti is not ti:
            _current = RunningTask(context)
        return _current


def _is_forked_by_the_task() -> bool:
    """A child of multiprocessing has inherited the task's context, and its channel to the supervisor: requests of two
    processes there would garble each other. (The task itself is forked, too, but not by multiprocessing.)
    """
    parent = multiprocessing.parent_process()
    return parent is not None and parent.pid == os.getppid()


def transferring(
    transfer: Callable[[Run], T],
    *,
    address: str,
    durable: bool,
    tokens: TokenStore | None,
    cancel: Cancellation | None,
    summary: Callable[[T, int], Mapping[str, Any]],
    direction: TransferDirection = TransferDirection.UPLOAD,
    target: str | None = None,
) -> T:
    """``transfer`` as one of the running task's, when there is one and the caller keeps neither ``tokens`` nor
    ``cancel`` itself; else as in a script, on the caller's thread. The task's outlets are told what ``summary`` makes
    of the result and the number of the try.
    """
    task = running_task() if tokens is None and cancel is None else None
    if task is not None:
        result = task.run(transfer, address=address, durable=durable, direction=direction, target=target)
        emit_assets(task.context, summary(result, task.ti.try_number), task.log)
        return result
    return transfer(Run(cancel=cancel) if tokens is None else Run(tokens=tokens, cancel=cancel))
