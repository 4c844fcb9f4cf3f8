"""A stream of keys in which each counts once, however often and however far apart it is named.

What was seen is kept as digests of 128 bits (two different keys never meet in one) in a table of SQLite's own temporary
database: 16 MiB of it in memory, the rest in a file that SQLite makes when it has to, in the directory of TMPDIR (else
/var/tmp), and that is gone with the process, also when that is killed. Ten million keys take 17 MiB of memory, 270 MiB
of disk and one to two minutes of a processor, spread over the batch. Nothing of it is kept for another try: that reads
the records before its position again, and knows the same.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import DiskFull, TargetError
from orbit_airflow.engine.keys import MAX_PAGE_KEYS, KeyEntry, KeyPage

_DIGEST_BYTES = 16
_CACHE_KIB = 16 * 1024


def once(call: Call, entries: Iterable[KeyEntry], start: int, most: int) -> Iterator[KeyPage]:
    """Pages of ``most`` records each, from record number ``start`` on, without the entries whose key and version id an
    earlier record (also of those before ``start``) has named: a page may be empty. Positions count records.

    DiskFull (TargetError, if it is something else) when the temporary directory does not take what was seen.
    """
    stream, number = iter(entries), 0
    with closing(_Seen()) as seen:
        while number < start and (passed := tuple(islice(stream, min(MAX_PAGE_KEYS, start - number)))):
            call.cancel.check()
            seen.new_of(passed, number)
            number += len(passed)
        while page := tuple(islice(stream, most)):
            call.cancel.check()
            new = seen.new_of(page, number)
            number += len(page)
            yield KeyPage(new, str(number), len(page))


class _Seen:
    """Which keys were named, and by which record first. For one thread at a time."""

    def __init__(self) -> None:
        # An empty name: a file that nobody else sees, made when the cache is full. Whichever worker is free reads on.
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", f"cache_size=-{_CACHE_KIB}"):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, record INTEGER) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def new_of(self, entries: tuple[KeyEntry, ...], number: int) -> tuple[KeyEntry, ...]:
        """Those that no record before them has named; ``number`` records came before the first."""
        rows = [(_digest(entry), record) for record, entry in enumerate(entries, number)]
        try:
            # In the order of the digests, so that a page's neighbours share a leaf of the tree.
            added = self._base.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", sorted(rows)).rowcount
            if added == len(entries):
                return entries
            return tuple(entry for entry, row in zip(entries, rows, strict=True) if self._first(row[0]) == row[1])
        except sqlite3.Error as exc:
            kind = DiskFull if "full" in str(exc) else TargetError
            raise kind(f"which keys were named already cannot be kept in the directory of TMPDIR: {exc}") from exc

    def _first(self, digest: bytes) -> int:
        found: tuple[int] = self._base.execute("SELECT record FROM seen WHERE digest = ?", (digest,)).fetchone()
        return found[0]

    def close(self) -> None:
        """Forget all of it."""
        self._base.close()


def _digest(entry: KeyEntry) -> bytes:
    text = json.dumps([entry.key, entry.version_id])
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
