"""What the verbs that are more than one request must come to, by the model alone."""

from __future__ import annotations

from dataclasses import replace

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
    if model.state is VersioningState.SUSPENDED and null is not None and not null.marker:
        if version_id == NULL or not overwrite_null:
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


def as_of(model: Bucket, prefix: str, at: int) -> Bucket:
    """Each key of the prefix shows what it showed at the end of that stretch. A key that does is not touched; markers
    are taken off where the version lies right below them; else one copy or one marker is laid.
    """
    after = model.copy()
    for key in [name for name in model.keys if name.startswith(prefix)]:
        wanted, current = model.wanted(key, at), model.current(key)
        if wanted is None or wanted.body is None:
            if current is not None:
                after.delete(key, UNKNOWN)
        elif wanted != current:
            below = next(item for item in model.of(key) if not item.marker)
            if current is None and below == wanted:
                after.undelete(key)
            else:
                after.put(key, wanted.body, wanted.label, UNKNOWN)
    return after


def named(entry: Entry, version_id: str) -> Entry:
    """With the id that the server gave it."""
    return replace(entry, version_id=version_id)
