"""docs/migration.md: what is to be written instead runs as it stands there, and names what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.testing.pytest import OrbitS3, orbit_s3, orbit_s3_store
from tests.docs.blocks import REPOSITORY, Block, excused, runnable

__all__ = ["orbit_s3", "orbit_s3_store"]
PAGE = "docs/migration.md"
# Of the amazon provider: where the names on the left side of the table live.
AMAZON = ("operators.s3", "sensors.s3", "hooks.s3", "transfers.local_to_s3")


@pytest.mark.parametrize("block", runnable(PAGE), ids=str)
def test_a_replacement_runs(block: Block, orbit_s3: OrbitS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone, on a store in memory."""
    monkeypatch.chdir(tmp_path)
    block.run()


def test_every_block_is_run() -> None:
    """None is excused."""
    assert excused(PAGE) == {}
    assert len(runnable(PAGE)) == 7


def test_amazons_names_exist() -> None:
    """In the version that the page is about."""
    modules = [importlib.import_module(f"airflow.providers.amazon.aws.{name}") for name in AMAZON]
    table = (REPOSITORY / PAGE).read_text(encoding="utf-8").split("## What maps to what")[1].split("\n## ")[0]
    for row in [line for line in table.splitlines() if line.startswith("| `")]:
        for name in re.findall(r"`(S3\w+|Local\w+)(?:\.(\w+))?", row.split("|")[1]):
            if row.count("..."):
                continue
            (found,) = {getattr(module, name[0]) for module in modules if hasattr(module, name[0])}
            assert not name[1] or hasattr(found, name[1]), name


def test_our_names_exist() -> None:
    """On the hook and its engine."""
    from orbit_airflow.engine import TransferEngine

    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    names = set(re.findall(r"hook\.engine\.(\w+)", text))
    assert names >= {"upload_bytes", "copy_object", "delete"}
    assert [name for name in names if not hasattr(TransferEngine, name)] == []
    assert hasattr(OrbitS3Hook, "upload")
