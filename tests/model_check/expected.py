"""What the verbs that are more than one request must come to, by the model alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orbit_airflow.engine.versioning import VersioningState
from tests.model_check.model import NULL, Bucket, Entry

# An id that only the server can tell.
UNKNOWN = "?"


def restore(model: Bucket, key: str, version_id: str, new_id: str | None, *, overwrite_null: bool) -> str:
    """A copy of that version onto the key, unless the key shows it, or the copy would destroy what it stands on."""
    entry = model.find(key, version_id)
    if entry is not None and entry is model.current(key):
        return "shown"
    null = model.find(key, NULL)
    robbed = model.state is VersioningState.SUSPENDED and null is not None and not null.marker
    if robbed and (version_id == NULL or not overwrite_null):
        return "ConfigError"
    if entry is None or entry.body is None:
        return "NotFound"
    model.put(key, entry.body, entry.label, new_id)
    return "restored"


def difference(one: Entry | None, other: Entry | None) -> tuple[int, bool] | None:
    """How many bytes more, and whether they are others; None when one of both has none."""
    if one is None or other is None or one.body is None or other.body is None:
        return None
    return len(other.body) - len(one.body), one.body != other.body


@dataclass(frozen=True)
class Planned:
    """What is to be done with a key, and what it showed when that was decided."""

    action: str
    wanted: Entry | None
    current: str


def plan(model: Bucket, prefix: str, at: int) -> dict[str, Planned]:
    """So that each key of the prefix shows what it showed at the end of that stretch. A key that does is not in it;
    markers are taken off where the version lies right below them; else one copy or one marker is laid.
    """
    found = {}
    for key in [name for name in model.keys if name.startswith(prefix)]:
        wanted, current, top = model.wanted(key, at), model.current(key), model.of(key)[0].version_id
        if wanted is None or wanted.marker:
            if current is not None:
                found[key] = Planned("delete", None, top)
        elif current is None:
            below = next(item for item in model.of(key) if not item.marker)
            found[key] = Planned("undelete" if below == wanted else "copy", wanted, top)
        elif (wanted.body, wanted.label) != (current.body, current.label):
            found[key] = Planned("copy", wanted, top)
    return found


def apply(model: Bucket, planned: dict[str, Planned]) -> int:
    """The plan done, though somebody may have written since: such keys are left alone. How many of them fail."""
    return sum(not _applied(model, key, item) for key, item in planned.items())


def _applied(model: Bucket, key: str, item: Planned) -> bool:
    wanted = item.wanted
    base = wanted.version_id if item.action == "undelete" and wanted is not None else item.current
    ids = [entry.version_id for entry in model.of(key)]
    if base not in ids:
        return False
    above = model.of(key)[: ids.index(base)]
    if item.action == "undelete":
        return all(entry.marker for entry in above) and model.undelete(key) is not None
    if wanted is None:
        if not above:
            model.delete(key, UNKNOWN)
        return all(entry.marker for entry in above)
    if not above:
        if wanted.version_id not in ids:
            return False
        model.put(key, wanted.body or b"", wanted.label, UNKNOWN)
    return not above or (len(above) == 1 and above[0].body == wanted.body and wanted.version_id in ids)


def undo(before: Bucket, after: Bucket, planned: dict[str, Planned]) -> None:
    """What the plan did to ``after`` is put back: but for the markers, of which a key gets one for all it had."""
    for key, item in planned.items():
        if item.action == "undelete":
            after.delete(key, UNKNOWN)
        else:
            after.keys[key] = list(before.of(key))


def prune(model: Bucket, prefix: str, keep_last: int | None, at: int | None) -> None:
    """The newest entry of a key stays. Of the others those go that have ``keep_last`` versions above them, and whose
    successor is of that stretch or older.
    """
    for key in [name for name in model.keys if name.startswith(prefix)]:
        entries = model.of(key)
        kept, above, versions = [entries[0]], entries[0], int(not entries[0].marker)
        for item in entries[1:]:
            enough = keep_last is None or versions >= keep_last
            if not (enough and (at is None or above.at <= at)):
                kept.append(item)
            versions += not item.marker
            above = item
        model.keys[key] = kept


def named(entry: Entry, version_id: str) -> Entry:
    """With the id that the server gave it."""
    return replace(entry, version_id=version_id)
