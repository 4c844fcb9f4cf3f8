"""Deleting by the thousand, without a second delete marker, whatever becomes of the answers.

A DeleteObjects without version ids is not idempotent where versions are kept: each call lays one more marker. So a key
of which nobody knows whether it was deleted (the answer was lost, forgot the key, or says InternalError for it) is
looked up before it is named again; one listing does for a page. On a bucket that was seen to keep no versions the key
is named again at once, which does no harm there.

What a manifest names with an ETag (a plan does) is deleted only while it still has it: it is looked at right before
each request that names it. DeleteObjects can carry ETags itself, but a store that does not know them deletes all the
same, so only the look holds everywhere; what is written between the look and the request is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from orbit_airflow.engine.batch.judge import about_all
from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.shown import Shown
from orbit_airflow.engine.batch.work import Hands, Unfinished, Worker
from orbit_airflow.engine.errors import (
    AccessDenied,
    CircuitOpen,
    Network,
    NotFound,
    OrbitError,
    PreconditionFailed,
    RequestContext,
    StoreError,
    Throttled,
    Unavailable,
)
from orbit_airflow.engine.keys import MAX_PAGE_KEYS, KeyEntry
from orbit_airflow.engine.model import DeleteOutcome, KeyPrefix
from orbit_airflow.engine.remove import delete_object
from orbit_airflow.engine.resilience.outcome import outcome_unknown, repeatable, surely_undone
from orbit_airflow.engine.store import DeleteItem
from orbit_airflow.engine.versioning import NULL
from orbit_airflow.engine.versions import versions_of

# So many keys that are asked for one by one may take longer than operation_timeout allows a page.
MANY_LOOKS = 50
_GONE = frozenset({"NoSuchKey", "NoSuchVersion"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete objects of ``bucket``. An entry with a version id loses that version for good; one without is hidden
    behind a delete marker where versions are kept. A key that is not there is a success. An entry that a manifest gives
    with an ETag fails with PreconditionFailed when another object is there now.

    ``all_versions``: an entry without a version id loses all its versions and markers, for good. Of a prefix each
    version and marker is a key of the outcome, as with ``VersionKeys``, and keys hidden behind a marker go, too.
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
        self._shown = Shown(hands.call, bucket)
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
        self._singly([item for item in unique if item not in page.entries], unique, page.outcomes, again=again)
        return [page.outcomes[item] for item in unique]

    def _work(self, page: _Page, *, again: bool) -> None:
        """Until nothing is left or the attempts are spent. Raises what is about all that is left."""
        if again:
            self._drop_gone(page, list(page.left))
        for attempt in range(1, self._hands.policy.max_attempts + 1):
            if attempt > 1:
                self._hands.pause(attempt - 1, page.worst, self._call.rng)
                self._drop_gone(page, [item for item in page.left if item in page.unclear])
            self._drop_changed(page)
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
        asked = [key for key, version in items if version is None and not self._pinned(page.entries[key, None])]
        if not asked or self._keeps_versions is False:
            return
        there = self._there(asked)
        for key in asked:
            if key not in there:
                page.end((key, None), KeyOutcome.done(page.entries[key, None]))

    def _there(self, keys: list[str]) -> set[str]:
        """Those of the keys that show an object; all of them where one may not look, since a second marker is better
        than an object that was to go.
        """
        try:
            listed, unseen = self._shown.listed(keys)
            return set(listed) | {key for key in unseen if self._shown.etag(key) is not None}
        except AccessDenied:
            self._call.notice("these credentials may not look at what is there; the keys are named again")
            return set(keys)

    def _pinned(self, entry: KeyEntry) -> bool:
        """True when another object may be there than the one that is meant. A version stays as it is, but for that
        which a bucket without versions has.
        """
        return self._hands.pinned and entry.etag is not None and entry.version_id in (None, NULL)

    def _drop_changed(self, page: _Page) -> None:
        """What is gone is done, and what another object has replaced fails."""
        pinned = [item for item in page.left if self._pinned(page.entries[item])]
        names = [key for key, version in pinned if version is None]
        try:
            listed, unseen = self._shown.listed(names)
        except AccessDenied as exc:
            if about_all(exc):
                raise
            self._call.notice("these credentials may not list the bucket; planned keys are looked at one by one")
            listed, unseen = {}, names
        alone, unreached = list[DeleteItem](), frozenset(unseen)
        for item in pinned:
            entry, etag = page.entries[item], listed.get(item[0])
            if item[1] is None and etag is None and item[0] not in unreached:
                page.end(item, KeyOutcome.done(entry))
            elif item[1] is not None or etag != entry.etag:
                # Also what a listing shows otherwise: a HEAD has the last word before a key fails.
                alone.append(item)
        if len(alone) > MANY_LOOKS:
            self._hands.untimed()
        for item in alone:
            outcome = self._judged(page.entries[item])
            if outcome is not None:
                page.end(item, outcome)

    def _judged(self, entry: KeyEntry) -> KeyOutcome | None:
        """The outcome of a planned key that is not to be deleted; None: it is the object that was planned."""
        self._call.cancel.check()
        try:
            etag = self._shown.etag(entry.key, entry.version_id)
        except StoreError as exc:
            if _about_more(exc):
                raise
            return KeyOutcome.failed(entry, exc)
        if etag is None:
            return KeyOutcome.done(entry)
        return None if etag == entry.etag else KeyOutcome.failed(entry, _replaced(self._bucket, entry))

    def _singly(
        self, items: Iterable[DeleteItem], entries: dict[DeleteItem, KeyEntry],
        outcomes: dict[DeleteItem, KeyOutcome], *, again: bool,
    ) -> None:  # fmt: skip
        """By a DeleteObject each: keys that XML carries badly or not at all. Unfinished for those whose error is not
        their own; the others are tried nevertheless, unless it is about all of them.
        """
        error: StoreError | None = None
        for item in items:
            try:
                outcomes[item] = self._alone(entries[item], again=again)
            except StoreError as exc:
                error = exc
                if about_all(exc):
                    break
        if error is not None:
            left = tuple(entry for item, entry in entries.items() if item not in outcomes)
            raise Unfinished(error, list(outcomes.values()), left)

    def _alone(self, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        outcome = self._judged(entry) if self._pinned(entry) else None
        if outcome is not None:
            return outcome
        if again and entry.version_id is None and not self._there([entry.key]):
            return KeyOutcome.done(entry)
        try:
            receipt = delete_object(self._call, entry.ref(self._bucket))
        except StoreError as exc:
            if _about_more(exc):
                raise
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
        try:
            return [self._erase(entry, again=again) for entry in entries]
        except Unfinished as exc:
            # It tells of versions; the flow knows the key, and gives it again as a whole.
            raise exc.error from exc

    def _erase(self, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """Until a listing shows nothing that was not tried."""
        if entry.version_id is not None:
            return self._deleter.do([entry], again=again)[0]
        if self._hands.pinned and entry.etag is not None:
            return self._erase_planned(entry, again=again)
        failed: dict[str, KeyOutcome] = {}
        while versions := self._left(entry, failed):
            failed |= self._failed_of([KeyEntry(entry.key, version) for version in versions], again=again)
            if len(failed) >= MAX_PAGE_KEYS:
                break
        return _summed(entry, failed)

    def _erase_planned(self, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """Only what was there while the key showed the planned object, which goes last: until then the next try, too,
        can see that it is the same.
        """
        call, ref = self._hands.call, entry.ref(self._bucket)
        there = dict.fromkeys(item.version_id for item in versions_of(call, ref))
        if not there:
            return KeyOutcome.done(entry)
        try:
            info = call.store.head(ref)
        except NotFound as exc:
            if about_all(exc):
                raise
            return KeyOutcome.failed(entry, _replaced(self._bucket, entry))
        shown = info.version_id or NULL
        if info.etag != entry.etag or shown not in there:
            return KeyOutcome.failed(entry, _replaced(self._bucket, entry))
        older = [KeyEntry(entry.key, version) for version in there if version != shown]
        failed: dict[str, KeyOutcome] = {}
        for at in range(0, len(older), MAX_PAGE_KEYS):
            failed |= self._failed_of(older[at : at + MAX_PAGE_KEYS], again=again)
        if not failed:
            failed = self._failed_of([KeyEntry(entry.key, shown, etag=entry.etag)], again=again)
        return _summed(entry, failed)

    def _failed_of(self, entries: Sequence[KeyEntry], *, again: bool) -> dict[str, KeyOutcome]:
        outcomes = self._deleter.do(entries, again=again)
        return {outcome.version_id or "": outcome for outcome in outcomes if not outcome.ok}

    def _left(self, entry: KeyEntry, failed: dict[str, KeyOutcome]) -> list[str]:
        listed = versions_of(self._hands.call, entry.ref(self._bucket))
        return list(islice((item.version_id for item in listed if item.version_id not in failed), MAX_PAGE_KEYS))


def _summed(entry: KeyEntry, failed: dict[str, KeyOutcome]) -> KeyOutcome:
    """One outcome of a key's versions."""
    if not failed:
        return KeyOutcome.done(entry)
    first = next(iter(failed.values()))
    return replace(first, version_id=None, message=f"{len(failed)} versions are left, the first: {first.message}")


def _replaced(bucket: str, entry: KeyEntry) -> PreconditionFailed:
    context = RequestContext("HeadObject", bucket, entry.key)
    return PreconditionFailed("the object is not the one that was listed; it was replaced meanwhile", context)


def _about_more(error: StoreError) -> bool:
    """True for what may be the line's or the store's fault and not the key's: that is for the flow to judge."""
    return about_all(error) or isinstance(error, Network | Throttled | CircuitOpen)


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
