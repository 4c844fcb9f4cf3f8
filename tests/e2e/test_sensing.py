"""The sensor in its three modes, and the watched asset, on a real scheduler and triggerer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from tests.e2e.harness import REPOSITORY, LocalAirflow, s3_connection
from tests.e2e.judge import client_of
from tests.e2e.waiting import wait_for
from tests.model_server import ModelProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SENSING = Path(__file__).parent / "dags" / "e2e_sensing.py"
WATCHING = REPOSITORY / "dags_examples" / "orbit_on_new_version.py"
BUCKET, CONN_ID = "e2e", "orbit_landing"
MODES = {"poke", "reschedule", "deferrable"}
PATIENCE = 90.0


@pytest.fixture(scope="module")
def sensing(server: ModelProcess) -> Iterator[LocalAirflow]:
    """An Airflow with a triggerer, three workers for three sensors, and both DAGs."""
    env = {
        f"AIRFLOW_CONN_{CONN_ID.upper()}": s3_connection(server.endpoint_url, server.access_key, server.secret_key, {}),
        "AIRFLOW__CORE__PARALLELISM": "4",
        # Asset events make runs like a schedule does.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        # How soon the triggers of a dead triggerer are taken over.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        "ORBIT_LANDING_BUCKET": BUCKET,
        "ORBIT_LANDING_PREFIX": "incoming/",
        "ORBIT_LANDING_POLL_SECONDS": "1",
    }
    began = time.monotonic()
    with LocalAirflow([SENSING, WATCHING], env, triggerer=True) as made:
        made.wait_until_ready(["e2e_sensing", "orbit_on_new_version"])
        print(f"\nready after {time.monotonic() - began:.1f} s")
        yield made


def _put(server: ModelProcess, key: str, body: bytes) -> str:
    return str(client_of(server).put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"])


def _states(airflow: LocalAirflow, run_id: str) -> dict[str, str | None]:
    return {name: airflow.task("e2e_sensing", run_id, name).view().state for name in MODES}


def test_the_sensor_ends_in_all_three_modes_with_the_same_result(sensing: LocalAirflow, server: ModelProcess) -> None:
    """Each waits in its own way for a version that is not there yet, and reports that one and no older."""
    began = time.monotonic()
    _put(server, "wait/data", b"old")
    run_id = sensing.rest.trigger("e2e_sensing", {"bucket": BUCKET, "key": "wait/data", "aws_conn_id": CONN_ID})
    waiting = {"poke": "running", "reschedule": "up_for_reschedule", "deferrable": "deferred"}

    def explain() -> str:
        logs = [f"{name}: {sensing.task('e2e_sensing', run_id, name).log_text(1)}" for name in MODES]
        return "\n".join([str(_states(sensing, run_id)), *logs, sensing.tails()])

    def all_keep_a_baseline() -> bool:
        return all(sensing.task("e2e_sensing", run_id, name).stored_state() for name in MODES)

    wait_for("three sensors that wait", lambda: _states(sensing, run_id) == waiting, patience=PATIENCE, explain=explain)
    wait_for("their baselines", all_keep_a_baseline, patience=PATIENCE, explain=explain)
    made = [_put(server, "wait/data", body) for body in (b"one", b"three")]
    done = dict.fromkeys(MODES, "success")
    wait_for("three successes", lambda: _states(sensing, run_id) == done, patience=PATIENCE, explain=explain)

    for name in MODES:
        result = sensing.task("e2e_sensing", run_id, name).xcom()
        told = [item["version_id"] for item in result["versions"]]
        # Two writes are two requests: a look may fall between them, and then sees one.
        assert told in ([made[1], made[0]], [made[0]]), name
        assert sensing.task("e2e_sensing", run_id, name).view().try_number == 1
    print(f"\nthe sensors took {time.monotonic() - began:.1f} s")


def test_the_watcher_fires_once_for_each_version(sensing: LocalAirflow, server: ModelProcess) -> None:
    """Also over a triggerer that is killed and started again, with a version written while none ran; each is loaded."""
    began = time.monotonic()
    wait_for("the first watermark", lambda: _watermarks(sensing), patience=PATIENCE, explain=sensing.tails)
    first = [_put(server, f"incoming/{name}", body) for name, body in (("a", b"a"), ("b", b"bb"), ("a", b"aaa"))]
    _wait_for_events(sensing, first)
    wait_for("a watermark of them", lambda: len(_marks(sensing)) == 3, patience=PATIENCE, explain=sensing.tails)

    sensing.kill("triggerer")
    second = [*first, _put(server, "incoming/a", b"while nobody looked")]
    sensing.start("triggerer")
    _wait_for_events(sensing, second)
    third = [*second, _put(server, "incoming/c", b"c")]
    _wait_for_events(sensing, third)

    def all_are_loaded() -> bool:
        return sorted(_loaded(sensing)) == sorted(third)

    wait_for("loads", all_are_loaded, patience=PATIENCE, explain=lambda: f"{_loaded(sensing)} of {third}")
    print(f"\nthe watcher took {time.monotonic() - began:.1f} s")


def _events(airflow: LocalAirflow) -> list[str]:
    """The versions of all asset events; none while Airflow 3.3.2 cannot say: it answers 500 as long as a run that was
    made of one is queued, since that has no start yet.
    """
    try:
        found = airflow.rest.call("GET", "/api/v2/assets/events?limit=100&order_by=timestamp")
    except HTTPError as exc:
        if exc.code != 500:
            raise
        return []
    return [item["extra"]["payload"]["version_id"] for item in found["asset_events"]]


def _wait_for_events(airflow: LocalAirflow, versions: list[str]) -> None:
    def explain() -> str:
        return f"{_events(airflow)} of {versions}\n{airflow.tails()}"

    def enough() -> list[str] | None:
        events = _events(airflow)
        return events if len(events) >= len(versions) else None

    events = wait_for("events", enough, patience=PATIENCE, explain=explain)
    assert sorted(events) == sorted(versions)


def _watermarks(airflow: LocalAirflow) -> dict[str, Any]:
    (asset,) = airflow.rest.call("GET", "/api/v2/assets?name_pattern=orbit_landing")["assets"]
    found = airflow.rest.call("GET", f"/api/v2/assets/{asset['id']}/state-store")
    return {item["key"]: item["value"] for item in found["asset_state_store"]}


def _marks(airflow: LocalAirflow) -> set[str]:
    """The remembered versions, eight characters each; their texts have the names with two numbers at the end."""
    texts = [str(value).strip('"') for name, value in _watermarks(airflow).items() if name.count(":") == 4]
    return {text[start : start + 8] for text in texts for start in range(0, len(text), 8)}


def _loaded(airflow: LocalAirflow) -> list[str]:
    runs = airflow.rest.call("GET", "/api/v2/dags/orbit_on_new_version/dagRuns")["dag_runs"]
    found: list[str] = []
    for run in runs:
        instances = airflow.rest.call(
            "GET", f"/api/v2/dags/orbit_on_new_version/dagRuns/{_quoted(run['dag_run_id'])}/taskInstances"
        )["task_instances"]
        done = [item["map_index"] for item in instances if (item["task_id"], item["state"]) == ("load", "success")]
        for index in done:
            path = f"/api/v2/dags/orbit_on_new_version/dagRuns/{_quoted(run['dag_run_id'])}/taskInstances/load"
            query = f"map_index={index}&deserialize=true&stringify=false"
            found.append(airflow.rest.call("GET", f"{path}/xcomEntries/return_value?{query}")["value"]["version_id"])
    return found


def _quoted(run_id: str) -> str:
    return quote(run_id, safe="")
