"""A few runs of the campaign, so that it is known to work before somebody needs it; the long one is its own command."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("direction", ["up", "down"])
def test_killed_transfers_continue(direction: str) -> None:
    """Real processes, real kills; every run right, by bytes."""
    command = [sys.executable, "-m", "tests.kills", "--direction", direction, "--runs", "10", "--parts", "12"]
    command += ["--part-size", str(256 * 1024), *(["--no-system-calls"] if direction == "down" else [])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "10 passed, 0 failed" in ended.stdout


def test_killed_batches_continue() -> None:
    """Every verb; every key's final state, every line of the report."""
    command = [sys.executable, "-m", "tests.kills", "--direction", "batch", "--keys", "80", "--page-keys", "10"]
    ended = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "12 passed, 0 failed" in ended.stdout
