"""`make up`: check the ports, start the S3 endpoint and Airflow's four processes, wait, and say where they are."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus

from tests.e2e.harness import (
    USERNAME,
    airflow_command,
    airflow_environment,
    clean_environment,
    option_variables,
    s3_connection,
)
from tests.e2e.judge import MIB
from tests.e2e.readiness import Readiness, tails
from tests.e2e.rest import RestClient
from tests.e2e.waiting import wait_for
from tests.local import examples
from tests.local.record import DAGS, Places, Record, read_record, write_record
from tests.local.stop import end
from tests.local.telling import say, summary
from tests.model_server.config import Credentials
from tests.servers import processes
from tests.servers.ports import HOST, is_free
from tests.servers.record import exclusive

_MIGRATE_SECONDS = 180.0
_SERVER_SECONDS = 30.0
_REGION = "us-east-1"
# Nobody serves logs on a port here; this one is surely closed, and asked in vain for a log that grows on the same disk.
_NO_LOG_SERVER = 1


class CannotStart(Exception):
    """What keeps Airflow from being started; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the user may choose: two ports, the example file's size and the S3 endpoint's speed in bytes per second."""

    port: int = 8080
    s3_port: int = 9000
    size: int = 256 * MIB
    rate: int = 16 * MIB


def up(choice: Choice, places: Places) -> None:
    """Start everything, or say that it runs. Raises CannotStart; then nothing is left running."""
    with exclusive(places.state):
        record = read_record(places)
        if record is not None:
            _say_running(record, places)
            return
        _check_ports(choice)
        for folder in (places.home, places.objects, places.files, places.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        _Start(choice, places).run()


def _say_running(record: Record, places: Places) -> None:
    ended = record.ended()
    if ended or not record.complete:
        why = f"{', '.join(ended)} ended" if ended else "its start was interrupted"
        raise CannotStart(f"Airflow was started before, but {why} (logs: {places.logs}); say `make down`, then again")
    say("Airflow runs already.")
    say(summary(record, places))


def _check_ports(choice: Choice) -> None:
    for name, port in (("PORT", choice.port), ("S3_PORT", choice.s3_port)):
        if not is_free(port):
            raise CannotStart(
                f"port {port} on {HOST} is taken by another program; choose another one: make up {name}=<number>"
            )


class _Start:
    """One start; every process is on disk before the next one is made."""

    def __init__(self, choice: Choice, places: Places) -> None:
        self._choice = choice
        self._places = places
        keys = Credentials()
        url = f"http://{HOST}:{choice.port}"
        self._record = Record(
            url=url,
            username=USERNAME,
            password=secrets.token_urlsafe(12),
            endpoint_url=f"http://{HOST}:{choice.s3_port}",
            access_key=keys.access_key,
            secret_key=keys.secret_key,
        )
        self._now = datetime.now(UTC)
        self._env = _environment(places, url, self._now)
        self._rest = RestClient(url, USERNAME, self._record.password)

    def run(self) -> None:
        try:
            self._start_server()
            self._start_airflow()
            self._record = replace(self._record, complete=True)
            write_record(self._places, self._record)
        except BaseException as exc:
            end(self._record, self._places)
            if isinstance(exc, (RuntimeError, AssertionError, OSError)):
                raise CannotStart(str(exc)) from exc
            raise
        say(summary(self._record, self._places))

    def _start_server(self) -> None:
        choice, record = self._choice, self._record
        say(f"writing an example backup of {choice.size // MIB} MiB, starting an S3 endpoint")
        examples.make_files(self._places, choice.size)
        ready = self._places.home / "s3.json"
        command = [
            *airflow_command()[:2], "tests.model_server", "--port", str(choice.s3_port), "--region", _REGION,
            "--data-dir", str(self._places.objects), "--ready-file", str(ready), "--rate-limit", str(choice.rate),
            *(word for name in examples.BUCKETS for word in ("--bucket", f"{name}:versioned")),
        ]  # fmt: skip
        self._spawn("s3", command)
        wait_for("the S3 endpoint", lambda: self._alive() and ready.exists(), patience=_SERVER_SECONDS)
        examples.set_rules(record.endpoint_url, record.access_key, record.secret_key)
        examples.fill(record.endpoint_url, self._now)

    def _start_airflow(self) -> None:
        home = self._places.home
        passwords = home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USERNAME: self._record.password}))
        say("starting Airflow: database, api-server, dag-processor, scheduler, triggerer (20 to 60 s)")
        self._migrate()
        port = str(self._choice.port)
        self._spawn("api-server", airflow_command("api-server", "--host", HOST, "--port", port, "--workers", "1"))
        self._spawn("dag-processor", airflow_command("dag-processor"))
        # One machine, one disk: the logs are read where they are written, and no port is needed to serve them.
        self._spawn("scheduler", airflow_command("scheduler", "--skip-serve-logs"))
        self._spawn("triggerer", airflow_command("triggerer", "--skip-serve-logs"))
        readiness = Readiness(self._rest, self._check, self._tails)
        readiness.wait([])
        readiness.wait_for("the connection", self._add_connection)
        readiness.wait_for_files([file.name for file in DAGS.glob("*.py")])

    def _migrate(self) -> None:
        with (self._places.logs / "migrate.log").open("wb") as log:
            answer = subprocess.run(
                airflow_command("db", "migrate"),
                env=self._env,
                cwd=self._places.home,
                stdout=log,
                stderr=log,
                timeout=_MIGRATE_SECONDS,
                check=False,
            )
        if answer.returncode:
            raise RuntimeError(f"airflow db migrate: exit {answer.returncode}\n{self._tails()}")

    def _add_connection(self) -> bool:
        """In the database and not in the environment, so that it is there to be seen and edited in the UI."""
        record = self._record
        made = json.loads(s3_connection(record.endpoint_url, record.access_key, record.secret_key, {}))
        made = {**made, "connection_id": examples.CONNECTION_ID, "extra": json.dumps(made["extra"])}
        try:
            self._rest.call("POST", "/api/v2/connections", made)
        except urllib.error.HTTPError as exc:
            if exc.code != HTTPStatus.CONFLICT:
                raise
        return True

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        log = self._places.logs / f"{name}.log"
        process = processes.spawn(command, log=log, env=self._env, cwd=self._places.home)
        self._record = self._record.with_member(name, process)
        write_record(self._places, self._record)

    def _alive(self) -> bool:
        self._check()
        return True

    def _check(self) -> None:
        if ended := self._record.ended():
            raise RuntimeError(f"{', '.join(ended)} ended\n{self._tails()}")

    def _tails(self) -> str:
        return tails(self._places.logs)


def _environment(places: Places, url: str, now: datetime) -> Mapping[str, str]:
    options = {
        "core.dags_folder": str(DAGS),
        "core.parallelism": "4",
        # An edit of an example shows after some seconds.
        "dag_processor.min_file_process_interval": "10",
        "dag_processor.refresh_interval": "10",
        # Schedules and assets work as anywhere else.
        "scheduler.use_job_schedule": "True",
    }
    base = {**clean_environment(), **airflow_environment(places.home, url, log_port=_NO_LOG_SERVER)}
    return {**base, **option_variables(options), **examples.environment(places, now)}
