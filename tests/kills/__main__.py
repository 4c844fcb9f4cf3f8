"""``python -m tests.kills``: the campaign, its verdict and its table. Exit code 1 when one promise was broken."""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orbit_airflow.engine import Credentials, EngineConfig, FileTokenStore, ObjectRef, TransferEngine, UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.stores.client import make_client
from tests.kills.batches import KEPT, PLAIN, batches, cases, report_batches
from tests.kills.down_campaign import SMALL_PARTS, at_system_calls, downloads
from tests.kills.plan import Run, draw_runs
from tests.kills.tries import Try, Work, Workplace, run_try
from tests.kills.verdict import Shape, Verdict, report
from tests.model_server import ModelProcess

KIB = 1024
BUCKET = "campaign"
MAX_FINAL_TRIES = 3


def main(words: Sequence[str] | None = None) -> int:
    """Run the campaign."""
    arguments = _arguments(words)
    shape = Shape(arguments.parts, arguments.part_size)
    if arguments.direction == "down":
        return _down(arguments, shape)
    if arguments.direction == "batch":
        return _batches(arguments, shape)
    print(f"seed {arguments.seed}: {arguments.runs} uploads of {shape.parts} parts of {shape.part_size // KIB} KiB")
    with tempfile.TemporaryDirectory(prefix="orbit-kills-") as home:
        directory = Path(home)
        source = directory / "source.bin"
        source.write_bytes(os.urandom(shape.size))
        shape = replace(shape, sha256=hashlib.sha256(source.read_bytes()).digest())
        with ModelProcess("--min-part-size", str(shape.part_size), "--bucket", f"{BUCKET}:versioned") as server:
            verdicts = _campaign(arguments, shape, source, server, directory)
    return report(verdicts, shape)


def _down(arguments: argparse.Namespace, shape: Shape) -> int:
    print(f"seed {arguments.seed}: {arguments.runs} downloads of {shape.parts} ranges of {shape.part_size // KIB} KiB")
    with tempfile.TemporaryDirectory(prefix="orbit-kills-", dir=arguments.directory) as home:
        directory = Path(home)
        with ModelProcess("--min-part-size", str(shape.part_size), "--bucket", f"{BUCKET}:versioned") as server:
            places = {workers: workplace(workers, shape, server, directory) for workers in (1, 4, 16)}
            verdicts = downloads(places, shape, arguments.runs, arguments.seed, arguments.only)
            if arguments.only is None and not arguments.no_system_calls:
                small = replace(shape, parts=SMALL_PARTS)
                verdicts += at_system_calls(workplace(2, small, server, directory), small)
    return report(verdicts, shape)


def _batches(arguments: argparse.Namespace, shape: Shape) -> int:
    chosen = cases(arguments.keys, arguments.page_keys, arguments.workers)
    if arguments.only is not None:
        chosen = chosen[arguments.only : arguments.only + 1]
    print(f"seed {arguments.seed}: {len(chosen)} batches of {arguments.keys} keys, {arguments.workers} workers")
    buckets = ("--bucket", PLAIN, "--bucket", f"{KEPT}:versioned")
    with tempfile.TemporaryDirectory(prefix="orbit-kills-") as home, ModelProcess(*buckets) as server:
        place = workplace(arguments.workers, shape, server, Path(home))
        return report_batches(batches(place, chosen, arguments.seed))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--direction", choices=("up", "down", "batch"), default="up")
    parser.add_argument("--directory", help="where files are made (default: the temporary directory)")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20260917)
    parser.add_argument("--parts", type=int, default=44)
    parser.add_argument("--part-size", type=int, default=2048 * KIB)
    parser.add_argument("--only", type=int, help="play this run again, alone")
    parser.add_argument("--keys", type=int, default=20_000, help="of each batch")
    parser.add_argument("--page-keys", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4, help="of each batch")
    parser.add_argument("--no-system-calls", action="store_true", help="downloads: leave out what needs strace")
    return parser.parse_args(words)


