"""A nightly load: wait for last night's export in the lake, fetch it, verify it, and hand it on as an asset.

Before you run it: make an ``aws`` connection (``orbit_lake`` here) that may read the bucket, and say where the files
go. If the tries of ``download`` may run on different workers, that directory must be the same on all of them (then say
``shared_storage=True``), and so it must for the DAGs that wait for the asset.

Kill the worker in the middle of a download if you like: the next try says in its log how much it found, and fetches
the rest. The file has its name when it is whole and proved, never before.

The defaults come from the environment, so that the file can be tried without an edit; each run may override them as
params in the trigger form.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetAlias, Param, PokeReturnValue, task

from orbit_airflow.operators.download import OrbitS3DownloadOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

# The day the run is for; it is there for scheduled and for manual runs alike.
DAY = "{{ dag_run.run_after | ds }}"
KEY = "{{ params.prefix }}/" + DAY + "/export.jsonl"
# DAGs with schedule=[AssetAlias("lake_export")] begin when an export has been verified; the event names the file.
EXPORT = AssetAlias("lake_export")

with DAG(
    dag_id="orbit_lake_load",
    description="Fetches last night's export from the lake and continues after every interruption",
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": int(os.environ.get("ORBIT_LAKE_RETRIES", "5")),
        "retry_delay": timedelta(seconds=float(os.environ.get("ORBIT_LAKE_RETRY_SECONDS", "60"))),
    },
    params={
        "bucket": Param(os.environ.get("ORBIT_LAKE_BUCKET", "data-lake"), type="string"),
        "prefix": Param(os.environ.get("ORBIT_LAKE_PREFIX", "exports"), type="string"),
        "directory": Param(os.environ.get("ORBIT_LAKE_DIRECTORY", "/var/lake"), type="string"),
        "aws_conn_id": Param(os.environ.get("ORBIT_LAKE_CONN_ID", "orbit_lake"), type="string"),
    },
    tags=["orbit", "lake", "example"],
    doc_md=__doc__,
) as dag:

    @task.sensor(mode="reschedule", poke_interval=60, timeout=timedelta(hours=6).total_seconds())
    def wait_for_export(bucket: str, key: str, aws_conn_id: str) -> PokeReturnValue:
        """True once the object is there. An import in here keeps boto3 out of the DAG's parsing."""
        from orbit_airflow.hooks.s3 import OrbitS3Hook

        return PokeReturnValue(is_done=OrbitS3Hook(aws_conn_id).engine.exists(f"s3://{bucket}/{key}"))

    download = OrbitS3DownloadOperator(
        task_id="download",
        source_bucket="{{ params.bucket }}",
        source_key=KEY,
        local_path="{{ params.directory }}/" + DAY + "/export.jsonl",
        create_parents=True,
        # Clearing the task fetches nothing when the object and the file are still the same; a new run fetches anew.
        replace=True,
        # A weaker proof than the MD5 of a plain PutObject is an error, and the file does not appear.
        require_integrity="md5",
        aws_conn_id="{{ params.aws_conn_id }}",
    )

    @task(outlets=[EXPORT])
    def verify(result: dict[str, Any], **context: Context) -> int:
        """Every line is JSON, and there is one: bytes that arrived right may still have been written wrong."""
        with open(result["path"], encoding="utf-8") as file:
            rows = sum(1 for line in file if json.loads(line) is not None)
        if not rows:
            raise ValueError(f"{result['uri']} has no rows")
        log.info("%s: %s rows, proved by %s", result["path"], rows, result["integrity"])
        extra = {name: result[name] for name in ("uri", "size", "checksum", "version_id", "integrity")}
        events: Any = context["outlet_events"]
        events[EXPORT].add(Asset(f"file://{result['path']}"), extra={**extra, "rows": rows})
        return rows

    waited = wait_for_export("{{ params.bucket }}", KEY, "{{ params.aws_conn_id }}")
    waited >> download
    verify(download.output)  # type: ignore[arg-type]  # Airflow gives the task the XCom's value

if __name__ == "__main__":
    dag.test()
