"""`make up` as a stranger uses it: start, trigger, kill, look, start again, stop. Nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import clean_environment
from tests.e2e.rest import RestClient, TaskClient
from tests.e2e.waiting import wait_for
from tests.local.record import Places, Record, read_record
from tests.model_server import ModelClient
from tests.servers.ports import free_block
from tests.servers.record import REPOSITORY

DAG_ID, TASK_ID = "orbit_nightly_backup", "upload_backup"
SIZE_MIB, RATE_MIB = 24, 4
pytestmark = pytest.mark.timeout(300)


def local(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command behind make, by somebody whose home is empty."""
    return subprocess.run(
        [sys.executable, "-m", "tests.local", *arguments],
        cwd=REPOSITORY,
        env={**clean_environment(), "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """A state folder of its own; whatever a test leaves running there is stopped."""
    made = Places(tmp_path / "state")
    yield made
    local("down", "--state", str(made.state), home=tmp_path)


def test_a_strangers_first_hour(places: Places, tmp_path: Path) -> None:
    """Each command does what it says, and the upload survives its kill."""
    port, s3_port = free_block(2)
    state = ("--state", str(places.state))
    up = (
        "up",
        *state,
        "--port",
        str(port),
        "--s3-port",
        str(s3_port),
        "--size",
        str(SIZE_MIB),
        "--rate",
        str(RATE_MIB),
    )
    started = local(*up, home=tmp_path)
    assert started.returncode == 0, started.stderr
    record = read_record(places)
    assert record is not None
    for promised in (record.url, record.password, record.endpoint_url, "make down"):
        assert promised in started.stdout
    again = local(*up, home=tmp_path)
    assert again.returncode == 0
    assert "runs already" in again.stdout
    assert read_record(places) == record

    _kill_and_continue(record, state, tmp_path)

    running = [info for item in record.members for info in item.members(places)]
    assert len(running) > len(record.members)
    stopped = local("down", *state, home=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert [info for info in running if info.is_alive()] == []
    assert sorted(os.listdir(places.state)) == ["lock", "logs"]
    assert "nothing runs" in local("down", *state, home=tmp_path).stdout


def _kill_and_continue(record: Record, state: tuple[str, str], home: Path) -> None:
    """Last night's run begins by itself, as scheduled; one more is triggered and killed."""
    rest = RestClient(record.url, record.username, record.password)
    run_id = rest.trigger(DAG_ID, {})
    task = TaskClient(rest, DAG_ID, run_id, TASK_ID)

    def parts_done() -> bool:
        return bool((task.xcom("orbit_progress") or {}).get("parts_done"))

    wait_for("the upload", parts_done, patience=90, explain=lambda: str(task.view()))
    server = ModelClient(record.endpoint_url)
    # However slow this machine is: the upload is not over before the command has started.
    server.set_rate_limit(1024)
    killed = local("kill-task", *state, home=home)
    server.set_rate_limit(None)
    assert killed.returncode == 0, killed.stderr
    wait_for("the run", lambda: rest.run_state(DAG_ID, run_id) == "success", patience=90)
    result = task.xcom()
    assert result["resumed"] is True
    assert result["try_number"] == 2
    assert server.open_uploads(result["bucket"]) == []
    assert len(server.read_object(result["bucket"], result["key"])) == SIZE_MIB * 1024 * 1024


def test_a_taken_port_is_named_with_the_way_out(places: Places, tmp_path: Path) -> None:
    """Before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        answer = local("up", "--state", str(places.state), "--port", str(taken), home=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.strip() == (
        f"port {taken} on 127.0.0.1 is taken by another program; choose another one: make up PORT=<number>"
    )
    assert read_record(places) is None


def test_what_ended_by_itself_is_named(places: Places, tmp_path: Path) -> None:
    """And `make down` clears it away."""
    from tests.local.record import write_record
    from tests.servers.processes import ProcessMark

    places.state.mkdir()
    gone = Record(
        url="u", username="admin", password="p", endpoint_url="e", access_key="a", secret_key="s", complete=True
    ).with_member("scheduler", ProcessMark(2**22 + 1, "1"))
    write_record(places, gone)
    answer = local("up", "--state", str(places.state), home=tmp_path)
    assert answer.returncode == 1
    assert "scheduler ended" in answer.stderr
    assert "make down" in answer.stderr
    assert local("down", "--state", str(places.state), home=tmp_path).returncode == 0
    assert read_record(places) is None


def test_there_is_no_task_to_kill_when_nothing_runs(places: Places, tmp_path: Path) -> None:
    """It says so, and fails."""
    answer = local("kill-task", "--state", str(places.state), home=tmp_path)
    assert (answer.returncode, answer.stderr) == (1, "no task runs now\n")
