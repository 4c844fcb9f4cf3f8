"""What all transfer operators have: a connection, a task that can be stopped at any moment, and a durable run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator

from orbit_airflow.engine.errors import ConfigError, Paused
from orbit_airflow.engine.events import Reporter
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.token import NoTokens, TokenStore
from orbit_airflow.hooks.secrets import refuse_secrets
from orbit_airflow.operators.retry import OrbitRetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.durable.checkpoint import Checkpoint
    from orbit_airflow.hooks.s3 import OrbitS3Hook

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """What one try's transfer is given."""

    tokens: TokenStore
    reporter: Reporter
    cancel: Cancellation
    try_number: int


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
        """``transfer`` on a thread of its own, with its state kept and its progress shown, until it ends or must stop.

        Everything that ``transfer`` does is off the main thread, the look-up of the connection, too: an alarm in the
        middle of a request to the supervisor would leave its answer in the channel.
        """
        from orbit_airflow.durable.attended import attended
        from orbit_airflow.durable.checkpoint import Checkpoint

        if self._stop_wanted:
            self._stop_wanted = False
            raise Paused("stopped by Airflow before the transfer began")
        cancel = Cancellation()
        checkpoint = Checkpoint(cancel, self.log)
        run = self._run_for(context, uri, checkpoint, cancel)
        checkpoint.start()
        try:
            return attended(lambda: transfer(run), cancel, stop_wanted=lambda: self._stop_wanted)
        finally:
            self._stop_wanted = False
            if not checkpoint.close() and not cancel.cancelled:
                self.log.warning("the last progress could not be written in time")

    def _run_for(self, context: Context, uri: str, checkpoint: Checkpoint, cancel: Cancellation) -> Run:
        from orbit_airflow.durable.progress import TransferReporter, XComProgress

        ti = context["ti"]
        progress = None
        if self.do_xcom_push:
            progress = XComProgress(checkpoint, ti.xcom_push, try_number=ti.try_number)
        reporter = TransferReporter(self.log, progress, cancel, uri=uri)
        return Run(self._tokens(context, checkpoint), reporter, cancel, ti.try_number)

    def _tokens(self, context: Context, checkpoint: Checkpoint) -> TokenStore:
        from orbit_airflow.durable.tokens import TaskStateTokenStore

        if not self.durable:
            return NoTokens()
        store = context.get("task_state_store")
        if store is None:
            self.log.warning("there is no task state store here: if this try is interrupted, the next one starts anew")
            return NoTokens()
        return TaskStateTokenStore(store, checkpoint)
