"""Peak memory of a transfer above the idle process: does it depend on the object's size? On the part size?

Idle is the process after its imports, its client and one small transfer. Sources are sparse files of zeros, or made by
the sink; every measurement has a fresh process. The bound that is printed beside is ``workers x min(part, 64 MiB) + 32
MiB`` for uploads, ``workers x 1 MiB + 32 MiB`` for downloads, which are written to disk: a file in memory would count.

    python -m benchmarks.memory --directions up,down
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.setting import (
    MIB,
    Measured,
    machine,
    measured_download,
    measured_upload,
    median,
    running_sink,
    sparse_source,
    table,
    workplace,
)

LARGEST_HELD_MIB = 64
ROOM_MIB = 32
SMALL_MIB = 100
WARM_UP_BYTES = 64 * 1024


class Case(NamedTuple):
    """One row: sizes in MiB."""

    direction: str
    client: str
    size: int
    part: int
    workers: int

    @property
    def bound(self) -> int:
        """MiB above idle that a transfer may take."""
        held = min(self.part, LARGEST_HELD_MIB) if self.direction == "up" else 1
        return self.workers * held + ROOM_MIB


def cases(large: int, clients: list[str], directions: list[str]) -> Iterator[Case]:
    """A small and a large file with the same parts, then the large one over part sizes and workers."""
    for client in clients:
        if "up" in directions:
            yield Case("up", client, SMALL_MIB, 8, 4)
            for workers in (4, 16):
                yield from (Case("up", client, large, part, workers) for part in (8, 64, 512))
        if "down" in directions:
            yield Case("down", client, SMALL_MIB, 8, 4)
            yield from (Case("down", client, large, part, workers) for part, workers in ((8, 4), (8, 16), (64, 4)))


def above_idle(item: Measured) -> float:
    """MiB."""
    return (item["peak_kib"] - item["idle_kib"]) / 1024


def run(chosen: argparse.Namespace) -> dict[Case, list[Measured]]:
    """Every case in turn, as often as wished."""
    results: dict[Case, list[Measured]] = {}
    with (
        workplace(chosen.directory) as place,
        workplace(chosen.target_directory) as targets,
        running_sink(place) as endpoint,
    ):
        warm_up = sparse_source(place / "warm-up", WARM_UP_BYTES)
        for _ in range(chosen.rounds):
            for case in cases(chosen.large_mib, chosen.clients, chosen.directions):
                part, size = case.part * MIB, case.size * MIB
                if case.direction == "up":
                    source = sparse_source(place / f"source-{case.size}", size)
                    item = measured_upload(
                        case.client, "unsigned", endpoint, source, warm_up, part_size=part, workers=case.workers
                    )
                else:
                    item = measured_download(
                        case.client, "http", endpoint, targets, size=size, part_size=part, workers=case.workers
                    )
                print(f"{case}: {above_idle(item):.1f} MiB above idle in {item['seconds']:.1f} s", flush=True)
                results.setdefault(case, []).append(item)
    return results


def row(case: Case, items: list[Measured]) -> tuple[str, ...]:
    """One line of the table."""
    above, idle = median(map(above_idle, items)), median(item["idle_kib"] / 1024 for item in items)
    verdict = "within" if above <= case.bound else "ABOVE"
    numbers = (f"{case.size}", f"{case.part}", f"{case.workers}", f"{idle:.0f}", f"{above:.1f}", f"{case.bound}")
    return (case.direction, case.client, *numbers, verdict if case.client == "orbit" else "-")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--large-mib", type=int, default=10 * 1024)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=lambda text: text.split(","), default=["orbit"])
    parser.add_argument("--directions", type=lambda text: text.split(","), default=["up", "down"])
    parser.add_argument("--target-directory", default=tempfile.gettempdir(), help="where downloads go (a disk)")
    parser.add_argument("--directory", help="where the sparse files are made (default: in memory)")
    parser.add_argument("--json", type=Path, help="all measurements are written to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    chosen, facts = arguments(), machine()
    print("; ".join(f"{name} {value}" for name, value in facts.items()) + "\n")
    results = run(chosen)
    header = ("", "client", "file MiB", "part MiB", "workers", "idle MiB", "above idle MiB", "bound MiB", "")
    print("\n" + table(header, [row(case, items) for case, items in results.items()]))
    if chosen.json is not None:
        listed = [{**case._asdict(), "measured": items} for case, items in results.items()]
        chosen.json.write_text(json.dumps({"machine": facts, "results": listed}, indent=1))


if __name__ == "__main__":
    main()
