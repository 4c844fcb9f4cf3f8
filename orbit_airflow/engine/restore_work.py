"""One key of a point-in-time restore: done, or put back. Each looks at the key's versions before it acts.

A plan says what a key showed when it was made (``current``). What lies above that version now tells everything: nothing
(the plan's action is still to be done), the very copy or marker that the plan makes (it is done: by a try that was
killed, or whose answer was lost), or something else (somebody has written meanwhile, and the key is left alone).
So each of the two ways may be repeated as often as is liked, and nothing is done twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, cast

from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.work import Hands, Worker
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.compare import compare_versions
from orbit_airflow.engine.copy import CopyFlow
from orbit_airflow.engine.errors import ConfigError, PreconditionFailed, RequestContext
from orbit_airflow.engine.events import Notice, Reporter, Retrying, TransferEvent
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.plan_file import Line
from orbit_airflow.engine.remove import delete_object
from orbit_airflow.engine.restore_prefix import Action, PlannedAction
from orbit_airflow.engine.tags import set_tags_of_interrupted
from orbit_airflow.engine.token import NoTokens, TokenStore
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.engine.versions import versions_of

# Of a key's versions the newest few are looked at; more of them come only when many markers lie on top.
LOOK = 10
# So many markers above the wanted version are taken off, no more: no key is deleted so often by accident.
MAX_MARKERS = 1000


@dataclass(frozen=True, slots=True)
class PlannedKey(KeyEntry):
    """A line of a plan. ``version_id`` and ``size`` are the wanted version's, or, for a delete, those of what it hides.

    ``current``: the version or marker that the key showed when the plan was made.
    """

    action: Action = Action.LEAVE
    current: str = ""

    def wanted(self, bucket: str) -> ObjectRef:
        """The version that the key shall show."""
        return ObjectRef(bucket, self.key, self.version_id)


def line_of(planned: PlannedAction) -> Line:
    """An action as its line of the plan."""
    current = planned.current
    meant = planned.wanted if planned.wanted is not None else current
    if meant is None or current is None:
        raise ValueError(f"an action without versions: {planned!r}")
    return {
        "key": planned.key, "action": planned.action.value, "version_id": meant.version_id, "size": meant.size,
        "etag": meant.etag or None, "current": current.version_id,
    }  # fmt: skip


def read_line(line: Line) -> PlannedKey:
    """A plan's line, to the letter; ValueError, KeyError or ConfigError for anything else."""
    texts = [line["key"], line["version_id"], line["current"]]
    if not all(isinstance(text, str) and text for text in texts) or type(line["size"]) is not int:
        raise ConfigError("key, version_id and current are texts, size is a number")
    action = Action(line["action"])
    if action is Action.LEAVE:
        raise ConfigError("nothing is to be done with this key")
    key, version, current = cast("list[str]", texts)
    etag = line.get("etag")
    return PlannedKey(key, version, line["size"], str(etag) if etag else None, action=action, current=current)


class _Looking:
    """What both ways share: one key at a time, each looked at first. What is raised is about the key."""

    whole_pages = False
    removes = False
    bucket: str

    def one(self, call: Call, entry: PlannedKey) -> KeyOutcome:
        """One key."""
        raise NotImplementedError  # pragma: no cover - each way has its own

    def worker(self, hands: Hands) -> Worker:
        """At work."""
        return _OneByOne(self, hands.call)

    def words(self) -> list[object]:
        """The plan itself is the source; only the bucket is left to say."""
        return [self.bucket]

    def warnings(self) -> tuple[str, ...]:
        """None: the plan was looked at."""
        return ()

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """A look, and what the action needs."""
        action = cast("PlannedKey", entry).action
        acts = Counter({"HeadObject": 1, "CopyObject": 1}) if action is Action.COPY else Counter({"DeleteObject": 1})
        return Counter({"ListObjectVersions": 1}) + acts


class _OneByOne:
    def __init__(self, way: _Looking, call: Call) -> None:
        self._way = way
        self._call = call

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """One by one; whether for the first time or again makes no difference."""
        del again
        return [self._way.one(self._call, cast("PlannedKey", entry)) for entry in entries]


