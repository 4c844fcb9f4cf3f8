"""The transfers under test; file, bucket, key and connection come with the trigger."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from orbit_airflow.operators.download import OrbitS3DownloadOperator
from orbit_airflow.operators.transfer import OrbitS3UploadOperator

# Behind the first parts, which are held up for up to 9 s, and before the last ones.
LIMITED = timedelta(seconds=22)
# An API server that is away for a minute costs tries, too: each one that cannot be started.
COMMON: dict[str, Any] = {"retries": 12, "retry_delay": timedelta(seconds=2)}
PATH, CONNECTION = "{{ dag_run.conf['path'] }}", "{{ dag_run.conf['connection'] }}"
BUCKET, KEY = "{{ dag_run.conf['bucket'] }}", "{{ dag_run.conf['key'] }}"

for name, limit in (("up", None), ("up_limited", LIMITED)):
    with DAG(f"continuity_{name}", schedule=None, catchup=False, max_active_runs=64, max_active_tasks=64):
        OrbitS3UploadOperator(
            task_id="transfer",
            filename=PATH,
            dest_bucket=BUCKET,
            dest_key=KEY,
            aws_conn_id=CONNECTION,
            execution_timeout=limit,
            **COMMON,
        )

for name, limit, shared in (("down", None, False), ("down_limited", LIMITED, False), ("down_shared", None, True)):
    with DAG(f"continuity_{name}", schedule=None, catchup=False, max_active_runs=64, max_active_tasks=64):
        OrbitS3DownloadOperator(
            task_id="transfer",
            source_bucket=BUCKET,
            source_key=KEY,
            local_path=PATH,
            shared_storage=shared,
            aws_conn_id=CONNECTION,
            execution_timeout=limit,
            **COMMON,
        )
