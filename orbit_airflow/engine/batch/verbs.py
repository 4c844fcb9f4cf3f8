"""``engine.batch``: the verbs on many keys, in the guide's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orbit_airflow.engine.batch.change import ChangeStorageClass, Copy, TagObjects, UpdateMetadata
from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.batch.delete import Delete
from orbit_airflow.engine.batch.estimate import BatchPlan, ManifestWriter, Prices, planned
from orbit_airflow.engine.batch.flow import BatchFlow, BatchJob
from orbit_airflow.engine.batch.guards import check_report
from orbit_airflow.engine.batch.own_output import refuse_own_output
from orbit_airflow.engine.batch.report import Report, report_at
from orbit_airflow.engine.batch.result import BatchResult
from orbit_airflow.engine.batch.token import batch_target
from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.keys import KeyEntry, KeyList, KeySource, PrefixKeys
from orbit_airflow.engine.manifest import ManifestKeys
from orbit_airflow.engine.model import MIB, ObjectRef
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.resilience.pace import Pace
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.storage_class import StorageClass
from orbit_airflow.engine.token import NoTokens, TokenStore, state_key
from orbit_airflow.engine.version_keys import VersionKeys

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine

Keys = Sequence[str | tuple[str, str | None]] | KeySource
# A page of a report has at most 1,000 lines.
MAX_REPORT_PAGE = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """How one call of a batch is run, besides its config.

    ``report``: where each key's outcome is written, a path or ``s3://bucket/prefix/``; in a store each run writes below
    ``run-<id>/`` there (``BatchResult.report``), which may not lie below the prefix that is worked on. ``report_by``:
    the engine that writes it there, if not the batch's own (whose credentials may only read). ``tokens``: where the
    cursor is kept, so that a call with the same arguments continues a killed one; they belong to one run of the batch
    (a finished one is not done again). ``reporter`` gets BatchProgress and notices, ``cancel`` ends it (Paused).
    """

    report: str | None = None
    report_by: TransferEngine | None = None
    tokens: TokenStore | None = None
    reporter: Reporter = no_reporter
    cancel: Cancellation | None = None


class Batches:
    """The verbs on many keys of an engine. Keys are a list (of keys, or pairs with a version id) or a KeySource.

    All return a BatchResult, also when keys failed; they raise what is about the batch as a whole. ``run`` takes any
    bucket; the guide's verbs take the configured one.
    """

    def __init__(self, engine: TransferEngine) -> None:
        self._engine = engine

    def run(
        self, work: BatchWork, keys: Keys, config: BatchConfig | None = None, how: BatchRun | None = None
    ) -> BatchResult:
        """Do ``work`` for every key, each exactly once. See ``BatchConfig`` and ``BatchRun``.

        Success means: every key of the source has one outcome, and each that is "done" or "skipped" is as the verb
        wants it. After a kill, a call with the same arguments and ``tokens`` continues; see ``token``.
        """
        chosen, told = config or BatchConfig(), how or BatchRun()
        engine = self._engine
        work, source = with_versions(work, source_of(keys))
        check_report(told.report, source)
        with OperationReporter(told.reporter) as reporter:
            call = engine.call(told.cancel, reporter)
            refuse_own_output(call, work, source)
            pace = Pace(chosen.max_concurrent, chosen.rate_limit, sleep=call.cancel.sleep, clock=call.monotonic)
            store = engine.paced_store(call, pace, chosen.policy)
            job = BatchJob(
                work=work,
                source=source,
                config=chosen,
                call=call,
                paced=_with_policy(replace(call, store=store), chosen),
                pace=pace,
                report=_report(told, engine),
                tokens=told.tokens or NoTokens(),
                ask=engine.paced_store(call, _unpaced(call), chosen.policy.with_max_retries(0)).head,
                clock=call.monotonic,
            )
            return BatchFlow(job).run()

    def forget(self, work: BatchWork, config: BatchConfig | None, how: BatchRun) -> None:
        """Drop the cursor that ``run`` with these arguments has left: the next such call begins anew."""
        if how.tokens is None:
            return
        # What became of a delete of all versions depends on the keys, which are not known here.
        other = replace(work, all_versions=False) if isinstance(work, Delete) else work
        for meant in (work, other):
            target = batch_target(meant.verb, meant.words(), (config or BatchConfig()).page_keys)
            how.tokens.drop(state_key(target))

    def plan(
        self, work: BatchWork, keys: Keys, *, manifest: str | None = None, prices: Prices | None = None,
        cancel: Cancellation | None = None,
    ) -> BatchPlan:  # fmt: skip
        """What ``work`` would do, by reading the source alone; nothing is changed. ``manifest``: a path or address
        ending in ``.jsonl`` to which the keys are written; ``run`` with ManifestKeys of it does exactly this plan.
        """
        call = self._engine.call(cancel)
        work, source = with_versions(work, source_of(keys))
        refuse_own_output(call, work, source)
        with ExitStack() as stack:
            if manifest is None:
                return planned(call, work, source, prices=prices or Prices(), write=_nowhere)
            writer = ManifestWriter(manifest, self._engine.upload)
            stack.callback(writer.close)
            plan = planned(call, work, source, prices=prices or Prices(), write=writer.write)
            return replace(plan, manifest=writer.finish())

    def delete(
        self, keys: Keys, config: BatchConfig | None = None, how: BatchRun | None = None, *, all_versions: bool = False
    ) -> BatchResult:
        """Delete; see ``Delete``. ``all_versions`` of a prefix: each version and marker is a key of the outcome."""
        work = Delete(bucket=self._bucket(), all_versions=all_versions)
        return self.run(work, keys, config, how)

    def copy(
        self, keys: Keys, dest_prefix: str, config: BatchConfig | None = None, how: BatchRun | None = None, *,
        dest_bucket: str | None = None, strip_prefix: str = "", options: CopyOptions | None = None,
    ) -> BatchResult:  # fmt: skip
        """Copy to ``dest_prefix`` + key (without ``strip_prefix``); see ``Copy``. ConfigError for a prefix of which the
        copies would be a part.
        """
        work = Copy(
            bucket=self._bucket(), dest_prefix=dest_prefix, dest_bucket=dest_bucket, strip_prefix=strip_prefix,
            options=options or CopyOptions(),
        )  # fmt: skip
        return self.run(work, keys, config, how)

    def change_storage_class(
        self, keys: Keys, storage_class: StorageClass | str, config: BatchConfig | None = None,
        how: BatchRun | None = None,
    ) -> BatchResult:  # fmt: skip
        """Move to a class; see ``ChangeStorageClass``."""
        return self.run(ChangeStorageClass(bucket=self._bucket(), storage_class=storage_class), keys, config, how)

    def update_metadata(
        self, keys: Keys, metadata: Mapping[str, str], config: BatchConfig | None = None, how: BatchRun | None = None,
        *, replace_all: bool = False,
    ) -> BatchResult:  # fmt: skip
        """Merge metadata in, or replace it; see ``UpdateMetadata``."""
        work = UpdateMetadata(bucket=self._bucket(), metadata=tuple(metadata.items()), replace=replace_all)
        return self.run(work, keys, config, how)

    def tag_objects(
        self, keys: Keys, tags: Mapping[str, str], config: BatchConfig | None = None, how: BatchRun | None = None,
        *, replace_all: bool = False,
    ) -> BatchResult:  # fmt: skip
        """Merge tags in, or replace them; see ``TagObjects``."""
        work = TagObjects(bucket=self._bucket(), tags=tuple(tags.items()), replace=replace_all)
        return self.run(work, keys, config, how)

    def _bucket(self) -> str:
        if self._engine.config.bucket is None:
            raise ConfigError("this needs EngineConfig(bucket=...); batch.run takes a work with any bucket")
        return self._engine.config.bucket


def _report(told: BatchRun, engine: TransferEngine) -> Report:
    writer = told.report_by or engine

    def keep(ref: ObjectRef, data: bytes) -> object:
        return writer.upload_bytes(data, ref)

    def page(ref: ObjectRef) -> bytes:
        return writer.download_bytes(ref, max_size=MAX_REPORT_PAGE)

    return report_at(told.report, keep, page)


def source_of(keys: Keys) -> KeySource:
    """A list as a source; anything else must be one. ConfigError for a single text, and for what cannot be read again
    in the same order behind a kill: a generator, a set.
    """
    if isinstance(keys, str | bytes):
        raise ConfigError("keys is a list of keys or a source of keys, not one text")
    if not isinstance(keys, Sequence) and not hasattr(keys, "pages"):
        raise ConfigError(
            f"keys is a list of keys or a source of keys, not a {type(keys).__name__}: list(...) makes one"
        )
    return KeyList(keys) if isinstance(keys, Sequence) else keys


def with_versions(work: BatchWork, source: KeySource) -> tuple[BatchWork, KeySource]:
    """What deletes all versions, if ``work`` is to: those of a prefix are listed as such, and an Inventory's rows of
    hidden keys and older versions are meant, too.
    """
    if not isinstance(work, Delete) or not work.all_versions:
        return work, source
    if isinstance(source, PrefixKeys):
        source = VersionKeys(where=source.where, select=source.select, whole_bucket=source.whole_bucket)
    elif isinstance(source, ManifestKeys) and source.format == "inventory":
        source = replace(source, all_versions=True)
    # Each of these is a version already, and a thousand go with one request.
    return (replace(work, all_versions=False) if isinstance(source, VersionKeys) else work), source


def _with_policy(call: Call, config: BatchConfig) -> Call:
    """The verbs' own repetitions (a lost answer that is looked up) by the batch's policy."""
    return replace(call, config=replace(call.config, retry=config.policy, max_retries=config.max_retries))


def _unpaced(call: Call) -> Pace:
    """For the question whether the store is well, which the workers' pace must not hold back."""
    return Pace(1, None, sleep=call.cancel.sleep, clock=call.monotonic)


def _nowhere(entry: KeyEntry) -> None:
    del entry
