"""A prefix as it was at a moment: planned, written down, done with a cursor, and put back by the same plan."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.batch.result import BatchResult
from orbit_airflow.engine.batch.token import batch_target
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.compare import decided
from orbit_airflow.engine.errors import BatchRefused, ConfigError, NotFound
from orbit_airflow.engine.model import KeyPrefix, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.plan_file import PlanLines, PlanPlace
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.restore_prefix import Action, PlannedAction, plan_restore
from orbit_airflow.engine.restore_work import ApplyRestore, PlannedKey, UndoRestore, line_of, read_line
from orbit_airflow.engine.runner import run_all
from orbit_airflow.engine.token import NoTokens, TokenStore, state_key
from orbit_airflow.engine.versioning import VersioningState
from orbit_airflow.engine.versions import every_version

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine

KIND = "restore-prefix"
# So many keys are compared at once while a plan is made.
COMPARED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What to restore. ``as_of`` has a time zone; ``manifest`` (a path or ``s3://bucket/key`` ending in ``.jsonl``, at
    which nothing is yet) is where the plan goes.

    Guards, all before anything is changed: ``max_changes`` refuses a plan with more changes; a prefix without any
    version, or one that was empty then, is refused unless ``allow_empty`` (BatchRefused).
    """

    where: KeyPrefix
    as_of: datetime
    manifest: str
    max_changes: int | None = None
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.as_of, datetime) or self.as_of.tzinfo is None:
            raise ConfigError(f"as_of is a datetime with a time zone, got {self.as_of!r}")
        check_max_changes(self.max_changes)

    def target(self) -> str:
        """What the plan's token is bound to. The manifest's name is not in it: it may hold the try's number."""
        text = json.dumps([KIND, self.where.bucket, self.where.prefix, self.as_of.astimezone(UTC).isoformat()])
        return hashlib.sha256(text.encode()).hexdigest()


