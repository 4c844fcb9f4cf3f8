"""docs/guide-map.md keeps its word: no line of the guides is missing, and whatever it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module

import pytest

from tests.docs.blocks import REPOSITORY
from tests.docs.pending import UNRESOLVED

PAGE = "docs/guide-map.md"
# The lines of the guides that the map must have: guides, chapter, heading, and block, row or point. A code block is
# named by its language and its place under its heading.
LINES = [
    tuple(line.split("\t"))
    for line in (REPOSITORY / "tests/docs/guide_lines.tsv").read_text(encoding="utf-8").splitlines()
]


def tables() -> list[list[tuple[str, ...]]]:
    """The page's two tables, without their heads."""
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    found = []
    for part in text.split("## Not yet"):
        lines = [line for line in part.splitlines() if line.startswith("|")][2:]
        found.append([tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines])
    return found


HERE, LATER = tables()
OURS = sorted({name for row in HERE for name in re.findall(r"`([\w.]+:[\w.]+)`", row[4])})
LINKS = sorted({link for row in HERE for link in re.findall(r"\]\(([^)]+)\)", row[4])})
TESTS = sorted({row[5].strip("`") for row in HERE})
TARGETS = sorted({target for row in HERE for target in re.findall(r"`make ([\w-]+)`", row[4])})


def resolves(name: str) -> bool:
    """True when ``module:object.attribute`` can be imported."""
    module, _, path = name.partition(":")
    try:
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def test_no_line_of_the_guides_is_missing() -> None:
    """Each exactly once, in the guide's order, here or among what comes later."""
    listed = [row[:4] for row in (*HERE, *LATER)]
    assert sorted(listed) == sorted(LINES)
    assert [row for row in LINES if row in {row[:4] for row in HERE}] == [row[:4] for row in HERE]


def test_no_cell_is_empty() -> None:
    """What is ours and which test runs it; of what comes later, what it waits for."""
    assert {len(row) for row in HERE} == {6}
    assert {len(row) for row in LATER} == {5}
    assert all(all(row) for row in (*HERE, *LATER))


def test_what_comes_later_is_what_was_agreed() -> None:
    """Versions and batches, and nothing else."""
    assert {row[4] for row in LATER} == {"versions", "batches"}


@pytest.mark.parametrize("name", OURS)
def test_what_is_named_can_be_imported(name: str) -> None:
    """But for what another part of the work brings; a name that is there must leave that list."""
    assert resolves(name) == (name not in UNRESOLVED)


def test_the_list_of_missing_names_has_no_strangers() -> None:
    """It holds only names of the map."""
    assert set(OURS) >= UNRESOLVED


@pytest.mark.parametrize("link", LINKS)
def test_a_page_and_its_heading_exist(link: str) -> None:
    """As GitHub makes anchors of headings."""
    page, _, anchor = link.partition("#")
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors


@cache
def _functions(path: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("test", TESTS)
def test_a_named_test_exists(test: str) -> None:
    """A function of a file, or a whole file of tests."""
    path, _, name = test.partition("::")
    functions = _functions(path)
    assert name in functions if name else any(function.startswith("test_") for function in functions)


def test_every_command_exists() -> None:
    """The Makefile has the targets that the map and the pages speak of."""
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = " ".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").glob("*.md"))
    assert set(TARGETS) >= {"bench", "live", "test-engine"}
    assert targets >= {*TARGETS, *re.findall(r"`make ([a-z-]+)`", pages)}
