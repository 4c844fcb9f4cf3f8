"""The runner of documentation itself: it finds what is there, and forgives nothing."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tests.docs import blocks

PAGE = """# Title
```bash
echo no
```
## First
```python
a = given + 1
```
## Second
```python no-run: needs a bucket at AWS
import nothing
```
```python
raise ValueError(a)
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(blocks, "REPOSITORY", tmp_path)
    written = tmp_path / "page.md"
    written.write_text(PAGE)
    return written


def test_it_finds_python_and_only_python(page: Path) -> None:
    """By heading and line, the excused ones with their reason."""
    found = blocks.blocks_of("page.md")
    assert [(block.heading, block.line) for block in found] == [("First", 7), ("Second", 11), ("Second", 14)]
    assert [str(block) for block in blocks.runnable("page.md")] == ["page.md:7", "page.md:14"]
    assert blocks.excused("page.md") == {"page.md:11": "needs a bucket at AWS"}


def test_a_block_runs_with_what_it_is_given(page: Path) -> None:
    """And each one alone: the names of one are not there in the next."""
    first, last = blocks.runnable("page.md")
    assert first.run({"given": 1})["a"] == 2
    with pytest.raises(NameError):
        last.run()


def test_an_error_shows_the_page_and_the_line(page: Path) -> None:
    """So that the reader of a red test finds the place."""
    with pytest.raises(ValueError) as raised:
        blocks.runnable("page.md")[1].run({"a": 1})
    assert traceback.extract_tb(raised.value.__traceback__)[-1].lineno == 14


@pytest.mark.parametrize("fence", ["python no-run", "python no-run: why", "python skip"])
def test_an_excuse_needs_a_reason(page: Path, fence: str) -> None:
    """A word is none."""
    page.write_text(f"```{fence}\nx\n```\n")
    with pytest.raises(ValueError, match="expected"):
        blocks.blocks_of("page.md")


def test_a_block_must_end(page: Path) -> None:
    """Or the rest of the page would never be run."""
    page.write_text("```python\nx = 1\n")
    with pytest.raises(ValueError, match="no end"):
        blocks.blocks_of("page.md")
