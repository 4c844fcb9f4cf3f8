"""The pure pieces of the server scripts; no server is started here."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers import __main__ as command_line
from tests.servers import lifecycle, localstack_server
from tests.servers.ceph_server import CephServer
from tests.servers.errors import CannotInstallError, NotInstalledError, ServerError
from tests.servers.launch import Launch
from tests.servers.ports import FIRST_PORT, HOST, LAST_PORT, free_block, is_free
from tests.servers.processes import ProcessMark, end, mark, spawn
from tests.servers.record import Places, RunningServer, read_record, write_record
from tests.servers.signed import answers, signed_headers

Sleeper = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """Start real `sleep` processes and end those that the test left."""
    children: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        children.append(subprocess.Popen(["sleep", "300"]))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def server() -> RunningServer:
    """Describe a server whose port nobody listens on and whose process never was."""
    return RunningServer(
        name="moto",
        http=f"http://{HOST}:{free_block(1)[0]}",
        https=None,
        ca_file=None,
        access_key="AKIDEXAMPLE",
        secret_key="secret",
        region="us-east-1",
        version="1.0",
        processes=(ProcessMark(2**22 + 1, "1"),),
    )


class _DyingServer:
    """A kind whose process ends before it answers."""

    name = "moto"

    def __init__(self, server: RunningServer, gap: str | None = None) -> None:
        self._server = replace(server, processes=())
        self._gap = gap

    def gap(self) -> str | None:
        return self._gap

    def install(self) -> None:
        return

    def launch(self, launch: Launch) -> None:
        launch.announce(self._server)
        launch.spawn("helper", ["sleep", "300"])
        launch.spawn("server", ["sh", "-c", "echo broken; sleep 0.2"])


def test_a_taken_port_is_not_free() -> None:
    """A port that somebody listens on is not free."""
    with socket.create_server((HOST, 0)) as taken:
        assert not is_free(taken.getsockname()[1])


def test_a_block_holds_only_free_neighbours() -> None:
    """No chosen block contains a port that is taken."""
    taken = set(range(FIRST_PORT, LAST_PORT + 1, 7))
    for seed in range(50):
        block = free_block(6, rng=random.Random(seed), free=lambda port: port not in taken)
        assert not taken & set(block)
        assert block[0] >= FIRST_PORT
        assert block[-1] <= LAST_PORT


def test_no_free_block_is_an_error() -> None:
    """The search for ports ends."""
    with pytest.raises(ServerError, match="no 2 neighbouring free ports"):
        free_block(2, free=lambda _: False)


def test_a_record_survives_the_round_trip(tmp_path: Path, server: RunningServer) -> None:
    """What is written is read back equal, for present and absent https."""
    for one in (server, replace(server, https="https://127.0.0.1:2", ca_file="/ca.pem")):
        write_record(tmp_path / "moto.json", one)
        assert read_record(tmp_path / "moto.json") == one
    assert [path.name for path in tmp_path.iterdir()] == ["moto.json"]


def test_a_record_has_the_promised_fields(server: RunningServer) -> None:
    """The file's fields are the ones that other programs read."""
    value = json.loads(server.to_json())
    fields = "name http https ca_file access_key secret_key region pids starts version"
    assert list(value) == fields.split()
    assert value["pids"] == [2**22 + 1]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"pids": [1], "starts": []}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    """A damaged file reads as None, not as an error."""
    (tmp_path / "moto.json").write_text(text, encoding="utf-8")
    assert read_record(tmp_path / "moto.json") is None


def test_a_stale_record_is_not_a_running_server(tmp_path: Path, server: RunningServer) -> None:
    """A record whose server does not answer is left out, with a reason."""
    write_record(Places("moto", tmp_path).record, server)
    assert lifecycle.running_servers(tmp_path) == {}
    reason = lifecycle.missing_reason("moto", tmp_path)
    assert reason is not None
    assert "does not answer" in reason
    assert "start moto" in reason


def test_without_a_record_the_reason_names_the_command(tmp_path: Path) -> None:
    """Somebody whose test was skipped can copy the command."""
    assert "python -m tests.servers start moto" in (lifecycle.missing_reason("moto", tmp_path) or "")


def test_a_listener_that_is_no_s3_server_does_not_answer(server: RunningServer) -> None:
    """An open port alone is not a running server."""
    with socket.create_server((HOST, 0)) as silent:
        address = f"http://{HOST}:{silent.getsockname()[1]}"
        assert not answers(replace(server, http=address), timeout=0.2)


