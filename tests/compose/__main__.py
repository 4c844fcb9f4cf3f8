"""`python -m tests.compose`: the services of docker-compose.yaml as processes of this machine, and one DAG run.

Each Airflow service's command and environment are taken from the file. What differs from containers: the hosts' names
become 127.0.0.1 with free ports, /opt/airflow becomes a temporary folder, PostgreSQL and Redis are Debian's, and the S3
server is the tests' own, since MinIO comes as an image only. Root, `apt-get install postgresql redis-server`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.compose.file import airflow_services, load
from tests.e2e import processes
from tests.e2e.harness import clean_environment
from tests.e2e.postgres import Postgres
from tests.e2e.postgres import can_run_here as postgres_can_run_here
from tests.e2e.processes import Session
from tests.e2e.readiness import Readiness, tails
from tests.e2e.rest import RestClient, TaskClient
from tests.e2e.waiting import wait_for
from tests.model_server import ModelServer
from tests.servers.ports import HOST, free_block
from tests.servers.record import REPOSITORY

DAG_ID, TASK_ID = "orbit_nightly_backup", "upload_backup"
HERE = Path(__file__).parent
_ROLES = ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "airflow-worker")
_RUN_SECONDS = 180.0


class Failed(Exception):
    """What was not as it must be."""


class Machine:
    """One set of services in a temporary folder; `close` ends them all."""

    def __init__(self, place: Path, server: ModelServer) -> None:
        self._place = place
        self._out = place / "out"
        self._bin = place / "venv" / "bin"
        self._postgres, self._redis, self.api, self._log, self._health, self._trigger_log = free_block(6)
        self._services = airflow_services(load({"AIRFLOW_PORT": str(self.api), "S3_ENDPOINT": server.endpoint_url,
                                                "S3_ACCESS_KEY": server.access_key,
                                                "S3_SECRET_KEY": server.secret_key}))  # fmt: skip
        self._sessions: list[Session] = []
        self._database: Postgres | None = None
        self._began = time.monotonic()

    def close(self) -> None:
        """End all processes, the database last."""
        for session in reversed(self._sessions):
            processes.end([session], patience=10)
        if self._database is not None:
            self._database.close()

    def start_stores(self) -> None:
        """PostgreSQL and Redis."""
        self._out.mkdir()
        self._place.chmod(0o755)
        self._database = Postgres(self._place, self._postgres, self._out / "postgres.log")
        self._spawn("redis", ["redis-server", "--bind", HOST, "--port", str(self._redis), "--save", ""], {})
        ping = ["redis-cli", "-p", str(self._redis), "ping"]
        wait_for("Redis", lambda: _succeeds(ping), patience=30, explain=self.tails)
        self.say("PostgreSQL and Redis run")

    def install(self) -> None:
        """What the image has: Airflow with Celery and PostgreSQL's driver, and our wheel."""
        uv = [sys.executable, "-m", "uv"]
        constraints = ["-c", str(REPOSITORY / "constraints.txt"), "-c", str(HERE / "constraints.txt")]
        dist = self._place / "dist"
        build = ["--build-constraints", str(REPOSITORY / "constraints.txt"), "--out-dir", str(dist)]
        self.run([*uv, "build", "--wheel", *build, str(REPOSITORY)], {})
        self.run([*uv, "venv", "--python", sys.executable, str(self._bin.parent)], {})
        (wheel,) = dist.glob("*.whl")
        extras = ["apache-airflow-providers-celery", "psycopg2-binary", "asyncpg"]
        self.run([*uv, "pip", "install", "--python", str(self._bin / "python"), *constraints, str(wheel), *extras], {})
        self.say("Airflow, Celery and the wheel are installed")

    def start_airflow(self) -> RestClient:
        """The preparation, then the five services, each by its own command line."""
        init = self._services["airflow-init"]
        self.run(self._command(init), self._environment(init))
        self.say("airflow-init is done")
        for name in _ROLES:
            service = self._services[name]
            self._spawn(name, self._command(service), self._environment(service))
        environment = init["environment"]
        user = environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].partition(":")[0]
        rest = RestClient(f"http://{HOST}:{self.api}", user, environment["ORBIT_LOGIN_PASSWORD"])
        readiness = Readiness(rest, self._check, self.tails)
        readiness.wait([DAG_ID])
        readiness.wait_for("the triggerer", lambda: _is_healthy(rest, "triggerer"))
        wait_for("the worker", lambda: self._pings("airflow-worker"), patience=60, explain=self.tails)
        for name in ("airflow-dag-processor", "airflow-triggerer"):
            self._probe(name)
        self.say("all five services are well, by their own health checks")
        return rest

    def run_dag(self, rest: RestClient) -> Mapping[str, Any]:
        """Trigger the example; its upload's result."""
        run_id = rest.trigger(DAG_ID, {})
        task = TaskClient(rest, DAG_ID, run_id, TASK_ID)

        def ended() -> str | None:
            state = rest.run_state(DAG_ID, run_id)
            return state if state in ("success", "failed") else None

        state = wait_for("the run", ended, patience=_RUN_SECONDS, explain=self.tails)
        if state != "success":
            raise Failed(f"the run is {state}\n{task.log_text(1)}\n{self.tails()}")
        self.say(f"the example DAG is a success on the Celery worker: {task.xcom()['integrity']}")
        return dict(task.xcom())

    def _command(self, service: Mapping[str, Any]) -> list[str]:
        words = [word.replace("/opt/orbit", str(REPOSITORY / "docker")) for word in service["command"]]
        return [str(self._bin / words[0]), *words[1:]]

    def _environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        home = str(self._place / "airflow")
        places = {
            "postgres:5432": f"{HOST}:{self._postgres}",
            "redis:6379": f"{HOST}:{self._redis}",
            "airflow-apiserver:8080": f"{HOST}:{self.api}",
            "/opt/airflow/dags": str(REPOSITORY / "dags_examples"),
            "/opt/airflow": home,
        }
        given = dict(service["environment"])
        for old, new in places.items():
            given = {name: value.replace(old, new) for name, value in given.items()}
        # Containers have their own ports and folders; here they share one machine's.
        shared = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(self.api),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._log),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._trigger_log),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self._health),
            "PATH": f"{self._bin}:{os.environ['PATH']}",
        }
        return {**given, **shared}

    def _pings(self, name: str) -> bool:
        self._check()
        return self._runs_check(name).returncode == 0

    def _probe(self, name: str) -> None:
        done = self._runs_check(name)
        if done.returncode:
            raise Failed(f"{name}'s health check: exit {done.returncode}\n{done.stdout[-2000:]}")

    def _runs_check(self, name: str) -> subprocess.CompletedProcess[str]:
        """A service's own health check, as its container would run it."""
        service = self._services[name]
        (kind, command) = service["healthcheck"]["test"]
        if kind != "CMD-SHELL":
            raise Failed(f"{name} has a health check of another kind")
        environment = {**_clean(), **self._environment(service), "HOSTNAME": os.uname().nodename}
        return subprocess.run(
            ["/bin/sh", "-c", command], env=environment, cwd=self._place,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )  # fmt: skip

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """One command to its end. Raises Failed."""
        done = subprocess.run(
            command, env={**_clean(), **environment}, cwd=self._place,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}")

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        log = self._out / f"{name}.log"
        self._sessions.append(Session(name, command, log=log, env={**_clean(), **environment}, cwd=self._place))

    def _check(self) -> None:
        if ended := [session.name for session in self._sessions if not session.leads()]:
            raise Failed(f"{', '.join(ended)} ended\n{self.tails()}")

    def tails(self) -> str:
        """The ends of all logs."""
        return tails(self._out)

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        sys.stdout.write(f"[{time.monotonic() - self._began:5.1f} s] {text}\n")
        sys.stdout.flush()


