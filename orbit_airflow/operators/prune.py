"""OrbitS3PruneVersionsOperator: what old versions cost, and their removal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.model import KeyPrefix
from orbit_airflow.operators._store import AtWork, OrbitStoreOperator, check_texts, ended

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.engine.prune_plan import Keep


class OrbitS3PruneVersionsOperator(OrbitStoreOperator):
    """Tell what the versions below a prefix cost, by age, and remove for good those that the rules let go.

    A key's newest entry is never removed: neither the version that it shows, nor a delete marker that hides all below
    it, so that no key shows anything else afterwards. That is looked at again right before each removal, since somebody
    may have removed a newer version meanwhile. A marker that hides nothing any more stays, too: a lifecycle rule
    (ExpiredObjectDeleteMarker) removes those, at no cost. A version is as old as the one that took its place.

    With ``dry_run=True`` (the default) nothing is removed; without rules it tells the costs alone. Else the plan is
    written to ``manifest``, one line of JSON for each version, before the first is removed.

    Object Lock: a protected version is a failure of its key alone, and governance is never bypassed. The task ends with
    BatchIncomplete then, and a retry asks again for what failed.

    **Durable execution.** With ``durable=True`` a try that follows an interrupted one goes on with the same plan, from
    a cursor in the task's state.

    The result, as XCom ``return_value``, is a dict of ``bucket``, ``prefix``, ``manifest`` (None when only the costs
    were asked for), ``count`` and ``bytes`` (of what may go), ``costs`` (``keys``, ``shown``, ``old``,
    ``old_by_age``, ``markers``, ``hiding_markers``, ``lone_markers``, ``prunable``), ``dry_run`` and, unless that,
    ``applied`` as of OrbitS3RestorePrefixOperator.

    :param bucket: the bucket (templated).
    :param prefix: the beginning of the keys that are meant, to the letter (templated); an empty one is the whole
        bucket.
    :param keep_last: so many of a key's newest versions stay, the one that it shows counted; from 1.
    :param older_than: only what has been out of sight for so long goes, a timedelta or a number of days. With
        keep_last both must let a version go.
    :param dry_run: whether nothing is removed.
    :param max_changes: a plan with more versions is refused (BatchRefused); None: any number.
    :param manifest: where the plan goes, a path or ``s3://bucket/key`` ending in ``.jsonl`` at which nothing is yet
        (templated). None is ``s3://<bucket>/orbit-prune/<dag>/<run>/<task>-<try>.jsonl``.
    :param report: where the outcome of each version goes, a path or ``s3://bucket/prefix/`` (templated); None: nowhere.
    :param max_concurrent: how many requests run at once.
    :param rate_limit: how many requests begin per second; None: as many as go.
    :param durable: whether an interrupted removal is continued by the next try.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = ("bucket", "prefix", "manifest", "report", "aws_conn_id", "region_name")
    ui_color = "#f5e0e0"

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str,
        keep_last: int | None = None,
        older_than: timedelta | float | None = None,
        dry_run: bool = True,
        max_changes: int | None = None,
        manifest: str | None = None,
        report: str | None = None,
        max_concurrent: int = 10,
        rate_limit: float | None = None,
        durable: bool = True,
        retry_policy: RetryPolicy | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            durable=durable,
            retry_policy=retry_policy,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.bucket = bucket
        self.prefix = prefix
        self.keep_last = keep_last
        self.older_than = older_than
        self.only_plan = dry_run
        self.max_changes = max_changes
        self.manifest = manifest
        self.report = report
        self.max_concurrent = max_concurrent
        self.rate_limit = rate_limit
        if not dry_run and keep_last is None and older_than is None:
            raise TypeError("give keep_last or older_than; without them nothing may go")
        self._checked(self._check_arguments)

    def _check_arguments(self) -> None:
        from orbit_airflow.engine.batch.config import BatchConfig
        from orbit_airflow.engine.point_in_time import check_max_changes

        check_texts(bucket=self.bucket)
        check_max_changes(self.max_changes)
        self._keep()
        BatchConfig(max_concurrent=self.max_concurrent, rate_limit=self.rate_limit)

    def _keep(self) -> Keep:
        from orbit_airflow.engine.prune_plan import Keep

        age: Any = self.older_than
        if isinstance(age, int | float) and not isinstance(age, bool):
            age = timedelta(days=age)
        return Keep(keep_last=self.keep_last, older_than=age)

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, and remove; or go on with it. BatchIncomplete when versions could not be removed."""
        place = self.manifest or self._place(context, self.bucket, "orbit-prune")
        return self._at_work(context, f"s3://{self.bucket}/{self.prefix}", lambda at: self._done(at, place))

    def _done(self, at: AtWork, place: str) -> dict[str, Any]:
        from orbit_airflow.engine.batch.config import BatchConfig
        from orbit_airflow.engine.batch.verbs import BatchRun

        where, keep, run = KeyPrefix(self.bucket, self.prefix), self._keep(), at.run
        how = BatchRun(report=self.report or None, tokens=run.tokens, reporter=run.reporter, cancel=run.cancel)
        verbs = at.engine.old_versions
        named = {"bucket": where.bucket, "prefix": where.prefix, "dry_run": self.only_plan}
        if not keep.chooses:
            costs = verbs.costs(where, keep, how).summary()
            return {**named, "manifest": None, "count": 0, "bytes": 0, "costs": costs}
        if self.only_plan:
            plan = verbs.plan(where, keep, place, how)
            return {**named, "manifest": plan.manifest, "count": plan.count, "bytes": plan.bytes, "costs": plan.costs}
        config = BatchConfig(max_concurrent=self.max_concurrent, rate_limit=self.rate_limit)
        done = verbs.prune(where, keep, place, config, how, max_changes=self.max_changes)
        plan = done.plan
        told = {"manifest": plan.manifest, "count": plan.count, "bytes": plan.bytes, "costs": plan.costs}
        return {**named, **told, "applied": dict(ended(done.batch, "versions"))}
