"""Processes of sessions that we made: each command gets a session of its own, and only its members are signalled.

A task process leaves its supervisor's process group and, when the supervisor dies, its parent; the session stays.
A leader is not reaped before its session is empty, so that its id cannot name anybody else's session meanwhile.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.05
_KILL_SECONDS = 10.0


@dataclass(frozen=True)
class ProcessInfo:
    """One running process, as /proc shows it; `started` tells a reused id from the process we meant."""

    pid: int
    parent: int
    group: int
    session: int
    started: str

    def is_alive(self) -> bool:
        """True while this very process runs; a zombie does not."""
        now = look_up(self.pid)
        return now is not None and now.started == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone; one that is gone gets none."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def look_up(pid: int) -> ProcessInfo | None:
    """The process that has this id now; None when there is none, or only a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold spaces.
    words = text.rpartition(")")[2].split()
    if words[0] in "ZX":
        return None
    return ProcessInfo(pid, int(words[1]), int(words[2]), int(words[3]), words[19])


def members_of(session: int) -> list[ProcessInfo]:
    """All running processes of a session."""
    ids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [info for pid in ids if (info := look_up(pid)) is not None and info.session == session]


def task_processes(members: Sequence[ProcessInfo]) -> list[ProcessInfo]:
    """Those of a scheduler's session that run a task's code: each leads a group and has its supervisor there."""
    ids = {info.pid for info in members}
    return [info for info in members if info.group == info.pid != info.session and info.parent in ids]


class Session:
    """A command and all its descendants."""

    def __init__(self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._leader = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The leader's id, which is the session's."""
        return self._leader.pid

    def leads(self) -> bool:
        """True while the command itself runs."""
        return look_up(self.pid) is not None

    def members(self) -> list[ProcessInfo]:
        """All running processes of the session."""
        return members_of(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the session."""
        for info in self.members():
            info.signal(number)

    def reap(self) -> None:
        """Take the leader's exit code; the session must be empty."""
        self._leader.wait(_KILL_SECONDS)


def end(sessions: Sequence[Session], *, patience: float = 3.0) -> None:
    """End all processes of these sessions: SIGTERM to the leaders, `patience` seconds, SIGKILL to what is left."""
    for session in sessions:
        with suppress(ProcessLookupError):
            os.kill(session.pid, signal.SIGTERM)
    _wait_until_empty(sessions, patience)
    deadline = time.monotonic() + _KILL_SECONDS
    while any(session.members() for session in sessions) and time.monotonic() < deadline:
        for session in sessions:
            session.signal(signal.SIGKILL)
        _wait_until_empty(sessions, 0.5)
    for session in sessions:
        session.reap()


def _wait_until_empty(sessions: Sequence[Session], patience: float) -> None:
    deadline = time.monotonic() + patience
    while any(session.members() for session in sessions) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
