"""A nightly backup: one big file goes to S3, and an interruption costs only the bytes that were not sent yet.

Before you run it: make an ``aws`` connection (``orbit_backup`` here) and a bucket that is versioned and has a
lifecycle rule AbortIncompleteMultipartUpload. Kill the worker in the middle of an upload if you like: the next try
says in its log how many parts it found, and sends the others.

The defaults come from the environment, so that the file can be tried without an edit; each run may override them as
params in the trigger form.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, AssetAlias, Param, task

from orbit_airflow.operators.transfer import OrbitS3UploadOperator

log = logging.getLogger(__name__)

# The day the run is for; it is there for scheduled and for manual runs alike.
DAY = "{{ dag_run.run_after | ds }}"

with DAG(
    dag_id="orbit_nightly_backup",
    description="Uploads last night's dump to S3 and continues after every interruption",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": int(os.environ.get("ORBIT_BACKUP_RETRIES", "5")),
        "retry_delay": timedelta(seconds=float(os.environ.get("ORBIT_BACKUP_RETRY_SECONDS", "60"))),
    },
    params={
        "file": Param(
            os.environ.get("ORBIT_BACKUP_FILE"),
            type=["null", "string"],
            description="The file to upload; empty for <directory>/backup-<date>.tar",
        ),
        "directory": Param(os.environ.get("ORBIT_BACKUP_DIRECTORY", "/var/backups"), type="string"),
        "bucket": Param(os.environ.get("ORBIT_BACKUP_BUCKET", "nightly-backups"), type="string"),
        "prefix": Param(os.environ.get("ORBIT_BACKUP_PREFIX", "database"), type="string"),
        "aws_conn_id": Param(os.environ.get("ORBIT_BACKUP_CONN_ID", "orbit_backup"), type="string"),
    },
    tags=["orbit", "backup", "example"],
    doc_md=__doc__,
) as dag:
    upload = OrbitS3UploadOperator(
        task_id="upload_backup",
        filename="{{ params.file or (params.directory ~ '/backup-' ~ (dag_run.run_after | ds) ~ '.tar') }}",
        dest_bucket="{{ params.bucket }}",
        dest_key="{{ params.prefix }}/" + DAY + "/backup.tar",
        # A rerun of the same night replaces that night's object; the bucket's versioning keeps the older one.
        replace=True,
        metadata={"backup-day": DAY},
        # A DAG with schedule=AssetAlias("nightly_backup") runs when a backup is safe, and is told its URI and checksum.
        outlets=[AssetAlias("nightly_backup")],
        aws_conn_id="{{ params.aws_conn_id }}",
    )

    @task
    def report(result: dict[str, object]) -> str:
        """Say in one line what is safe now."""
        line = (
            f"{result['uri']}: {result['size']} bytes, proved by {result['integrity']} ({result['checksum']}), "
            f"{result['bytes_sent']} sent and {result['bytes_saved']} saved in try {result['try_number']}"
        )
        log.info(line)
        return line

    report(upload.output)  # type: ignore[arg-type]  # Airflow gives the task the XCom's value

if __name__ == "__main__":
    dag.test()
