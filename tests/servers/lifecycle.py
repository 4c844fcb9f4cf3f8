"""Start, stop and find the servers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.servers import processes
from tests.servers.ceph_server import CephServer
from tests.servers.errors import NotInstalledError
from tests.servers.launch import Launch, ServerKind
from tests.servers.localstack_server import LocalStackServer
from tests.servers.moto_server import MotoServer
from tests.servers.record import STATE, Places, RunningServer, exclusive, read_record
from tests.servers.signed import answers, write_and_delete

_KINDS: tuple[ServerKind, ...] = (CephServer(), LocalStackServer(), MotoServer())
KINDS: Mapping[str, ServerKind] = {kind.name: kind for kind in _KINDS}
COMMAND = "python -m tests.servers"


def running_servers(state: Path = STATE) -> dict[str, RunningServer]:
    """Return the servers that have a record and answer a signed request now."""
    found = {name: read_record(Places(name, state).record) for name in KINDS}
    return {name: server for name, server in found.items() if server and answers(server)}


def missing_reason(name: str, state: Path = STATE) -> str | None:
    """Say why a server cannot be used and which command helps; None when it answers.

    Raises KeyError for a name that is not in `KINDS`.
    """
    kind = KINDS[name]
    server = read_record(Places(name, state).record)
    if server and answers(server):
        return None
    gap = kind.gap()
    if gap:
        return f"{gap}: {COMMAND} install {name}"
    if server:
        return f"has a record but does not answer: {COMMAND} start {name}"
    return f"installed, not started: {COMMAND} start {name}"


def install(kind: ServerKind, state: Path = STATE) -> bool:
    """Install what is missing; False when nothing was.

    Raises ServerError when that is not possible.
    """
    with exclusive(state):
        if kind.gap() is None:
            return False
        kind.install()
        gap = kind.gap()
    if gap:
        message = f"{kind.name}: still missing after the install: {gap}"
        raise NotInstalledError(message)
    return True


def start(kind: ServerKind, state: Path = STATE) -> tuple[RunningServer, bool]:
    """Return the server ready for requests, and whether this call started it.

    What is left of an earlier one that does not answer is stopped first.
    Raises ServerError when it does not get ready; its processes are ended then and its logs kept.
    """
    places = Places(kind.name, state)
    with exclusive(state):
        server = read_record(places.record)
        if server and answers(server):
            return server, False
        _remove(places)
        gap = kind.gap()
        if gap:
            message = f"{kind.name}: {gap}: {COMMAND} install {kind.name}"
            raise NotInstalledError(message)
        try:
            return _start(kind, places), True
        except BaseException:
            _remove(places)
            raise


def stop(name: str, state: Path = STATE) -> bool:
    """End a server's recorded processes and remove its record and data; False when none ran.

    Raises ServerError when a process survives; the record stays then.
    """
    with exclusive(state):
        return _remove(Places(name, state))


def _start(kind: ServerKind, places: Places) -> RunningServer:
    places.prepare()
    launch = Launch(places)
    kind.launch(launch)
    launch.wait_for("answer", lambda: answers(launch.server))
    write_and_delete(launch.server)
    places.starting.replace(places.record)
    return launch.server


def _remove(places: Places) -> bool:
    records = (read_record(places.record), read_record(places.starting))
    # The newest first: a gateway ends faster while its cluster still lives.
    marks = [mark for server in records if server for mark in reversed(server.processes)]
    alive = [mark for mark in marks if mark.is_alive()]
    for mark in alive:
        processes.end([mark])
    shutil.rmtree(places.data, ignore_errors=True)
    places.record.unlink(missing_ok=True)
    places.starting.unlink(missing_ok=True)
    return bool(alive)
