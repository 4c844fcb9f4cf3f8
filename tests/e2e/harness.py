"""A real Airflow in a temporary home: api-server, scheduler with LocalExecutor, dag-processor, SQLite, own ports.

Everything that it starts is in sessions of its own and is ended when the context is left, also by an error or Ctrl-C.
"""

import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e import processes
from tests.e2e.processes import ProcessInfo, Session
from tests.e2e.readiness import Readiness, tails
from tests.e2e.rest import RestClient, TaskClient
from tests.e2e.waiting import wait_for
from tests.servers.ports import free_block

REPOSITORY = Path(__file__).resolve().parents[2]
USERNAME = "admin"
_MIGRATE_SECONDS = 120.0


class LocalAirflow:
    """One Airflow. Enter the context to start it; `env` is added to the environment of all its processes.

    `dag_files` are copied into its dags folder. With ORBIT_KEEP_HOME in our environment the home, which holds all
    logs, stays behind.
    """

    def __init__(self, dag_files: Sequence[Path], env: Mapping[str, str], *, triggerer: bool = False) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="orbit-e2e-"))
        self.password = secrets.token_urlsafe(12)
        self._port, log_port = free_block(2)
        self.url = f"http://127.0.0.1:{self._port}"
        self.rest = RestClient(self.url, USERNAME, self.password)
        self._dag_files = dag_files
        self._triggerer = triggerer
        self._env = {**clean_environment(), **airflow_environment(self.home, self.url, log_port), **env}
        self._sessions: list[Session] = []

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._start_api_server()
            self._start("dag-processor")
            self._start_scheduler()
            if self._triggerer:
                self.start("triggerer")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was started and remove the home, unless it is to be kept."""
        processes.end(self._sessions)
        self._sessions = []
        if not os.environ.get("ORBIT_KEEP_HOME"):
            shutil.rmtree(self.home, ignore_errors=True)

    def _prepare(self) -> None:
        (self.home / "dags").mkdir()
        (self.home / "out").mkdir()
        for file in self._dag_files:
            shutil.copy(file, self.home / "dags")
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USERNAME: self.password}))
        self._migrate()

    def _migrate(self) -> None:
        command = airflow_command("db", "migrate")
        with (self.home / "out" / "migrate.log").open("wb") as log:
            answer = subprocess.run(
                command, env=self._env, cwd=self.home, stdout=log, stderr=log, timeout=_MIGRATE_SECONDS, check=False
            )
        if answer.returncode:
            raise RuntimeError(f"airflow db migrate: exit {answer.returncode}\n{self.tails()}")

    def _start_api_server(self) -> None:
        self._start("api-server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")

    def _start_scheduler(self) -> None:
        self._start("scheduler", "--skip-serve-logs")

    def _start(self, *arguments: str, before: Sequence[str] = ()) -> None:
        """A command of Airflow in a session of its own; ``before`` stands before it and ends by executing it."""
        name = arguments[0]
        log, command = self.home / "out" / f"{name}.log", [*before, *airflow_command(*arguments)]
        self._sessions.append(Session(name, command, log=log, env=self._env, cwd=self.home))

    def _lose(self, name: str) -> None:
        """SIGKILL to every process of a session, as when its machine loses power; it may be started again."""
        (lost,) = (session for session in self._sessions if session.name == name)
        self._sessions.remove(lost)

        def is_empty() -> bool:
            lost.signal(signal.SIGKILL)
            return not lost.members()

        wait_for(f"{name}'s end", is_empty, patience=20.0, every=0.02)
        lost.reap()

    def kill(self, name: str) -> None:
        """SIGKILL all processes of one component, at once."""
        (session,) = (item for item in self._sessions if item.name == name)
        session.signal(signal.SIGKILL)
        processes.end([session])
        self._sessions.remove(session)

    def start(self, name: str) -> None:
        """Start (again) a component that needs no arguments of its own."""
        self._start(name, "--skip-serve-logs")

    def wait_until_ready(self, dag_ids: Sequence[str]) -> None:
        """Wait until the API answers, the scheduler is healthy and the DAGs can be triggered.

        Raises NotInTime with the ends of the logs, RuntimeError when a process ended, or when a DAG cannot be read.
        """
        Readiness(self.rest, self._check, self.tails).wait(dag_ids)

    def _check(self) -> None:
        if ended := [session.name for session in self._sessions if not session.leads()]:
            raise RuntimeError(f"Airflow's {', '.join(ended)} ended\n{self.tails()}")

    def tails(self) -> str:
        """The ends of all output, for messages about failures."""
        return tails(self.home / "out")

    def task(self, dag_id: str, run_id: str, task_id: str) -> TaskClient:
        """A client for one task of a run."""
        return TaskClient(self.rest, dag_id, run_id, task_id)

    def task_process(self, task: TaskClient) -> ProcessInfo | None:
        """The process that runs the task's code now; None when there is none yet.

        It is the one that the API names; only a process of the scheduler's session counts that leads a group and has
        a parent there, so that neither a supervisor nor the orphan of an earlier try is taken for it.
        """
        view = task.view()
        if view.state != "running":
            return None
        (scheduler,) = (session for session in self._sessions if session.name == "scheduler")
        found = {info.pid: info for info in processes.task_processes(scheduler.members())}
        if view.pid in found:
            return found[view.pid]
        return next(iter(found.values())) if len(found) == 1 else None

    def supervisor_of(self, process: ProcessInfo) -> ProcessInfo:
        """The supervisor of a task process: its parent, a worker of the LocalExecutor. RuntimeError when it is gone."""
        parent = processes.look_up(process.parent)
        if parent is None or parent.session != process.session or parent.pid == parent.session:
            raise RuntimeError(f"process {process.pid} has no supervisor")
        return parent


def s3_connection(endpoint_url: str, access_key: str, secret_key: str, orbit: Mapping[str, object]) -> str:
    """An `aws` connection as AIRFLOW_CONN_... wants it, with options for the engine."""
    extra = {
        "endpoint_url": endpoint_url,
        "region_name": "us-east-1",
        "config_kwargs": {"s3": {"addressing_style": "path"}},
        "service_config": {"s3": {"orbit": dict(orbit)}},
    }
    return json.dumps({"conn_type": "aws", "login": access_key, "password": secret_key, "extra": extra})


def airflow_command(*arguments: str) -> list[str]:
    """A command of this environment's Airflow."""
    return [sys.executable, "-m", "airflow", *arguments]


