"""A point-in-time drill: what would it take to put a prefix back as it was? Plan, approve, apply, look, and undo.

Before you run it: make an ``aws`` connection (``orbit_backup`` here); the bucket must keep versions. The plan is a
manifest, one line for each change; the approval is about exactly that plan, and the undo reads the same one. For a real
restore leave the last task out (param ``undo``).

The approval is a task that waits for a person (Airflow's ApprovalOperator); ``ORBIT_DRILL_APPROVAL=auto`` goes on
without one, for tests and drills at night. The defaults come from the environment; each run may override them.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, BaseOperator, Param, task

from orbit_airflow.operators.restore import OrbitS3RestorePrefixOperator

log = logging.getLogger(__name__)

BUCKET, CONNECTION = "{{ params.bucket }}", "{{ params.aws_conn_id }}"
PLAN = "{{ ti.xcom_pull('plan')['manifest'] }}"

with DAG(
    dag_id="orbit_point_in_time_drill",
    description="Puts a prefix back as it was at a moment, by a plan that a person approves, and undoes it",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    max_active_runs=1,
    params={
        "bucket": Param(os.environ.get("ORBIT_DRILL_BUCKET", "data-lake"), type="string"),
        "prefix": Param(os.environ.get("ORBIT_DRILL_PREFIX", "tables/orders/"), type="string"),
        "as_of": Param(
            os.environ.get("ORBIT_DRILL_AS_OF", "2026-01-31T02:00:00+00:00"), type="string", format="date-time"
        ),
        "undo": Param(True, type="boolean", description="Put everything back afterwards"),
        "aws_conn_id": Param(os.environ.get("ORBIT_DRILL_CONN_ID", "orbit_backup"), type="string"),
    },
    tags=["orbit", "versions", "example"],
    doc_md=__doc__,
) as dag:
    plan = OrbitS3RestorePrefixOperator(
        task_id="plan", bucket=BUCKET, prefix="{{ params.prefix }}", as_of="{{ params.as_of }}", dry_run=True,
        aws_conn_id=CONNECTION,
    )  # fmt: skip
    approve: BaseOperator
    if os.environ.get("ORBIT_DRILL_APPROVAL") == "auto":
        approve = EmptyOperator(task_id="approve")
    else:
        approve = ApprovalOperator(
            task_id="approve",
            subject="Change {{ ti.xcom_pull('plan')['changes'] }} keys of {{ params.bucket }}?",
            body="The plan is " + PLAN,
        )
    apply = OrbitS3RestorePrefixOperator(
        # A plan of more changes than anybody reads is a mistake in the moment or the prefix.
        task_id="apply", bucket=BUCKET, plan=PLAN, max_changes=100_000, aws_conn_id=CONNECTION, retries=3,
    )  # fmt: skip

    @task.short_circuit
    def report(done: dict[str, object], params: dict[str, object] | None = None) -> bool:
        """Say what was changed; here your own checks of the restored data belong."""
        log.info("%s keys were looked at, %s changed; the undo list is %s", *map(done.get, _TOLD))
        return bool((params or {}).get("undo"))

    _TOLD = ("keys", "changes", "manifest")
    undo = OrbitS3RestorePrefixOperator(task_id="undo", bucket=BUCKET, undo=PLAN, aws_conn_id=CONNECTION, retries=3)
    plan >> approve >> apply
    report(apply.output) >> undo  # type: ignore[arg-type]  # Airflow gives the task the XCom's value

if __name__ == "__main__":
    dag.test()
