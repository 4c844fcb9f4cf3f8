"""`python -m tests.packaging`: build, install into an empty environment, look, check types, run the example DAG."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.harness import clean_environment, s3_connection
from tests.e2e.judge import MIB
from tests.model_server import ModelServer
from tests.servers.record import REPOSITORY

HERE = Path(__file__).parent
PACKAGE = "orbit_airflow"
_BUCKET = "nightly-backups"
_STEP_SECONDS = 300.0
_BACKUP = 11 * MIB + 13


class Failed(Exception):
    """A step that did not go as it must; the message is for people."""


class WheelTest:
    """One test in a folder of its own; every command runs there, so that nothing finds the source tree by chance."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._dist = place / "dist"
        self._python = place / "venv" / "bin" / "python"
        self._began = time.monotonic()

    def run(self) -> None:
        """All steps. Raises Failed."""
        self._build()
        self._check_contents()
        self._install()
        self._run("the installed package", [self._python, "-I", self._copy(HERE / "installed.py")])
        self._run_example()
        self._check_types()

    def _build(self) -> None:
        constraints: list[str | Path] = ["--build-constraints", REPOSITORY / "constraints.txt"]
        # First the sdist, and the wheel from it: an sdist that lacks a file cannot make the wheel.
        self._run("sdist and wheel", [*_uv("build"), *constraints, "--out-dir", self._dist, REPOSITORY])

    def _check_contents(self) -> None:
        wheel = set(zipfile.ZipFile(self._only("*.whl")).namelist())
        inside = {name for name in wheel if ".dist-info/" not in name}
        expected = set(_files(PACKAGE))
        if inside != expected:
            raise Failed(f"the wheel lacks {sorted(expected - inside)} or has too much: {sorted(inside - expected)}")
        if not any(name.endswith("licenses/LICENSE") for name in wheel):
            raise Failed("the wheel has no licence")
        with tarfile.open(self._only("*.tar.gz")) as archive:
            packed = {name.partition("/")[2] for name in archive.getnames()}
        lacking = {*_files("docs"), *_files("dags_examples"), "constraints.txt", "README.md"} - packed
        if lacking:
            raise Failed(f"the sdist lacks {sorted(lacking)}")
        self._say(f"the wheel holds the {len(inside)} files of {PACKAGE} and no other")

    def _install(self) -> None:
        self._run("an empty environment", [*_uv("venv"), "--python", sys.executable, self._python.parents[1]])
        install: list[str | Path] = [
            *_uv("pip"),
            "install",
            "--python",
            self._python,
            "-c",
            REPOSITORY / "constraints.txt",
        ]
        self._run("the wheel and what it needs", [*install, self._only("*.whl")])

    def _run_example(self) -> None:
        """The example as its reader tries it: the file run as a script, which calls dag.test()."""
        dags = self._place / "dags"
        dags.mkdir()
        example = Path(shutil.copy(REPOSITORY / "dags_examples" / "orbit_nightly_backup.py", dags))
        backup = self._place / "backup.tar"
        backup.write_bytes(os.urandom(_BACKUP))
        with ModelServer() as server:
            server.create_bucket(_BUCKET)
            connection = s3_connection(server.endpoint_url, server.access_key, server.secret_key, {})
            env = {
                "AIRFLOW_HOME": str(self._place / "home"),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW_CONN_ORBIT_BACKUP": connection,
                "ORBIT_BACKUP_BUCKET": _BUCKET,
                "ORBIT_BACKUP_FILE": str(backup),
                "ORBIT_BACKUP_RETRIES": "0",
            }
            self._run("Airflow's database", [self._python, "-I", "-m", "airflow", "db", "migrate"], env)
            self._run("the example DAG by dag.test()", [self._python, "-I", example], env)
            keys = {record.key for record in server.records("CompleteMultipartUpload")}
            if len(keys) != 1 or server.versions(_BUCKET, keys.pop())[0].read() != backup.read_bytes():
                raise Failed("the example DAG ran, but the object is not the file")

    def _check_types(self) -> None:
        mypy: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", "--python-executable", self._python]
        mypy += ["--cache-dir", self._place / "mypy", "--no-error-summary"]
        self._run("mypy --strict of a client", [*mypy, self._copy(HERE / "client.py")])
        # Not a module of ours: `make check` would find its mistakes, too.
        wrong = self._copy(HERE / "wrong.py.txt").rename(self._place / "wrong.py")
        found = subprocess.run([*mypy, wrong], cwd=self._place, env=_environment(), capture_output=True, text=True)
        told = {int(number) for number in re.findall(r"wrong\.py:(\d+): error", found.stdout)}
        meant = {number for number, line in enumerate(wrong.read_text().splitlines(), 1) if line.endswith("# wrong")}
        if told != meant:
            raise Failed(f"mypy finds mistakes in lines {sorted(told)} and not in {sorted(meant)}:\n{found.stdout}")
        self._say("mypy --strict finds a client's mistakes")

    def _only(self, pattern: str) -> Path:
        (found,) = self._dist.glob(pattern)
        return found

    def _copy(self, file: Path) -> Path:
        return Path(shutil.copy(file, self._place))

    def _run(self, what: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self._place,
            env={**_environment(), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_STEP_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{what}: exit {done.returncode}\n{done.stdout[-4000:]}")
        self._say(what)

    def _say(self, text: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - self._began:5.1f} s] {text}\n")
        sys.stdout.flush()


def _uv(command: str) -> list[str | Path]:
    return [sys.executable, "-m", "uv", command, "--quiet"]


def _environment() -> dict[str, str]:
    return {name: value for name, value in clean_environment().items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _files(folder: str) -> list[str]:
    """The files of a folder of the source, without byte code."""
    found = (path for path in (REPOSITORY / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [str(path.relative_to(REPOSITORY)) for path in found]


def main() -> int:
    """0 when all is well, 1 with the reason when not; what was made is removed, unless --keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the folder with dist, environment and logs")
    keep = parser.parse_args().keep
    place = Path(tempfile.mkdtemp(prefix="orbit-wheel-"))
    try:
        WheelTest(place).run()
    except Failed as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    finally:
        if keep:
            sys.stdout.write(f"kept: {place}\n")
        else:
            shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
