"""Old versions: what they cost, and their removal by a plan that is written down first."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.batch.delete import Deleter
from orbit_airflow.engine.batch.result import BatchResult, KeyOutcome
from orbit_airflow.engine.batch.token import batch_target
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.batch.work import Hands, Unfinished, Worker
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import BatchRefused, ConfigError, NotFound
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.plan_file import Line, PlanLines, PlanPlace
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.prune_plan import Keep, VersionCosts, prunable
from orbit_airflow.engine.token import NoTokens, TokenStore, state_key
from orbit_airflow.engine.versioning import NULL, ListedVersion
from orbit_airflow.engine.versions import every_version

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine

KIND = "prune-versions"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What may go, written to ``manifest``: ``count`` versions and markers with ``bytes``. ``costs``: of the whole
    prefix when the plan was made.
    """

    bucket: str
    prefix: str
    manifest: str
    count: int
    bytes: int
    costs: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What became of a plan: of each of its versions, in ``batch``. One that Object Lock protects is a failure there
    with the store's code.
    """

    plan: PrunePlan
    batch: BatchResult


class OldVersions:
    """``engine.old_versions``: costs, plan, prune."""

    def __init__(self, engine: TransferEngine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def costs(self, where: KeyPrefix, keep: Keep | None = None, how: BatchRun | None = None) -> VersionCosts:
        """What the versions below a prefix cost, and what ``keep`` would let go. One listing; nothing is changed."""
        costs = VersionCosts()
        call = self._engine.call(how.cancel if how is not None else None)
        for _ in prunable(every_version(call, where), keep or Keep(), self._now(), costs):
            pass
        return costs

    def plan(self, where: KeyPrefix, keep: Keep, manifest: str, how: BatchRun | None = None) -> PrunePlan:
        """Write down what ``keep`` lets go, and remove nothing. ``manifest``: a path or ``s3://bucket/key`` ending in
        ``.jsonl``, at which nothing is yet. With ``how.tokens`` a later try returns the plan that is there.
        """
        if not keep.chooses:
            raise ConfigError("give keep_last or older_than; without them every version stays")
        told = how or BatchRun()
        with OperationReporter(told.reporter) as reporter:
            call = self._engine.call(told.cancel, reporter)
            place = self._place(where, keep, manifest, told.tokens or NoTokens())
            kept = place.kept(call, _lines(where.bucket, manifest))
            if kept is not None:
                call.notice(f"going on with the plan of an earlier try, {kept}")
                return _read(call, _lines(where.bucket, kept))
            costs = VersionCosts()
            chosen = prunable(every_version(call, where), keep, self._now(), costs)
            head = {"plan": KIND, "bucket": where.bucket, "prefix": where.prefix}
            written = place.write(head, map(_line_of, chosen), lambda: {"costs": costs.summary()})
            return _read(call, _lines(where.bucket, written))

    def prune(
        self, where: KeyPrefix, keep: Keep, manifest: str, config: BatchConfig | None = None,
        how: BatchRun | None = None, *, max_changes: int | None = None,
    ) -> Pruned:  # fmt: skip
        """``plan``, then remove for good what it names. What a key shows is never removed, also when it has become so
        since the plan was made: that is looked at, one HEAD for each key of a page. BatchRefused for more than
        ``max_changes``. With ``how.tokens`` a call with the same arguments continues a killed one.
        """
        plan = self.plan(where, keep, manifest, how)
        if max_changes is not None and plan.count > max_changes:
            raise BatchRefused(
                f"{plan.count} versions would be removed, more than {max_changes} (max_changes); nothing was removed. "
                f"The plan is {plan.manifest}"
            )
        work, chosen, told = Prune(bucket=where.bucket), config or BatchConfig(), how or BatchRun()
        result = self._engine.batch.run(work, _lines(where.bucket, plan.manifest), chosen, told)
        if result.failed and told.tokens is not None:
            # What failed may succeed later; a version that is gone already is a success.
            told.tokens.drop(state_key(batch_target(work.verb, work.words(), chosen.page_keys)))
        return Pruned(plan=plan, batch=result)

    def _place(self, where: KeyPrefix, keep: Keep, manifest: str, tokens: TokenStore) -> PlanPlace:
        def upload(name: str, ref: ObjectRef) -> object:
            return self._engine.upload(name, ref, UploadOptions(replace=False))

        words = [KIND, where.bucket, where.prefix, keep.keep_last, str(keep.older_than)]
        target = hashlib.sha256(json.dumps(words).encode()).hexdigest()
        return PlanPlace(place=manifest, target=target, tokens=tokens, upload=upload)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Remove versions for good, by the page; those that their keys show are skipped."""

    bucket: str

    verb = "prune_versions"
    whole_pages = True
    removes = True

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)

    def words(self) -> list[object]:
        """The plan itself is the source; only the bucket is left to say."""
        return [self.bucket]

    def worker(self, hands: Hands) -> Worker:
        """At work."""
        return _Pruner(self.bucket, hands)

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """A share of a page's request, and at most one look."""
        del entry
        return Counter({"HeadObject": 1, "DeleteObjects/1000": 1})

    def warnings(self) -> tuple[str, ...]:
        """Removing is for good."""
        return ("versions are removed for good; nothing brings them back",)


class _Pruner:
    def __init__(self, bucket: str, hands: Hands) -> None:
        self._bucket = bucket
        self._call = hands.call
        self._deleter = Deleter(bucket, hands)

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """What is shown now is kept."""
        shown = {key: self._shown(key) for key in dict.fromkeys(entry.key for entry in entries)}
        kept = [
            KeyOutcome.skipped(entry, "it is what its key shows now")
            for entry in entries
            if entry.version_id == shown[entry.key]
        ]
        left = [entry for entry in entries if entry.version_id != shown[entry.key]]
        if not left:
            return kept
        try:
            return kept + self._deleter.do(left, again=again)
        except Unfinished as exc:
            raise Unfinished(exc.error, kept + exc.ended, exc.left) from exc

    def _shown(self, key: str) -> str | None:
        """The version that a key shows; None for a marker, and for a key without versions."""
        try:
            return self._call.store.head(ObjectRef(self._bucket, key)).version_id or NULL
        except NotFound as exc:
            if exc.context.code == "NoSuchBucket":
                raise
            return None


def _line_of(item: ListedVersion) -> Line:
    marker = True if item.delete_marker else None
    return {"key": item.key, "version_id": item.version_id, "size": item.size, "delete_marker": marker}


def _entry_of(line: Line) -> KeyEntry:
    if not (isinstance(line["key"], str) and isinstance(line["version_id"], str) and line["version_id"]):
        raise ConfigError("a line names a key and a version")
    if type(line["size"]) is not int:
        raise ConfigError("size is a number")
    return KeyEntry(line["key"], line["version_id"], line["size"])


def _lines(bucket: str, manifest: str) -> PlanLines:
    return PlanLines(bucket=bucket, place=manifest, format="jsonl", kind=KIND, read=_entry_of)


def _read(call: Call, lines: PlanLines) -> PrunePlan:
    count = size = 0
    for entry in lines.entries(call):
        count += 1
        size += entry.size or 0
    head, tail = lines.ends(call)
    costs = tail.get("costs")
    return PrunePlan(
        bucket=lines.bucket, prefix=str(head.get("prefix", "")), manifest=lines.place, count=count, bytes=size,
        costs=costs if isinstance(costs, dict) else {},
    )  # fmt: skip
