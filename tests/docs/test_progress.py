"""Every snippet of docs/progress.md runs as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbit_airflow.engine import EngineConfig, TransferEngine, engine_over
from orbit_airflow.engine.model import KIB
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.testing import MemoryStore
from tests.docs.blocks import Block, blocks_of, excused, runnable

PAGE = "docs/progress.md"
SAID = {
    "A channel": ["Starting transfer: night.tar (204800 bytes)", "Transfer complete: 204800 bytes in"],
    "Throughput and time left": ["Speed: ", " MB/s"],
    "Batches": ["Batch: 3/10 complete (2 succeeded, 1 failed)"],
    "Many readers": ["TransferStarted(", "TransferCompleted("],
    "Statistics": ["Average throughput: 1.00 MB/s", "Peak throughput: 1.00 MB/s"],
}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TransferEngine:
    """An engine over a store in memory, and the page's file in the current directory."""
    monkeypatch.chdir(tmp_path)
    Path("night.tar").write_bytes(bytes(range(200)) * KIB)
    limits = StoreLimits(min_part_size=KIB, part_size_step=KIB)
    return engine_over(MemoryStore(min_part_size=KIB), EngineConfig(chunk_size=64 * KIB, limits=limits))


@pytest.mark.parametrize("block", runnable(PAGE), ids=str)
def test_a_snippet_runs(block: Block, engine: TransferEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing but an engine and a file."""
    block.run({"engine": engine})


def test_the_snippets_say_what_the_guides_say(engine: TransferEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines that the guide's own snippets print."""
    said: dict[str, str] = {}
    for block in runnable(PAGE):
        block.run({"engine": engine})
        said[block.heading] = said.get(block.heading, "") + capsys.readouterr().out
    for heading, lines in SAID.items():
        for line in lines:
            assert line in said[heading], heading


def test_every_snippet_of_the_page_is_run() -> None:
    """None is excused, and the guide's five are there."""
    assert excused(PAGE) == {}
    assert {block.heading for block in blocks_of(PAGE)} >= SAID.keys()
