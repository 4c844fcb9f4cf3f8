"""What all batch operators have: their keys, their pace, their guards, a report, and a durable run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.errors import BatchFailed, ConfigError, printable
from orbit_airflow.engine.events import TransferDirection
from orbit_airflow.operators._arguments import is_known
from orbit_airflow.operators._base import OrbitTransferOperator
from orbit_airflow.operators._batch_keys import (
    FILTER_NAMES,
    KEY_NAMES,
    check_given,
    check_one_source,
    filters_are_known,
    given_of,
    keys_from,
    selection_from,
    source_from,
)
from orbit_airflow.operators._batch_lineage import BatchEnds, below, extra_of, lineage_of_batch, tell_collector
from orbit_airflow.operators.links import TransferLink

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseOperatorLink, Context

    from orbit_airflow.durable.running import Run
    from orbit_airflow.engine.batch.estimate import BatchPlan
    from orbit_airflow.engine.batch.result import BatchResult
    from orbit_airflow.engine.batch.work import BatchWork
    from orbit_airflow.engine.facade import TransferEngine
    from orbit_airflow.engine.keys import KeySource
    from orbit_airflow.hooks.s3 import OrbitS3Hook

_CONFIG_NAMES = (
    "max_concurrent", "rate_limit", "operation_timeout", "fail_fast", "max_retries", "max_keys",
    "max_delete_percent", "require_non_empty", "page_keys",
)  # fmt: skip

# What must not be rendered to nothing when it was given.
_NAMED = ("bucket", *KEY_NAMES, *FILTER_NAMES, "plan_manifest", "report")


class OrbitBatchOperator(OrbitTransferOperator):
    """The parameters of every batch operator. Use one of its children.

    **Which objects.** Exactly one of ``keys``, ``prefix`` and ``manifest``. An empty list does nothing, and nothing is
    ever taken for "everything": a value that is rendered to None or to an empty text is an error.

    **Durable execution.** With ``durable=True`` the batch's cursor is saved in the task's state store with every page
    of 1,000 keys, before the page is begun. A retry continues there; what the killed try may have touched (at most one
    page per worker) is looked at first, so that no key gains a second delete marker or copy. A task that is cleared
    after a success finds that all is done and sends nothing (Airflow 3.4 forgets the state on a clear).

    **Failures.** A key that fails for good does not stop the others. In the end the result goes to XCom, and
    BatchFailed is raised when more keys failed than ``allowed_failures``; Airflow does not retry that, since each key
    had its retries. A task that is cleared then does the batch again, and skips what is as it should be.

    **Outlets.** An event of each outlet Asset and AssetAlias says the verb, the counts and the places.

    The result, as XCom ``return_value``, is a dict of ``verb``, ``bucket``, ``total``, ``successful``, ``failed``,
    ``skipped``, ``duration`` (seconds, of the last try), ``errors`` (the first 20: ``key``, ``message``, ``code``),
    ``report``, ``complete``, ``resumed`` and ``try_number``. With ``dry_run`` it is the plan: ``objects``, ``bytes``,
    ``unsized``, ``requests`` by kind, ``cost`` (US dollars), ``assumptions``, ``warnings`` and ``manifest``.

    :param keys: a list of keys, or of pairs of a key and a version id (templated, also from an XCom).
    :param prefix: all objects whose keys begin with it, to the letter (templated).
    :param manifest: a manifest of keys: a path, or ``s3://bucket/key`` (templated).
    :param manifest_format: csv, jsonl, inventory or parquet; None goes by the name's ending.
    :param manifest_header: False for a CSV without a header line: S3 Batch Operations' own, or one key per line.
    :param whole_bucket: True allows ``prefix=""``, which is every object of the bucket.
    :param glob: of a prefix, only keys that match as a whole; ``*`` stops at ``/``, ``**`` does not (templated).
    :param match: likewise by Python's fnmatch, whose ``*`` crosses ``/`` (templated).
    :param regex: of a prefix, only keys in which this is found (templated).
    :param exclude: of a prefix, no keys that match this glob (templated).
    :param modified_after: of a prefix, only what was written at this time or later: a datetime, or a text in ISO 8601,
        with a time zone (templated). It should not change from try to try: take it from ``dag_run``.
    :param modified_before: of a prefix, only what was written before this time; likewise (templated).
    :param min_size: of a prefix, only objects of so many bytes or more (templated).
    :param max_size: of a prefix, only objects of so many bytes or fewer (templated).
    :param storage_classes: of a prefix, only objects of these classes (templated).
    :param dry_run: change nothing, and return the plan; outlets of the task have no event then.
    :param plan_manifest: with ``dry_run``, a path or ``s3://bucket/key`` that ends in ``.jsonl``, to which the keys are
        written; a later task with ``manifest`` of it does exactly what was planned (templated).
    :param report: where each key's outcome is written as a JSON line: a path, or ``s3://bucket/prefix/`` (templated). A
        path must be the same file for all tries. In a store each run writes below ``run-<id>/`` there (the result's
        ``report`` is the whole address), never below the ``prefix`` that is worked on. With two connections the one
        that writes the copies writes it.
    :param allowed_failures: so many failed keys do not fail the task; None: any number.
    :param max_concurrent: requests at once.
    :param rate_limit: requests per second; None: as many as go.
    :param operation_timeout: seconds behind which no request for one key, or one page of deletes, begins.
    :param fail_fast: stop behind the first failed key.
    :param max_retries: repetitions of one request, and of one key of an answer.
    :param retry_delay_seconds: seconds before the first of them; it doubles. (``retry_delay`` is Airflow's own.)
    :param max_keys: refuse to begin (BatchRefused) with more keys.
    :param max_delete_percent: refuse to delete a larger share of the keys below the prefix.
    :param require_non_empty: refuse to begin without any key.
    :param page_keys: keys of one page: what the cursor counts, and one DeleteObjects carries.
    :param bucket: the bucket (templated); None is the connection's own.
    """

    # The buckets as the connection says them, from the moment when it was asked.
    _known_ends: BatchEnds | None = None

    direction = TransferDirection.BATCH
    template_fields: Sequence[str] = (
        "bucket", "keys", "prefix", "manifest", "glob", "match", "regex", "exclude", "modified_after",
        "modified_before", "min_size", "max_size", "storage_classes", "plan_manifest", "report", "aws_conn_id",
        "region_name",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"keys": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (TransferLink(),)
    ui_color = "#e5ecf4"

    def __init__(
        self,
        *,
        bucket: str | None = None,
        keys: Sequence[Any] | str | None = None,
        prefix: str | None = None,
        manifest: str | None = None,
        manifest_format: str | None = None,
        manifest_header: bool = True,
        whole_bucket: bool = False,
        glob: str | None = None,
        match: str | None = None,
        regex: str | None = None,
        exclude: str | None = None,
        modified_after: datetime | str | None = None,
        modified_before: datetime | str | None = None,
        min_size: int | str | None = None,
        max_size: int | str | None = None,
        storage_classes: Sequence[str] | str | None = None,
        dry_run: bool = False,
        plan_manifest: str | None = None,
        report: str | None = None,
        allowed_failures: int | None = 0,
        max_concurrent: int = 10,
        rate_limit: float | None = None,
        operation_timeout: float = 120.0,
        fail_fast: bool = False,
        max_retries: int = 3,
        retry_delay_seconds: float = 0.5,
        max_keys: int | None = None,
        max_delete_percent: float | None = None,
        require_non_empty: bool = False,
        page_keys: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.keys = keys
        self.prefix = prefix
        self.manifest = manifest
        self.manifest_format = manifest_format
        self.manifest_header = manifest_header
        self.whole_bucket = whole_bucket
        self.glob = glob
        self.match = match
        self.regex = regex
        self.exclude = exclude
        self.modified_after = modified_after
        self.modified_before = modified_before
        self.min_size = min_size
        self.max_size = max_size
        self.storage_classes = storage_classes
        self.plan_only = dry_run
        self.plan_manifest = plan_manifest
        self.report = report
        self.allowed_failures = allowed_failures
        self.max_concurrent = max_concurrent
        self.rate_limit = rate_limit
        self.operation_timeout = operation_timeout
        self.fail_fast = fail_fast
        self.max_retries = max_retries
        self.retry_delay_seconds = retry_delay_seconds
        self.max_keys = max_keys
        self.max_delete_percent = max_delete_percent
        self.require_non_empty = require_non_empty
        self.page_keys = page_keys
        # Airflow calls its own dry_run as a method; the parameter is kept under another name.
        self._check_batch()
        self._given = given_of({name: getattr(self, name) for name in _NAMED})

    def _check_batch(self) -> None:
        """What is certain when the DAG is parsed; TypeError and ValueError, as operators raise them."""
        values = self._values()
        check_one_source(values)
        try:
            self._config()
            self._check_failures()
            if filters_are_known(values):
                selection_from(values)
            if isinstance(self.keys, str) and is_known(self.keys):
                keys_from(self.keys)
            if self.prefix == "" and not self.whole_bucket:
                raise ConfigError("prefix='' means the whole bucket; say whole_bucket=True if that is meant")
            if self.plan_manifest is not None and not self.plan_only:
                raise ConfigError("plan_manifest is for dry_run=True")
        except ConfigError as exc:
            raise ValueError(f"{self.task_id}: {exc.message}") from exc

    def check_rendered(self) -> None:
        """ConfigError when a bucket, source, filter or report was given, and is rendered to nothing."""
        check_given({name: getattr(self, name) for name in self._given})

    def _check_failures(self) -> None:
        allowed = self.allowed_failures
        if allowed is not None and (isinstance(allowed, bool) or not isinstance(allowed, int) or allowed < 0):
            raise ConfigError(f"allowed_failures is a number of keys or None, got {allowed!r}")

    def _values(self) -> dict[str, Any]:
        names = (*KEY_NAMES, *FILTER_NAMES, "whole_bucket", "manifest_format", "manifest_header")
        # Only a delete has all_versions, and that not yet while the operator is being made.
        return {**{name: getattr(self, name) for name in names}, "all_versions": getattr(self, "all_versions", False)}

    def _config(self) -> BatchConfig:
        given = {name: getattr(self, name) for name in _CONFIG_NAMES}
        return BatchConfig(**given, retry_delay=self.retry_delay_seconds)

    def _work(self, bucket: str) -> BatchWork:
        """The verb with its rendered options. ConfigError says which value is wrong."""
        raise NotImplementedError  # pragma: no cover - each operator has its own

    def _work_with(self, hook: OrbitS3Hook, bucket: str) -> BatchWork:
        """Likewise, for a verb that needs more than one connection."""
        del hook
        return self._work(bucket)

    def _source(self, bucket: str) -> KeySource:
        """The keys that the rendered values mean."""
        return source_from(self._values(), bucket)

    def execute(self, context: Context) -> dict[str, Any]:
        """Work on the keys, or on those that an interrupted try has left. Raises BatchFailed, BatchRefused, and what is
        about the whole batch (no such bucket, expired credentials) as the engine does.
        """

        def run_batch(run: Run) -> dict[str, Any]:
            self.check_rendered()
            hook = self._hook_of(self._conn_id(), {})
            bucket = self._bucket_name(hook.engine)
            run.details["endpoint"] = hook.place[0]
            work, source = self._work_with(hook, bucket), self._source(bucket)
            if self.plan_only:
                return self._planned(hook.engine, work, source, run)
            self._known_ends = self._batch_ends(work)
            done = self._done(hook.engine, work, source, run)
            tell_collector(hook, self._known_ends, self.log)
            return done

        summary = self._run_transfer(context, self._named(), run_batch)
        return self._finished(context, self._judged(context, {**summary, "try_number": context["ti"].try_number}))

    def _report_engine(self, work: BatchWork) -> TransferEngine | None:
        """Who writes a report in a store; None: who reads the keys."""
        del work
        return None

    def _conn_id(self) -> str | None:
        """The connection that reads the keys."""
        return self.aws_conn_id

    def _bucket_argument(self) -> str | None:
        return self.bucket

    def _bucket_name(self, engine: TransferEngine) -> str:
        bucket = self._bucket_argument() or engine.config.bucket
        if not bucket:
            raise ConfigError("without a bucket of the connection's own, bucket says where the keys are")
        return bucket

    def _named(self) -> str:
        """For the log: what the arguments say."""
        bucket = self._bucket_argument() or "(the connection's bucket)"
        if self.prefix is not None:
            return f"s3://{bucket}/{self.prefix}"
        return f"{self.manifest} on s3://{bucket}" if self.manifest is not None else f"s3://{bucket}"

    def _planned(self, engine: TransferEngine, work: BatchWork, source: KeySource, run: Run) -> dict[str, Any]:
        plan: BatchPlan = engine.batch.plan(work, source, manifest=self.plan_manifest, cancel=run.cancel)
        requests = ", ".join(f"{count} {kind}" for kind, count in plan.requests.items()) or "no request"
        line = (
            f"plan of {plan.verb}: {plan.objects} objects, {plan.bytes} bytes, {requests}, about ${plan.cost:.2f}; "
            "nothing was changed"
        )
        self.log.info(line)
        for warning in plan.warnings:
            self.log.warning(warning)
        told = asdict(plan)
        return {"dry_run": True, "bucket": work.bucket, **told, "requests": dict(plan.requests)}

    def _done(self, engine: TransferEngine, work: BatchWork, source: KeySource, run: Run) -> dict[str, Any]:
        from orbit_airflow.engine.batch.verbs import BatchRun

        count = f"{source.total} keys" if source.total is not None else "keys"
        line = f"{work.verb}: {count} of {printable(self._named())}; report: {self.report or 'none'}"
        self.log.info(line)
        how = BatchRun(
            report=self.report or None,
            report_by=self._report_engine(work),
            tokens=run.tokens,
            reporter=run.reporter,
            cancel=run.cancel,
        )
        result = engine.batch.run(work, source, self._config(), how)
        self._tell(work.verb, result)
        if result.complete and self._too_many(result.failed):
            # Whoever clears the failed task wants it done again.
            engine.batch.forget(work, self._config(), how)
        return {"verb": work.verb, "bucket": work.bucket, **result.summary()}

    def _tell(self, verb: str, result: BatchResult) -> None:
        rate = result.total / result.duration if result.duration > 0 else 0.0
        line = (
            f"{verb}: {result.total} keys, {result.successful} as they should be ({result.skipped} of them already), "
            f"{result.failed} failed, in {result.duration:.1f} s ({rate:.0f} keys/s, {result.requests} requests); "
            f"report: {result.report or 'none'}"
        )
        self.log.info(line)
        for error in result.errors:
            line = f"{printable(error.key)}: {printable(error.message, 300)}"
            self.log.warning(line)

    def _too_many(self, failed: int) -> bool:
        return self.allowed_failures is not None and failed > self.allowed_failures

    def _judged(self, context: Context, summary: dict[str, Any]) -> dict[str, Any]:
        """The summary; or BatchFailed, with the summary in XCom all the same."""
        if summary.get("complete", True) and not self._too_many(summary.get("failed", 0)):
            return summary
        if self.do_xcom_push:
            context["ti"].xcom_push("return_value", summary)
        first = summary["errors"][0] if summary["errors"] else {"key": "?", "message": "?"}
        raise BatchFailed(
            f"{summary['failed']} of {summary['total']} keys failed ({summary['verb']}); the first: {first['key']}: "
            f"{first['message']}; report: {summary['report'] or 'none'}"
        )

    def _finished(self, context: Context, summary: dict[str, Any]) -> dict[str, Any]:
        """Outlets and OpenLineage learn the result, which is returned. Of a plan they learn nothing: Airflow would send
        an event for each outlet of a task that succeeds, and whatever waits for it would begin.
        """
        from orbit_airflow.durable.outlets import emit_batch

        if self.plan_only:
            self.outlets = []
            return summary
        self._summary = summary
        if self._known_ends is not None:
            emit_batch(context, extra_of(self._known_ends, summary), self.log)
        return summary

    def _batch_ends(self, work: BatchWork | None = None) -> BatchEnds:
        """Where the batch works: what the arguments say, or, as soon as there is one, what ``work`` knows."""
        bucket = work.bucket if work is not None else self._bucket_argument()
        everything = self.prefix is not None and all(getattr(self, name) is None for name in FILTER_NAMES)
        manifest = self.manifest if isinstance(self.manifest, str) else None
        return BatchEnds(changed=below(bucket, self.prefix), manifest=manifest, everything=everything)

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Which prefixes, or buckets, will be read and changed; nothing of a dry run."""
        return lineage_of_batch(BatchEnds() if self.plan_only else self._known_ends or self._batch_ends())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """The same with how many objects it were, and whether nothing is left."""
        del task_instance
        if self._summary is None or self._known_ends is None:
            return self.get_openlineage_facets_on_start()
        return lineage_of_batch(self._known_ends, self._summary)
