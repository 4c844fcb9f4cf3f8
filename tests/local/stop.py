"""`make down`: end exactly what `make up` started, and remove what it wrote; its logs stay."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress

from tests.e2e.processes import ProcessInfo, task_processes
from tests.local.record import Places, Record, read_record
from tests.servers.record import exclusive

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 10.0


def down(places: Places) -> bool:
    """End and remove everything; False when nothing had been started. RuntimeError when a process survives SIGKILL."""
    if not places.state.exists():
        return False
    with exclusive(places.state):
        record = read_record(places)
        if record is None:
            return False
        end(record, places)
        return True


def end(record: Record, places: Places) -> None:
    """SIGTERM to the leaders, some seconds, SIGKILL to all that is left of their sessions; then remove the files."""
    for item in record.members:
        if item.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(item.process.pid, signal.SIGTERM)
    if _wait_until_gone(record, places):
        for info in _running(record, places):
            info.signal(signal.SIGKILL)
    if left := _wait_until_gone(record, places):
        raise RuntimeError(f"still running after SIGKILL: {', '.join(str(info.pid) for info in left)}")
    for folder in (places.home, places.objects, places.files):
        shutil.rmtree(folder, ignore_errors=True)
    places.record.unlink(missing_ok=True)


def kill_task(places: Places) -> int | None:
    """SIGKILL to one process that runs a task's code now, and its id; None when no task runs."""
    record = read_record(places)
    for item in record.members if record else ():
        if item.name == "scheduler" and (found := task_processes(item.members(places))):
            found[0].signal(signal.SIGKILL)
            return found[0].pid
    return None


def _running(record: Record, places: Places) -> list[ProcessInfo]:
    return [info for item in record.members for info in item.members(places)]


def _wait_until_gone(record: Record, places: Places) -> list[ProcessInfo]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left := _running(record, places)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left