def _campaign(
    arguments: argparse.Namespace, shape: Shape, source: Path, server: ModelProcess, directory: Path
) -> list[Verdict]:
    places = {workers: workplace(workers, shape, server, directory) for workers in (1, 4, 16)}
    typical = _typical_seconds(places[4], source)
    print(f"an upload that nobody kills takes {typical:.2f} s")
    verdicts = []
    started = time.monotonic()
    for run in draw_runs(arguments.runs, arguments.seed, shape.parts, typical):
        if arguments.only is not None and run.number != arguments.only:
            continue
        verdict = _judge(run, places[run.workers], source, shape)
        verdicts.append(verdict)
        for fault in verdict.faults:
            print(f"run {run.number} ({run.workers} workers, {[kill.label for kill in run.kills]}): {fault}")
    print(f"{len(verdicts)} runs in {time.monotonic() - started:.0f} s")
    return verdicts


def workplace(workers: int, shape: Shape, server: ModelProcess, directory: Path) -> Workplace:
    config = EngineConfig(
        region=server.region,
        endpoint=server.endpoint_url,
        credentials=Credentials(access_key=server.access_key, secret_key=server.secret_key),
        force_path_style=True,
        chunk_size=shape.part_size,
        parallel_operations=workers,
        settle_seconds=10.0,
        outage_patience=0,
        limits=StoreLimits(min_part_size=shape.part_size),
    )
    return Workplace(make_client(config), make_client(config), config, server, directory)


def _typical_seconds(place: Workplace, source: Path) -> float:
    tries = [run_try(place, _upload(source, ObjectRef(BUCKET, f"warm-{n}")), None, 1) for n in range(3)]
    failed = [item.error for item in tries if item.result is None]
    if failed:
        sys.exit(f"not even an upload that nobody kills works: {failed[0]}")
    return statistics.median(item.seconds for item in tries)


def _upload(source: Path, ref: ObjectRef) -> Work:
    def work(engine: TransferEngine, tokens: FileTokenStore, number: int) -> dict[str, object]:
        result = engine.upload(source, ref, UploadOptions(try_number=number), tokens=tokens)
        return {
            "integrity": result.integrity.value,
            "sent": result.bytes_sent,
            "saved": result.bytes_saved,
            "resumed": result.resumed,
        }

    return work


def _judge(run: Run, place: Workplace, source: Path, shape: Shape) -> Verdict:
    ref = ObjectRef(BUCKET, f"run-{run.number}.bin")
    place.server.reset()
    tries: list[Try] = []
    for kill in run.kills:
        tries.append(run_try(place, _upload(source, ref), kill, len(tries) + 1))
        if tries[-1].result is not None:
            break
    for _ in range(MAX_FINAL_TRIES):
        # The last one runs even behind a success: a task may die after it, and Airflow runs it again.
        tries.append(run_try(place, _upload(source, ref), None, len(tries) + 1))
        if tries[-1].result is not None:
            break
    kills = sum(item.killed for item in tries)
    received = place.server.bytes_received("UploadPart", ref.key)
    sent_again = max(0, received - shape.size)
    verdict = Verdict(run, kills, sent_again, tuple(_broken(run, place, ref, shape, tries, sent_again)))
    for version in place.server.versions(ref.bucket, ref.key):
        # Two hundred objects would fill a small disk.
        place.janitor.delete_object(Bucket=ref.bucket, Key=ref.key, VersionId=version.version_id)
    return verdict


def _broken(run: Run, place: Workplace, ref: ObjectRef, shape: Shape, tries: list[Try], sent_again: int) -> list[str]:
    faults = [f"try {number}: {item.error}" for number, item in enumerate(tries, 1) if item.error is not None]
    result = tries[-1].result
    if result is None:
        return [*faults, "never succeeded"]
    if result["integrity"] != "full-crc":
        faults.append(f"proof is only {result['integrity']}")
    versions = place.server.versions(ref.bucket, ref.key)
    if len(versions) != 1:
        faults.append(f"{len(versions)} versions")
    if any(hashlib.sha256(version.read()).digest() != shape.sha256 for version in versions):
        faults.append("WRONG BYTES called a success")
    orphans = [upload for upload in place.server.open_uploads(ref.bucket) if upload.key == ref.key]
    if orphans:
        faults.append(f"{len(orphans)} open uploads left")
    allowed = sum(item.killed for item in tries) * run.workers * shape.part_size
    if sent_again > allowed:
        faults.append(f"sent {sent_again / shape.part_size:.1f} parts again, {allowed / shape.part_size:.0f} allowed")
    return faults


if __name__ == "__main__":
    sys.exit(main())
