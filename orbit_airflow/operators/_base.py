"""What all transfer operators have: a connection, a task that can be stopped at any moment, and a durable run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator

from orbit_airflow.engine.errors import ConfigError, Paused
from orbit_airflow.hooks.secrets import refuse_secrets
from orbit_airflow.operators.retry import OrbitRetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.durable.running import Run
    from orbit_airflow.hooks.s3 import OrbitS3Hook

T = TypeVar("T")


class OrbitTransferOperator(BaseOperator):
    """A thin base: the connection parameters of the amazon provider's operators, ``durable`` and ``retry_policy``.

    ``retry_policy=None`` means OrbitRetryPolicy, which does not repeat what cannot succeed; it is a named parameter,
    so that a DAG's ``default_args`` win over it.
    """

    # Set by on_kill, which may run before execute, or never. A plain attribute: a lock or an event that the main
    # thread holds while the signal handler runs would be waited for for ever.
    _stop_wanted = False

    def __init__(
        self,
        *,
        durable: bool = True,
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(retry_policy=retry_policy if retry_policy is not None else OrbitRetryPolicy(), **kwargs)
        self.durable = durable
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        try:
            refuse_secrets("botocore_config", botocore_config)
        except ConfigError as exc:
            raise ValueError(f"{self.task_id}: {exc.message}") from exc

    def on_kill(self) -> None:
        """Ask the transfer to stop; its parts stay in the store. Runs as a signal handler and does nothing else."""
        self._stop_wanted = True

    def _hook(self, orbit_options: Mapping[str, Any]) -> OrbitS3Hook:
        from orbit_airflow.hooks.s3 import OrbitS3Hook

        return OrbitS3Hook(
            aws_conn_id=self.aws_conn_id or None,
            region_name=self.region_name or None,
            verify=self.verify,
            config=self.botocore_config,
            orbit_options=orbit_options,
        )

    def _run_transfer(self, context: Context, uri: str, transfer: Callable[[Run], T]) -> T:
        """``transfer`` with its state kept and its progress shown, until it ends or must stop; see ``run_in_task``."""
        from orbit_airflow.durable.running import TaskSide, run_in_task

        if self._stop_wanted:
            self._stop_wanted = False
            raise Paused("stopped by Airflow before the transfer began")
        push = context["ti"].xcom_push if self.do_xcom_push else None
        side = TaskSide(context=context, log=self.log, push=push, stop_wanted=lambda: self._stop_wanted)
        try:
            return run_in_task(side, transfer, address=uri, durable=self.durable)
        finally:
            self._stop_wanted = False
