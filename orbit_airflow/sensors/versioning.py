"""OrbitS3VersioningSensor: waits for a bucket's versioning, a new version, a delete marker, or one version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from orbit_airflow.engine.error_mapping import error_from_mapping
from orbit_airflow.engine.errors import ConfigError, OrbitError, StateUnavailable, printable
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.sensing import Baseline, Verdict, WaitFor, Wanted
from orbit_airflow.hooks.access import Access
from orbit_airflow.operators._arguments import is_known
from orbit_airflow.operators.retry import OrbitRetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.engine.facade import TransferEngine

T = TypeVar("T")

_STATE = "orbit:sense:"


class OrbitS3VersioningSensor(BaseSensorOperator):
    """Wait until a bucket keeps versions, or until a key has a new version, a new delete marker, or a given version.

    What "new" is measured from, the baseline, is taken before the first look and kept in the task's state store: a
    retry, a reschedule, a deferral and a restarted triggerer all go on from it, and no version that was written while
    nobody looked is missed. Versions are told apart by their ids, never by time; all that came between two looks are in
    the result. A cleared task goes on from the baseline of its first run where Airflow keeps the state (3.3 does), and
    so finds the same versions again.

    Poke, reschedule and deferrable mode decide with the same code and end alike: after ``timeout`` AirflowSensorTimeout
    (no retry), or skipped with ``soft_fail``. A store that is not well is looked at again until then. An error that no
    other look can help (access denied, no such bucket) fails the task at once, in its own class.

    The result is a dict: for "enabled" ``status`` and ``mfa_delete``, else the newest version's ``uri``, ``bucket``,
    ``key``, ``version_id``, ``size``, ``etag``, ``last_modified``, ``delete_marker`` and ``is_latest`` (False: it is
    already covered by a marker or a newer version; of "version_id", a HEAD does not say), their ``count``, and all of
    them as ``versions``, newest first.

    :param bucket_name: the bucket (templated).
    :param bucket_key: the key (templated); needed unless wait_for is "enabled".
    :param wait_for: "enabled": the bucket's versioning; "new_version"; "delete_marker": the key is deleted in a bucket
        that keeps versions; "version_id": this version is there (replicated, for example).
    :param since_version_id: count what is newer than this version, not what is newer than the beginning (templated).
    :param version_id: the version of wait_for="version_id" (templated).
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = (
        "bucket_name", "bucket_key", "since_version_id", "version_id", "aws_conn_id", "region_name",
    )  # fmt: skip
    ui_color = "#e8f4e5"

    # A plain attribute, since on_kill runs as a signal handler.
    _stop_wanted = False

    def __init__(
        self,
        *,
        bucket_name: str,
        bucket_key: str | None = None,
        wait_for: str = WaitFor.ENABLED.value,
        since_version_id: str | None = None,
        version_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(retry_policy=retry_policy if retry_policy is not None else OrbitRetryPolicy(), **kwargs)
        self.bucket_name = bucket_name
        self.bucket_key = bucket_key
        self.wait_for = wait_for
        self.since_version_id = since_version_id
        self.version_id = version_id
        self.deferrable = deferrable
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self._baseline: Baseline | None = None
        self._engine: TransferEngine | None = None
        self._check_known()

    def on_kill(self) -> None:
        """Stop looking. Runs as a signal handler and does nothing else."""
        self._stop_wanted = True

    def execute(self, context: Context) -> Any:
        """Wait here, or take the baseline and a first look and leave the rest to the triggerer."""
        self._baseline = None
        if not self.deferrable:
            return super().execute(context)
        found = self._first_look(context)
        return found.xcom_value if found else self._defer(datetime.now(UTC))

    def poke(self, context: Context) -> PokeReturnValue:
        """One look. A store that is not well is one that shows nothing yet."""
        wanted = self._wanted()
        try:
            if self._baseline is None:
                self._baseline = self._run(lambda stop: self._first_baseline(context, wanted, stop))
            baseline = self._baseline
            verdict = self._run(lambda stop: self._look(wanted, baseline, stop))
        except StateUnavailable:
            raise
        except OrbitError as exc:
            self._close()
            if not exc.is_retryable or self._stop_wanted:
                raise
            self.log.warning("this look failed, there will be another one: %s", printable(str(exc), 500))
            return PokeReturnValue(is_done=False)
        if not verdict.done:
            return PokeReturnValue(is_done=False)
        self._close()
        return PokeReturnValue(is_done=True, xcom_value=verdict.to_mapping())

    def resume(self, context: Context, event: Mapping[str, Any] | None = None, began: str | None = None) -> Any:
        """What the trigger saw: the result, a baseline to be kept, or an error, in its own class."""
        told = event or {}
        kind = told.get("kind")
        if kind == "seen":
            return told["result"]
        if kind == "baseline":
            wanted = self._wanted()
            baseline = Baseline.from_mapping(told.get("baseline"), wanted)
            if baseline is not None:
                self._baseline = baseline
                self._run(lambda _: self._keep(context, wanted, baseline))
                return self._defer(datetime.fromisoformat(began) if began else datetime.now(UTC))
        error = told.get("error")
        if kind != "failed" or not isinstance(error, Mapping):
            raise ConfigError(f"the trigger's event is not understood: {printable(repr(event))}")
        failure = error_from_mapping(error)
        if self.never_fail:
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from failure
        raise failure

    def _first_look(self, context: Context) -> PokeReturnValue:
        """As a poke in ``execute`` of a sensor that is not deferrable: silent_fail and never_fail mean the same."""
        try:
            return self.poke(context)
        except OrbitError as exc:
            if self.silent_fail:
                self.log.exception("the first look failed")
                return PokeReturnValue(is_done=False)
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from exc
            raise

    def _defer(self, began: datetime) -> None:
        """Go on in the triggerer, for what is left of the time-out since ``began``."""
        from orbit_airflow.triggers.versioning import OrbitS3VersioningTrigger

        left = timedelta(seconds=self.timeout) - (datetime.now(UTC) - began)
        if left <= timedelta(0):
            if self.soft_fail:
                raise AirflowSkipException(f"Sensor has timed out after {self.timeout} s.")
            raise AirflowSensorTimeout(f"Sensor has timed out after {self.timeout} s.")
        wanted = self._wanted()
        needed = wanted.needs_baseline and self._baseline is not None
        trigger = OrbitS3VersioningTrigger(
            bucket_name=wanted.bucket,
            wait_for=wanted.wait_for.value,
            bucket_key=wanted.key,
            since_version_id=wanted.since_version_id,
            version_id=wanted.version_id,
            baseline=self._baseline.to_mapping(wanted) if needed and self._baseline else None,
            poke_interval=self.poke_interval,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            silent_fail=self.silent_fail,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )
        self._close()
        self.defer(trigger=trigger, method_name="resume", kwargs={"began": began.isoformat()}, timeout=left)

    def _look(self, wanted: Wanted, baseline: Baseline, stop: Cancellation) -> Verdict:
        from orbit_airflow.engine.look import look

        return look(self._opened(), wanted, baseline, cancel=stop)

    def _first_baseline(self, context: Context, wanted: Wanted, stop: Cancellation) -> Baseline:
        return self._remembered(context, wanted) or self._taken(context, wanted, stop)

    def _remembered(self, context: Context, wanted: Wanted) -> Baseline | None:
        """The baseline that an earlier look kept. StateUnavailable when that cannot be told."""
        if not wanted.needs_baseline:
            return Baseline(frozenset())
        store = context.get("task_state_store")
        if store is None:
            if self.reschedule:
                raise StateUnavailable("there is no task state store here, and without it a reschedule forgets all")
            self.log.warning("there is no task state store here: a retry of this sensor begins anew")
            return None
        try:
            value = store.get(_STATE + wanted.identity[:16])
        except Exception as exc:
            raise StateUnavailable("the baseline of this sensor could not be read") from exc
        kept = Baseline.from_mapping(value, wanted)
        if value is not None and kept is None:
            self.log.warning("the baseline that was kept is damaged; what is there now is the new one")
        return kept

    def _taken(self, context: Context, wanted: Wanted, stop: Cancellation) -> Baseline:
        """A new baseline, kept before anything is looked at."""
        from orbit_airflow.engine.look import caveat, take_baseline

        engine = self._opened()
        warning = caveat(engine, wanted, cancel=stop)
        if warning:
            self.log.warning(warning)
        baseline = take_baseline(engine, wanted, cancel=stop)
        self._keep(context, wanted, baseline)
        self.log.info("the baseline of %s: %d versions and markers", printable(wanted.ref.uri), len(baseline.known))
        return baseline

    def _keep(self, context: Context, wanted: Wanted, baseline: Baseline) -> None:
        store = context.get("task_state_store")
        if store is None:
            return
        try:
            store.set(_STATE + wanted.identity[:16], baseline.to_mapping(wanted))
        except Exception as exc:
            raise StateUnavailable(
                "the baseline of this sensor could not be kept; without it versions are lost"
            ) from exc

    def _run(self, call: Callable[[Cancellation], T]) -> T:
        """``call`` on a thread: an alarm in the middle of a request to the supervisor would leave its answer in the
        channel, and a look that repeats its requests ends at once when the task is stopped.
        """
        from orbit_airflow.durable.attended import attended

        stop = Cancellation()
        return attended(lambda: call(stop), stop, stop_wanted=lambda: self._stop_wanted)

    def _opened(self) -> TransferEngine:
        if self._engine is None:
            self._engine = self._access().open_engine()
        return self._engine

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _access(self) -> Access:
        return Access(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )

    def _wanted(self) -> Wanted:
        """The rendered arguments. ConfigError when they mean nothing."""
        return Wanted(
            bucket=self.bucket_name,
            wait_for=WaitFor.parse(self.wait_for),
            key=self.bucket_key or None,
            since_version_id=self.since_version_id or None,
            version_id=self.version_id or None,
        )

    def _check_known(self) -> None:
        """ValueError for what is certainly wrong when the DAG is parsed."""
        try:
            WaitFor.parse(self.wait_for)
            self._access()
            given = (self.bucket_name, self.bucket_key, self.since_version_id, self.version_id)
            if all(is_known(value) for value in given):
                self._wanted()
        except ConfigError as exc:
            raise ValueError(f"{self.task_id}: {exc.message}") from exc
