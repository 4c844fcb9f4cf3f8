"""PostgreSQL of this machine's own packages, in a temporary folder, for tests with an Airflow that is really busy."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e import processes
from tests.e2e.processes import Session
from tests.e2e.waiting import wait_for
from tests.servers.ports import HOST

_READY_SECONDS = 30.0
_CONNECTIONS = 300


def can_run_here() -> bool:
    """Whether Debian's packages are there; as root, PostgreSQL needs a user postgres and runuser."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return False
    return os.geteuid() != 0 or shutil.which("runuser") is not None


class Postgres:
    """One server with the database and the user ``airflow``, trusted from loopback. `close` ends it.

    ``place`` must be open to the user postgres when this is root; what is stored goes into a folder in it.
    """

    def __init__(self, place: Path, port: int, log: Path) -> None:
        self._port = port
        tools = max(Path("/usr/lib/postgresql").glob("*/bin"))
        data = place / "pg"
        data.mkdir(mode=0o700)
        as_owner: list[str] = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(data, owner.pw_uid, owner.pw_gid)
            as_owner = ["runuser", "-u", "postgres", "--"]
        _run([*as_owner, str(tools / "initdb"), "--auth=trust", "--username=airflow", "-D", str(data)], data)
        options = {"listen_addresses": HOST, "port": port, "unix_socket_directories": data, "fsync": "off"}
        options["max_connections"] = _CONNECTIONS
        listen = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [*as_owner, str(tools / "postgres"), "-D", str(data), *listen]
        self._session = Session("postgres", command, log=log, env=dict(os.environ), cwd=data)
        try:
            where = ["-h", HOST, "-p", str(port), "-U", "airflow"]
            wait_for("PostgreSQL", lambda: _succeeds([str(tools / "pg_isready"), *where]), patience=_READY_SECONDS)
            _run([str(tools / "createdb"), *where, "airflow"], data)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """For Airflow's option database.sql_alchemy_conn; wants psycopg2 and asyncpg."""
        return f"postgresql+psycopg2://airflow@{HOST}:{self._port}/airflow"

    def close(self) -> None:
        """End it; a second call does nothing."""
        processes.end([self._session], patience=10)


def _run(command: Sequence[str], directory: Path) -> None:
    answer = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"{command}: exit {answer.returncode}\n{answer.stdout}{answer.stderr}")


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
