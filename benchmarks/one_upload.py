"""One upload by one client in this process, measured; a line of JSON on standard output. Started by the benchmarks.

CPU is this process's own (for s5cmd: its whole process's) between the first and the last byte's end, after the imports
and a warm-up upload. Memory is the resident set's high-water mark, reset right before the upload.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.setting import Measured, program, rclone_environment

if TYPE_CHECKING:
    from botocore.config import Config

BUCKET = "bench"
Upload = Callable[[Path, str], object]


def botocore_settings(mode: str) -> dict[str, Any]:
    """The signing mode for botocore, the same for every client that is built on it."""
    signing = {"payload_signing_enabled": False} if mode == "unsigned" else {}
    return {"addressing_style": "path", **signing}


def _client(endpoint: str, config: Config) -> Any:
    import boto3

    return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)


def orbit(chosen: argparse.Namespace) -> Upload:
    """The project's engine over its own kind of client."""
    from botocore.config import Config

    from orbit_airflow.engine.compose import open_engine
    from orbit_airflow.engine.model import ObjectRef
    from orbit_airflow.engine.options import EngineConfig
    from orbit_airflow.engine.stores.client import client_config

    config = EngineConfig(chunk_size=chosen.part_size, parallel_operations=chosen.workers)
    base = Config(s3=botocore_settings(chosen.mode))  # type: ignore[arg-type]  # one dict for two stubs
    engine = open_engine(config, client=_client(chosen.endpoint, client_config(config, base, https=False)))
    return lambda path, key: engine.upload(path, ObjectRef(BUCKET, key))


def boto3(chosen: argparse.Namespace) -> Upload:
    """boto3's transfer manager as S3Hook.load_file uses it, with its default integrity settings."""
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    settings = botocore_settings(chosen.mode)
    config = Config(s3=settings, max_pool_connections=max(10, chosen.workers))  # type: ignore[arg-type]
    client = _client(chosen.endpoint, config)
    transfer = TransferConfig(
        multipart_threshold=chosen.part_size,
        multipart_chunksize=chosen.part_size,
        max_concurrency=chosen.workers,
        use_threads=True,
        preferred_transfer_client="classic",
    )
    return lambda path, key: client.upload_file(str(path), BUCKET, key, Config=transfer)


def s5cmd(chosen: argparse.Namespace) -> Upload:
    """s5cmd as a child process. It signs every payload over plain HTTP."""
    found = program("s5cmd")
    if found is None or chosen.mode != "signed":
        raise SystemExit("s5cmd is not installed, or was asked not to sign")
    general = [found, "--endpoint-url", chosen.endpoint, "--log", "error", "cp"]
    numbers = ["--concurrency", str(chosen.workers), "--part-size", str(chosen.part_size // 1024**2)]
    return lambda path, key: subprocess.run([*general, *numbers, str(path), f"s3://{BUCKET}/{key}"], check=True)


def rclone(chosen: argparse.Namespace) -> Upload:
    """Rclone as a child process, as it comes: it signs over plain HTTP and hashes the file for its own metadata."""
    found = program("rclone")
    if found is None or chosen.mode != "signed":
        raise SystemExit("rclone is not installed, or was asked not to sign")
    part = f"{chosen.part_size}B"
    numbers = ["--s3-upload-cutoff", part, "--s3-chunk-size", part, "--s3-upload-concurrency", str(chosen.workers)]
    general = [found, "--config", "/dev/null", "--s3-no-check-bucket", *numbers, "copyto"]
    environment = rclone_environment(chosen.endpoint)
    return lambda path, key: subprocess.run(
        [*general, str(path), f"sink:{BUCKET}/{key}"], check=True, env=environment, capture_output=True
    )


def obstore(chosen: argparse.Namespace) -> Upload:
    """obstore, the Rust object_store for Python, in this process."""
    import obstore as library
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=chosen.endpoint,
        virtual_hosted_style_request=False,
        unsigned_payload=chosen.mode == "unsigned",
        client_options={"allow_http": True},
    )
    part, workers = chosen.part_size, chosen.workers
    return lambda path, key: library.put(store, key, path, use_multipart=True, chunk_size=part, max_concurrency=workers)


CLIENTS = {"orbit": orbit, "boto3": boto3, "s5cmd": s5cmd, "rclone": rclone, "obstore": obstore}
# Those that run as programs of their own, and always sign over plain HTTP.
PROGRAMS = frozenset({"s5cmd", "rclone"})


def reset_high_water() -> None:
    """Make the kernel forget this process's largest resident set."""
    Path("/proc/self/clear_refs").write_text("5")


def status_kib(name: str) -> int:
    """A size from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def measured(chosen: argparse.Namespace) -> Measured:
    """Warm up, then upload once and look at the clocks on both sides."""
    upload = CLIENTS[chosen.client](chosen)
    upload(chosen.warm_up, "warm-up")
    child = chosen.client in PROGRAMS
    who = resource.RUSAGE_CHILDREN if child else resource.RUSAGE_SELF
    gc.collect()
    reset_high_water()
    idle = status_kib("VmRSS")
    before, started = resource.getrusage(who), time.perf_counter()
    upload(chosen.path, "object")
    seconds, after = time.perf_counter() - started, resource.getrusage(who)
    return Measured(
        client=chosen.client,
        mode=chosen.mode,
        size=chosen.path.stat().st_size,
        seconds=seconds,
        cpu_seconds=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        peak_kib=after.ru_maxrss if child else status_kib("VmHWM"),
        idle_kib=0 if child else idle,
    )


def main() -> None:
    """Measure one upload."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_upload", description=__doc__)
    parser.add_argument("--client", choices=sorted(CLIENTS), required=True)
    parser.add_argument("--mode", choices=("signed", "unsigned"), required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--warm-up", type=Path, required=True)
    parser.add_argument("--part-size", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
