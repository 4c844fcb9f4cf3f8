"""One start of one server: what it spawned so far is always on disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tests.servers import processes
from tests.servers.errors import ServerError
from tests.servers.record import Places, RunningServer, write_record

_POLL_SECONDS = 0.1
_LOG_TAIL = 2000


class Launch:
    """Spawns a server's processes and records each before anything else happens."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._server: RunningServer | None = None

    @property
    def server(self) -> RunningServer:
        """The server as announced, with the processes spawned so far.

        Raises ServerError before `announce`.
        """
        if self._server is None:
            message = f"{self.places.name} was not announced"
            raise ServerError(message)
        return self._server

    def announce(self, server: RunningServer) -> None:
        """Say where the server will answer; comes before the first `spawn`."""
        self._keep(server)

    def spawn(self, part: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start one of the server's processes and record its id at once.

        Raises ServerError when it cannot be started.
        """
        process = processes.spawn(
            command,
            log=self.places.log(part),
            env=os.environ if env is None else env,
            cwd=self.places.data,
        )
        self._keep(self.server.with_process(process))

    def run(self, command: Sequence[str], *, timeout: float = 60.0) -> str:
        """Run a command of the set-up to its end and return its output.

        Raises ServerError when it fails or takes longer than `timeout`.
        """
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        except (OSError, subprocess.TimeoutExpired) as exc:
            message = f"{self.places.name}: {exc}"
            raise ServerError(message) from exc
        with self.places.log("setup").open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{answer.stderr}")
        if answer.returncode:
            message = f"{' '.join(command)}: exit {answer.returncode}: {answer.stderr[-_LOG_TAIL:]}"
            raise ServerError(message)
        return answer.stdout

    def wait_for(
        self,
        what: str,
        condition: Callable[[], bool],
        *,
        patience: float = 90.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait until the condition holds.

        Raises ServerError, with the ends of the logs, when a process ends first or
        `patience` is used up.
        """
        deadline = clock() + patience
        while not condition():
            dead = [item.pid for item in self.server.processes if not item.is_alive()]
            if dead or clock() > deadline:
                why = f"process {dead[0]} ended" if dead else f"not after {patience:.0f} s"
                message = f"{self.places.name}: no {what}: {why}\n{self._log_tails()}"
                raise ServerError(message)
            sleep(_POLL_SECONDS)

    def _keep(self, server: RunningServer) -> None:
        self._server = server
        write_record(self.places.starting, server)

    def _log_tails(self) -> str:
        logs = sorted((self.places.state / "logs").glob(f"{self.places.name}-*.log"))
        texts = ((log, log.read_text(encoding="utf-8", errors="replace")) for log in logs)
        return "\n".join(f"{log}:\n{text[-_LOG_TAIL:]}" for log, text in texts if text)


class ServerKind(Protocol):
    """One kind of server: how to get it and how to start it."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    def gap(self) -> str | None:
        """Say what is missing to start it, None when nothing is."""

    def install(self) -> None:
        """Install what `gap` misses.

        Raises ServerError when that is not possible; nothing half installed is used later.
        """

    def launch(self, launch: Launch) -> None:
        """Announce and spawn it; it need not answer yet.

        Raises ServerError when a step fails; the caller ends what was spawned.
        """
