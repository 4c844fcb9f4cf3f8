"""What came of a run, and the table of all of them."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.setting import table
from tests.continuity.rows import ROWS, Owed
from tests.continuity.site import PART_SIZE, SIZE, WORKERS
from tests.continuity.transfer import Plan, Transfer
from tests.e2e.judge import MIB

BEGIN, END = "<!-- make continuity: begin -->", "<!-- make continuity: end -->"
ALLOWED = WORKERS * PART_SIZE
_FOUND = re.compile(r"found (\d+) of (\d+)|holds the object already|an earlier try had")
_FROM_NOTHING = "nothing of an earlier try was found"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One run. ``again``: bytes beyond one copy. ``begun``: tries that began to transfer. Right without ``faults``."""

    plan: Plan
    again: int = 0
    tries: int = 0
    begun: int = 0
    said: str = ""
    faults: tuple[str, ...] = ()

    @property
    def again_each(self) -> float:
        """The bytes sent again for one interruption."""
        return self.again / max(1, self.begun - 1)


def judge(transfer: Transfer) -> Verdict:
    """Look at everything, when the run is over."""
    plan, row = transfer.plan, ROWS[transfer.plan.row]
    heads, again = transfer.heads(), transfer.moved() - SIZE
    owed = row.owed(plan.direction)
    verdict = Verdict(
        plan=plan, again=again, tries=transfer.task.view().try_number, begun=len(heads), said=heads[-1] if heads else ""
    )
    if owed == "continues" and len(heads) > 1 and _FROM_NOTHING in heads[-1] and again < PART_SIZE:
        # Struck before its first part was whole: all that had travelled is less than one part.
        owed = "anew"
    faults = [*transfer.faults(), *_faults_of_telling(heads, owed)]
    if again < 0:
        faults.append(f"{-again:,} bytes never travelled")
    if owed != "anew" and verdict.again_each > ALLOWED:
        faults.append(f"{again:,} bytes again in {len(heads)} tries")
    return Verdict(**{**vars(verdict), "faults": tuple(faults)})


def _faults_of_telling(heads: Sequence[str], owed: Owed) -> list[str]:
    if not heads:
        return ["no try told how it began"]
    if owed == "either" and len(heads) == 1:
        return []
    if len(heads) == 1:
        return ["it was not interrupted"]
    if owed == "anew":
        return [] if _FROM_NOTHING in heads[-1] else [f"it said: {heads[-1]}"]
    return [] if _FOUND.search(heads[-1]) else [f"it did not continue: {heads[-1]}"]


def cells(verdicts: Sequence[Verdict]) -> str:
    """The Markdown table."""
    lines = []
    for name, row in ROWS.items():
        for direction in row.directions:
            those = [item for item in verdicts if (item.plan.row, item.plan.direction) == (name, direction)]
            if those:
                lines.append((row.text, direction, *_line(those)))
    head = ("event", "", "right", "tries", "sent again: mean, MiB", "worst, MiB", "what the last try said first")
    return table(head, lines)


def _line(those: Sequence[Verdict]) -> tuple[str, ...]:
    right = sum(not item.faults for item in those)
    tries = sorted({item.tries for item in those if item.tries})
    each = [item.again_each / MIB for item in those if item.tries]
    figures = (f"{statistics.mean(each):.1f}", f"{max(each):.1f}") if each else ("-", "-")
    span = f"{tries[0]}-{tries[-1]}" if len(tries) > 1 else "".join(str(item) for item in tries)
    return (f"{right} of {len(those)}", span, *figures, _said(those))


def _said(those: Sequence[Verdict]) -> str:
    found: list[int] = []
    words: dict[str, int] = {}
    for item in those:
        match = _FOUND.search(item.said)
        if match and match[1]:
            found.append(int(match[1]))
        elif item.begun == 1:
            words["one try went on"] = words.get("one try went on", 0) + 1
        elif item.said:
            text = _FROM_NOTHING if _FROM_NOTHING in item.said else "all is there"
            words[text] = words.get(text, 0) + 1
    span = f"{min(found)} to {max(found)}" if len(set(found)) > 1 else f"{max(found, default=0)}"
    parts = [f"found {span} of 8 ({len(found)})"] if found else []
    return ", ".join([*parts, *(f"{text} ({count})" for text, count in words.items())])


def worst(verdicts: Sequence[Verdict]) -> float:
    """The most bytes that one interruption cost, where the earlier bytes were within reach, in MiB."""
    owing = [item for item in verdicts if ROWS[item.plan.row].owed(item.plan.direction) != "anew"]
    return max((item.again_each for item in owing), default=0) / MIB


def written(page: Path, facts: Mapping[str, str], text: str) -> None:
    """Put the table between the page's markers; raises ValueError for a page without them."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the table: {BEGIN} and {END}")
    said = "; ".join(f"{name} {value}" for name, value in facts.items())
    page.write_text(f"{before}{BEGIN}\n{said}.\n\n{text}\n{END}{after}", encoding="utf-8")
