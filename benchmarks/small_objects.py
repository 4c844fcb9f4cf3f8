"""Small objects: how many 4 KiB files per second, and at what cost each, with 16 threads (or workers) everywhere.

Every client has a fresh process and sends the same files from memory into a server that swallows them. boto3 puts the
files' bytes with ``put_object``; this engine runs its whole ``upload`` for each (open, fence, hash, put, proof).

    python -m benchmarks.small_objects --count 5000 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from benchmarks.one_upload import BUCKET, PROGRAMS, botocore_settings
from benchmarks.setting import (
    ROOT,
    available,
    clean_environment,
    machine,
    median,
    program,
    rclone_environment,
    running_sink,
    table,
    workplace,
)

THREADS = 16
SIZE = 4096
WARM_UP = 64
SECONDS = 600.0
TARGETS = {"boto3": 4.0, "s5cmd": 1.0}
Put = Callable[[Path], object]


class Timed(TypedDict):
    """All files of one client."""

    client: str
    count: int
    seconds: float
    cpu_seconds: float


def orbit(endpoint: str) -> Put:
    """The engine, one upload per file."""
    import boto3 as library
    from botocore.config import Config

    from orbit_airflow.engine.compose import open_engine
    from orbit_airflow.engine.model import ObjectRef
    from orbit_airflow.engine.options import EngineConfig
    from orbit_airflow.engine.stores.client import client_config

    config = EngineConfig(parallel_operations=THREADS)
    base = Config(s3=botocore_settings("signed"))  # type: ignore[arg-type]  # one dict for two stubs
    client = library.client("s3", endpoint_url=endpoint, config=client_config(config, base, https=False))
    engine = open_engine(config, client=client)
    return lambda path: engine.upload(path, ObjectRef(BUCKET, path.name))


def boto3(endpoint: str) -> Put:
    """put_object of a shared client, with its default integrity settings."""
    import boto3 as library
    from botocore.config import Config

    settings = botocore_settings("signed")
    config = Config(s3=settings, max_pool_connections=THREADS)  # type: ignore[arg-type]
    client = library.client("s3", endpoint_url=endpoint, config=config)
    return lambda path: client.put_object(Bucket=BUCKET, Key=path.name, Body=path.read_bytes())


def obstore(endpoint: str) -> Put:
    """Obstore's put of the files' bytes."""
    import obstore as library
    from obstore.store import S3Store

    store = S3Store(BUCKET, endpoint=endpoint, virtual_hosted_style_request=False, client_options={"allow_http": True})
    return lambda path: library.put(store, path.name, path.read_bytes(), use_multipart=False)


LIBRARIES = {"orbit": orbit, "boto3": boto3, "obstore": obstore}


def run_program(client: str, endpoint: str, folder: Path) -> None:
    """All files of a folder by a program of its own."""
    found = program(client) or client
    if client == "s5cmd":
        words = [found, "--endpoint-url", endpoint, "--log", "error", "--numworkers", str(THREADS), "cp"]
        subprocess.run([*words, f"{folder}/", f"s3://{BUCKET}/"], check=True)
        return
    # The server keeps no bytes, so its ETags are no MD5s: rclone would call every object corrupt.
    words = [found, "--config", "/dev/null", "--s3-no-check-bucket", "--no-traverse", "--ignore-checksum"]
    words += ["--transfers", str(THREADS)]
    environment = rclone_environment(endpoint)
    subprocess.run([*words, "copy", str(folder), f"sink:{BUCKET}/"], check=True, env=environment, capture_output=True)


def run_library(put: Put, files: list[Path]) -> None:
    """All files by a library, in threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(put, files):
            pass


def child(client: str, endpoint: str, folder: Path) -> Timed:
    """One client's run, in this process."""
    files, put = sorted(folder.iterdir()), None
    if client not in PROGRAMS:
        put = LIBRARIES[client](endpoint)
        run_library(put, files[:WARM_UP])
    who = resource.RUSAGE_SELF if put is not None else resource.RUSAGE_CHILDREN
    before, started = resource.getrusage(who), time.perf_counter()
    if put is not None:
        run_library(put, files)
    else:
        run_program(client, endpoint, folder)
    seconds, after = time.perf_counter() - started, resource.getrusage(who)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Timed(client=client, count=len(files), seconds=seconds, cpu_seconds=spent)


def measured(client: str, endpoint: str, folder: Path) -> Timed:
    """One client's run, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.small_objects", "--child", client, endpoint, str(folder)]
    done = subprocess.run(
        command, env=clean_environment(), cwd=ROOT, check=False, capture_output=True, text=True, timeout=SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"{client} failed:\n{done.stderr.strip()}")
    answer: Timed = json.loads(done.stdout.splitlines()[-1])
    return answer


def run(chosen: argparse.Namespace) -> list[Timed]:
    """All rounds, the clients in turn."""
    results: list[Timed] = []
    with workplace(chosen.directory) as place, running_sink(place) as endpoint:
        folder = place / "files"
        folder.mkdir()
        for number in range(chosen.count):
            (folder / f"object-{number:06}").write_bytes(os.urandom(SIZE))
        for number in range(1, chosen.rounds + 1):
            for client in chosen.clients:
                item = measured(client, endpoint, folder)
                print(f"{number}/{chosen.rounds} {client:7} {rate(item):6.0f}/s {cost(item):6.3f} ms", flush=True)
                results.append(item)
    return results


def rate(item: Timed) -> float:
    """Objects per second."""
    return item["count"] / item["seconds"]


def cost(item: Timed) -> float:
    """CPU milliseconds, user and system, per object."""
    return item["cpu_seconds"] / item["count"] * 1e3


def rows(results: list[Timed], clients: list[str]) -> Iterator[tuple[str, ...]]:
    """Medians, and ours as ratios to each peer's."""
    fast = {client: median(rate(item) for item in results if item["client"] == client) for client in clients}
    dear = {client: median(cost(item) for item in results if item["client"] == client) for client in clients}
    for client in clients:
        target = f">= {TARGETS[client]:.0f}x" if client in TARGETS else "-"
        ratio = "-" if client == "orbit" or "orbit" not in fast else f"{fast['orbit'] / fast[client]:.2f}x"
        yield (client, f"{fast[client]:.0f}", f"{dear[client]:.3f}", ratio, target)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_objects", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    names = ["orbit", "boto3", "s5cmd", "rclone", "obstore"]
    parser.add_argument("--clients", type=lambda text: text.split(","), default=names)
    parser.add_argument("--directory", help="where the files are made (default: in memory)")
    parser.add_argument("--json", type=Path, help="all measurements are written to this file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    chosen = arguments()
    if chosen.child:
        client, endpoint, folder = chosen.child
        print(json.dumps(child(client, endpoint, Path(folder))))
        return
    facts, chosen.clients = machine(), available(chosen.clients)
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{chosen.count} files of {SIZE} bytes, {THREADS} threads, {chosen.rounds} rounds, signed, plain http\n")
    results = run(chosen)
    header = ("client", "objects/s", "CPU ms each", "orbit / client", "target")
    print("\n" + table(header, list(rows(results, chosen.clients))))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