@dataclass(frozen=True, kw_only=True)
class ApplyRestore(_Looking):
    """Do what the plan says. Copies of more than one CopyObject can carry keep their parts in ``tokens``."""

    bucket: str
    tokens: TokenStore = field(default_factory=NoTokens, compare=False)

    verb = "restore_prefix"

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)

    def one(self, call: Call, entry: PlannedKey) -> KeyOutcome:
        """One key. PreconditionFailed when it does not show any more what the plan saw."""
        if entry.action is Action.UNDELETE:
            return self._undelete(call, entry)
        above = _above(call, self.bucket, entry, entry.current)
        if entry.action is Action.DELETE:
            if above:
                _expect(self.bucket, entry, all(item.delete_marker for item in above))
                return KeyOutcome.done(entry, above[0].version_id)
            return KeyOutcome.done(entry, delete_object(call, ObjectRef(self.bucket, entry.key)).version_id)
        if above:
            _expect(self.bucket, entry, len(above) == 1 and _same(call, self.bucket, entry, above[0]))
            made = above[0].ref(self.bucket)
            set_tags_of_interrupted(call.store, entry.wanted(self.bucket), made, above[0].etag, call.notice)
            return KeyOutcome.done(entry, above[0].version_id)
        tokens = self.tokens if (entry.size or 0) > call.config.limits.max_put_size else NoTokens()
        key = ObjectRef(self.bucket, entry.key)
        # The batch's own progress is told; a start and an end for each of its copies would bury it.
        quiet = replace(call, reporter=_only_trouble(call.reporter))
        result = CopyFlow(quiet, entry.wanted(self.bucket), key, CopyOptions(), tokens).run()
        return KeyOutcome.done(entry, result.version_id, result.not_kept)

    def _undelete(self, call: Call, entry: PlannedKey) -> KeyOutcome:
        above = _above(call, self.bucket, entry, entry.version_id)
        _expect(self.bucket, entry, all(item.delete_marker for item in above))
        for item in above:
            call.store.delete(item.ref(self.bucket))
        return KeyOutcome.done(entry)


@dataclass(frozen=True, kw_only=True)
class UndoRestore(_Looking):
    """Put back what the plan's restore has changed: its copies and markers are removed for good, what it undeleted is
    deleted again. A key that was written since then is left alone and fails.
    """

    bucket: str

    verb = "undo_restore_prefix"

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)

    def one(self, call: Call, entry: PlannedKey) -> KeyOutcome:
        """One key. PreconditionFailed when it shows neither what the restore made nor what was there before."""
        before = "it is as it was before the restore"
        if entry.action is Action.UNDELETE:
            above = _above(call, self.bucket, entry, entry.version_id)
            _expect(self.bucket, entry, all(item.delete_marker for item in above))
            if above:
                return KeyOutcome.skipped(entry, before)
            return KeyOutcome.done(entry, delete_object(call, ObjectRef(self.bucket, entry.key)).version_id)
        above = _above(call, self.bucket, entry, entry.current)
        if not above:
            return KeyOutcome.skipped(entry, before)
        made = above[0]
        ours = made.delete_marker if entry.action is Action.DELETE else _same(call, self.bucket, entry, made)
        _expect(self.bucket, entry, len(above) == 1 and ours)
        call.store.delete(made.ref(self.bucket))
        return KeyOutcome.done(entry)


def _above(call: Call, bucket: str, entry: PlannedKey, version_id: str | None) -> list[ListedVersion]:
    """What lies on the version, newest first. PreconditionFailed when it is not there any more."""
    above: list[ListedVersion] = []
    for item in islice(versions_of(call, ObjectRef(bucket, entry.key), page=LOOK), MAX_MARKERS + 1):
        if item.version_id == version_id:
            return above
        above.append(item)
        # Below a version that nobody planned, nothing needs to be known: two are one too many.
        if len([other for other in above if not other.delete_marker]) > 1:
            break
    else:
        _refuse(bucket, entry, f"version {version_id} is not there any more")
    _refuse(bucket, entry, "it was written since the plan was made")
    raise AssertionError("a refusal raises")  # pragma: no cover


def _same(call: Call, bucket: str, entry: PlannedKey, item: ListedVersion) -> bool:
    """True when the item is a copy of the wanted version, by its bytes where nothing else tells."""
    if item.delete_marker or item.size != entry.size:
        return False
    found = compare_versions(call, entry.wanted(bucket), item.ref(bucket), read_bytes=True)
    return found.content_differs is False


def _only_trouble(reporter: Reporter) -> Reporter:
    def tell(event: TransferEvent) -> None:
        if isinstance(event, Notice | Retrying):
            reporter(event)

    return tell


def _expect(bucket: str, entry: PlannedKey, fine: Any) -> None:
    if not fine:
        _refuse(bucket, entry, "it was written since the plan was made")


def _refuse(bucket: str, entry: PlannedKey, why: str) -> None:
    context = RequestContext("ListObjectVersions", bucket, entry.key)
    raise PreconditionFailed(f"the key is left alone: {why}", context)
