"""A DAG parse is cheap: neither an operator's module nor an example DAG imports boto3, or the hook that does."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import orbit_airflow.operators

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
_HEAVY = ("boto3", "botocore", "s3transfer", "orbit_airflow.hooks.s3")
_REPORT = f"; import sys; print([name for name in {_HEAVY!r} if name in sys.modules])"


def _heavy_imports(code: str) -> str:
    """What a fresh interpreter has of them behind this code."""
    done = subprocess.run(
        [sys.executable, "-c", code + _REPORT], capture_output=True, text=True, check=True, timeout=100
    )
    return done.stdout.strip().splitlines()[-1]


def test_no_operator_module_imports_boto3() -> None:
    """All of them, also those to come."""
    package = orbit_airflow.operators
    names = [item.name for item in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    assert "orbit_airflow.operators.transfer" in names
    assert _heavy_imports(f"import {', '.join(names)}") == "[]"


def test_no_example_dag_imports_boto3() -> None:
    """When it is parsed, as the dag-processor does it: executed."""
    files = sorted(str(file) for file in EXAMPLES.glob("*.py"))
    assert files
    assert _heavy_imports(f"import runpy; [runpy.run_path(file) for file in {files!r}]") == "[]"