def check_max_changes(value: object) -> None:
    """ConfigError for what is no number of changes."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ConfigError(f"max_changes is a whole number or None, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """A plan that was written to ``manifest``. Keys to ``copy``, to ``delete`` (they were not there), to ``undelete``;
    ``bytes`` of those to copy. ``keys``: all that were looked at, also those that are as they were.
    """

    bucket: str
    prefix: str
    as_of: str
    manifest: str
    keys: int
    copy: int = 0
    delete: int = 0
    undelete: int = 0
    bytes: int = 0

    @property
    def changes(self) -> int:
        """Keys that will be changed."""
        return self.copy + self.delete + self.undelete

    def summary(self) -> dict[str, Any]:
        """As JSON values, small enough for an XCom."""
        return {
            "bucket": self.bucket, "prefix": self.prefix, "as_of": self.as_of, "manifest": self.manifest,
            "keys": self.keys, "changes": self.changes, "copy": self.copy, "delete": self.delete,
            "undelete": self.undelete, "bytes": self.bytes,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredPrefix:
    """What became of a plan: of each of its changes, in ``batch``."""

    plan: RestorePlan
    batch: BatchResult


@dataclass(slots=True)
class _Tally:
    keys: int = 0
    there: int = 0
    actions: Counter[Action] = field(default_factory=Counter)


class PointInTime:
    """``engine.point_in_time``: plan, apply, undo. All raise what is about the whole; a key that could not be done is a
    failure in the result's ``batch``.
    """

    def __init__(self, engine: TransferEngine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def plan(
        self, moment: Moment, config: BatchConfig | None = None, how: BatchRun | None = None
    ) -> RestorePlan:  # fmt: skip
        """Say, in the manifest, what has to be done, and do nothing. One listing of all versions, and two HEADs for
        each key whose wanted and present versions have one size.

        Least, not most: a key whose present version has the bytes, headers and metadata of the wanted one is left
        alone. With ``how.tokens`` a later try returns the plan that is there. ``max_changes`` is not looked at here.
        ConfigError when versioning is not enabled, or ``as_of`` is in the future.
        """
        chosen, told = config or BatchConfig(), how or BatchRun()
        with OperationReporter(told.reporter) as reporter:
            call = self._engine.call(told.cancel, reporter)
            place = self._place(moment, told.tokens or NoTokens())
            lines = plan_lines(moment.where.bucket, moment.manifest)
            kept = place.kept(call, lines)
            if kept is not None:
                call.notice(f"going on with the plan of an earlier try, {kept}")
                return read_plan(call, plan_lines(moment.where.bucket, kept))
            self._check(call, moment)
            tally = _Tally()
            lines_made = self._lines(call, moment, chosen, tally)
            written = place.write(_head(moment), lines_made, lambda: {"keys": tally.keys})
            return read_plan(call, plan_lines(moment.where.bucket, written))

    def restore(
        self, moment: Moment, config: BatchConfig | None = None, how: BatchRun | None = None
    ) -> RestoredPrefix:  # fmt: skip
        """``plan``, then ``apply``. With ``how.tokens`` a call with the same arguments continues a killed one, by the
        plan that was made first.
        """
        plan = self.plan(moment, config, how)
        return self._run(plan, moment.max_changes, config, how, undo=False)

    def apply(
        self, bucket: str, manifest: str, config: BatchConfig | None = None, how: BatchRun | None = None, *,
        max_changes: int | None = None,
    ) -> RestoredPrefix:  # fmt: skip
        """Do what a plan says that was made before, and nothing else. A key that was written since then is left alone,
        and is a failure (PreconditionFailed).
        """
        check_max_changes(max_changes)
        return self._run(self._read(bucket, manifest, how), max_changes, config, how, undo=False)

    def undo(
        self, bucket: str, manifest: str, config: BatchConfig | None = None, how: BatchRun | None = None
    ) -> RestoredPrefix:  # fmt: skip
        """Put back what the restore of this plan has changed, whole or half: its copies and markers are removed for
        good, what it undeleted is deleted again. A key that was written since then is left alone, and is a failure.
        """
        return self._run(self._read(bucket, manifest, how), None, config, how, undo=True)

    def _read(self, bucket: str, manifest: str, how: BatchRun | None) -> RestorePlan:
        call = self._engine.call(how.cancel if how is not None else None)
        return read_plan(call, plan_lines(bucket, manifest))

    def _run(
        self, plan: RestorePlan, most: int | None, config: BatchConfig | None, how: BatchRun | None, *, undo: bool
    ) -> RestoredPrefix:
        told = how or BatchRun()
        if most is not None and plan.changes > most:
            raise BatchRefused(
                f"{plan.changes} keys would be changed, more than {most} (max_changes); nothing was changed. "
                f"The plan is {plan.manifest}"
            )
        call = self._engine.call(told.cancel)
        _check_versioning(call, plan.bucket)
        kept = told.tokens or NoTokens()
        work: BatchWork = UndoRestore(bucket=plan.bucket) if undo else ApplyRestore(bucket=plan.bucket, tokens=kept)
        chosen = config or BatchConfig()
        result = self._engine.batch.run(work, plan_lines(plan.bucket, plan.manifest), chosen, told)
        if result.failed:
            # What failed may succeed later, and what is done is seen to be done.
            kept.drop(state_key(batch_target(work.verb, work.words(), chosen.page_keys)))
        return RestoredPrefix(plan=plan, batch=result)

    def _place(self, moment: Moment, tokens: TokenStore) -> PlanPlace:
        def upload(name: str, ref: ObjectRef) -> object:
            return self._engine.upload(name, ref, UploadOptions(replace=False))

        return PlanPlace(place=moment.manifest, target=moment.target(), tokens=tokens, upload=upload)

    def _check(self, call: Call, moment: Moment) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        if moment.as_of > now:
            raise ConfigError(f"as_of {moment.as_of.isoformat()} is in the future; it is {now.isoformat()}")
        _check_versioning(call, moment.where.bucket)

    def _lines(self, call: Call, moment: Moment, config: BatchConfig, tally: _Tally) -> Iterator[dict[str, Any]]:
        planned = plan_restore(every_version(call, moment.where), moment.as_of)
        while some := list(islice(planned, COMPARED_AT_ONCE)):
            for item in self._least(call, moment.where.bucket, some, config.max_concurrent):
                tally.keys += 1
                tally.there += item.action is not Action.DELETE and item.wanted is not None
                tally.actions[item.action] += 1
                if item.action is not Action.LEAVE:
                    yield line_of(item)
        if not moment.allow_empty and not tally.there and (not tally.keys or tally.actions[Action.DELETE]):
            uri = f"s3://{moment.where.bucket}/{moment.where.prefix}"
            what = "would delete all that is there now" if tally.keys else "finds no version of any key"
            raise BatchRefused(f"nothing was at {uri} at {moment.as_of.isoformat()}; a restore {what} (allow_empty)")

    def _least(self, call: Call, bucket: str, items: list[PlannedAction], workers: int) -> list[PlannedAction]:
        """The same without copies of what is there already."""

        def look(index: int, at: int) -> tuple[int, bool]:
            del index
            return at, _shown_already(call, bucket, items[at])

        asked = [at for at, item in enumerate(items) if _comparable(item)]
        if asked:
            workers = min(workers, len(asked))
            for at, same in run_all(asked, look, workers=workers, cancel=call.cancel, name="orbit-plan"):
                if same:
                    items[at] = replace(items[at], action=Action.LEAVE)
        return items


def plan_lines(bucket: str, manifest: str) -> PlanLines:
    """A plan's changes as a batch's source."""
    return PlanLines(bucket=bucket, place=manifest, format="jsonl", kind=KIND, read=read_line)


def read_plan(call: Call, lines: PlanLines) -> RestorePlan:
    """A plan that is there, read to its end. ConfigError when it is none, or not whole."""
    counts, size = Counter[Action](), 0
    for entry in lines.entries(call):
        planned = cast("PlannedKey", entry)
        counts[planned.action] += 1
        size += (planned.size or 0) if planned.action is Action.COPY else 0
    head, tail = lines.ends(call)
    looked_at = tail.get("keys")
    return RestorePlan(
        bucket=lines.bucket, prefix=str(head.get("prefix", "")), as_of=str(head.get("as_of", "")),
        manifest=lines.place, keys=looked_at if type(looked_at) is int else counts.total(),
        copy=counts[Action.COPY], delete=counts[Action.DELETE], undelete=counts[Action.UNDELETE], bytes=size,
    )  # fmt: skip


def _head(moment: Moment) -> Mapping[str, Any]:
    where = moment.where
    return {
        "plan": KIND, "bucket": where.bucket, "prefix": where.prefix, "as_of": moment.as_of.astimezone(UTC).isoformat(),
    }  # fmt: skip


def _check_versioning(call: Call, bucket: str) -> None:
    """Suspended is not enough: every copy and marker would overwrite a version "null" for good."""
    state = call.store.get_versioning(bucket).status
    if state is not VersioningState.ENABLED:
        raise ConfigError(f"versioning of {bucket} is {state}; a restore that can be undone needs it enabled")


def _comparable(item: PlannedAction) -> bool:
    current, wanted = item.current, item.wanted
    if item.action is not Action.COPY or current is None or wanted is None:
        return False
    return not current.delete_marker and current.size == wanted.size


def _shown_already(call: Call, bucket: str, item: PlannedAction) -> bool:
    """True when the present version is the wanted one in all that a reader sees: bytes, headers, metadata."""
    versions = [version for version in (item.wanted, item.current) if version is not None]
    try:
        wanted, current = (call.store.head(version.ref(bucket)) for version in versions)
    except NotFound:
        # Removed for good since the listing; the restore itself will say so.
        return False
    return decided(wanted, current)[0] is False and _dress(wanted) == _dress(current)


def _dress(info: ObjectInfo) -> tuple[object, ...]:
    metadata = tuple(sorted((name, value) for name, value in info.metadata if name != MARK))
    return metadata, info.headers
