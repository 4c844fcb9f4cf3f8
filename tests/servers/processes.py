"""Processes known by id and start time, so that a reused id is never mistaken for ours."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import ServerError

_POLL_SECONDS = 0.05
# A Popen that is forgotten while its child runs warns; these children outlive us on purpose.
_CHILDREN: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class ProcessMark:
    """One process: its id and when it started, in the system's own words."""

    pid: int
    start: str

    def is_alive(self) -> bool:
        """Say whether this very process still runs; a zombie does not."""
        return _start_of(self.pid) == self.start


def mark(pid: int) -> ProcessMark:
    """Name the process that has this id now.

    Raises ServerError when there is none.
    """
    start = _start_of(pid)
    if start is None:
        message = f"process {pid} ended at once"
        raise ServerError(message)
    return ProcessMark(pid, start)


def spawn(command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> ProcessMark:
    """Start a process in a session of its own, its output in `log`, and name it.

    Raises ServerError when it cannot be started.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as exc:
            message = f"cannot start {command[0]}: {exc}"
            raise ServerError(message) from exc
    _CHILDREN.append(child)
    return mark(child.pid)


def end(
    marks: Iterable[ProcessMark],
    *,
    patience: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """End exactly these processes: SIGTERM, `patience` seconds, SIGKILL.

    A mark whose process is gone, or whose id another process has now, is left alone.
    Raises ServerError when one survives even SIGKILL.
    """
    left = _signal(marks, signal.SIGTERM)
    left = _wait(left, clock() + patience, clock=clock, sleep=sleep)
    left = _signal(left, signal.SIGKILL)
    left = _wait(left, clock() + patience, clock=clock, sleep=sleep)
    if left:
        message = f"still running after SIGKILL: {', '.join(str(item.pid) for item in left)}"
        raise ServerError(message)


def _signal(marks: Iterable[ProcessMark], number: signal.Signals) -> list[ProcessMark]:
    alive = [item for item in marks if item.is_alive()]
    for item in alive:
        with suppress(ProcessLookupError):
            os.kill(item.pid, number)
    return alive


def _wait(
    marks: list[ProcessMark],
    deadline: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[ProcessMark]:
    while marks and clock() < deadline:
        sleep(_POLL_SECONDS)
        marks = [item for item in marks if item.is_alive()]
    return marks


def _start_of(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return _start_from_proc(pid)
    return _start_from_ps(pid)


def _start_from_proc(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold spaces.
    fields = text.rpartition(")")[2].split()
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def _start_from_ps(pid: int) -> str | None:
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, start = answer.stdout.strip().partition(" ")
    return None if not start or state.startswith("Z") else start.strip()
