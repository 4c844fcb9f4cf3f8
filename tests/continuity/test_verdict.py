"""The matrix's own judgement: what it calls right, and what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.continuity.rows import ROWS
from tests.continuity.site import PART_SIZE, SIZE
from tests.continuity.transfer import Direction, Plan, Transfer
from tests.continuity.verdict import BEGIN, END, Verdict, cells, judge, worst, written
from tests.e2e.judge import MIB

STARTED = "uploading s3://continuity/x: 37.0 MiB in 8 parts of 5.0 MiB, upload u; nothing of an earlier try was found"
CONTINUED = "resuming upload of s3://continuity/x: found 6 of 8 parts (30.0 MiB of 37.0 MiB), sending 2, upload u"


def _plan(row: str = "sigkill", direction: Direction = "up", number: int = 0) -> Plan:
    return Plan(row=row, direction=direction, number=number, seed=1, delay=1.0)


def _judged(heads: Sequence[str], again: int = 0, *, plan: Plan | None = None, faults: Sequence[str] = ()) -> Verdict:
    """A run whose server and logs say this."""
    run = SimpleNamespace(
        plan=plan or _plan(),
        heads=lambda: list(heads),
        moved=lambda: SIZE + again,
        faults=lambda: list(faults),
        task=SimpleNamespace(view=lambda: SimpleNamespace(try_number=len(heads))),
    )
    return judge(cast("Transfer", cast("Any", run)))


def test_a_run_that_continued_within_its_bound_is_right() -> None:
    """Two workers' parts again, for one interruption."""
    assert _judged([STARTED, CONTINUED], 2 * PART_SIZE).faults == ()


@pytest.mark.parametrize(
    ("heads", "again", "faults", "said"),
    [
        ([STARTED, STARTED], PART_SIZE, (), "it did not continue"),
        ([STARTED], 0, (), "it was not interrupted"),
        ([], 0, (), "no try told how it began"),
        ([STARTED, CONTINUED], 2 * PART_SIZE + 1, (), "bytes again"),
        ([STARTED, CONTINUED], -1, (), "never travelled"),
        ([STARTED, CONTINUED], 0, ("WRONG BYTES",), "WRONG BYTES"),
    ],
)
def test_what_is_not_right_is_said(heads: list[str], again: int, faults: tuple[str, ...], said: str) -> None:
    """Each of these is a broken promise."""
    (found,) = _judged(heads, again, faults=faults).faults
    assert said in found


def test_each_interruption_has_its_own_bound() -> None:
    """Six ends by a time limit may cost six times what one may."""
    heads = [STARTED, *[CONTINUED] * 6]
    assert _judged(heads, 12 * PART_SIZE).faults == ()
    assert len(_judged(heads, 12 * PART_SIZE + 6).faults) == 1


def test_where_not_even_one_part_was_whole_there_is_nothing_to_continue() -> None:
    """On a slow machine a time limit may come before the first part's end."""
    assert _judged([STARTED, STARTED], PART_SIZE - 1).faults == ()


def test_what_an_absent_disk_costs_is_owed_by_nobody_and_must_be_said() -> None:
    """A download on another machine begins anew, and tells so."""
    plan = _plan("machine", "down")
    assert _judged([STARTED, STARTED], SIZE, plan=plan).faults == ()
    assert len(_judged([STARTED, CONTINUED], 0, plan=plan).faults) == 1
    assert worst([_judged([STARTED, STARTED], SIZE, plan=plan)]) == 0


def test_the_table_has_a_line_for_each_cell_and_counts_its_faults() -> None:
    """Worst and mean are of one interruption."""
    runs = [_judged([STARTED, CONTINUED], MIB, plan=_plan(number=number)) for number in range(3)]
    runs.append(_judged([STARTED], plan=_plan(number=3)))
    (line,) = [line for line in cells(runs).splitlines() if ROWS["sigkill"].text in line]
    assert [item.strip() for item in line.strip("|").split("|")][1:6] == ["up", "3 of 4", "1-2", "0.8", "1.0"]


def test_the_page_keeps_what_is_around_the_table(tmp_path: Path) -> None:
    """And a page without markers is refused, unchanged."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    written(page, {"seed": "1"}, "the table")
    assert page.read_text() == f"before\n{BEGIN}\nseed 1.\n\nthe table\n{END}\nbehind\n"
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place for the table"):
        written(page, {}, "x")