def clean_environment() -> dict[str, str]:
    """Our environment without what would speak to Airflow or to AWS."""
    dropped = ("AIRFLOW", "AWS_", "_AIRFLOW")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def airflow_environment(home: Path, url: str, log_port: int) -> dict[str, str]:
    """The environment of an Airflow in ``home`` that is reached at ``url``: SQLite, LocalExecutor, new secrets."""
    options = {
        "core.dags_folder": f"{home}/dags",
        "core.executor": "LocalExecutor",
        "core.execution_api_server_url": f"{url}/execution/",
        "core.fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "core.load_examples": "False",
        "core.dags_are_paused_at_creation": "False",
        "core.parallelism": "2",
        "core.simple_auth_manager_users": f"{USERNAME}:admin",
        "core.simple_auth_manager_passwords_file": f"{home}/passwords.json",
        "database.sql_alchemy_conn": f"sqlite:///{home}/airflow.db",
        "api.base_url": url,
        "api.secret_key": secrets.token_hex(16),
        "api_auth.jwt_secret": secrets.token_hex(32),
        "dag_processor.min_file_process_interval": "3600",
        "dag_processor.parsing_processes": "1",
        "logging.base_log_folder": f"{home}/logs",
        "logging.worker_log_server_port": str(log_port),
        # Only what is triggered runs: an example's own schedule must not.
        "scheduler.use_job_schedule": "False",
        "scheduler.scheduler_idle_sleep_time": "0.5",
        "scheduler.task_instance_heartbeat_timeout": "20",
        "scheduler.task_instance_heartbeat_timeout_detection_interval": "5",
        "usage_data_collection.enabled": "False",
        "workers.min_heartbeat_interval": "2",
        "workers.max_failed_heartbeats": "3",
    }
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**option_variables(options), "AIRFLOW_HOME": str(home), "PYTHONPATH": path}


def option_variables(options: Mapping[str, str]) -> dict[str, str]:
    """Airflow's options, ``section.name``, as its environment variables."""
    return {f"AIRFLOW__{name.upper().replace('.', '__')}": value for name, value in options.items()}
