"""The main thread's whole work during a transfer: to wait in a way that every signal can interrupt.

It holds no lock and makes no request, so an alarm may raise at any instruction and a signal handler may run at any:
the transfer itself is on another thread. ``Thread.join`` and ``Event.wait`` are avoided on purpose: before Python 3.13
an exception raised in a join marks a running thread as ended, and one raised in a wait may leave the event locked.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from orbit_airflow.engine.errors import Paused
from orbit_airflow.engine.runner import Cancellation

T = TypeVar("T")

POLL_SECONDS = 0.05
# The engine leaves its workers within half a second; a single request of its own may take longer and is left behind.
LEAVE_SECONDS = 1.5


def attended(
    call: Callable[[], T],
    cancel: Cancellation,
    *,
    stop_wanted: Callable[[], bool],
    poll: float = POLL_SECONDS,
    leave: float = LEAVE_SECONDS,
) -> T:
    """``call()`` on a thread of its own: its value, or its error.

    When ``stop_wanted`` or ``cancel`` says stop, ``call`` gets ``leave`` seconds to end by itself; then Paused is
    raised and its thread, a daemon, is left behind. An exception that a signal handler raises here (Airflow's
    execution_timeout) stops the call in the same way and goes on afterwards.
    """
    ends: list[tuple[T | None, BaseException | None]] = []

    def work() -> None:
        try:
            ends.append((call(), None))
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the main thread raises it
            ends.append((None, exc))

    context = contextvars.copy_context()
    try:
        threading.Thread(target=context.run, args=(work,), name="orbit-transfer", daemon=True).start()
        while not ends and not cancel.cancelled:
            if stop_wanted():
                cancel.cancel("stopped by Airflow")
            time.sleep(poll)
    except BaseException:
        cancel.cancel("interrupted by Airflow")
        raise
    finally:
        deadline = time.monotonic() + leave
        while not ends and time.monotonic() < deadline:
            time.sleep(poll / 2)
    if not ends:
        raise Paused("stopped while a request was under way; the next try asks the store what became of it")
    value, error = ends[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # without an error it is call()'s own
