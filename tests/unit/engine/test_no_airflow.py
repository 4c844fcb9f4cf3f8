"""The engine works where Airflow is not installed, and its flows where boto3 is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import orbit_airflow.engine

ROOM = Path(orbit_airflow.engine.__file__).parent
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"airflow", "boto3", "botocore", "urllib3"}}))
"""


def _modules() -> list[str]:
    names = []
    for path in sorted(ROOM.rglob("*.py")):
        words = path.relative_to(ROOM.parent.parent).with_suffix("").parts
        names.append(".".join(words[:-1] if words[-1] == "__init__" else words))
    return names


def _imported(modules: list[str], blocked: tuple[str, ...]) -> str:
    """What a fresh interpreter has of airflow and boto3 behind these imports."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=blocked, modules=modules)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOM.parent.parent,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_imports_without_airflow() -> None:
    """No module of the engine needs Airflow, directly or through another one."""
    modules = _modules()
    assert len(modules) > 25
    assert "airflow" not in _imported([*modules, "orbit_airflow.testing"], ("airflow",))


def test_the_flows_import_without_boto3() -> None:
    """`import orbit_airflow.engine`, every flow and every wrapper work where botocore cannot be imported."""
    names = ("s3", "client", "http", "errormap", "credentials", "region", "calls", "lean", "session", "sigv4")
    adapters = {
        f"orbit_airflow.engine.stores.{name}"
        for name in (*names, "answers", "stream", "versions", "deletions", "documents")
    }
    modules = [name for name in _modules() if name not in adapters]
    assert _imported(modules, ("airflow", "boto3", "botocore", "urllib3")) == "[]"


def test_the_package_loads_nothing_by_itself() -> None:
    """`import orbit_airflow.engine` alone loads no boto3: a DAG file may do it."""
    assert _imported(["orbit_airflow.engine"], ("airflow",)) == "[]"


def test_every_public_name_is_there() -> None:
    """The lazy names resolve, and an unknown one is an AttributeError."""
    for name in orbit_airflow.engine.__all__:
        assert getattr(orbit_airflow.engine, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = orbit_airflow.engine.nonsense


@pytest.mark.skipif(os.environ.get("ORBIT_NO_AIRFLOW") != "1", reason="only in a session with ORBIT_NO_AIRFLOW=1")
def test_this_session_has_no_airflow() -> None:
    """In its own session this folder runs where `import airflow` fails."""
    assert "airflow" not in sys.modules
    with pytest.raises(ImportError, match="must not be imported"):
        __import__("airflow.sdk")
