"""The fault table's command, on two rows with one peer; and its verdicts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.__main__ import main
from tests.faults.cell import Cell
from tests.faults.table import BEGIN, END, written

CELL = Cell(
    row="flip",
    kind="none",
    client="orbit",
    verdict="WRONG",
    integrity="size+etag",
    notes=(),
    requests=5,
    seconds=1.0,
    error="",
)


def test_the_command_sees_success_with_wrong_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """s3transfer calls a short body and a Complete that did nothing successes: in the page, the file, the terminal."""
    page, told = tmp_path / "page.md", tmp_path / "cells.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    rows = ["--rows", "short,complete-empty", "--kinds", "md5", "--clients", "s3transfer"]
    sizes = ["--size-mib", "10", "--part-mib", "5", "--seed", "7", "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", ["faults", *rows, *sizes, "--page", str(page), "--json", str(told)])
    # Only promises of ours are the exit code's business.
    assert main() == 0
    text = page.read_text()
    assert (text.startswith("before\n"), text.endswith(f"{END}\nafter\n"), "old" in text) == (True, True, False)
    assert "s3transfer 0" in text
    assert "| fewer bytes, Content-Length agrees, Content-Range claims all | ✗ **wrong bytes**" in text
    assert "✗ **no object** [4], 1 open upload" in text
    cells = {cell["row"]: cell for cell in json.loads(told.read_text())["cells"]}
    assert {name: cell["verdict"] for name, cell in cells.items()} == {"short": "WRONG", "complete-empty": "WRONG"}
    assert "WRONG: 2" in capsys.readouterr().out
    # Another client's run takes them over.
    monkeypatch.setattr(
        sys, "argv", ["faults", *rows, "--kinds", "md5", "--clients", "orbit", "--keep", str(told), "--page", str(page)]
    )
    monkeypatch.setattr("tests.faults.__main__.run_cell", lambda row, *_: replace(CELL, row=row.name, kind="md5"))
    assert main() == 1
    assert "| ✗ **wrong bytes** `size+etag` [5] | ✗ **wrong bytes** [4]" in page.read_text()
    assert "other cells of 20" in page.read_text()


@pytest.mark.parametrize(
    ("cell", "broken"),
    [
        (CELL, False),
        (replace(CELL, integrity="md5"), True),
        (replace(CELL, kind="md5"), True),
        (replace(CELL, row="short"), True),
        (replace(CELL, verdict="HANG"), True),
        (replace(CELL, verdict="error"), False),
        (replace(CELL, verdict="ok", integrity="full-crc"), False),
    ],
)
def test_a_promise_is_broken_by_a_false_claim_and_by_no_end(cell: Cell, broken: bool) -> None:
    """Wrong bytes of the right length are told as unproved, where the store has nothing to compare them with."""
    assert cell.broken is broken


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """Nobody's text is overwritten."""
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="no place"):
        written(page, {}, "tables")
    assert page.read_text() == "text"


def test_the_command_knows_its_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt row would be a hole in the table."""
    monkeypatch.setattr(sys, "argv", ["faults", "--rows", "flipp"])
    with pytest.raises(SystemExit):
        main()
    assert "unknown: flipp; there are reset" in capsys.readouterr().err
