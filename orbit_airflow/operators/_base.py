"""What all transfer operators have: a connection, a task that can be stopped at any moment, and a durable run."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.sdk import BaseOperator

from orbit_airflow.engine.errors import ConfigError, Paused
from orbit_airflow.engine.events import TransferDirection
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.hooks.console import console_url
from orbit_airflow.hooks.secrets import refuse_secrets
from orbit_airflow.operators._lineage import Ends, ends_of, lineage_of
from orbit_airflow.operators.links import S3ObjectLink, TransferLink, xcom_page
from orbit_airflow.operators.retry import OrbitRetryPolicy

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseOperatorLink, Context, RetryPolicy

    from orbit_airflow.durable.running import Run
    from orbit_airflow.hooks.s3 import OrbitS3Hook

logger = logging.getLogger(__name__)

T = TypeVar("T")


class OrbitTransferOperator(BaseOperator):
    """A thin base: the connection parameters of the amazon provider's operators, ``durable`` and ``retry_policy``.

    ``retry_policy=None`` means OrbitRetryPolicy, which does not repeat what cannot succeed; it is a named parameter,
    so that a DAG's ``default_args`` win over it.
    """

    # Set by on_kill, which may run before execute, or never. A plain attribute: a lock or an event that the main
    # thread holds while the signal handler runs would be waited for for ever.
    _stop_wanted = False
    # What the links and OpenLineage are told when the task has ended: the object's page, where its store is (endpoint
    # and region), and the result.
    _console_url = ""
    _store: tuple[str, str | None] | None = None
    _summary: Mapping[str, Any] | None = None

    direction: ClassVar[TransferDirection] = TransferDirection.UPLOAD
    operator_extra_links: Collection[BaseOperatorLink] = (TransferLink(), S3ObjectLink())

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
        return self._hook_of(self.aws_conn_id, orbit_options)

    def _hook_of(self, conn_id: str | None, orbit_options: Mapping[str, Any]) -> OrbitS3Hook:
        from orbit_airflow.hooks.s3 import OrbitS3Hook

        return OrbitS3Hook(
            aws_conn_id=conn_id or None,
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
        side = TaskSide(
            context=context,
            log=self.log,
            push=push,
            publish=push,
            stop_wanted=lambda: self._stop_wanted,
            direction=self.direction,
            target=self._target(),
        )

        def shown(run: Run) -> T:
            self._show_page(context, run)
            return transfer(run)

        try:
            return run_in_task(side, shown, address=uri, durable=self.durable)
        finally:
            self._stop_wanted = False

    def _target(self) -> str | None:
        """The local file that the transfer makes; None for transfers that make objects."""
        return None

    def _show_page(self, context: Context, run: Run) -> None:
        """The link to the running try's figures, from the first second on; and in the log."""
        ti = context["ti"]
        run.details["try"] = f"{ti.try_number}, on {platform.node()}"
        run.details["connection"] = self.aws_conn_id or "none (boto3's credential chain)"
        try:
            page = xcom_page(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        except Exception:
            # A link is no reason to fail a transfer.
            logger.debug("the page of this task instance is not known", exc_info=True)
            return
        run.publish(TransferLink().xcom_key, page)
        run.details["progress"] = f"XCom orbit_progress, {page}"

    def _show_object(self, run: Run, hook: OrbitS3Hook, ref: ObjectRef) -> None:
        """Called as soon as the object's store is known: the link to its page, and where it is."""
        self._store = hook.place
        self._console_url = console_url(ref, *hook.place) or ""
        run.details["endpoint"] = hook.place[0]
        if self._console_url:
            run.publish(S3ObjectLink().xcom_key, self._console_url)
            run.details["object"] = self._console_url

    def _finished(self, context: Context, summary: dict[str, Any]) -> dict[str, Any]:
        """The last step of every operator: outlets, links and OpenLineage learn the result, which is returned."""
        from orbit_airflow.durable.outlets import emit_assets

        self._summary = summary
        if self._store is not None:
            ref = ObjectRef(summary["bucket"], summary["key"], summary.get("version_id"))
            self._console_url = console_url(ref, *self._store) or ""
        emit_assets(context, summary, self.log)
        return summary

    def _ends(self) -> Ends:
        """What the arguments say of file and object, without asking the connection."""
        return Ends()

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """What will be read and written, as far as the arguments say it."""
        return lineage_of(self._ends(), self.direction)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """What was read and written, with size and version."""
        del task_instance
        if self._summary is None:
            return self.get_openlineage_facets_on_start()
        return lineage_of(ends_of(self._summary, self._ends().path), self.direction, self._summary["size"])

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """What should have been read and written; nothing of it was made visible."""
        del task_instance
        return self.get_openlineage_facets_on_start()
