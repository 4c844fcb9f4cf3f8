"""Airflow's REST API, as much of it as the tests ask."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TIMEOUT_SECONDS = 30.0
# How long a busy database is asked again.
_BUSY_SECONDS, _BUSY_PAUSE = 20.0, 0.5


@dataclass(frozen=True)
class TaskView:
    """A task instance as the API shows it; `pid` is the task process, not its supervisor."""

    state: str | None
    try_number: int
    max_tries: int
    pid: int | None


class RestClient:
    """Asks one api-server as one user. Raises urllib.error.URLError when it cannot, and HTTPError for a refusal."""

    def __init__(self, base_url: str, username: str, password: str) -> None:
        self.base_url = base_url
        self._login = {"username": username, "password": password}
        self._token: str | None = None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request with the user's token, and the JSON that it answers."""
        if self._token is None:
            self._token = str(self._send("POST", "/auth/token", self._login, {})["access_token"])
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return self._send(method, path, body, {"Authorization": f"Bearer {self._token}"})
            except urllib.error.HTTPError as exc:
                # SQLite has one writer: a busy Airflow answers "database is locked" now and then.
                if exc.code != 500 or time.monotonic() > until:
                    raise
                exc.close()
                time.sleep(_BUSY_PAUSE)

    def _send(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(
            self.base_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            data = answer.read()
        return json.loads(data) if data else None

    def is_ready(self) -> bool:
        """True when the server answers and accepts the user's login."""
        try:
            self.call("GET", "/api/v2/version")
        except (urllib.error.URLError, OSError, ValueError):
            return False
        return True

    def has_dag(self, dag_id: str) -> bool:
        """True when the DAG was parsed and may be triggered."""
        try:
            found = self.call("GET", f"/api/v2/dags/{dag_id}")
        except urllib.error.HTTPError as exc:
            if exc.code == 404:
                return False
            raise
        return not found["is_paused"]

    def dag_files(self) -> set[str]:
        """The files, below the DAGs folder, that have given a DAG."""
        return {str(item["relative_fileloc"]) for item in self.call("GET", "/api/v2/dags?limit=1000")["dags"]}

    def import_errors(self) -> list[str]:
        """The errors of DAG files that could not be read."""
        found = self.call("GET", "/api/v2/importErrors")
        return [f"{item['filename']}:\n{item['stack_trace']}" for item in found["import_errors"]]

    def scheduler_is_healthy(self) -> bool:
        """True when the scheduler's heartbeat is fresh."""
        return bool(self.call("GET", "/api/v2/monitor/health")["scheduler"]["status"] == "healthy")

    def trigger(self, dag_id: str, conf: Mapping[str, object]) -> str:
        """Start a run and give its id, which is chosen here: a second request cannot start a second run."""
        run_id = f"manual__{uuid.uuid4().hex}"
        wish = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        try:
            self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", wish)
        except urllib.error.HTTPError as exc:
            if exc.code != 409:
                raise
            exc.close()
        return run_id

    def run_day(self, dag_id: str, run_id: str) -> str:
        """The day that a run is for, as the template filter `ds` writes it."""
        return str(self.call("GET", f"{_run_path(dag_id, run_id)}")["run_after"])[:10]

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        return str(self.call("GET", f"{_run_path(dag_id, run_id)}")["state"])


class TaskClient:
    """One task of one run."""

    def __init__(self, rest: RestClient, dag_id: str, run_id: str, task_id: str) -> None:
        self._rest = rest
        self._path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}"
        self.dag_id, self.run_id, self.task_id = dag_id, run_id, task_id

    def view(self) -> TaskView:
        """The task instance now."""
        found = self._rest.call("GET", self._path)
        return TaskView(found["state"], found["try_number"], found["max_tries"], found["pid"])

    def xcom(self, key: str = "return_value") -> Any:
        """An XCom's value; None when there is none."""
        try:
            found = self._rest.call("GET", f"{self._path}/xcomEntries/{key}?deserialize=false&stringify=false")
        except urllib.error.HTTPError as exc:
            if exc.code == 404:
                return None
            raise
        value = found["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def forget_state(self) -> None:
        """Empty the task state store of this task, as the UI can."""
        self._rest.call("DELETE", f"{self._path}/state-store?map_index=-1")

    def mark_failed(self) -> None:
        """As the UI's button does; a running try is stopped."""
        self._rest.call("PATCH", self._path, {"new_state": "failed"})

    def clear(self) -> None:
        """As the UI's button does: the task runs again; a running try is stopped."""
        wish = {"dry_run": False, "only_failed": False, "task_ids": [self.task_id], "dag_run_id": self.run_id}
        self._rest.call("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", wish)

    def stored_state(self) -> dict[str, Any]:
        """The task state store of this task: key to value."""
        found = self._rest.call("GET", f"{self._path}/state-store?map_index=-1")
        return {item["key"]: item["value"] for item in found["task_state_store"]}

    def log_events(self, try_number: int) -> list[dict[str, Any]]:
        """The lines of one try's log, as the structured events that Airflow keeps."""
        found = self._rest.call("GET", f"{self._path}/logs/{try_number}?map_index=-1&full_content=true")
        return [item for item in found["content"] if isinstance(item, dict)]

    def log_text(self, try_number: int) -> str:
        """The same as text: one line for each event, with its fields."""
        return "\n".join(log_line(item) for item in self.log_events(try_number))


_PLACE = frozenset({"timestamp", "level", "event", "error_detail", "logger", "filename", "lineno", "loc"})
_NO_FIELDS = _PLACE | {"ti_id", "dag_id", "run_id", "task_id", "map_index", "try_number"}


def log_line(event: Mapping[str, Any]) -> str:
    """A log event as a person reads it; of an exception its type, its text and where it was raised."""
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in _NO_FIELDS)
    causes = "".join(f"\n    {_raised(item)}" for item in event.get("error_detail") or ())
    clock = str(event.get("timestamp") or "")[11:19]
    return f"{clock} {str(event.get('level') or '').upper():7} {event.get('event', '')} {fields}".rstrip() + causes


def _raised(detail: Mapping[str, Any]) -> str:
    frames = detail.get("frames") or [{}]
    place = f"{frames[-1].get('filename')}:{frames[-1].get('lineno')}"
    return f"{detail.get('exc_type')}: {detail.get('exc_value')} ({place})"


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"
