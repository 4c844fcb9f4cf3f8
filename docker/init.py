"""What airflow-init does once before the other services start: database, login, an example backup, the bucket.

All of it comes from the services' common environment, and all of it may be done again.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

BACKUP_BYTES = 64 * 1024 * 1024
ABORT_DAYS = 7
_ATTEMPTS = 30
_LIFECYCLE = {
    "Rules": [
        {
            "ID": "abort-incomplete-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_DAYS},
        }
    ]
}


def make_login() -> None:
    """The password of the one user."""
    file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    user = os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].partition(":")[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({user: os.environ["ORBIT_LOGIN_PASSWORD"]}))


def make_backup() -> None:
    """The file that the example DAG uploads."""
    file = Path(os.environ["ORBIT_BACKUP_FILE"])
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(BACKUP_BYTES))


def make_bucket() -> None:
    """The example's bucket, versioned, with the rule that ends abandoned uploads. Waits for the store."""
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    client: Any = boto3.client(
        "s3",
        endpoint_url=connection["extra"]["endpoint_url"],
        region_name=connection["extra"]["region_name"],
        aws_access_key_id=connection["login"],
        aws_secret_access_key=connection["password"],
    )
    bucket = os.environ["ORBIT_BACKUP_BUCKET"]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if bucket not in {item["Name"] for item in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=bucket)
            break
        except (BotoCoreError, ClientError):
            if attempt == _ATTEMPTS:
                raise
            time.sleep(1)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=_LIFECYCLE)


if __name__ == "__main__":
    subprocess.run(["airflow", "db", "migrate"], check=True)  # noqa: S607 - the image's own
    make_login()
    make_backup()
    make_bucket()
