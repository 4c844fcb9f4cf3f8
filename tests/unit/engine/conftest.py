"""The engine's unit tests. With ORBIT_NO_AIRFLOW=1 `import airflow` fails in this session, as on a machine without it.

Only for a session of this folder alone: other tests need Airflow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.engine.bench import Bench


class NoAirflow(MetaPathFinder):
    """Refuses airflow and everything below it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] == "airflow":
            raise ImportError(f"{fullname} must not be imported by the engine or its tests", name=fullname)
        return None


if os.environ.get("ORBIT_NO_AIRFLOW") == "1":
    sys.meta_path.insert(0, NoAirflow())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A store in memory, a file, tokens and a clock that only sleeping moves."""
    return Bench(tmp_path)
