"""One transfer inside a running task: its state kept, its progress shown, and its end bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from orbit_airflow.durable.attended import attended
from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.durable.progress import Push, TransferReporter, XComProgress
from orbit_airflow.durable.tokens import TaskStateTokenStore
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.token import NoTokens, TokenStore

if TYPE_CHECKING:
    from airflow.sdk import Context

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one try's transfer is given; the defaults are those of a script.

    ``begun_after``: when the task's first try can have begun at the earliest, in seconds since 1970.
    """

    tokens: TokenStore = field(default_factory=NoTokens)
    reporter: Reporter = no_reporter
    cancel: Cancellation | None = None
    try_number: int = 1
    begun_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSide:
    """The task, as far as a transfer needs it. ``push`` None: the task wants no XComs. ``stop_wanted`` is asked some
    twenty times a second by the thread that waits.
    """

    context: Context
    log: Any
    push: Push | None
    stop_wanted: Callable[[], bool]


def run_in_task(task: TaskSide, transfer: Callable[[Run], T], *, address: str, durable: bool) -> T:
    """``transfer`` on a thread of its own, with its state kept and its progress shown, until it ends or must stop.

    Everything that ``transfer`` does is off the calling thread, the look-up of the connection, too: an alarm in the
    middle of a request to the supervisor would leave its answer in the channel. ``address`` is for the log.
    ``durable=False`` keeps no state. Raises what ``transfer`` raises, and Paused when it had to stop.
    """
    cancel = Cancellation()
    checkpoint = Checkpoint(cancel, task.log)
    number = task.context["ti"].try_number
    progress = XComProgress(checkpoint, task.push, try_number=number) if task.push else None
    run = Run(
        tokens=_tokens(task, checkpoint) if durable else NoTokens(),
        reporter=TransferReporter(task.log, progress, cancel, uri=address),
        cancel=cancel,
        try_number=number,
        begun_after=_begun_after(task.context),
    )
    checkpoint.start()
    try:
        return attended(lambda: transfer(run), cancel, stop_wanted=task.stop_wanted)
    finally:
        if not checkpoint.close() and not cancel.cancelled:
            task.log.warning("the last progress could not be written in time")


def _tokens(task: TaskSide, checkpoint: Checkpoint) -> TokenStore:
    store = task.context.get("task_state_store")
    if store is None:
        task.log.warning("there is no task state store here: if this try is interrupted, the next one starts anew")
        return NoTokens()
    return TaskStateTokenStore(store, checkpoint)


def _begun_after(context: Context) -> float | None:
    """The tries of a task begin with its run, or later."""
    started = getattr(context.get("dag_run"), "start_date", None)
    return started.timestamp() if started is not None else None
