"""What is known of a started server, and the files that keep it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.servers.processes import ProcessMark

REPOSITORY = Path(__file__).resolve().parents[2]
STATE = REPOSITORY / ".servers"


@dataclass(frozen=True)
class RunningServer:
    """Where one server answers, with which credentials, and which processes it is."""

    name: str
    http: str
    https: str | None
    ca_file: str | None
    access_key: str
    secret_key: str
    region: str
    version: str
    processes: tuple[ProcessMark, ...] = ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every address that it answers on."""
        return (self.http,) if self.https is None else (self.http, self.https)

    def with_process(self, process: ProcessMark) -> RunningServer:
        """Return the same server with one process more."""
        return replace(self, processes=(*self.processes, process))

    def to_json(self) -> str:
        """Write it as the text of a record file."""
        return json.dumps(
            {
                "name": self.name,
                "http": self.http,
                "https": self.https,
                "ca_file": self.ca_file,
                "access_key": self.access_key,
                "secret_key": self.secret_key,
                "region": self.region,
                "pids": [item.pid for item in self.processes],
                "starts": [item.start for item in self.processes],
                "version": self.version,
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str) -> RunningServer:
        """Read the text of a record file.

        Raises ValueError when it is not one.
        """
        try:
            value = json.loads(text)
            marks = zip(value.pop("pids"), value.pop("starts"), strict=True)
            return cls(processes=tuple(ProcessMark(*pair) for pair in marks), **value)
        except (AttributeError, KeyError, TypeError) as exc:
            message = f"not a server's record: {exc!r}"
            raise ValueError(message) from exc


@dataclass(frozen=True)
class Places:
    """The files and folders of one server below the state folder."""

    name: str
    state: Path = STATE

    @property
    def data(self) -> Path:
        """The folder with the server's own files; stopping removes it."""
        return self.state / self.name

    @property
    def record(self) -> Path:
        """The record of a server that is ready."""
        return self.state / f"{self.name}.json"

    @property
    def starting(self) -> Path:
        """The record of a server that is not ready yet: a killed start leaves its pids here."""
        return self.state / f"{self.name}.starting.json"

    def log(self, part: str) -> Path:
        """Return the log file of one process; it outlives the data."""
        return self.state / "logs" / f"{self.name}-{part}.log"

    def prepare(self) -> None:
        """Make the folders, invisible to git, and forget the logs of the last start."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.state / "logs").mkdir(exist_ok=True)
        for log in (self.state / "logs").glob(f"{self.name}-*.log"):
            log.unlink()
        (self.state / ".gitignore").write_text("*\n", encoding="utf-8")


def read_record(path: Path) -> RunningServer | None:
    """Read a record file; None when it is missing or damaged."""
    try:
        return RunningServer.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_record(path: Path, server: RunningServer) -> None:
    """Write a record file so that a reader sees the old one or the new one, never a part."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.touch(mode=0o600)
    draft.write_text(server.to_json() + "\n", encoding="utf-8")
    draft.replace(path)


@contextlib.contextmanager
def exclusive(state: Path) -> Iterator[None]:
    """Hold the state folder: one install, start or stop at a time."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
