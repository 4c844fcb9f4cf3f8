"""Deleting by the thousand, without a second delete marker, whatever becomes of the answers.

A DeleteObjects without version ids is not idempotent where versions are kept: each call lays one more marker. So a key
of which nobody knows whether it was deleted (the answer was lost, forgot the key, or says InternalError for it) is
looked up before it is named again; one listing does for a page. On a bucket that was seen to keep no versions the key
is named again at once, which does no harm there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.work import Hands, Unfinished, Worker
from orbit_airflow.engine.errors import (
    AccessDenied,
    Network,
    NotFound,
    OrbitError,
    RequestContext,
    StoreError,
    Unavailable,
)
from orbit_airflow.engine.keys import MAX_PAGE_KEYS, KeyEntry
from orbit_airflow.engine.model import DeleteOutcome, KeyPrefix, ObjectRef
from orbit_airflow.engine.remove import delete_object
from orbit_airflow.engine.resilience.outcome import outcome_unknown, repeatable, surely_undone
from orbit_airflow.engine.store import DeleteItem, ListRequest
from orbit_airflow.engine.versions import versions_of

# A page's keys may lie far apart in the bucket: so many listings are tried before each key is asked for alone.
MAX_LISTINGS = 3
_GONE = frozenset({"NoSuchKey", "NoSuchVersion"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete objects of ``bucket``. An entry with a version id loses that version for good; one without is hidden
    behind a delete marker where versions are kept. A key that is not there is a success.

    ``all_versions``: an entry without a version id loses all its versions and markers, for good. For a prefix give
    ``VersionKeys`` instead: a listing of objects does not show keys that are hidden behind a marker.
    """

    bucket: str
    all_versions: bool = False

    verb = "delete"
    removes = True

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)

    @property
    def whole_pages(self) -> bool:
        """A thousand to a request; of all versions each key has pages of its own."""
        return not self.all_versions

    def words(self) -> list[object]:
        """All that changes what is done."""
        return [self.bucket, "all versions"] if self.all_versions else [self.bucket]

    def worker(self, hands: Hands) -> Worker:
        """At work."""
        deleter = Deleter(self.bucket, hands)
        return Eraser(self.bucket, hands, deleter) if self.all_versions else deleter

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """Its share of a page's request; of all versions, those of a key with fewer than 1,000 of them."""
        if self.all_versions and entry.version_id is None:
            return Counter({"ListObjectVersions": 1, "DeleteObjects": 1})
        return Counter({"DeleteObject" if _odd(entry.key) else "DeleteObjects/1000": 1})

    def warnings(self) -> tuple[str, ...]:
        """Deleting has no minimum price, but classes have."""
        return (
            "an object that is deleted before its class's minimum duration is over is billed as if it stayed",
            "where versions are kept, a delete without version ids frees no space",
        )


class Deleter:
    """Deletes pages. ``None`` in ``_keeps_versions``: no answer has shown it yet."""

    def __init__(self, bucket: str, hands: Hands) -> None:
        self._bucket = bucket
        self._hands = hands
        self._call = hands.call
        self._keeps_versions: bool | None = None

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """Each (key, version) once, however often it is named."""
        unique = {(entry.key, entry.version_id): entry for entry in entries}
        page = _Page({item: entry for item, entry in unique.items() if not _odd(entry.key)})
        try:
            self._work(page, again=again)
        except StoreError as exc:
            left = tuple(entry for item, entry in unique.items() if item not in page.outcomes)
            raise Unfinished(exc, list(page.outcomes.values()), left) from exc
        for item in page.left:
            page.outcomes[item] = KeyOutcome.failed(page.entries[item], page.errors[item])
        odd = {item: self._alone(entry) for item, entry in unique.items() if item not in page.entries}
        return [(odd.get(item) or page.outcomes[item]) for item in unique]

    def _work(self, page: _Page, *, again: bool) -> None:
        """Until nothing is left or the attempts are spent. Raises what is about all that is left."""
        if again:
            self._drop_gone(page, list(page.left))
        for attempt in range(1, self._hands.policy.max_attempts + 1):
            if attempt > 1:
                self._hands.pause(attempt - 1, page.worst, self._call.rng)
                self._drop_gone(page, [item for item in page.left if item in page.unclear])
            if page.left:
                self._request(page)
            if not page.left:
                return
        if page.lost is not None:
            raise page.lost

    def _request(self, page: _Page) -> None:
        """One DeleteObjects of what is left, and what it says of each key."""
        try:
            result = self._call.store.delete_many(self._bucket, list(page.left))
        except Network as exc:
            if not outcome_unknown(exc):
                raise
            self._call.notice(f"the answer to DeleteObjects was lost ({exc.message}); looking what is there")
            page.blame(page.left, exc, unclear=True)
            page.lost = exc
            return
        page.lost = None
        learnt = [one.receipt.delete_marker for one in result.outcomes if one.receipt and not one.version_id]
        if learnt:
            self._keeps_versions = bool(self._keeps_versions) or any(learnt)
        for one in result.outcomes:
            self._take(page, one)

    def _take(self, page: _Page, one: DeleteOutcome) -> None:
        item = (one.key, one.version_id)
        entry, error = page.entries[item], one.error
        if one.receipt is not None:
            page.end(item, KeyOutcome.done(entry, one.receipt.version_id if not one.version_id else None))
        elif error is None:
            silent = Unavailable(
                "the answer does not name the key", RequestContext("DeleteObjects", self._bucket, one.key)
            )
            page.blame([item], silent, unclear=True)
        elif isinstance(error, NotFound) and error.context.code in _GONE:
            page.end(item, KeyOutcome.done(entry))
        elif repeatable(error):
            page.blame([item], error, unclear=not surely_undone(error))
        else:
            page.end(item, KeyOutcome.failed(entry, error))

    def _drop_gone(self, page: _Page, items: Sequence[DeleteItem]) -> None:
        """Of these keys, those that show no object are done already."""
        asked = [key for key, version in items if version is None]
        if not asked or self._keeps_versions is False:
            return
        shown = self._shown(asked)
        for key in asked:
            if key not in shown:
                page.end((key, None), KeyOutcome.done(page.entries[key, None]))

    def _shown(self, keys: list[str]) -> set[str]:
        """Those of the keys that show an object; all of them where one may not look, since a second marker is better
        than an object that was to go.
        """
        names = sorted(keys, key=str.encode)
        shown: set[str] = set()
        try:
            unseen = self._listed(names, shown) if len(names) > 1 else names
            shown.update(key for key in unseen if self._exists(key))
        except AccessDenied:
            self._call.notice("these credentials may not look at what is there; the keys are named again")
            return set(keys)
        return shown

    def _listed(self, names: list[str], shown: set[str]) -> list[str]:
        """What a few listings show of the sorted names; returns the names behind them."""
        request = ListRequest(
            where=KeyPrefix(self._bucket, _common(names[0], names[-1])), start_after=_before(names[0])
        )
        wanted = set(names)
        for _ in range(MAX_LISTINGS):
            page = self._call.store.list_objects(request)
            shown.update(item.key for item in page.objects if item.key in wanted)
            if page.continuation_token is None:
                return []
            last = page.objects[-1].key if page.objects else None
            if last is not None and last.encode() >= names[-1].encode():
                return []
            request = replace(request, token=page.continuation_token, start_after=None)
        return [name for name in names if last is None or name.encode() > last.encode()]

    def _exists(self, key: str) -> bool:
        try:
            self._call.store.head(ObjectRef(self._bucket, key))
        except NotFound:
            return False
        return True

    def _alone(self, entry: KeyEntry) -> KeyOutcome:
        """By a DeleteObject: the key is one that XML carries badly or not at all."""
        try:
            receipt = delete_object(self._call, entry.ref(self._bucket))
        except StoreError as exc:
            return KeyOutcome.failed(entry, exc)
        return KeyOutcome.done(entry, receipt.version_id if entry.version_id is None else None)