def test_stop_ends_only_the_recorded_processes(tmp_path: Path, server: RunningServer, sleeper: Sleeper) -> None:
    """Another process of the same program lives on; record and data go."""
    ours, starting, other = sleeper(), sleeper(), sleeper()
    places = Places("moto", tmp_path)
    places.prepare()
    write_record(places.record, server.with_process(mark(ours.pid)))
    write_record(places.starting, server.with_process(mark(starting.pid)))
    assert lifecycle.stop("moto", tmp_path)
    assert ours.wait(5) < 0
    assert starting.wait(5) < 0
    assert other.poll() is None
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".gitignore", "lock", "logs"}


def test_stop_spares_a_process_that_has_a_reused_id(tmp_path: Path, server: RunningServer, sleeper: Sleeper) -> None:
    """An id with another start time is another process."""
    stranger = sleeper()
    reused = ProcessMark(stranger.pid, "not its start")
    write_record(Places("moto", tmp_path).record, server.with_process(reused))
    assert not lifecycle.stop("moto", tmp_path)
    assert stranger.poll() is None


def test_a_zombie_is_not_alive(sleeper: Sleeper) -> None:
    """A killed child that nobody waited for does not count as running."""
    child = sleeper()
    marked = mark(child.pid)
    end([marked])
    assert child.returncode is None
    assert not marked.is_alive()


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """SIGKILL follows when SIGTERM does nothing."""
    log = tmp_path / "log"
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); "
    command = [sys.executable, "-c", f"{script}time.sleep(300)"]
    deaf = spawn(command, log=log, env=os.environ, cwd=tmp_path)
    while not log.read_text(encoding="utf-8"):
        assert deaf.is_alive()
    end([deaf], patience=0.3)
    assert not deaf.is_alive()


def test_a_failed_start_leaves_its_logs_and_nothing_else(tmp_path: Path, server: RunningServer) -> None:
    """When one process ends early the others are ended too, and the error shows why."""
    spawned: list[ProcessMark] = []

    class Watched(_DyingServer):
        def launch(self, launch: Launch) -> None:
            super().launch(launch)
            spawned.extend(launch.server.processes)

    with pytest.raises(ServerError, match="broken"):
        lifecycle.start(Watched(server), tmp_path)
    assert len(spawned) == 2
    assert not any(item.is_alive() for item in spawned)
    assert {path.name for path in tmp_path.iterdir()} == {".gitignore", "lock", "logs"}


def test_a_server_that_is_not_installed_is_not_started(tmp_path: Path, server: RunningServer) -> None:
    """The error names the gap and the command that fills it."""
    with pytest.raises(NotInstalledError, match=r"no program: python -m tests.servers install"):
        lifecycle.start(_DyingServer(server, "no program"), tmp_path)


def test_a_signature_is_the_one_that_botocore_makes(server: RunningServer) -> None:
    """A fixed request has a fixed signature."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    headers = signed_headers(server, "PUT", "127.0.0.1:9", "/bucket/key", b"body", now=now)
    assert headers["X-Amz-Date"] == "20260102T030405Z"
    assert headers["Authorization"].endswith(
        "Signature=4e05305fadf139dc06184ee5be97b3fac208b3c2db4ed21fda0f90b4ad89cb6b"
    )


def test_ceph_without_root_or_apt_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither case reaches apt-get, both name the packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotInstallError, match=r"no apt-get here.*radosgw"):
        CephServer().install()
    assert "radosgw" in (CephServer().gap() or "")
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 99\n", encoding="utf-8")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotInstallError, match=r"needs root.*radosgw"):
        CephServer().install()


def test_a_python_that_fails_or_is_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim that only complains and an old Python are both no choice."""
    for name, script in (("python3.13", "exit 127"), ("python3.14", "echo 3 12"), ("uv", "exit 2")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.14"))
    with pytest.raises(CannotInstallError, match=r"Python >= 3\.13"):
        localstack_server.find_python(str(tmp_path / "uv"))
    (tmp_path / "python3.14").write_text("#!/bin/sh\necho 3 14\n", encoding="utf-8")
    assert localstack_server.find_python("uv") == shutil.which("python3.14")


def test_the_constraints_hold_pins_only() -> None:
    """No index and no address may get into the constraints."""
    lines = Path(localstack_server.__file__).with_name("localstack-constraints.txt")
    text = lines.read_text(encoding="utf-8")
    assert f"localstack-core=={localstack_server.VERSION}" in text.split()
    assert all(line.count("==") == 1 and "/" not in line for line in text.splitlines())


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names what is unknown."""
    with pytest.raises(SystemExit) as raised:
        command_line.main(["status", "nosuch"])
    assert raised.value.code == 2
    assert "nosuch" in capsys.readouterr().err
