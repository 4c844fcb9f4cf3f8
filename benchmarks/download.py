"""Download, like for like: this engine, boto3's transfer manager, s5cmd, rclone and obstore, each in a fresh process.

Same object, part size and workers, from a server that sends from the kernel to the kernel: the client's own cost is
what differs. Requests are signed by all; their payload is empty, so there is nothing more to hash. The file goes to
memory unless a directory is named: else a disk would be measured. This engine proves the object by its CRC and syncs
the file; the others do neither. Every file is compared with the object, outside the clocks.

    python -m benchmarks.download --size-mib 1024 --rounds 5
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.one_download import OVER_TLS
from benchmarks.setting import (
    MIB,
    Measured,
    available,
    machine,
    make_certificate,
    measured_download,
    running_sink,
    workplace,
)
from benchmarks.upload import Target, cpu, medians_table, ratios_table, speed

TARGETS = (
    Target("http", "boto3", 2.0, 0.4),
    Target("http", "s5cmd", 2.0, None),
    Target("http", "rclone", 2.0, None),
    Target("https", "boto3", 2.0, 0.4),
)


def contests(clients: Sequence[str], modes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(mode, client) of one round."""
    for mode in modes:
        yield from ((mode, client) for client in clients if mode == "http" or client in OVER_TLS)


def run(chosen: argparse.Namespace) -> list[Measured]:
    """All rounds; within a round every client once per mode, in turn."""
    results: list[Measured] = []
    part_size = chosen.part_mib * MIB
    with ExitStack() as stack:
        place = stack.enter_context(workplace(chosen.directory))
        certificate = make_certificate(place) if "https" in chosen.modes else None
        sinks = {mode: certificate if mode == "https" else None for mode in chosen.modes}
        endpoints = {mode: stack.enter_context(running_sink(place, pem)) for mode, pem in sinks.items()}
        for number in range(1, chosen.rounds + 1):
            for mode, client in contests(chosen.clients, chosen.modes):
                item = measured_download(
                    client, mode, endpoints[mode], place, ca_file=certificate,
                    size=chosen.size_mib * MIB, part_size=part_size, workers=chosen.workers,
                )  # fmt: skip
                print(
                    f"{number}/{chosen.rounds} {mode:5} {client:7} {speed(item):6.0f} MB/s {cpu(item):5.2f} s/GiB",
                    flush=True,
                )
                results.append(item)
    return results


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.download", description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part-mib", type=int, default=8)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument(
        "--clients", type=lambda text: text.split(","), default=["orbit", "boto3", "s5cmd", "rclone", "obstore"]
    )
    parser.add_argument("--modes", type=lambda text: text.split(","), default=["http"], help="http, https or both")
    parser.add_argument("--directory", help="where the files go (default: in memory)")
    parser.add_argument("--json", type=Path, help="all measurements are written to this file")
    chosen = parser.parse_args()
    chosen.clients = available(chosen.clients)
    return chosen


def main() -> None:
    """Measure and print."""
    chosen, facts = arguments(), machine()
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    where = chosen.directory or "memory"
    shape = f"{chosen.size_mib} MiB, parts of {chosen.part_mib} MiB, {chosen.workers} workers"
    print(f"{shape}, {chosen.rounds} rounds, into {where}\n")
    results = run(chosen)
    pairs = list(contests(chosen.clients, chosen.modes))
    print("\n" + medians_table(results, pairs, "line") + "\n\n" + ratios_table(results, TARGETS, "line"))
    if chosen.json is not None:
        setting = {name: str(value) for name, value in vars(chosen).items()}
        chosen.json.write_text(json.dumps({"machine": facts, "setting": setting, "results": results}, indent=1))


if __name__ == "__main__":
    main()
