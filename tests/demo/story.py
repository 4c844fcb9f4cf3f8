"""The demo's plot: start all, upload, kill, wait, compare."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.demo.telling import Teller, interesting, mib, proof, table
from tests.e2e.harness import REPOSITORY, USERNAME, LocalAirflow, s3_connection
from tests.e2e.judge import MIB, Figures, Judge, Place
from tests.e2e.running import RunningUpload
from tests.model_server import ModelProcess

DAG_FILE = REPOSITORY / "dags_examples" / "orbit_nightly_backup.py"
DAG_ID, TASK_ID = "orbit_nightly_backup", "upload_backup"
BUCKET, PREFIX = "nightly-backups", "demo"
CONNECTION = "orbit_demo"
PART_SIZE, WORKERS = 5 * MIB, 4
_BLOCK = 8 * MIB


class Story:
    """One demo in a directory of its own."""

    def __init__(self, place: Path, size: int, rate: int, *, keep: bool) -> None:
        self._path = place / "backup.bin"
        self._data = place / "s3"
        self._size = size
        self._rate = rate
        self._keep = keep
        self._teller = Teller()

    def run(self) -> int:
        """Tell it; the exit code is 0 when all is as promised."""
        tell = self._teller
        tell.say(f"making a file of {mib(self._size)} random bytes")
        _write_random(self._path, self._size)
        tell.say(f"starting an S3 server that takes {mib(self._rate)} per second and writes down each byte it gets")
        with self._server() as server:
            tell.say("starting Airflow: api-server, dag-processor, scheduler with LocalExecutor, SQLite (20 to 60 s)")
            with LocalAirflow([DAG_FILE], _environment(server)) as airflow:
                airflow.wait_until_ready([DAG_ID])
                code = self._act(airflow, server)
                if self._keep:
                    self._stay(airflow)
                return code

    def _server(self) -> ModelProcess:
        self._data.mkdir()
        return ModelProcess(
            "--data-dir", str(self._data), "--rate-limit", str(self._rate), "--bucket", f"{BUCKET}:versioned"
        )

    def _act(self, airflow: LocalAirflow, server: ModelProcess) -> int:
        tell = self._teller
        started = tell.elapsed()
        upload = self._trigger(airflow, server)
        tell.say(f"triggered the example DAG {DAG_ID}")
        process = upload.process()
        tell.say(f"try 1 runs: task process {process.pid}, its supervisor {process.parent}")
        upload.wait_until_received(self._size // 2)
        process.signal(signal.SIGKILL)
        killed = tell.elapsed()
        tell.say(f"kill -9 {process.pid}: the server has received {mib(upload.judge.received())} of {mib(self._size)}")
        # What the system still holds of the dead process arrives at once, so that it is told apart from try 2.
        server.set_rate_limit(None)
        border = upload.judge.border()
        server.set_rate_limit(self._rate)
        tell.say(f"the process is gone; the server holds {mib(border.kept)} in whole parts")
        upload.wait_for_try(2)
        tell.say("try 2 runs: Airflow has started it by itself")
        result = upload.wait_for_success()
        ended = tell.elapsed()
        tell.say("the run is a success; reading the object back")

        seconds = {"start of Airflow": started, "until the kill": killed - started, "from there": ended - killed}
        return self._report(upload, upload.judge.figures(border), result, seconds)

    def _trigger(self, airflow: LocalAirflow, server: ModelProcess) -> RunningUpload:
        conf = {"file": str(self._path), "bucket": BUCKET, "prefix": PREFIX, "aws_conn_id": CONNECTION}
        run_id = airflow.rest.trigger(DAG_ID, conf)
        key = f"{PREFIX}/{airflow.rest.run_day(DAG_ID, run_id)}/backup.tar"
        judge = Judge(server, Place(BUCKET, key, self._size, PART_SIZE, WORKERS))
        return RunningUpload(airflow, airflow.task(DAG_ID, run_id, TASK_ID), judge, self._path, watch=self._watch)

    def _watch(self, upload: RunningUpload) -> None:
        number = upload.task.view().try_number
        self._teller.watch(f"try {number}", upload.judge.received(), self._size)

    def _report(
        self, upload: RunningUpload, figures: Figures, result: dict[str, object], seconds: dict[str, float]
    ) -> int:
        tell = self._teller
        identical = upload.judge.equals(self._path)
        faults = upload.judge.faults(figures)
        if not identical:
            faults.append("the object differs from the file")
        if result.get("resumed") is not True:
            faults.append(f"the task's result does not say that it resumed: {result}")
        for number in (1, 2):
            tell.show(f"\nLog of try {number}, as Airflow shows it:")
            tell.show("\n".join(f"  {line}" for line in interesting(upload.task.log_events(number))))
        tell.show("\nThe upload, by the server's log:")
        tell.show(table(figures))
        seconds = {**seconds, "in all": tell.elapsed()}
        tell.show(proof(result.get("integrity"), identical=identical, seconds=seconds))
        tell.show("\n" + ("As promised." if not faults else "NOT as promised:\n  " + "\n  ".join(faults)))
        return 1 if faults else 0

    def _stay(self, airflow: LocalAirflow) -> None:
        self._teller.show(f"\nAirflow is at {airflow.url}  (user {USERNAME}, password {airflow.password})")
        self._teller.show("Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            while True:
                signal.pause()


def _environment(server: ModelProcess) -> dict[str, str]:
    options = {"chunk_size": PART_SIZE, "parallel_operations": WORKERS}
    connection = s3_connection(server.endpoint_url, server.access_key, server.secret_key, options)
    return {f"AIRFLOW_CONN_{CONNECTION.upper()}": connection, "ORBIT_BACKUP_RETRY_SECONDS": "1"}


def _write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for offset in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - offset)))
