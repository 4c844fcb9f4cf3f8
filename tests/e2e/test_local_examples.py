"""What `make up` gives the example DAGs: every bucket and connection that they name is there. Nothing is started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.local import examples
from tests.local.record import Places
from tests.servers.record import REPOSITORY

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FILES = sorted((REPOSITORY / "dags_examples").glob("orbit_*.py"))
# Defaults that are right wherever the DAG runs.
_FREE = {
    "ORBIT_BACKUP_RETRIES", "ORBIT_BACKUP_DIRECTORY", "ORBIT_BACKUP_PREFIX", "ORBIT_LAKE_RETRIES", "ORBIT_LAKE_PREFIX",
    "ORBIT_DRILL_PREFIX",
}  # fmt: skip


def _read_by(file: Path) -> set[str]:
    return set(re.findall(r'os\.environ\.get\(\s*"(ORBIT_\w+)"', file.read_text()))


def _places(tmp_path: Path) -> dict[str, str]:
    return examples.environment(Places(tmp_path), NOW)


def test_there_are_examples() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_finds_its_places(file: Path, tmp_path: Path) -> None:
    """Each variable that it reads is set, its buckets exist, and its connection is the one that is made."""
    given = _places(tmp_path)
    read = _read_by(file)
    assert read, "an example that cannot be tried without an edit"
    assert read - _FREE <= given.keys()
    for name in read & given.keys():
        if name.endswith("_BUCKET"):
            assert given[name] in examples.BUCKETS
        if name.endswith("_CONN_ID"):
            assert given[name] == examples.CONNECTION_ID


def test_nothing_is_set_that_no_example_reads(tmp_path: Path) -> None:
    """A variable that was renamed in an example shows here."""
    read = set().union(*(_read_by(file) for file in FILES))
    assert _places(tmp_path).keys() <= read


def _below(prefix: str) -> Iterator[str]:
    return (
        seed.key for seed in examples.seeds(NOW) if seed.bucket == examples.LAKE_BUCKET and seed.key.startswith(prefix)
    )


@pytest.mark.parametrize(
    "prefix", ["exports/", "logs/", "reports/", "projects/apollo/", "projects/gemini/", "tables/orders/"]
)
def test_the_lake_has_what_the_examples_work_on(prefix: str) -> None:
    assert list(_below(prefix))
