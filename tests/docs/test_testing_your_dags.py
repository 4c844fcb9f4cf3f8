"""docs/testing-your-dags.md: its tests are run as a reader would run them, by pytest in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import REPOSITORY, Block, excused, runnable

PAGE = "docs/testing-your-dags.md"


def _is_conftest(block: Block) -> bool:
    return "pytest_plugins" in block.code


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all blocks, each in a file of its own beside the page's conftest.py."""
    folder = tmp_path_factory.mktemp("reader")
    for block in runnable(PAGE):
        name = "conftest.py" if _is_conftest(block) else f"test_line_{block.line}.py"
        (folder / name).write_text(block.code)
    environment = {**os.environ, "AIRFLOW_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pages_tests_pass(outcome: str) -> None:
    """All five of them."""
    names = [line.rpartition("::")[2] for line in outcome.splitlines() if line.startswith("PASSED")]
    assert sorted(names) == [
        "test_a_lost_answer_is_no_failure",
        "test_a_refusal_ends_the_upload_at_once",
        "test_a_second_backup_keeps_the_first",
        "test_an_outage_is_not_waited_for",
        "test_the_backup_is_stored",
    ]


def test_only_the_whole_dag_is_excused() -> None:
    """It is run elsewhere; the place that the page names exists."""
    assert len([block for block in runnable(PAGE) if _is_conftest(block)]) == 1
    (reason,) = excused(PAGE).values()
    assert (REPOSITORY / reason.rpartition(" ")[2]).is_file()
    assert Path(reason.rpartition(" ")[2]).name == "test_testing_fixture.py"
