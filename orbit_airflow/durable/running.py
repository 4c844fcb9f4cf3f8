"""One transfer inside a running task: its state kept, its progress shown, and its end bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from orbit_airflow.durable.attended import attended
from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.durable.progress import Push, XComProgress
from orbit_airflow.durable.tokens import TaskStateTokenStore
from orbit_airflow.durable.watch import watch_for
from orbit_airflow.engine.events import Reporter, TransferDirection, no_reporter
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.token import NoTokens, TokenStore

if TYPE_CHECKING:
    from airflow.sdk import Context

T = TypeVar("T")


def no_publisher(key: str, value: Any) -> None:
    """For tasks that want no XComs, and for scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one try's transfer is given; the defaults are those of a script.

    ``begun_after``: when the task's first try can have begun at the earliest, in seconds since 1970. ``publish`` writes
    an XCom without waiting; what is put into ``details`` before the transfer starts is told in the log.
    """

    tokens: TokenStore = field(default_factory=NoTokens)
    reporter: Reporter = no_reporter
    cancel: Cancellation | None = None
    try_number: int = 1
    begun_after: float | None = None
    publish: Callable[[str, Any], None] = no_publisher
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSide:
    """The task, as far as a transfer needs it. ``push`` takes the figures, ``publish`` other XComs; None: the task
    wants none. ``stop_wanted`` is asked some twenty times a second by the thread that waits. ``target`` is the file
    that a download makes.
    """

    context: Context
    log: Any
    push: Push | None
    stop_wanted: Callable[[], bool]
    publish: Callable[[str, Any], object] | None = None
    direction: TransferDirection = TransferDirection.UPLOAD
    target: str | None = None


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
    details: dict[str, object] = {}
    watch = watch_for(
        task.context, task.log, progress, cancel,
        uri=address, direction=task.direction, target=task.target, details=details,
    )  # fmt: skip
    run = Run(
        tokens=_tokens(task, checkpoint) if durable else NoTokens(),
        reporter=watch,
        cancel=cancel,
        try_number=number,
        begun_after=_begun_after(task.context),
        publish=_publisher(task, checkpoint),
        details=details,
    )
    checkpoint.start()
    try:
        return attended(lambda: watch.over(lambda: transfer(run)), cancel, stop_wanted=task.stop_wanted)
    finally:
        if not checkpoint.close() and not cancel.cancelled:
            task.log.warning("the last progress could not be written in time")


def _publisher(task: TaskSide, checkpoint: Checkpoint) -> Callable[[str, Any], None]:
    """By the checkpoint's thread, at once: a link is wanted from the first second on."""
    push = task.publish
    if push is None:
        return no_publisher
    return lambda key, value: checkpoint.show(key, lambda: push(key, value), at_once=True)


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
