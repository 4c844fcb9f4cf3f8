"""Nightly retention: a plan of what is too old, a person's approval of it, and then exactly that is deleted.

Before you run it: make an ``aws`` connection (``orbit_lake`` here) that may list and delete below the prefix and write
the plan. The approval is Airflow's own: the plan's figures stand in *Required Actions*, and nothing is deleted without
an answer. A night with nothing to delete asks nobody. A key that is new since the plan is not in the manifest, and so
not touched; one that was written again with other bytes stays, is in the report as PreconditionFailed, and fails the
task when the others are deleted. (What is written between a page's last look and its deletion is not seen, and the same
bytes look the same: docs/batch.md, "A plan first".)
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, task

from orbit_airflow.operators.batch import OrbitS3BatchDeleteOperator

BUCKET = os.environ.get("ORBIT_LAKE_BUCKET", "data-lake")
CONNECTION = os.environ.get("ORBIT_LAKE_CONN_ID", "orbit_lake")
# By the run's own time: every try of a task, and every task of a run, means the same objects.
RUN = "{{ dag_run.run_after | ts_nodash }}"
PLAN = f"s3://{BUCKET}/retention/{RUN}/plan.jsonl"

with DAG(
    dag_id="orbit_nightly_retention",
    description="Plans the deletion of old logs, asks for approval, and deletes what was planned",
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
    tags=["orbit", "batch", "example"],
    doc_md=__doc__,
) as dag:
    plan = OrbitS3BatchDeleteOperator(
        task_id="plan",
        bucket=BUCKET,
        prefix="logs/",
        glob="logs/**.log",
        modified_before="{{ (dag_run.run_after - macros.timedelta(days=90)).isoformat() }}",
        dry_run=True,
        plan_manifest=PLAN,
        aws_conn_id=CONNECTION,
    )

    @task.short_circuit
    def anything_old(figures: Any) -> bool:
        """Without it the rest is skipped. ``figures``: what the plan returned."""
        return bool(figures["objects"])

    approve = ApprovalOperator(
        task_id="approve",
        subject=f"Delete old logs of s3://{BUCKET}/logs/?",
        body="{% set plan = ti.xcom_pull(task_ids='plan') %}{{ '{:,}'.format(plan['objects']) }} objects, "
        "{{ plan['bytes'] | filesizeformat(true) }}. Requests: "
        "{% for kind, count in plan['requests'].items() %}{{ '{:,}'.format(count) }} {{ kind }}"
        "{{ '' if loop.last else ', ' }}{% endfor %}. The keys: {{ plan['manifest'] }}",
        response_timeout=timedelta(hours=20),
        retries=0,
    )

    delete = OrbitS3BatchDeleteOperator(
        task_id="delete",
        bucket=BUCKET,
        manifest=PLAN,
        # A plan that is larger than any night's was approved by mistake.
        max_keys=10_000_000,
        report=f"s3://{BUCKET}/retention/{RUN}/report/",
        aws_conn_id=CONNECTION,
    )

    anything_old(plan.output) >> approve >> delete

if __name__ == "__main__":
    dag.test()