def _is_healthy(rest: RestClient, part: str) -> bool:
    return bool(rest.call("GET", "/api/v2/monitor/health")[part]["status"] == "healthy")


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _clean() -> dict[str, str]:
    return {name: value for name, value in clean_environment().items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _missing() -> list[str]:
    missing = [tool for tool in ("redis-server", "redis-cli", "runuser") if shutil.which(tool) is None]
    if not postgres_can_run_here():
        missing.append("postgresql")
    if os.geteuid() != 0:
        missing.append("root")
    return missing


def main() -> int:
    """0 when the DAG ran and its object is the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.parse_args()
    if missing := _missing():
        sys.stderr.write(f"needed and not here: {', '.join(missing)}\n")
        return 1
    place = Path(tempfile.mkdtemp(prefix="orbit-compose-"))
    try:
        with ExitStack() as stack, ModelServer() as server:
            machine = Machine(place, server)
            stack.callback(machine.close)
            machine.start_stores()
            machine.install()
            result = machine.run_dag(machine.start_airflow())
            stored = server.versions(result["bucket"], result["key"])[0].read()
            if stored != (place / "airflow" / "files" / "backup.tar").read_bytes():
                raise Failed("the object is not the file")
            machine.say("the object is the file")
    except (Failed, AssertionError, RuntimeError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
