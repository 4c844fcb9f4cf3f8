"""What the example DAGs find here: buckets, a file to upload, and their defaults from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3

from tests.e2e.judge import MIB
from tests.local.record import Places

CONNECTION_ID = "aws_default"
BACKUP_BUCKET, LAKE_BUCKET = "nightly-backups", "data-lake"
BUCKETS = (BACKUP_BUCKET, LAKE_BUCKET)
_ABORT_DAYS = 7
_BLOCK = 8 * MIB


def environment(places: Places) -> dict[str, str]:
    """The defaults that the example DAGs read: they can be triggered without a single parameter."""
    return {
        "ORBIT_BACKUP_FILE": str(backup_file(places)),
        "ORBIT_BACKUP_BUCKET": BACKUP_BUCKET,
        "ORBIT_BACKUP_CONN_ID": CONNECTION_ID,
        "ORBIT_BACKUP_RETRY_SECONDS": "5",
        "ORBIT_LAKE_BUCKET": LAKE_BUCKET,
        "ORBIT_LAKE_CONN_ID": CONNECTION_ID,
        "ORBIT_LAKE_DIRECTORY": str(places.files / "lake"),
        "ORBIT_LAKE_RETRY_SECONDS": "5",
    }


def backup_file(places: Places) -> Path:
    """The file that the backup example uploads."""
    return places.files / "backup.tar"


def make_files(places: Places, size: int) -> None:
    """A backup of ``size`` random bytes."""
    places.files.mkdir(exist_ok=True)
    with backup_file(places).open("wb") as file:
        for offset in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - offset)))


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