class Eraser:
    """Deletes all versions of one key after the other, by pages of a Deleter's."""

    def __init__(self, bucket: str, hands: Hands, deleter: Deleter) -> None:
        self._bucket = bucket
        self._hands = hands
        self._deleter = deleter

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """One by one. What an entry's version id names is deleted alone."""
        return [self._erase(entry, again=again) for entry in entries]

    def _erase(self, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """Until a listing shows nothing that was not tried."""
        if entry.version_id is not None:
            return self._deleter.do([entry], again=again)[0]
        failed: dict[str, KeyOutcome] = {}
        while versions := self._left(entry, failed):
            for outcome in self._deleter.do([KeyEntry(entry.key, version) for version in versions], again=again):
                if not outcome.ok:
                    failed[outcome.version_id or ""] = outcome
            if len(failed) >= MAX_PAGE_KEYS:
                break
        if not failed:
            return KeyOutcome.done(entry)
        first = next(iter(failed.values()))
        return replace(first, version_id=None, message=f"{len(failed)} versions are left, the first: {first.message}")

    def _left(self, entry: KeyEntry, failed: dict[str, KeyOutcome]) -> list[str]:
        listed = versions_of(self._hands.call, entry.ref(self._bucket))
        return list(islice((item.version_id for item in listed if item.version_id not in failed), MAX_PAGE_KEYS))


class _Page:
    """What is left of a page, and why."""

    def __init__(self, entries: dict[DeleteItem, KeyEntry]) -> None:
        self.entries = entries
        self.left = dict.fromkeys(entries)
        self.outcomes: dict[DeleteItem, KeyOutcome] = {}
        self.errors: dict[DeleteItem, OrbitError] = {}
        self.unclear: set[DeleteItem] = set()
        self.worst: OrbitError | None = None
        self.lost: StoreError | None = None

    def end(self, item: DeleteItem, outcome: KeyOutcome) -> None:
        self.outcomes[item] = outcome
        self.left.pop(item, None)

    def blame(self, items: Sequence[DeleteItem] | dict[DeleteItem, None], error: OrbitError, *, unclear: bool) -> None:
        """These are left with this error; ``unclear``: they may be deleted all the same."""
        self.worst = error
        for item in items:
            self.errors[item] = error
            if unclear:
                self.unclear.add(item)
            else:
                self.unclear.discard(item)


def _odd(key: str) -> bool:
    """Keys that come back from XML as others, or not at all: control characters, and white space at an end."""
    return key != key.strip() or any(char < " " or char in "\x7f\ufffe\uffff" for char in key)


def _common(first: str, last: str) -> str:
    """What both begin with, and so every name that sorts between them."""
    pairs = zip(first, last, strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _before(key: str) -> str:
    """A text that sorts before ``key``, and behind most keys before it."""
    last = ord(key[-1])
    if 0x21 < last < 0x7F:
        return key[:-1] + chr(last - 1) + ("~" if len(key.encode()) < 1024 else "")
    return key[:-1]
