"""A guarded overwrite: a new file replaces an object, is compared with the version before it, and goes back if it fails
the check.

Before you run it: make an ``aws`` connection (``orbit_backup`` here) and a bucket that keeps versions (the first task
enables that). The check here is a plain one, a file that shrank by more than half is wrong; put yours in its place.

The defaults come from the environment; each run may override them as params in the trigger form.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException

from orbit_airflow.operators.restore import OrbitS3RestoreVersionOperator
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from orbit_airflow.operators.versions import (
    OrbitS3BucketVersioningOperator,
    OrbitS3CompareVersionsOperator,
    OrbitS3ListVersionsOperator,
)

BUCKET, KEY, CONNECTION = "{{ params.bucket }}", "{{ params.key }}", "{{ params.aws_conn_id }}"
# The version that the key showed before the upload; empty when there was none.
BEFORE = "{{ ti.xcom_pull('look') }}"

with DAG(
    dag_id="orbit_guarded_overwrite",
    description="Replaces an object, and puts the old version back when the new one fails a check",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    params={
        "file": Param(os.environ.get("ORBIT_GUARDED_FILE", "/var/exports/prices.csv"), type="string"),
        "bucket": Param(os.environ.get("ORBIT_GUARDED_BUCKET", "exports"), type="string"),
        "key": Param(os.environ.get("ORBIT_GUARDED_KEY", "prices.csv"), type="string"),
        "aws_conn_id": Param(os.environ.get("ORBIT_GUARDED_CONN_ID", "orbit_backup"), type="string"),
    },
    tags=["orbit", "versions", "example"],
    doc_md=__doc__,
) as dag:
    keep_versions = OrbitS3BucketVersioningOperator(
        task_id="keep_versions", bucket=BUCKET, status="Enabled", aws_conn_id=CONNECTION
    )
    versions = OrbitS3ListVersionsOperator(task_id="versions", bucket=BUCKET, key=KEY, aws_conn_id=CONNECTION)

    @task
    def look(found: dict[str, object]) -> str:
        """The version that the key shows; empty when there is none."""
        shown = [item for item in found["versions"] if item["is_latest"]]  # type: ignore[attr-defined]
        return "" if not shown or shown[0]["delete_marker"] else str(shown[0]["version_id"])

    upload = OrbitS3UploadOperator(
        task_id="upload", filename="{{ params.file }}", dest_bucket=BUCKET, dest_key=KEY, replace=True,
        aws_conn_id=CONNECTION,
    )  # fmt: skip

    @task.short_circuit
    def replaced(before: str) -> bool:
        """Without a version before it there is nothing to compare, and none to go back to."""
        return bool(before)

    compare = OrbitS3CompareVersionsOperator(
        task_id="compare", bucket=BUCKET, key=KEY, version_id_a=BEFORE, aws_conn_id=CONNECTION
    )

    @task.branch
    def check(found: dict[str, object]) -> str:
        """The check; yours may open the object, too."""
        shrank = found["size_b"] * 2 < found["size_a"]  # type: ignore[operator]
        return "restore" if shrank else "accept"

    @task
    def accept() -> str:
        """The new version stays."""
        return "the new version stays"

    restore = OrbitS3RestoreVersionOperator(
        task_id="restore", bucket=BUCKET, key=KEY, version_id=BEFORE, aws_conn_id=CONNECTION
    )

    @task
    def alarm() -> None:
        """The object is as it was, and the run is red."""
        raise AirflowFailException("the new file failed its check; the version before it was put back")

    seen = look(versions.output)  # type: ignore[arg-type]  # Airflow gives the task the XCom's value
    keep_versions >> versions
    seen >> upload >> replaced(seen) >> compare  # type: ignore[arg-type]
    checked = check(compare.output)  # type: ignore[arg-type]
    checked >> [accept(), restore]
    restore >> alarm()

if __name__ == "__main__":
    dag.test()
