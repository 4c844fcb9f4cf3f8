"""The events: what happens to a transfer in its middle, and what its next try owes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.continuity.site import IMPATIENT, PATIENT, Site
from tests.continuity.transfer import Direction, Transfer
from tests.e2e.waiting import wait_for
from tests.model_server import Fault

OUTAGE_SECONDS = 60.0
_ORPHAN_SECONDS = 20.0
_HEARTBEAT_SECONDS = 120.0
# "continues": it names what it found. "anew": it says that nothing was found. "either": no second try need have begun.
Owed = Literal["continues", "anew", "either"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One event. It strikes either one transfer (``strike``) or all that run (``strike_all``, which run alone)."""

    text: str
    strike: Callable[[Transfer], None] | None = None
    strike_all: Callable[[Site, Sequence[Transfer]], None] | None = None
    directions: tuple[Direction, ...] = ("up", "down")
    variant: str = ""
    connection: str = PATIENT
    # How long each part is held up, from and to; seconds.
    delay: tuple[float, float] = (3.0, 5.0)
    # The share of the bytes that has travelled when the event is called for, from and to; from where one part is whole.
    middle: tuple[float, float] = (0.28, 0.65)
    owed_up: Owed = "continues"
    owed_down: Owed = "continues"
    own_disk: bool = False

    def owed(self, direction: Direction) -> Owed:
        """What its next try owes."""
        return self.owed_up if direction == "up" else self.owed_down


def _error(transfer: Transfer) -> None:
    process = transfer.process()
    fault = Fault(None, "error", key=transfer.plan.key, status=500, code="InternalError", times=None)
    transfer.site.server.inject(fault)
    transfer.wait_until_gone(process)
    transfer.hurry()


def _time_limit(transfer: Transfer) -> None:
    process = transfer.process()
    transfer.wait_until_gone(process)
    transfer.hurry()


def _kill(transfer: Transfer) -> None:
    process = transfer.process()
    process.signal(signal.SIGKILL)
    transfer.wait_until_gone(process)
    transfer.hurry()


def _kill_supervisor(transfer: Transfer) -> None:
    """The task's process is frozen meanwhile, and thaws beside its successor."""
    process = transfer.process()
    supervisor = transfer.site.supervisor_of(process)
    process.signal(signal.SIGSTOP)
    supervisor.signal(signal.SIGKILL)

    def successor_runs() -> bool:
        view = transfer.task.view()
        return view.try_number > 1 and view.state == "running"

    transfer.wait_until("the next try", successor_runs, patience=_HEARTBEAT_SECONDS)
    time.sleep(transfer.dice.uniform(1.0, 4.0))
    process.signal(signal.SIGCONT)
    transfer.wait_until_gone(process, patience=_ORPHAN_SECONDS)
    transfer.hurry()


def _clear(transfer: Transfer) -> None:
    process = transfer.process()
    transfer.task.clear()
    transfer.wait_until_gone(process)
    transfer.hurry()


def _mark_failed(transfer: Transfer) -> None:
    process = transfer.process()
    transfer.may_fail = True
    transfer.task.mark_failed()
    transfer.wait_until_gone(process)
    transfer.hurry()
    wait_for("its failure", lambda: transfer.task.view().state == "failed", patience=30, explain=transfer.history)
    transfer.task.clear()


def _lose_state(transfer: Transfer) -> None:
    """Frozen, so that it cannot write its state again."""
    process = transfer.process()
    process.signal(signal.SIGSTOP)

    def forgotten() -> bool:
        # What was on its way to the supervisor may still arrive.
        transfer.task.forget_state()
        time.sleep(0.3)
        return not transfer.task.stored_state()

    wait_for("an empty state", forgotten, patience=10, explain=transfer.history)
    process.signal(signal.SIGKILL)
    transfer.wait_until_gone(process)
    transfer.hurry()


def _api_outage(site: Site, transfers: Sequence[Transfer]) -> None:
    site.lose_api_server()
    time.sleep(OUTAGE_SECONDS)
    site.start_api_server()
    for transfer in transfers:
        transfer.hurry()


def _lose_machine(site: Site, transfers: Sequence[Transfer]) -> None:
    site.lose_machine()
    for transfer in transfers:
        if transfer.plan.direction == "down":
            transfer.prepare_disk()
        transfer.hurry()


ROWS: dict[str, Row] = {
    "error": Row(text="the store answers 500 beyond all retries", strike=_error, connection=IMPATIENT),
    "timeout": Row(text="`execution_timeout`", strike=_time_limit, variant="_limited", delay=(7.0, 9.0)),
    "sigkill": Row(text="SIGKILL of the task", strike=_kill),
    "supervisor": Row(text="SIGKILL of the supervisor; the orphan thaws beside the retry", strike=_kill_supervisor),
    # A supervisor hears of these two at its next heartbeat.
    "clear": Row(text="cleared while it runs", strike=_clear, middle=(0.28, 0.45)),
    "failed": Row(text="marked failed while it runs, then cleared", strike=_mark_failed, middle=(0.28, 0.45)),
    "state": Row(text="SIGKILL, and the state store emptied", strike=_lose_state),
    "api": Row(
        text="API server away for 60 s",
        strike_all=_api_outage,
        delay=(19.0, 22.0),
        owed_up="either",
        owed_down="either",
    ),
    "machine": Row(
        text="the worker's machine is lost, the retry runs on another one",
        strike_all=_lose_machine,
        delay=(6.0, 9.0),
        owed_down="anew",
        own_disk=True,
    ),
    "shared": Row(
        text="the same, with `shared_storage=True`",
        strike_all=_lose_machine,
        directions=("down",),
        variant="_shared",
        delay=(6.0, 9.0),
    ),
}
