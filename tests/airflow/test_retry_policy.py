"""OrbitRetryPolicy in the real task runner: what Airflow is told after a failed try."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import RetryDecision, RetryPolicy, task

from orbit_airflow.engine import errors
from orbit_airflow.engine.errors import OrbitError, RequestContext, Throttled
from orbit_airflow.operators.retry import OrbitRetryPolicy
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
DOCUMENTED = (Path(__file__).parents[2] / "docs" / "errors-and-retries.md").read_text()
SECOND = timedelta(seconds=1)


def upload(dag: Any, path: Path, **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{"task_id": "up", "filename": str(path), "dest_bucket": BUCKET, "dest_key": "k", "retries": 3, **kwargs}
        )


def throttling(seconds: int) -> Fault:
    return Fault(
        operation="PutObject", status=503, code="SlowDown", headers={"Retry-After": str(seconds)}, times=None
    )  # fmt: skip


class Patient(RetryPolicy):
    """A user's own."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:  # fmt: skip
        return RetryDecision.retry(delay=timedelta(seconds=1234), reason="mine")

    def serialize(self) -> dict[str, Any]:
        return {}


def test_the_stores_own_delay_is_the_tasks(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    """It is longer than the task's retry_delay; the reason is stored beside it."""
    s3.inject(throttling(2))
    no_retries = {"transfer_retry": "fast", "retry_delay": SECOND}
    assert run_try(upload(dag, make_file(100), **no_retries)).state == "up_for_retry"
    (told,) = comms.writes("RetryTask")
    assert told.retry_delay_seconds == 2.0
    assert told.retry_reason.startswith("Throttled: ")


def test_a_longer_delay_of_the_users_is_not_shortened(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    s3.inject(throttling(2))
    assert run_try(upload(dag, make_file(100), retry_delay=60 * SECOND)).state == "up_for_retry"
    (told,) = comms.writes("RetryTask")
    assert told.retry_delay_seconds is None


@pytest.mark.parametrize(
    ("kwargs", "try_number", "asked", "delay"),
    [
        ({"retry_delay": 10 * SECOND}, 1, 30.0, 30 * SECOND),
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2}, 1, 30.0, 30 * SECOND),
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2}, 3, 30.0, None),
        (
            {"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2, "max_retry_delay": 20 * SECOND},
            3,
            30.0,
            30 * SECOND,
        ),
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": 1e300}, 3, 30.0, None),
    ],
)
def test_backoff_counts_as_the_tasks_own_delay(
    dag: Any, kwargs: dict[str, Any], try_number: int, asked: float, delay: timedelta | None
) -> None:
    context: Any = {"task": upload(dag, Path("/x"), **kwargs)}
    error = Throttled("slow down", RequestContext(retry_after=asked))
    assert OrbitRetryPolicy().evaluate(error, try_number, 9, context).retry_delay == delay


def test_default_args_win(dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile) -> None:
    """A user's policy retries even what cannot help."""
    s3.inject(Fault(operation="PutObject", status=403, code="AccessDenied", times=None))
    dag.default_args = {"retry_policy": Patient()}
    assert run_try(upload(dag, make_file(100))).state == "up_for_retry"
    (told,) = comms.writes("RetryTask")
    assert (told.retry_delay_seconds, told.retry_reason) == (1234.0, "mine")


def test_a_mapped_task_has_the_policy_too(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    s3.inject(Fault(operation="PutObject", status=403, code="AccessDenied", times=None))
    with dag:
        mapped = OrbitS3UploadOperator.partial(task_id="up", dest_bucket=BUCKET, retries=3).expand_kwargs(
            [{"filename": str(make_file(100)), "dest_key": "k"}]
        )
    assert run_try(mapped, 1, map_index=0).state == "failed"


def test_it_serves_a_taskflow_task(dag: Any, run_try: RunTry, comms: FakeComms) -> None:
    with dag:

        @task(retries=3, retry_policy=OrbitRetryPolicy())
        def mine() -> None:
            raise errors.SourceChanged("it is another file now")

        operator: Any = mine().operator  # type: ignore[attr-defined]
    assert run_try(operator).state == "failed"
    assert comms.writes("RetryTask") == []


def promises() -> list[tuple[str, str]]:
    """Error class and its cell in the column of this policy."""
    rows = [row.split(" | ") for row in re.findall(r"^\| (`\w+.*) \|$", DOCUMENTED, re.MULTILINE)]
    return [(name, row[2]) for row in rows if len(row) == 4 for name in re.findall(r"`([A-Z]\w+)`", row[0])]


@pytest.mark.parametrize(("name", "promise"), promises())
def test_the_documented_table_is_what_happens(name: str, promise: str) -> None:
    decision = OrbitRetryPolicy().evaluate(getattr(errors, name)("why"), 1, 3)
    assert promise.startswith({"fail": "fail", "retry": "retries"}[decision.action.value])


def test_the_documented_table_has_every_error() -> None:
    """But for the parents, which are nothing by themselves."""
    classes = {name for name, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, OrbitError)}
    assert classes - {name for name, _ in promises()} == {"OrbitError", "StoreError"}
