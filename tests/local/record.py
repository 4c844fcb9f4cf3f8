"""What `make up` started, kept in a file so that `make down` finds exactly that."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.e2e.processes import ProcessInfo, members_of
from tests.servers.processes import ProcessMark
from tests.servers.record import REPOSITORY

STATE = REPOSITORY / ".local"
DAGS = REPOSITORY / "dags_examples"


@dataclass(frozen=True)
class Places:
    """The files and folders below the state folder."""

    state: Path = STATE

    @property
    def home(self) -> Path:
        """Airflow's home: database, task logs, passwords."""
        return self.state / "airflow"

    @property
    def objects(self) -> Path:
        """The bytes of the S3 endpoint."""
        return self.state / "s3"

    @property
    def files(self) -> Path:
        """Local files for the example DAGs to work on."""
        return self.state / "files"

    @property
    def logs(self) -> Path:
        """What the processes said; it stays behind `make down`."""
        return self.state / "logs"

    @property
    def record(self) -> Path:
        """The record of what was started."""
        return self.state / "record.json"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process that we started; it leads a session of its own."""

    name: str
    process: ProcessMark

    def members(self, places: Places) -> list[ProcessInfo]:
        """Its session's running processes, of which it may itself be gone already.

        While it lives the session is surely ours. Afterwards only processes count that work in our home: the number
        may have become somebody else's session meanwhile.
        """
        found = members_of(self.process.pid)
        if self.process.is_alive():
            return found
        return [info for info in found if _works_in(info.pid, places.home)]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where everything answers, and the processes."""

    url: str
    username: str
    password: str
    endpoint_url: str
    access_key: str
    secret_key: str
    members: tuple[Member, ...] = ()
    # False from the first process on until the DAGs can be triggered: what a killed start leaves behind.
    complete: bool = False

    def with_member(self, name: str, process: ProcessMark) -> Record:
        """The same with one process more."""
        return replace(self, members=(*self.members, Member(name=name, process=process)))

    def ended(self) -> list[str]:
        """The names of those that do not run any more."""
        return [item.name for item in self.members if not item.process.is_alive()]


def write_record(places: Places, record: Record) -> None:
    """Write it so that a reader sees the old one or the new one; it holds passwords, so only we may read it."""
    draft = places.record.with_name(f"{places.record.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    draft.replace(places.record)


def read_record(places: Places) -> Record | None:
    """The record; None when nothing was started. ValueError when the file is none of ours."""
    try:
        value = json.loads(places.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    try:
        members = tuple(
            Member(name=item["name"], process=ProcessMark(**item["process"])) for item in value.pop("members")
        )
        return Record(members=members, **value)
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"{places.record} is damaged: {exc!r}") from exc


def _works_in(pid: int, home: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(home)
    except OSError:
        return False
