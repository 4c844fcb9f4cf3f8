"""The same upload as a ``@task`` that says nothing of state, progress or signals."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

with DAG("e2e_taskflow", schedule=None, catchup=False) as dag:

    @task(retries=2, retry_delay=timedelta(seconds=1))
    def upload(dag_run: Any = None) -> dict[str, Any]:
        """Upload what the trigger names."""
        from orbit_airflow.hooks.s3 import OrbitS3Hook

        conf = dag_run.conf
        result = OrbitS3Hook(conf["aws_conn_id"]).upload(conf["filename"], conf["key"], conf["bucket"])
        return {
            "resumed": result.resumed,
            "bytes_sent": result.bytes_sent,
            "bytes_saved": result.bytes_saved,
            "integrity": result.integrity.value,
        }

    upload()
