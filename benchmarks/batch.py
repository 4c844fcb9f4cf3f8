"""Batches: keys per second, CPU and peak memory for list, tag, copy and delete on a real server.

Every client and verb has a fresh process and works on the same objects of 100 bytes, the clients in turn: it lists
``data/``, tags it, copies it to ``copies-<client>/`` inside the store, and deletes the copies (without the verb copy:
``data/`` itself). ``orbit`` is this engine's batch with a report and a cursor. ``airflow`` is S3ListOperator,
S3CopyPrefixOperator and S3DeleteObjectsOperator; Airflow has no operator and no hook method that tags objects
(S3PutBucketTaggingOperator tags the bucket), so it has no figure there. ``s5cmd`` is its ls, cp and rm; it has no tags.

    python -m tests.servers start ceph
    python -m benchmarks.batch --server ceph --keys 10000
    python -m benchmarks.batch --server ceph --keys 200000 --clients orbit
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from benchmarks.one_upload import reset_high_water, status_kib
from benchmarks.setting import ROOT, available, clean_environment, machine, program, table
from tests.servers import RunningServer, running_servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "data/"
SIZE = 100
SECONDS = 7200.0
BOUND_MIB = 64
VERBS = ("list", "tag", "copy", "delete")
TAGS = {"project": "orbit"}
CAN_TAG = frozenset({"orbit"})
Run = Callable[[], object]


class Timed(TypedDict):
    """One verb of one client. Memory is in KiB above the idle process; of a program, all that it took."""

    client: str
    verb: str
    keys: int
    seconds: float
    cpu_seconds: float
    above_kib: int


def doomed(chosen: argparse.Namespace) -> str:
    """What is deleted."""
    return f"copies-{chosen.client}/" if "copy" in chosen.verbs else PREFIX


def orbit(verb: str, chosen: argparse.Namespace) -> Run:
    """Our engine, with a report and a cursor as a task has them."""
    from orbit_airflow.engine import BatchConfig, EngineConfig, FileTokenStore, KeyPrefix, PrefixKeys, open_engine
    from orbit_airflow.engine.batch import Copy, Delete, TagObjects
    from orbit_airflow.engine.batch.verbs import BatchRun
    from orbit_airflow.engine.batch.work import BatchWork

    engine = open_engine(
        EngineConfig(
            endpoint=os.environ["AWS_ENDPOINT_URL"], region=os.environ["AWS_REGION"], force_path_style=True,
            parallel_operations=chosen.workers,
        )
    )  # fmt: skip
    copies = f"copies-{chosen.client}/"
    prefix = KeyPrefix(chosen.bucket, doomed(chosen) if verb == "delete" else PREFIX)
    if verb == "list":
        return lambda: sum(1 for _ in engine.iter_objects(prefix))
    made: dict[str, BatchWork] = {
        "tag": TagObjects(bucket=chosen.bucket, tags=tuple(TAGS.items()), replace=True),
        "copy": Copy(bucket=chosen.bucket, dest_prefix=copies, strip_prefix=PREFIX),
        "delete": Delete(bucket=chosen.bucket),
    }
    work, config = made[verb], BatchConfig(max_concurrent=chosen.workers)
    how = BatchRun(report=f"{chosen.directory}/report.jsonl", tokens=FileTokenStore(f"{chosen.directory}/tokens"))

    def run() -> int:
        result = engine.batch.run(work, PrefixKeys(where=prefix), config, how)
        if result.failed:
            raise SystemExit(f"{result.failed} keys failed: {result.errors[:3]}")
        return result.total

    return run


def airflow(verb: str, chosen: argparse.Namespace) -> Run:
    """Airflow's own operators, executed without a scheduler, and with the keys that they put into an XCom thrown
    away.
    """
    from airflow.providers.amazon.aws.operators.s3 import S3CopyPrefixOperator, S3DeleteObjectsOperator, S3ListOperator

    copies = f"copies-{chosen.client}/"
    if verb == "list":
        listing = S3ListOperator(task_id="list", bucket=chosen.bucket, prefix=PREFIX, aws_conn_id=None)
        return lambda: len(listing.execute({}))
    if verb == "copy":
        copy = S3CopyPrefixOperator(
            task_id="copy", source_bucket_name=chosen.bucket, source_bucket_prefix=PREFIX, aws_conn_id=None,
            dest_bucket_name=chosen.bucket, dest_bucket_prefix=copies,
        )  # fmt: skip
        return lambda: copy.execute({})
    delete = S3DeleteObjectsOperator(task_id="delete", bucket=chosen.bucket, prefix=doomed(chosen), aws_conn_id=None)
    return lambda: delete.execute({})


def s5cmd(verb: str, chosen: argparse.Namespace) -> Run:
    """The program, with as many workers."""
    found, source, copies = program("s5cmd") or "s5cmd", f"s3://{chosen.bucket}/{PREFIX}*", "copies-s5cmd/"
    words = {
        "list": ["ls", source],
        "copy": ["cp", source, f"s3://{chosen.bucket}/{copies}"],
        "delete": ["rm", f"s3://{chosen.bucket}/{doomed(chosen)}*"],
    }[verb]
    command = [found, "--endpoint-url", os.environ["AWS_ENDPOINT_URL"], "--numworkers", str(chosen.workers), *words]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


CLIENTS = {"orbit": orbit, "airflow": airflow, "s5cmd": s5cmd}


def child(chosen: argparse.Namespace) -> Timed:
    """One verb of one client, in this process."""
    run, own = CLIENTS[chosen.client](chosen.verb, chosen), chosen.client != "s5cmd"
    who = resource.RUSAGE_SELF if own else resource.RUSAGE_CHILDREN
    gc.collect()
    reset_high_water()
    idle = status_kib("VmRSS")
    before, started = resource.getrusage(who), time.perf_counter()
    run()
    seconds, after = time.perf_counter() - started, resource.getrusage(who)
    return Timed(
        client=chosen.client,
        verb=chosen.verb,
        keys=chosen.keys,
        seconds=seconds,
        cpu_seconds=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        above_kib=status_kib("VmHWM") - idle if own else after.ru_maxrss,
    )


def measured(client: str, verb: str, server: RunningServer, chosen: argparse.Namespace) -> Timed:
    """The same in a fresh process. RuntimeError with its own words when it fails."""
    command = [sys.executable, "-m", "benchmarks.batch", "--server", server.name, "--keys", str(chosen.keys)]
    command += ["--workers", str(chosen.workers), "--client", client, "--verb", verb]
    command += ["--bucket", chosen.bucket, "--verbs", ",".join(chosen.verbs)]
    with tempfile.TemporaryDirectory(prefix="orbit-batch-") as directory:
        done = subprocess.run(
            [*command, "--directory", directory],
            env={**clean_environment(), **environment(server)}, cwd=ROOT, check=False, capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{client} ({verb}) failed:\n{done.stderr.strip()[-2000:]}")
    answer: Timed = json.loads(done.stdout.splitlines()[-1])
    return answer


def environment(server: RunningServer) -> dict[str, str]:
    """How all clients find the server."""
    return {
        "AWS_ENDPOINT_URL": server.http,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }


def client_of(server: RunningServer, workers: int) -> S3Client:
    """For seeding and counting."""
    import boto3
    from botocore.config import Config

    client: S3Client = boto3.client(
        "s3", endpoint_url=server.http, aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
        region_name=server.region, config=Config(max_pool_connections=workers),
    )  # fmt: skip
    return client


def names(client: S3Client, bucket: str, prefix: str) -> Iterator[str]:
    """What is there, counted by nobody's code under test."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (item["Key"] for item in page.get("Contents", []))


