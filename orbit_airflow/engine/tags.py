"""Tags that went with a write and did not arrive: some stores drop them without a word.

Ceph does, of uploads in parts and of copies with new metadata. Whoever asked for tags gets them, or is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orbit_airflow.engine.errors import AccessDenied, ClockSkewed, CredentialsExpired, InvalidRequest, Unsupported
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.options import Pairs
from orbit_airflow.engine.store import TransferStore


def settable(tags: Pairs) -> Pairs:
    """Without AWS's own, which nobody can send."""
    return tuple(item for item in tags if not item[0].startswith("aws:"))


def set_dropped_tags(
    store: TransferStore, made: ObjectRef, etag: str, wanted: Pairs, notice: Callable[[str], None]
) -> bool:
    """Ask for the tags of what was just ``made`` (its version, where there is one), and set those ``wanted`` if they
    are not there. True when that was so.

    Who may not read tags is told that they are not proved: they went with the request. AccessDenied when they are not
    there and may not be set either. What another writer has put in the place since, by its ``etag``, is left alone.
    """
    tags = settable(wanted)
    if not tags:
        return False
    try:
        made, there = _asked(store, made)
    except (CredentialsExpired, ClockSkewed):
        raise
    except AccessDenied:
        notice("the tags went with the request, but may not be looked at: that the store has kept them is not proved")
        return False
    except Unsupported:
        notice("the store knows no tags; the object has none")
        return False
    if set(tags) <= set(there):
        return False
    if made.version_id is None and store.head(made).etag != etag:
        notice("another writer has replaced the object already; its tags are left as they are")
        return False
    notice("the store has dropped the tags that went with the request; setting them now")
    store.put_tags(made, tags)
    return True


def set_tags_of_interrupted(
    store: TransferStore, source: ObjectRef, made: ObjectRef, etag: str, notice: Callable[[str], None]
) -> None:
    """``made`` is a copy of the version ``source`` by an earlier try, which may have been killed before it had set the
    tags that the store dropped. If the copy has none, it gets those of its source; as ``set_dropped_tags``.
    """
    try:
        there, wanted = _asked(store, made)[1], store.get_tags(source)
    except (CredentialsExpired, ClockSkewed):
        raise
    except (AccessDenied, Unsupported) as exc:
        notice(f"whether the earlier copy has its tags is not proved ({exc.message})")
        return
    if not there:
        set_dropped_tags(store, made, etag, wanted, notice)


def _asked(store: TransferStore, made: ObjectRef) -> tuple[ObjectRef, Pairs]:
    try:
        return made, store.get_tags(made)
    except Unsupported:
        raise
    except InvalidRequest:
        # Some stores answer a write with a version id that they refuse to be asked for.
        if made.version_id is None:
            raise
        newest = replace(made, version_id=None)
        return newest, store.get_tags(newest)
