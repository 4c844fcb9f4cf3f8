"""What came of a run, and the table of all of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

from tests.kills.plan import Run


@dataclass(frozen=True)
class Shape:
    """The files of the campaign."""

    parts: int
    part_size: int
    sha256: bytes = b""

    @property
    def size(self) -> int:
        """Bytes; the last part is a short one."""
        return self.parts * self.part_size - self.part_size // 3


@dataclass(frozen=True)
class Verdict:
    """What came of one run; ``faults`` is empty when every promise was kept."""

    run: Run
    kills: int
    sent_again: int
    faults: tuple[str, ...]


def report(verdicts: list[Verdict], shape: Shape) -> int:
    rows: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        rows[verdict.run.label].append(verdict)
        rows[f"workers {verdict.run.workers}"].append(verdict)
        if verdict.run.harm != "none":
            rows[f"harm: {verdict.run.harm}"].append(verdict)
    rows["all"] = verdicts
    print(f"\n{'first kill':<34}{'runs':>6}{'kills':>7}{'right':>7}{'parts again: mean':>19}{'max':>7}")
    for label, group in sorted(rows.items()):
        again = [verdict.sent_again / shape.part_size for verdict in group]
        right = sum(not verdict.faults for verdict in group)
        kills = sum(verdict.kills for verdict in group)
        mean, most = statistics.mean(again), max(again)
        print(f"{label:<34}{len(group):>6}{kills:>7}{right:>7}{mean:>19.2f}{most:>7.2f}")
    broken = sum(bool(verdict.faults) for verdict in verdicts)
    print(f"\n{len(verdicts) - broken} passed, {broken} failed")
    return 1 if broken else 0
