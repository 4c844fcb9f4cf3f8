"""An Airflow whose API server can go away and whose worker can be another machine."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.continuity.watch import Watch
from tests.e2e import processes
from tests.e2e.harness import LocalAirflow, option_variables, s3_connection
from tests.e2e.judge import MIB, client_of
from tests.e2e.postgres import Postgres, can_run_here
from tests.e2e.running import make_file
from tests.model_server import ModelProcess
from tests.servers.ports import free_block

DAG_FILE = Path(__file__).parent / "dags" / "continuity.py"
DAG_IDS = [f"continuity_{name}" for name in ("up", "up_limited", "down", "down_limited", "down_shared")]
BUCKET = "continuity"
PART_SIZE, WORKERS = 5 * MIB, 2
# Seven parts and a short one.
SIZE = 37 * MIB
PATIENT, IMPATIENT = "patient", "impatient"
_ENTER = 'hostname "$1"; mount --bind "$2" "$3"; shift 3; exec "$@"'


def machines_can_be_made() -> bool:
    """Whether this user may have host names and mounts of its own (root with util-linux)."""
    return os.geteuid() == 0 and shutil.which("unshare") is not None


class Site(LocalAirflow):
    """Airflow, its S3 server, and the disks of its machines.

    The scheduler with its LocalExecutor, that is the worker, lives on one "machine" at a time: with a host name of its
    own, and its own disk under the path ``disk``. Everything else is shared, as a network file system would be. Its
    database is PostgreSQL where that is installed: SQLite, with its one writer, loses heartbeats of busy tasks.
    """

    def __init__(self, server: ModelProcess, parallel: int) -> None:
        self.server = server
        self._machines = machines_can_be_made()
        super().__init__([DAG_FILE], {**_environment(server, parallel)})
        self._node = 0
        self.disk = self.home / "disk"
        self.shared = self.home / "shared"
        self.source = self.home / "source.bin"
        self.watch = Watch(SIZE)
        self._database: Postgres | None = None

    def __enter__(self) -> Self:
        for folder in (self.disk, self.shared):
            folder.mkdir()
        make_file(self.source, SIZE, seed=1)
        self.sha256 = hashlib.sha256(self.source.read_bytes()).digest()
        super().__enter__()
        try:
            self.wait_until_ready(DAG_IDS)
        except BaseException:
            self.close()
            raise
        self.watch.start()
        return self

    def close(self) -> None:
        """End everything."""
        self.watch.stop()
        if self._database is None:
            super().close()
            return
        processes.end(self._sessions)
        self._sessions = []
        self._database.close()
        super().close()

    def _prepare(self) -> None:
        if can_run_here():
            # The user postgres comes through to its own folder; what else is here is closed to others.
            self.home.chmod(0o711)
            self._database = Postgres(self.home, free_block(1)[0], self.home / "postgres.log")
            self._env |= option_variables({"database.sql_alchemy_conn": self._database.url})
        super()._prepare()

    def node_disk(self) -> Path:
        """The present machine's disk, as it is seen from outside."""
        return self.home / "disks" / f"node-{self._node}" if self._machines else self.disk

    def _start_scheduler(self) -> None:
        self._node += 1
        if not self._machines:
            super()._start_scheduler()
            return
        disk = self.node_disk()
        disk.mkdir(parents=True)
        enter = ["unshare", "--uts", "--mount", "--propagation", "private", "sh", "-ec", _ENTER, "enter"]
        self._start("scheduler", "--skip-serve-logs", before=[*enter, f"node-{self._node}", str(disk), str(self.disk)])

    def lose_machine(self) -> None:
        """The worker's machine loses its power, and another one, with an empty disk, takes its place."""
        self._lose("scheduler")
        self._start_scheduler()

    def lose_api_server(self) -> None:
        """It is gone, until it is started again."""
        self._lose("api-server")

    def start_api_server(self) -> None:
        """And wait until it answers."""
        self._start_api_server()
        self.wait_until_ready([])

    def put_object(self, key: str) -> None:
        """What a download will fetch."""
        with self.source.open("rb") as body:
            client_of(self.server).put_object(Bucket=BUCKET, Key=key, Body=body)


def _environment(server: ModelProcess, parallel: int) -> Mapping[str, str]:
    options: dict[str, object] = {"chunk_size": PART_SIZE, "parallel_operations": WORKERS}
    connections = {PATIENT: options, IMPATIENT: {**options, "outage_patience": 0, "max_retries": 2}}
    made = {
        f"AIRFLOW_CONN_{name.upper()}": s3_connection(server.endpoint_url, server.access_key, server.secret_key, extra)
        for name, extra in connections.items()
    }
    settings = {
        "core.parallelism": str(parallel),
        "core.max_active_tasks_per_dag": "64",
        # The machines' names are in no register of names.
        "core.hostname_callable": "socket.gethostname",
        # A lost scheduler's tasks are taken over by another one's look for orphans; by default, every five minutes.
        "scheduler.orphaned_tasks_check_interval": "10",
        "scheduler.scheduler_health_check_threshold": "15",
    }
    return {**made, **option_variables(settings)}
