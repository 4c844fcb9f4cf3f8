"""Operators that bring back what was: one version of a key, or a whole prefix as it was at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.operators._store import (
    AtWork,
    OrbitStoreOperator,
    check_moment,
    check_one_of,
    check_texts,
    ended,
    moment_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from orbit_airflow.engine.model import ObjectInfo
    from orbit_airflow.engine.point_in_time import RestoredPrefix
    from orbit_airflow.engine.versions import RestoreResult


class OrbitS3RestoreVersionOperator(OrbitStoreOperator):
    """Make an older version what its key shows, by a copy of it onto the key, inside the store, of any size.

    The version itself stays as it was. The copy keeps headers, metadata, tags, class and KMS key; ``not_kept`` names
    what it has not. A version that the key shows already is not copied. ObjectDeleted for a delete marker, NotFound for
    what is not (or was not) there. In a bucket whose versioning is suspended ConfigError when the copy would destroy
    the version "null".

    **Durable execution.** With ``durable=True`` a copy above 5 GiB goes on with the parts that an interrupted try has
    made. What the key showed before the first try is kept as well, so that a try that died between the copy and its
    end is not followed by a second copy.

    The result, as XCom ``return_value``, is a dict of ``uri``, ``bucket``, ``key``, ``version_id`` (the new one's),
    ``restored_version``, ``changed``, ``not_kept``, ``etag``, ``size``, ``checksum``, ``integrity`` (of the copy; None
    when this try made none), ``duration``, ``resumed``, ``bytes_copied``, ``bytes_saved`` and ``try_number``.

    :param bucket: the bucket (templated).
    :param key: the key (templated).
    :param version_id: the version to restore, "null" for one without an id (templated). Give this or as_of.
    :param as_of: a moment with a time zone, as a datetime or in ISO 8601 (templated): the version that the key showed
        then, by the store's times, in whole seconds.
    :param overwrite_null: whether, in a suspended bucket, the copy may take the place of the version "null".
    :param durable: whether an interrupted restore is continued by the next try.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = ("bucket", "key", "version_id", "as_of", "aws_conn_id", "region_name")
    ui_color = "#e8f4e5"

    def __init__(
        self,
        *,
        bucket: str,
        key: str,
        version_id: str | None = None,
        as_of: datetime | str | None = None,
        overwrite_null: bool = False,
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
        self.key = key
        self.version_id = version_id
        self.as_of = as_of
        self.overwrite_null = overwrite_null
        check_one_of(version_id=version_id, as_of=as_of)
        self._checked(lambda: check_texts(bucket=bucket, key=key))
        self._checked(lambda: check_moment("as_of", as_of))

    def execute(self, context: Context) -> dict[str, Any]:
        """Restore, or find that it is done."""
        check_one_of(version_id=self.version_id or None, as_of=self.as_of or None)
        moment = moment_of("as_of", self.as_of) if self.as_of else None
        ref = ObjectRef(self.bucket, self.key)
        number = context["ti"].try_number

        def work(at: AtWork) -> dict[str, Any]:
            from orbit_airflow.engine.options import CopyOptions
            from orbit_airflow.engine.restore_once import restore_once, version_shown_at

            call = at.engine.call(at.run.cancel)
            wanted = replace(ref, version_id=self.version_id) if moment is None else version_shown_at(call, ref, moment)
            done = restore_once(
                at.engine, wanted, CopyOptions(), at.run.tokens, overwrite_null=self.overwrite_null,
                reporter=at.run.reporter, cancel=at.run.cancel,
            )  # fmt: skip
            shown = call.store.head(replace(ref, version_id=done.version_id))
            return {**_restored(done, shown), "restored_version": wanted.version_id, "try_number": number}

        return self._finished(context, self._at_work(context, ref.uri, work, ref))


class OrbitS3RestorePrefixOperator(OrbitStoreOperator):
    """Put a prefix back as it was at a moment, writing only what differs; or put that back.

    For each key below the prefix the cheapest way: delete markers are taken off, an old version is copied onto its key,
    what was not there then is hidden behind a delete marker, and what is as it was (bytes, headers and metadata) is
    left alone. Nothing is removed for good but those markers.

    The plan is written to ``manifest``, one line of JSON for each change, before the first of them, and is never
    overwritten: it is the undo list. One of three is given: ``as_of`` plans and applies (with ``dry_run`` it only
    plans), ``plan`` applies what an earlier run has planned and a person has approved, ``undo`` puts back what the
    restore of a plan has changed (its copies and markers are removed for good, what was undeleted is deleted again).

    Each key is looked at before it is touched: one that was written since the plan was made is left alone and fails
    (PreconditionFailed). The task then ends with BatchIncomplete, and a retry does what failed.

    **Durable execution.** With ``durable=True`` a try that follows an interrupted one goes on with the same plan, from
    a cursor in the task's state; what the killed try did without saying so is seen, and not done again.

    Guards, before anything is changed: versioning must be enabled (ConfigError), ``as_of`` not in the future
    (ConfigError), the prefix not empty then, unless ``allow_empty``, and not more changes than ``max_changes``
    (BatchRefused).

    The result, as XCom ``return_value``, is a dict of ``bucket``, ``prefix``, ``as_of``, ``manifest``, ``keys`` (looked
    at), ``changes``, ``copy``, ``delete``, ``undelete``, ``bytes`` (to copy), ``dry_run`` and, unless that,
    ``applied`` (``total``, ``successful``, ``failed``, ``skipped``, ``duration``, ``errors``, ``report``, ``complete``,
    ``resumed``).

    :param bucket: the bucket (templated).
    :param prefix: the beginning of the keys that are meant, to the letter (templated); an empty one is the whole
        bucket. Needed with as_of.
    :param as_of: a moment with a time zone, as a datetime or in ISO 8601 (templated), by the store's times: what was
        written in that very second counts as there.
    :param plan: the manifest of an earlier run, to be applied as it is (templated).
    :param undo: the manifest of a restore that is to be put back (templated).
    :param dry_run: whether only the plan is made.
    :param max_changes: a plan with more changes is refused; None: any number.
    :param allow_empty: whether a prefix that was empty then may be emptied.
    :param manifest: where the plan goes, a path or ``s3://bucket/key`` ending in ``.jsonl`` at which nothing is yet
        (templated). None is ``s3://<bucket>/orbit-restore/<dag>/<run>/<task>-<try>.jsonl``.
    :param report: where the outcome of each key goes, a path or ``s3://bucket/prefix/`` (templated); None: nowhere.
    :param max_concurrent: how many keys are worked on at once.
    :param rate_limit: how many requests begin per second; None: as many as go.
    :param durable: whether an interrupted restore is continued by the next try.
    :param retry_policy: Airflow's; None means OrbitRetryPolicy, which fails at once when no retry can help.
    :param aws_conn_id: the ``aws`` connection (templated); None for boto3's own credential chain.
    :param region_name: the region (templated); None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    template_fields: Sequence[str] = (
        "bucket", "prefix", "as_of", "plan", "undo", "manifest", "report", "aws_conn_id", "region_name",
    )  # fmt: skip
    ui_color = "#e8f4e5"

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str | None = None,
        as_of: datetime | str | None = None,
        plan: str | None = None,
        undo: str | None = None,
        dry_run: bool = False,
        max_changes: int | None = None,
        allow_empty: bool = False,
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
        self.as_of = as_of
        self.plan = plan
        self.undo = undo
        self.only_plan = dry_run
        self.max_changes = max_changes
        self.allow_empty = allow_empty
        self.manifest = manifest
        self.report = report
        self.max_concurrent = max_concurrent
        self.rate_limit = rate_limit
        check_one_of(as_of=as_of, plan=plan, undo=undo)
        if as_of is not None and prefix is None:
            raise TypeError("as_of needs a prefix; an empty one is the whole bucket")
        if as_of is None and dry_run:
            raise TypeError("dry_run makes a plan, and plan or undo is one already")
        self._checked(self._check_arguments)

    def _check_arguments(self) -> None:
        from orbit_airflow.engine.batch.config import BatchConfig
        from orbit_airflow.engine.point_in_time import check_max_changes

        check_texts(bucket=self.bucket)
        check_moment("as_of", self.as_of)
        check_max_changes(self.max_changes)
        BatchConfig(max_concurrent=self.max_concurrent, rate_limit=self.rate_limit)

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan, apply, or undo; or go on with it. BatchIncomplete when keys failed."""
        check_one_of(as_of=self.as_of or None, plan=self.plan or None, undo=self.undo or None)
        place = self.manifest or self._place(context, self.bucket, "orbit-restore")
        uri = f"s3://{self.bucket}/{self.prefix or ''}" if self.as_of else str(self.plan or self.undo)
        return self._at_work(context, uri, lambda at: self._done(at, place))

    def _done(self, at: AtWork, place: str) -> dict[str, Any]:
        from orbit_airflow.engine.batch.config import BatchConfig
        from orbit_airflow.engine.batch.verbs import BatchRun
        from orbit_airflow.engine.point_in_time import Moment

        config = BatchConfig(max_concurrent=self.max_concurrent, rate_limit=self.rate_limit)
        run = at.run
        how = BatchRun(report=self.report or None, tokens=run.tokens, reporter=run.reporter, cancel=run.cancel)
        verbs = at.engine.point_in_time
        if self.undo:
            return _summary(verbs.undo(self.bucket, self.undo, config, how))
        if self.plan:
            return _summary(verbs.apply(self.bucket, self.plan, config, how, max_changes=self.max_changes))
        moment = Moment(
            where=KeyPrefix(self.bucket, self.prefix or ""), as_of=moment_of("as_of", self.as_of), manifest=place,
            max_changes=self.max_changes, allow_empty=self.allow_empty,
        )  # fmt: skip
        if self.only_plan:
            return {**verbs.plan(moment, config, how).summary(), "dry_run": True}
        return _summary(verbs.restore(moment, config, how))


def _summary(done: RestoredPrefix) -> dict[str, Any]:
    return {**done.plan.summary(), "dry_run": False, "applied": dict(ended(done.batch, "keys"))}


def _restored(done: RestoreResult, shown: ObjectInfo) -> dict[str, Any]:
    copy, checksum = done.copy, shown.checksum
    return {
        "uri": done.ref.uri, "bucket": done.ref.bucket, "key": done.ref.key, "version_id": done.version_id,
        "changed": done.changed, "not_kept": list(done.not_kept), "etag": shown.etag, "size": shown.size,
        "checksum": f"{checksum.algorithm}:{checksum.value}" if checksum else None,
        "integrity": copy.integrity.value if copy else None,
        "duration": round(copy.duration, 3) if copy else 0.0, "resumed": copy.resumed if copy else False,
        "bytes_copied": copy.bytes_copied if copy else 0, "bytes_saved": copy.bytes_saved if copy else 0,
    }  # fmt: skip
