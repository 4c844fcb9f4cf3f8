"""The cells as Markdown, and their place in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.setting import table
from tests.faults.cell import Cell
from tests.faults.objects import KINDS
from tests.faults.rows import DOWNLOADS, ROWS, UPLOADS, Row

BEGIN = "<!-- make faults: begin -->"
END = "<!-- make faults: end -->"
# The object of the tables that show one kind: what today's tools upload to AWS.
SHOWN = "crc64nvme"
_WORDS = {"ok": "ok", "WRONG": "✗ **wrong bytes**", "error": "error", "HANG": "**HANG**", "not met": "not met"}
# Below this, the seconds are the machine's and not the fault's.
_SLOW_SECONDS = 5.0


def cell_text(cell: Cell, cap: float) -> str:
    """One cell: verdict, proof, time if it took any, requests, and what was left behind."""
    words = [_WORDS[cell.verdict]]
    if cell.verdict == "WRONG" and "no object" in cell.notes:
        words = ["✗ **no object**"]
    notes = [note for note in cell.notes if note != "no object"]
    if cell.integrity:
        words.append(f"`{cell.integrity}`")
    if cell.verdict == "HANG":
        words.append(f"> {cap:.0f} s")
    elif ROWS[cell.row].group != "bytes" and cell.seconds >= _SLOW_SECONDS:
        words.append(f"{cell.seconds:.0f} s")
    return ", ".join([f"{' '.join(words)} [{cell.requests}]", *notes])


def tables(cells: Sequence[Cell], clients: Sequence[str], cap: float) -> str:
    """All tables that the cells fill, under their headings."""
    parts = []
    kinds = [kind for kind in KINDS if any(cell.kind == kind for cell in cells)]
    shown = SHOWN if SHOWN in kinds else kinds[0] if kinds else ""
    answers = [row for row in DOWNLOADS if row.group == "bytes"]
    waits = [row for row in DOWNLOADS if row.group == "waits"]
    if shown:
        head = f"### Downloads: wrong answers (the object has: {KINDS[shown].text})"
        parts.append((head, _by_client(answers, shown, cells, clients, cap)))
    if shown and "orbit" in clients:
        head = "### The same for each kind of object: orbit"
        parts.append((head, _by_kind(answers, kinds, cells, cap)))
    if shown:
        head = "### Downloads: successes with wrong bytes, of so many wrong answers"
        parts.append((head, _sums(answers, kinds, cells, clients)))
        head = f"### Downloads: outages and stalls (the object has: {KINDS[shown].text})"
        parts.append((head, _by_client(waits, shown, cells, clients, cap)))
    parts.append(("### Uploads", _by_client(UPLOADS, "", cells, clients, cap)))
    return "\n\n".join(f"{head}\n\n{text}" for head, text in parts if text)


def _by_client(rows: Sequence[Row], kind: str, cells: Sequence[Cell], clients: Sequence[str], cap: float) -> str:
    found = {(cell.row, cell.client): cell_text(cell, cap) for cell in cells if cell.kind == kind}
    lines = [(row.text, *(found.get((row.name, client), "-") for client in clients)) for row in rows]
    filled = [line for line in lines if set(line[1:]) != {"-"}]
    return table(("fault", *clients), filled) if filled else ""


def _by_kind(rows: Sequence[Row], kinds: Sequence[str], cells: Sequence[Cell], cap: float) -> str:
    found = {(cell.row, cell.kind): cell_text(cell, cap) for cell in cells if cell.client == "orbit"}
    lines = [(row.text, *(found.get((row.name, kind), "-") for kind in kinds)) for row in rows]
    filled = [line for line in lines if set(line[1:]) != {"-"}]
    return table(("fault", *(KINDS[kind].text for kind in kinds)), filled) if filled else ""


def _sums(rows: Sequence[Row], kinds: Sequence[str], cells: Sequence[Cell], clients: Sequence[str]) -> str:
    names = {row.name for row in rows}
    lines = []
    for kind in kinds:
        line = [KINDS[kind].text]
        for client in clients:
            those = [cell for cell in cells if (cell.kind, cell.client) == (kind, client) and cell.row in names]
            line.append(f"{sum(cell.verdict == 'WRONG' for cell in those)} of {len(those)}")
        lines.append(line)
    return table(("the object has", *clients), lines) if names & {cell.row for cell in cells} else ""


def written(page: Path, facts: Mapping[str, str], text: str) -> None:
    """Put the tables between the page's markers; raises ValueError for a page without them."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the tables: {BEGIN} and {END}")
    said = "; ".join(f"{name} {value}" for name, value in facts.items())
    page.write_text(f"{before}{BEGIN}\n{said}.\n\n{text}\n{END}{after}", encoding="utf-8")


def summary(cells: Sequence[Cell], clients: Sequence[str]) -> str:
    """One line per client for the terminal."""
    lines = []
    for client in clients:
        those = [cell for cell in cells if cell.client == client]
        counts = {word: sum(cell.verdict == word for cell in those) for word in _WORDS}
        lines.append(f"{client:<12}" + "  ".join(f"{word}: {count}" for word, count in counts.items() if count))
    return "\n".join(lines)


def label(cell: Cell) -> str:
    """How the terminal names a cell."""
    kind = f" ({cell.kind})" if cell.kind else ""
    return f"{ROWS[cell.row].text}{kind}, {cell.client}"
