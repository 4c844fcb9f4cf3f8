"""A copy of a prefix to below itself would list what it has written, copy that, and so on: it is refused."""

from __future__ import annotations

import re

from orbit_airflow.engine.batch.change import Copy
from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.keys import KeySource, PrefixKeys, Selection
from orbit_airflow.engine.version_keys import VersionKeys

_WILD = re.compile(r"[*?\[]")


def refuse_own_output(call: Call, work: BatchWork, source: KeySource) -> None:
    """ConfigError when ``work`` copies to where ``source`` lists, and the selection's patterns do not rule it out.

    Lists and manifests are what they are, whatever is written. Times and classes are no reason to let it go: what this
    run does not take of its copies, a later one does.
    """
    if not isinstance(work, Copy) or not isinstance(source, PrefixKeys | VersionKeys):
        return
    where = source.where
    # The copies of all that begins with the prefix begin with this.
    made = work.dest_prefix + where.prefix[len(work.strip_prefix) :]
    below = where.bucket == work.target_bucket and made.startswith(where.prefix)
    if not below or _ruled_out(source.select, made) or not work.lists_own_output(call, where):
        return
    raise ConfigError(
        f"the copies would be at s3://{where.bucket}/{made}, below the prefix {where.prefix!r} that is copied, and be "
        f"copied again themselves; choose another dest_prefix, give a list or a manifest, or exclude {made + '**'!r}"
    )


def _ruled_out(select: Selection, made: str) -> bool:
    """True when no key that begins with ``made`` is taken, whatever follows."""
    exclude = select.exclude or ""
    if exclude.endswith("**") and not _WILD.search(exclude[:-2]) and made.startswith(exclude[:-2]):
        return True
    heads = [_WILD.split(pattern)[0] for pattern in (select.glob, select.match) if pattern is not None]
    return any(not head.startswith(made) and not made.startswith(head) for head in heads)
