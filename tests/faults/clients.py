"""The clients under test, as command lines; each runs in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.setting import available, clean_environment, program
from tests.faults.one_transfer import LIBRARIES
from tests.faults.rows import BUCKET, KEY
from tests.model_server import ModelServer

CLIENTS = ("orbit", "s3transfer", "s5cmd", "rclone")
MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Order:
    """One transfer to be made. ``part_size`` and ``workers`` are told to all but s3transfer."""

    server: ModelServer
    path: Path
    download: bool
    part_size: int
    workers: int = 4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a client said: success or not, the proof it names (ours only), its error."""

    ok: bool
    integrity: str = ""
    error: str = ""


def installed(wanted: list[str]) -> list[str]:
    """Those that are here; what is missing is said."""
    unknown = set(wanted) - set(CLIENTS)
    if unknown:
        raise SystemExit(f"unknown client: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    return available(wanted)


def command(client: str, order: Order) -> list[str]:
    """The command line of a client. Retries, time limits and checks are those it comes with."""
    if client in LIBRARIES:
        where = ["--endpoint", order.server.endpoint_url, "--bucket", BUCKET, "--key", KEY, "--path", str(order.path)]
        numbers = ["--part-size", str(order.part_size), "--workers", str(order.workers)]
        module = [sys.executable, "-m", "tests.faults.one_transfer", "--client", client]
        return [*module, *(["--download"] if order.download else []), *where, *numbers]
    found = program(client)
    if found is None:
        raise RuntimeError(f"{client} is not installed")
    if client == "s5cmd":
        numbers = ["--concurrency", str(order.workers), "--part-size", str(max(1, order.part_size // MIB))]
        general = [found, "--endpoint-url", order.server.endpoint_url, "cp", *numbers]
        return [*general, *_ordered(order, f"s3://{BUCKET}/{KEY}")]
    part = f"{order.part_size}B"
    # Without these, rclone would fetch an object of this size in one piece.
    pieces = ["--multi-thread-cutoff", part, "--multi-thread-chunk-size", part]
    pieces += ["--multi-thread-streams", str(order.workers), "--s3-upload-concurrency", str(order.workers)]
    pieces += ["--s3-upload-cutoff", part, "--s3-chunk-size", part, "--s3-no-check-bucket"]
    return [found, "--config", os.devnull, *pieces, "copyto", *_ordered(order, f"model:{BUCKET}/{KEY}")]


def _ordered(order: Order, remote: str) -> tuple[str, str]:
    return (remote, str(order.path)) if order.download else (str(order.path), remote)


def environment(order: Order) -> dict[str, str]:
    """Keys, path style, and nobody's own settings."""
    server = order.server
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    rclone = {
        "TYPE": "s3",
        "PROVIDER": "AWS",
        "ENDPOINT": server.endpoint_url,
        "REGION": server.region,
        "ENV_AUTH": "true",
        "FORCE_PATH_STYLE": "true",
    }
    return {**clean_environment(), **keys, **{f"RCLONE_CONFIG_MODEL_{name}": text for name, text in rclone.items()}}


def outcome(client: str, status: int, output: str, errors: str) -> Outcome:
    """What the ended process says."""
    last = (errors.strip() or output.strip() or f"status {status}").splitlines()[-1]
    if client not in LIBRARIES:
        return Outcome(ok=status == 0, error="" if status == 0 else last)
    lines = output.strip().splitlines()
    told: Mapping[str, object] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    if not told:
        return Outcome(ok=False, error=last)
    return Outcome(ok=bool(told["ok"]), integrity=str(told["integrity"]), error=str(told["error"]))
