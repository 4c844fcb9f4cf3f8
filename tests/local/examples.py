"""What the example DAGs find here: buckets, files, objects, and their defaults from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import boto3

from tests.e2e.judge import MIB
from tests.local.record import Places
from tests.model_server import ModelClient, Seed

CONNECTION_ID = "aws_default"
BACKUP_BUCKET, LAKE_BUCKET, EXPORTS_BUCKET = "nightly-backups", "data-lake", "exports"
BUCKETS = (BACKUP_BUCKET, LAKE_BUCKET, EXPORTS_BUCKET)
# The object of the guarded overwrite, whose new versions the watcher waits for: one example sets off the other.
PRICES = "prices.csv"
_ABORT_DAYS = 7
_BLOCK = 8 * MIB
_HOUR: Final = timedelta(hours=1)
# Nights, from last night on, for which the lake has an export.
_NIGHTS = 10


def environment(places: Places, now: datetime) -> dict[str, str]:
    """The defaults that the example DAGs read: they can be triggered without a single parameter.

    ``now``: when the objects are made; the drill goes back to an hour before.
    """
    return {
        "ORBIT_BACKUP_FILE": str(backup_file(places)),
        "ORBIT_BACKUP_BUCKET": BACKUP_BUCKET,
        "ORBIT_BACKUP_CONN_ID": CONNECTION_ID,
        "ORBIT_BACKUP_RETRY_SECONDS": "5",
        "ORBIT_LAKE_BUCKET": LAKE_BUCKET,
        "ORBIT_LAKE_CONN_ID": CONNECTION_ID,
        "ORBIT_LAKE_DIRECTORY": str(places.files / "lake"),
        "ORBIT_LAKE_RETRY_SECONDS": "5",
        "ORBIT_GUARDED_FILE": str(places.files / PRICES),
        "ORBIT_GUARDED_BUCKET": EXPORTS_BUCKET,
        "ORBIT_GUARDED_KEY": PRICES,
        "ORBIT_GUARDED_CONN_ID": CONNECTION_ID,
        "ORBIT_LANDING_BUCKET": EXPORTS_BUCKET,
        "ORBIT_LANDING_PREFIX": PRICES,
        "ORBIT_LANDING_CONN_ID": CONNECTION_ID,
        "ORBIT_LANDING_POLL_SECONDS": "5",
        "ORBIT_DRILL_BUCKET": LAKE_BUCKET,
        "ORBIT_DRILL_CONN_ID": CONNECTION_ID,
        "ORBIT_DRILL_AS_OF": (now - _HOUR).isoformat(timespec="seconds"),
        # One example that waits for a person is enough to see it: the retention.
        "ORBIT_DRILL_APPROVAL": "auto",
    }


def backup_file(places: Places) -> Path:
    """The file that the backup example uploads."""
    return places.files / "backup.tar"


def make_files(places: Places, size: int) -> None:
    """A backup of ``size`` random bytes, and a list of prices."""
    places.files.mkdir(exist_ok=True)
    with backup_file(places).open("wb") as file:
        for offset in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - offset)))
    (places.files / PRICES).write_bytes(_prices(110))


def fill(endpoint_url: str, now: datetime) -> None:
    """Put the objects that the examples work on into their buckets, some of them as old as the examples want."""
    client = ModelClient(endpoint_url)
    for seed in seeds(now):
        client.seed(seed)


def seeds(now: datetime) -> Iterator[Seed]:
    """Those objects; of the same key the older version is first."""
    yield Seed(EXPORTS_BUCKET, PRICES, _prices(100), age=timedelta(days=1).total_seconds())
    for night in range(-1, _NIGHTS - 1):
        yield Seed(LAKE_BUCKET, f"exports/{(now + timedelta(days=night)).date()}/export.jsonl", _rows(500))
    yield from _lake("logs/2026", ".log", ages=(120, 110, 100, 95, 2, 1), size=4096)
    yield from _lake("reports/2025", ".csv", ages=(400, 300, 200, 20), size=200 * 1024)
    for project in ("apollo", "gemini"):
        yield from _lake(f"projects/{project}", ".dat", ages=(9, 6, 3), size=1024)
    # A day ago all was well; since some minutes one table is broken, and one is there that should not be.
    for table in ("2026-01", "2026-02", "2026-03"):
        yield Seed(LAKE_BUCKET, f"tables/orders/{table}.jsonl", _rows(200), age=timedelta(days=1).total_seconds())
    yield Seed(LAKE_BUCKET, "tables/orders/2026-02.jsonl", b"\x00" * 512, age=(_HOUR / 4).total_seconds())
    yield Seed(LAKE_BUCKET, "tables/orders/2026-02 (copy).jsonl", _rows(3), age=(_HOUR / 4).total_seconds())


def set_rules(endpoint_url: str, access_key: str, secret_key: str) -> None:
    """Give every bucket the lifecycle rule that ends abandoned uploads, as docs/durability.md says."""
    client: Any = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )
    rule = {
        "ID": "abort-incomplete-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _ABORT_DAYS},
    }
    for bucket in BUCKETS:
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    client.close()


def _lake(folder: str, ending: str, *, ages: tuple[int, ...], size: int) -> Iterator[Seed]:
    """One object of ``size`` bytes for each age in days."""
    for number, days in enumerate(ages, start=1):
        age = timedelta(days=days).total_seconds()
        yield Seed(LAKE_BUCKET, f"{folder}/{number:02d}{ending}", os.urandom(size), age=age)


def _prices(rows: int) -> bytes:
    return "".join(["article,price\n", *(f"A{number:04d},{number}.90\n" for number in range(rows))]).encode()


def _rows(count: int) -> bytes:
    return "".join(json.dumps({"order": number, "amount": 100 + number}) + "\n" for number in range(count)).encode()
