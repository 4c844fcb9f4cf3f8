"""Tiering: reports that are older than half a year move to Glacier Flexible Retrieval, some every week.

Before you run it: make an ``aws`` connection (``orbit_lake`` here). What is in the class already is skipped, so a run
that failed may be cleared at any time. Where the bucket keeps versions, a lifecycle rule NoncurrentVersionExpiration
should remove the old ones: each move leaves one behind.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG

from orbit_airflow.operators.batch import OrbitS3ChangeStorageClassOperator

BUCKET = os.environ.get("ORBIT_LAKE_BUCKET", "data-lake")
CONNECTION = os.environ.get("ORBIT_LAKE_CONN_ID", "orbit_lake")

with DAG(
    dag_id="orbit_tiering",
    description="Moves old reports to Glacier",
    schedule="0 5 * * 0",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
    tags=["orbit", "batch", "example"],
    doc_md=__doc__,
) as dag:
    OrbitS3ChangeStorageClassOperator(
        task_id="to_glacier",
        bucket=BUCKET,
        prefix="reports/",
        modified_before="{{ (dag_run.run_after - macros.timedelta(days=180)).isoformat() }}",
        # Small objects cost more in an archive than they save.
        min_size=128 * 1024,
        storage_classes=["STANDARD", "STANDARD_IA"],
        storage_class="GlacierFlexibleRetrieval",
        max_concurrent=20,
        report=f"s3://{BUCKET}/tiering/" + "{{ dag_run.run_after | ts_nodash }}/",
        # A few objects that somebody replaced meanwhile are no reason to page anybody.
        allowed_failures=10,
        aws_conn_id=CONNECTION,
    )

if __name__ == "__main__":
    dag.test()
