"""Project tags: one task finds out which projects there are, and one mapped task per project tags its objects.

Before you run it: make an ``aws`` connection (``orbit_lake`` here). Tags are merged into what is there; an object that
has them already is skipped, and no version is made.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

from orbit_airflow.operators.batch import OrbitS3TagObjectsOperator

BUCKET = os.environ.get("ORBIT_LAKE_BUCKET", "data-lake")
CONNECTION = os.environ.get("ORBIT_LAKE_CONN_ID", "orbit_lake")

with DAG(
    dag_id="orbit_project_tags",
    description="Tags each project's objects with the project and who pays for it",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["orbit", "batch", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def projects() -> list[dict[str, Any]]:
        """From a database, an API, a Variable: prefix and tags of each project."""
        owners = {"apollo": "physics", "gemini": "astronomy"}
        return [
            {"prefix": f"projects/{name}/", "tags": {"project": name, "cost-center": owner}}
            for name, owner in owners.items()
        ]

    OrbitS3TagObjectsOperator.partial(
        task_id="tag",
        bucket=BUCKET,
        aws_conn_id=CONNECTION,
        rate_limit=200,
    ).expand_kwargs(projects())

if __name__ == "__main__":
    dag.test()
