"""``python -m tests.continuity``: the matrix of interruptions in a real Airflow. Exit code 1 when a cell is not right.

Each run is one transfer of 37 MiB in parts of 5 MiB by two workers. Its parts are held up in the middle, so that the
event lands there; the server's log says what travelled.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from benchmarks.setting import ROOT, machine
from tests.continuity.rows import ROWS
from tests.continuity.site import BUCKET, SIZE, Site, machines_can_be_made
from tests.continuity.transfer import Direction, Plan, Transfer
from tests.continuity.verdict import ALLOWED, Verdict, cells, judge, worst, written
from tests.e2e.judge import MIB
from tests.model_server import ModelProcess

_ON_MACHINES = ("machine", "shared")


def main() -> int:
    """Run the matrix."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    plans = _plans(chosen)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="orbit-continuity-") as data,
        ModelProcess("--data-dir", data, "--bucket", f"{BUCKET}:versioned", "--receive-buffer", "65536") as server,
        Site(server, max(chosen.parallel, chosen.wave)) as site,
    ):
        print(f"{len(plans)} runs; Airflow is ready after {time.monotonic() - began:.0f} s", flush=True)
        verdicts = _all(site, plans, chosen)
    facts = {"date": machine()["date"], "commit": _commit(), "seed": str(chosen.seed)}
    facts |= {"minutes": f"{(time.monotonic() - began) / 60:.0f}", "load at the end": machine()["load"]}
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"facts": facts, "runs": [asdict(item) for item in verdicts]}, indent=1))
    for earlier in chosen.keep:
        kept = json.loads(earlier.read_text())
        verdicts += [_verdict(item) for item in kept["runs"]]
        facts[f"of an earlier call {len(kept['runs'])} runs"] = f"of commit {kept['facts']['commit']}"
    return _tell(chosen, facts, verdicts)


def _verdict(values: dict[str, Any]) -> Verdict:
    plan = Plan(**{**values["plan"], "middle": tuple(values["plan"]["middle"])})
    return Verdict(**{**values, "plan": plan, "faults": tuple(values["faults"])})


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.continuity", description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="runs per cell")
    parser.add_argument("--rows", type=_words, default=list(ROWS), help=",".join(ROWS))
    parser.add_argument("--directions", type=_words, default=list(get_args(Direction)), help="up,down")
    parser.add_argument("--parallel", type=int, default=6, help="runs at a time")
    parser.add_argument("--wave", type=int, default=10, help="runs at a time, of those that are struck together")
    parser.add_argument("--seed", type=int, default=20260917)
    parser.add_argument("--json", type=Path, help="the runs are written to this file")
    parser.add_argument(
        "--keep", type=Path, action="append", default=[], help="an earlier --json file: its runs are in the table, too"
    )
    parser.add_argument("--page", type=Path, help="the table is written between this page's markers")
    chosen = parser.parse_args()
    for wanted, known in ((chosen.rows, list(ROWS)), (chosen.directions, list(get_args(Direction)))):
        if unknown := set(wanted) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if not machines_can_be_made() and (lost := set(_ON_MACHINES) & set(chosen.rows)):
        print(f"left out, root and unshare are needed: {', '.join(sorted(lost))}")
        chosen.rows = [name for name in chosen.rows if name not in _ON_MACHINES]
    return chosen


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _plans(chosen: argparse.Namespace) -> list[Plan]:
    dice = random.Random(chosen.seed)
    made = [
        Plan(
            row=name,
            direction=direction,
            number=number,
            seed=chosen.seed,
            delay=dice.uniform(*ROWS[name].delay),
            # What is behind it may still be in the sender's kernel, and travel without the process.
            held_at=dice.uniform(0.02, 0.6),
            middle=ROWS[name].middle,
            variant=ROWS[name].variant,
            connection=ROWS[name].connection,
        )
        for number in range(chosen.times)
        for name in chosen.rows
        for direction in ROWS[name].directions
        if direction in chosen.directions
    ]
    dice.shuffle(made)
    return made


def _all(site: Site, plans: Sequence[Plan], chosen: argparse.Namespace) -> list[Verdict]:
    alone = [plan for plan in plans if ROWS[plan.row].strike is not None]
    with ThreadPoolExecutor(chosen.parallel) as pool:
        verdicts = list(pool.map(lambda plan: _one(site, plan), alone))
    for name in dict.fromkeys(plan.row for plan in plans if ROWS[plan.row].strike_all is not None):
        those = [plan for plan in plans if plan.row == name]
        for first in range(0, len(those), chosen.wave):
            verdicts += _wave(site, those[first : first + chosen.wave])
    return verdicts


def _transfer(site: Site, plan: Plan) -> Transfer:
    own = ROWS[plan.row].own_disk
    folder = site.disk if own else site.shared
    return Transfer(site, plan, folder=folder, seen_folder=site.node_disk if own else lambda: site.shared)


def _one(site: Site, plan: Plan) -> Verdict:
    strike = ROWS[plan.row].strike
    assert strike is not None
    transfer = _transfer(site, plan)
    try:
        transfer.start()
        if plan.row == "timeout":
            transfer.wait_for_share(0.01)
        else:
            transfer.wait_for_middle()
        strike(transfer)
    except Exception as exc:
        return _said(Verdict(plan=plan, faults=(_short(exc),)))
    return _ended(transfer)


def _wave(site: Site, plans: Sequence[Plan]) -> list[Verdict]:
    transfers = [_transfer(site, plan) for plan in plans]
    strike_all = ROWS[plans[0].row].strike_all
    assert strike_all is not None
    # Of an outage of a minute the whole should be left, of a lost machine the half.
    share = 0.1 if plans[0].row == "api" else 0.3
    try:
        for transfer in transfers:
            transfer.start()
        for transfer in transfers:
            transfer.wait_for_share(share)
        strike_all(site, transfers)
    except Exception as exc:
        return [_said(Verdict(plan=plan, faults=(_short(exc),))) for plan in plans]
    with ThreadPoolExecutor(len(transfers)) as pool:
        return list(pool.map(_ended, transfers))


def _ended(transfer: Transfer) -> Verdict:
    try:
        transfer.wait_for_success()
        return _said(judge(transfer))
    except Exception as exc:
        return _said(Verdict(plan=transfer.plan, faults=(_short(exc),)))


def _short(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


def _said(verdict: Verdict) -> Verdict:
    word = "right" if not verdict.faults else "NOT RIGHT"
    print(
        f"{word}: {verdict.plan.key}, tries {verdict.tries}, {verdict.again / MIB:.1f} MiB again; {verdict.said}",
        *verdict.faults,
        sep="\n    ",
        flush=True,
    )
    return verdict


def _tell(chosen: argparse.Namespace, facts: dict[str, str], verdicts: Sequence[Verdict]) -> int:
    text = cells(verdicts)
    broken = sum(bool(item.faults) for item in verdicts)
    text += (
        f"\n\n{len(verdicts) - broken} of {len(verdicts)} runs right. The worst that one interruption cost was "
        f"{worst(verdicts):.1f} MiB; workers x part size is {ALLOWED / MIB:.0f} MiB, the whole is {SIZE / MIB:.0f} MiB."
    )
    print(f"\n{text}")
    if chosen.page is not None:
        written(chosen.page, facts, text)
    return 1 if broken else 0


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
