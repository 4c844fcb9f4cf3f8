"""Random verbs on a bucket and on its model; after each, both must be the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orbit_airflow.engine.errors import NotFound, OrbitError
from orbit_airflow.engine.model import KeyPrefix, ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.versioning import VersioningState
from tests.model_check import expected
from tests.model_check.model import NULL, Bucket, Entry, Rules
from tests.model_check.places import Place, Site
from tests.model_check.prefix import Prefix

PREFIX = "p/"
# A key, keys that begin with it, one outside ASCII and one outside the prefix.
KEYS = ("p/a", "p/a.bak", "p/a/b", "p/é 1%", "q")
EVER = datetime(2000, 1, 1, tzinfo=UTC)

keys = st.sampled_from(KEYS)
picks = st.integers(0, 7)
# Most of a bucket's life is with versions.
states = st.sampled_from((VersioningState.ENABLED, VersioningState.ENABLED, VersioningState.SUSPENDED))
bodies = st.sampled_from((b"", b"1", b"2", b"three", b"seven", b"a longer body"))
Change = Callable[[Bucket, "str | None"], Any]


@dataclass(frozen=True)
class Cut:
    """Behind so many requests of a verb somebody else does ``what`` with its key."""

    requests: int
    what: str


cuts = st.none() | st.builds(Cut, st.integers(0, 4), st.sampled_from(("put", "delete", "delete_version")))


class VersionsMachine(RuleBasedStateMachine):
    """One run in a bucket of its own. ``place`` is set by whoever runs it; ``done`` counts the verbs of all runs."""

    place: ClassVar[Place]
    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.done["runs"] += 1
        self.site: Site = self.place.open_site()
        self.engine = self.site.engine
        self.model = Bucket(rules=Rules(markers_pile_up=self.place.quirks.markers_pile_up))
        self.moments: list[datetime] = [EVER]
        self.seen: list[tuple[str, str]] = []
        self.serial = 0
        self._files = TemporaryDirectory(prefix="orbit-model-check-")
        self.prefix = Prefix(self.engine, KeyPrefix(self.site.bucket, PREFIX), Path(self._files.name))

    def teardown(self) -> None:
        """Every version that is left has its bytes still."""
        try:
            self.the_listings_are_the_same()
            for key, entries in self.model.keys.items():
                for item in entries:
                    self._same_version(key, item)
        finally:
            self.site.close()
            self._files.cleanup()

    # The bucket.

    @initialize(state=states)
    def begin(self, state: VersioningState) -> None:
        """Some objects are older than their bucket's versions."""
        if state is VersioningState.ENABLED:
            self.switch(state)

    @rule(state=states)
    def switch(self, state: VersioningState) -> None:
        """From now on there are versions, or all go to "null"."""
        if state is VersioningState.SUSPENDED and not self.place.quirks.suspending_keeps_versions:
            return
        self.done[state.value.lower()] += 1
        versions = self.engine.versions
        if state is VersioningState.ENABLED:
            versions.enable_versioning()
        else:
            versions.suspend_versioning()
        self.model.state = state
        assert versions.get_versioning_status().status is state

    @rule()
    def tick(self) -> None:
        """A second ends; its last moment may be asked for later."""
        self.moments.append(self.site.tick())
        self.model.now += 1

    # One key.

    @rule(key=keys, body=bodies, cut=cuts)
    def put(self, key: str, body: bytes, cut: Cut | None) -> None:
        """A write with metadata and tags."""
        cut = None if self._two_markers(key) and cut is not None and cut.what == "delete" else cut
        label = self._label()
        attributes = ObjectAttributes(metadata=(("label", label),), tags=(("label", label),))

        def act() -> tuple[str, str | None]:
            return "put", self.engine.upload_bytes(body, key, UploadOptions(attributes=attributes)).version_id

        def change(model: Bucket, new_id: str | None) -> str:
            model.put(key, body, label, new_id)
            return "put"

        self._run("put", key, act, change, cut)

    @rule(key=keys, cut=cuts)
    def delete(self, key: str, cut: Cut | None) -> None:
        """A marker, where versions are kept."""
        if self._two_markers(key):
            return
        cut = cut if cut is None or cut.what != "delete" or self.place.quirks.markers_pile_up else None

        def act() -> tuple[str, str | None]:
            return "deleted", self.engine.delete(key).version_id

        def change(model: Bucket, new_id: str | None) -> str:
            model.delete(key, new_id)
            return "deleted"

        self._run("delete", key, act, change, cut)

    @rule(key=keys, pick=picks, overwrite=st.booleans(), cut=cuts)
    def restore(self, key: str, pick: int, overwrite: bool, cut: Cut | None) -> None:
        """A version that is there, a marker, or one that is gone."""
        version_id = self._picked(key, pick)

        def act() -> tuple[str, str | None]:
            done = self.engine.versions.restore_version(key, version_id, overwrite_null=overwrite)
            return "restored" if done.changed else "shown", done.version_id

        def change(model: Bucket, new_id: str | None) -> str:
            return expected.restore(model, key, version_id, new_id, overwrite_null=overwrite)

        self._run("restore", key, act, change, self._harmless(cut))

    @rule(key=keys, cut=cuts)
    def undelete(self, key: str, cut: Cut | None) -> None:
        """Markers off."""

        def act() -> tuple[Any, None]:
            self.engine.versions.undelete(key)
            return "undeleted", None

        def change(model: Bucket, new_id: str | None) -> str:
            return "NotFound" if model.undelete(key) is None else "undeleted"

        self._run("undelete", key, act, change, self._harmless(cut))

    @rule(key=keys, pick=picks, cut=cuts)
    def delete_version(self, key: str, pick: int, cut: Cut | None) -> None:
        """For good; one that is gone already is a success."""
        version_id = self._picked(key, pick)

        def act() -> tuple[str, None]:
            self.engine.versions.delete_version(key, version_id)
            return "gone", None

        def change(model: Bucket, new_id: str | None) -> str:
            model.delete_version(key, version_id)
            return "gone"

        self._run("delete_version", key, act, change, self._harmless(cut))

    @rule(key=keys, one=picks, other=picks)
    def compare(self, key: str, one: int, other: int) -> None:
        """Sizes and bytes, or no such version."""
        self.done["compare"] += 1
        ids = self._picked(key, one), self._picked(key, other)
        entries = [self.model.find(key, version_id) for version_id in ids]
        found: Any
        try:
            result = self.engine.versions.compare_versions(key, *ids, read_bytes=True)
            found = result.size_diff, result.content_differs
        except NotFound:
            found = None
        assert found == expected.difference(*entries)

    @rule(key=keys, pick=picks)
    def look_back(self, key: str, pick: int) -> None:
        """What the key showed at a moment."""
        self.done["version_at"] += 1
        at = pick % len(self.moments)
        found = self.engine.versions.version_at(key, self.moments[at])
        wanted = self.model.wanted(key, at - 1)
        assert (found and found.version_id) == (wanted and wanted.version_id)

    # Somebody else.

    @rule(key=keys, what=st.sampled_from(("put", "delete", "delete_version")), pick=picks)
    def stranger(self, key: str, what: str, pick: int) -> None:
        """A writer that has nothing of the engine."""
        self.done["stranger"] += 1
        self._pace()
        if what == "delete" and self._two_markers(key):
            return
        act, change = self._stranger(key, what, pick)
        act()
        change(self.model, None)

    # A prefix.

    @precondition(lambda self: self.model.state is VersioningState.ENABLED)
    @rule(
        pick=picks, what=st.sampled_from((None, None, "put", "delete", "delete_version")), key=keys, undo=st.booleans()
    )
    def restore_as_of(self, pick: int, what: str | None, key: str, undo: bool) -> None:
        """All keys of the prefix are as they were, those apart that are written between plan and deed. And back."""
        self.done["restore_as_of"] += 1
        self._pace()
        what = what if self.place.quirks.versions_in_order else None
        at = pick % len(self.moments)
        planned = expected.plan(self.model, PREFIX, at - 1)
        act, change = self._stranger(key, what or "", 0)
        changes, failed, manifest = self.prefix.restore(self.moments[at], act)
        change(self.model, None)
        before, after = self.model, self.model.copy()
        assert (changes, failed) == (len(planned), expected.apply(after, planned))
        self._learn(after)
        if undo and what is None:
            self.done["undo"] += 1
            self.the_listings_are_the_same()
            self._pace()
            assert self.prefix.undo(manifest) == 0
            expected.undo(before, after, planned)
            self._learn(after)

    @rule(keep_last=st.sampled_from((None, 1, 2, 3)), pick=st.none() | picks)
    def prune(self, keep_last: int | None, pick: int | None) -> None:
        """Old versions, by number and age."""
        self.done["prune"] += 1
        at = None if pick is None else pick % len(self.moments)
        if keep_last is None and at is None:
            return
        assert self.prefix.prune(keep_last, None if at is None else self.moments[at]) == 0
        expected.prune(self.model, PREFIX, keep_last, None if at is None else at - 1)

    # What must hold.

    @invariant()
    def the_listings_are_the_same(self) -> None:
        """Ids, order, markers, sizes, ETags; and the keys that show an object."""
        assert self._listed() == self.model.listing()
        assert [item.key for item in self.engine.iter_objects()] == self.model.objects()

    def _run(self, name: str, key: str, act: Callable[[], tuple[Any, str | None]], change: Change,
             cut: Cut | None) -> None:  # fmt: skip
        """The verb in both; with a cut, whichever of both writers comes first."""
        self.done[name] += 1
        orders = [[change]]
        self._pace()
        if cut is not None and self.place.quirks.versions_in_order:
            self.done["cuts"] += 1
            interrupt, also = self._stranger(key, cut.what, 0)
            orders = [[also, change], [change, also]]
            self.site.between.arm(cut.requests, interrupt)
        new_id = None
        try:
            outcome, new_id = act()
        except OrbitError as exc:
            outcome = "NotFound" if isinstance(exc, NotFound) else type(exc).__name__
        finally:
            self.site.between.disarm()
        listed = self._listed()
        states, outcomes = [], []
        for order in orders:
            model = self.model.copy()
            for step in order:
                told = step(model, new_id)
                if step is change:
                    outcomes.append(told)
            states.append(model)
        assert outcome in outcomes
        fitting = [model for model in states if model.listing() == listed]
        assert fitting, f"{listed} is none of {[model.listing() for model in states]}"
        self.model = fitting[0]
        self._same_key(key)

    def _stranger(self, key: str, what: str, pick: int) -> tuple[Callable[[], None], Change]:
        """What is done, and the same for the model, which is told the id that it got."""
        body, label = b"somebody else's", self._label()
        version_id = self._picked(key, pick)
        got: list[str | None] = []

        def act() -> None:
            if what == "put":
                got.append(self.site.stranger.put(key, body, label))
            elif what == "delete":
                got.append(self.site.stranger.delete(key))
            elif what == "delete_version":
                self.site.stranger.delete_version(key, version_id)

        def change(model: Bucket, new_id: str | None) -> None:
            if what == "put":
                model.put(key, body, label, got[0])
            elif what == "delete":
                model.delete(key, got[0])
            elif what == "delete_version":
                model.delete_version(key, version_id)

        return act, change

    def _learn(self, plan: Bucket) -> None:
        """The ids of what many writes made: new ones, at the top of the keys where the model has one without."""
        tops = {key: shown[0] for key, latest, shown in self._listed() if latest}
        known = {item.version_id for entries in self.model.keys.values() for item in entries}
        for key, entries in plan.keys.items():
            if entries[0].version_id == expected.UNKNOWN:
                assert tops[key] not in known
                entries[0] = expected.named(entries[0], tops[key])
        self.model = plan

    def _listed(self) -> list[tuple[str, bool, tuple[str, bool, int, str]]]:
        return [
            (item.key, item.is_latest, (item.version_id, item.delete_marker, item.size, item.etag))
            for item in self.engine.versions.iter_versions("")
        ]

    def _same_key(self, key: str) -> None:
        current = self.model.current(key)
        for item in self.model.of(key):
            if (key, item.version_id) not in self.seen:
                self.seen.append((key, item.version_id))
        if current is None:
            assert not self.engine.exists(key)
        else:
            assert self.engine.read_object(key).data == current.body
            self._same_version(key, current)

    def _same_version(self, key: str, item: Entry) -> None:
        """Bytes, metadata and tags, by the version's id."""
        if item.body is None:
            return
        named = None if self.model.state is VersioningState.UNVERSIONED else item.version_id
        found = self.engine.read_object(key, version_id=named)
        assert (found.data, found.info.metadata_value("label")) == (item.body, item.label)
        tags = self.engine.call().store.get_tags(ObjectRef(self.site.bucket, key, named))
        assert tags == (("label", item.label),)

    def _picked(self, key: str, pick: int) -> str:
        """The id of a version or marker; else of one that is gone; else "null"."""
        there = [item.version_id for item in self.model.of(key)]
        gone = [version_id for name, version_id in self.seen if name == key and version_id not in there]
        ids = [*there[:5], *gone[-2:], NULL]
        return ids[min(pick, len(ids) - 1)]

    def _two_markers(self, key: str) -> bool:
        """A delete that is not played: of a deleted key in a suspended bucket where markers do not pile up. Ceph lays a
        marker "null" then where there is a version "null", and none where there is none.
        """
        top = self.model.top(key)
        suspended = self.model.state is VersioningState.SUSPENDED
        return suspended and top is not None and top.marker and not self.place.quirks.markers_pile_up

    def _pace(self) -> None:
        """Where a listing does not tell the order of what was made in one second, no second has two."""
        if not self.place.quirks.versions_in_order:
            self.tick()

    def _harmless(self, cut: Cut | None) -> Cut | None:
        """In a bucket that keeps no versions, two writers have one place, and S3 has no condition that tells them."""
        return cut if self.model.state is VersioningState.ENABLED else None

    def _label(self) -> str:
        self.serial += 1
        return f"label-{self.serial}"