def seed(client: S3Client, bucket: str, count: int, workers: int) -> None:
    """Make it exactly so many objects below the prefix, and none elsewhere; those of an earlier run are used again."""
    if bucket not in [item["Name"] for item in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    wanted = {f"{PREFIX}{number:07d}" for number in range(count)}
    there = set(names(client, bucket, ""))

    def put(key: str) -> object:
        return client.put_object(Bucket=bucket, Key=key, Body=b"x" * SIZE)

    def drop(key: str) -> object:
        return client.delete_object(Bucket=bucket, Key=key)

    with ThreadPoolExecutor(workers) as pool:
        for verb, keys in ((put, wanted - there), (drop, there - wanted)):
            for _ in pool.map(verb, sorted(keys)):
                pass


def check(client: S3Client, name: str, verb: str, chosen: argparse.Namespace) -> None:
    """RuntimeError unless the verb has done what it says."""
    bucket, keys = chosen.bucket, chosen.keys
    if verb in ("copy", "delete"):
        prefix = f"copies-{name}/" if "copy" in chosen.verbs else PREFIX
        there = sum(1 for _ in names(client, bucket, prefix))
        if there != (keys if verb == "copy" else 0):
            raise RuntimeError(f"{name} ({verb}): {there} objects are there")
    if verb == "tag":
        last = f"{PREFIX}{keys - 1:07d}"
        found = {item["Key"]: item["Value"] for item in client.get_object_tagging(Bucket=bucket, Key=last)["TagSet"]}
        if found != TAGS:
            raise RuntimeError(f"{name}: the last key's tags are {found}")


def run(chosen: argparse.Namespace, server: RunningServer) -> list[Timed]:
    """All clients, verb by verb."""
    client, results = client_of(server, chosen.workers), list[Timed]()
    started = time.perf_counter()
    seed(client, chosen.bucket, chosen.keys, chosen.workers)
    print(f"{server.name} {server.version}: {chosen.keys} objects are there ({time.perf_counter() - started:.0f} s)")
    for verb in chosen.verbs:
        for name in chosen.clients:
            if verb == "tag" and name not in CAN_TAG:
                continue
            item = measured(name, verb, server, chosen)
            check(client, name, verb, chosen)
            print(f"{verb:7} {name:8} {rate(item):8.0f} keys/s {above(item):7.1f} MiB above idle", flush=True)
            results.append(item)
    return results


def rate(item: Timed) -> float:
    """Keys per second."""
    return item["keys"] / item["seconds"]


def above(item: Timed) -> float:
    """MiB above the idle process."""
    return item["above_kib"] / 1024


def rows(results: Iterable[Timed]) -> Iterator[tuple[str, ...]]:
    """One line for each, with ours as a ratio to it."""
    ours = {item["verb"]: rate(item) for item in results if item["client"] == "orbit"}
    for item in results:
        other = item["client"] != "orbit" and item["verb"] in ours
        ratio = f"{ours[item['verb']] / rate(item):.2f}x" if other else "-"
        within = "-" if item["client"] != "orbit" else "within" if above(item) <= BOUND_MIB else "ABOVE"
        cost = f"{item['cpu_seconds'] / item['keys'] * 1e3:.3f}"
        yield (item["verb"], item["client"], f"{rate(item):.0f}", cost, f"{above(item):.1f}", within, ratio)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__.partition("\n")[0])
    parser.add_argument("--server", help="ceph, localstack or moto (default: each that runs)")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=16, help="of this engine and s5cmd; Airflow has one")
    parser.add_argument("--clients", type=lambda text: text.split(","), default=list(CLIENTS))
    parser.add_argument("--verbs", type=lambda text: text.split(","), default=list(VERBS))
    parser.add_argument("--bucket", default="batch-bench", help="of its own: what is in it and not needed is deleted")
    parser.add_argument("--json", type=Path, help="all measurements are written to this file")
    for name in ("--client", "--verb", "--directory"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    chosen = arguments()
    if chosen.client:
        print(json.dumps(child(chosen)))
        return
    if {"copy", "delete"} & set(chosen.verbs) == {"delete"} and len(chosen.clients) > 1:
        raise SystemExit("without copies there is one set of objects to delete: name one of --clients")
    servers, facts = running_servers(), machine()
    wished = [chosen.server] if chosen.server else list(servers)
    if not servers or not set(wished) <= set(servers):
        raise SystemExit("the server does not run: python -m tests.servers start")
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    chosen.clients, measurements = available(chosen.clients), dict[str, list[Timed]]()
    for name in wished:
        measurements[name] = run(chosen, servers[name])
        header = ("verb", "client", "keys/s", "CPU ms each", "MiB above idle", f"<= {BOUND_MIB}", "orbit / client")
        print("\n" + table(header, list(rows(measurements[name]))))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": facts, "results": measurements}, indent=1))


if __name__ == "__main__":
    main()
