"""The buttons of a task instance's page. Airflow stores their addresses as XComs of the task; nothing is looked up when
a DAG is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class TransferLink(BaseOperatorLink):
    """To the task instance's XComs, where ``orbit_progress`` is refreshed while the transfer runs."""

    name = "Transfer"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page of this task instance (tab Storage, XCom); below ``[api] base_url`` when that is configured, else a
        path, which browsers read as one of the site that they are on.
        """
        del operator
        return xcom_page(ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index)


class S3ObjectLink(BaseOperatorLink):
    """To the object's page in the AWS console; empty, and so not shown, for stores that are not AWS."""

    name = "S3 object"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """What the running task has found out when it met its store."""
        del ti_key
        return str(getattr(operator, "_console_url", "") or "")


def xcom_page(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str:
    """A task instance's XComs in Airflow's UI."""
    from airflow.sdk.configuration import conf

    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    mapped = f"/mapped/{map_index}" if map_index is not None and map_index >= 0 else ""
    dag, run, task = (quote(name, safe="") for name in (dag_id, run_id, task_id))
    return f"{base}/dags/{dag}/runs/{run}/tasks/{task}{mapped}/xcom"
