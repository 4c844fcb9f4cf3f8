"""The watch over a prefix: which versions of a listing are new, and the watermark that outlives its process. No I/O.

The watermark is the set of all versions and markers that the last look listed, each as a fingerprint of 48 bits. Less
would be wrong: a moment in time misses an object whose upload in parts began before it, and the newest version of each
key tells nothing when that version is removed for good. It costs about 75 bytes of memory and 8 of state per version,
so a watch has a limit, and beyond it the store's own event notifications are the right tool.
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.sensing import FINGERPRINT_BYTES, fingerprint
from orbit_airflow.engine.versioning import ListedVersion

# Below Airflow's limit for one value of its state stores (65,535 bytes), with room for an uneven spread.
CHUNK = 4000
MAX_CHUNKS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingPage:
    """A page of one look at a prefix. The look begins with ``first`` and has been whole with ``last``."""

    versions: tuple[ListedVersion, ...]
    first: bool
    last: bool


class PrefixWatch:
    """Look after look, the versions that the look before did not have.

    ``known`` None: nothing is remembered, and the first whole look only becomes the watermark. A look of which not all
    pages came changes nothing that is remembered; what it told of is not told again by the next one.
    """

    def __init__(self, known: frozenset[int] | None) -> None:
        self.known = known
        self._seen: set[int] | None = None
        self._told: set[int] = set()

    def take(self, page: ListingPage) -> list[ListedVersion]:
        """The page's new entries: keys in their order, within a key the oldest first. Pages before a ``first`` one (of
        a look that began before we listened) have none.
        """
        if page.first:
            self._seen = set()
        if self._seen is None:
            return []
        marks = [fingerprint(item) for item in page.versions]
        self._seen.update(marks)
        if self.known is None:
            return []
        fresh = [
            (item, mark)
            for item, mark in zip(page.versions, marks, strict=True)
            if mark not in self.known and mark not in self._told
        ]
        self._told.update(mark for _, mark in fresh)
        return _oldest_first(item for item, _ in fresh)

    def finish(self) -> frozenset[int] | None:
        """Behind a ``last`` page: the new watermark, which is remembered from now on. None when the look was not seen
        from its beginning, or changed nothing.
        """
        seen, self._seen = self._seen, None
        if seen is None:
            return None
        self._told.clear()
        if self.known is not None and self.known == seen:
            return None
        self.known = frozenset(seen)
        return self.known


def _oldest_first(fresh: Iterable[ListedVersion]) -> list[ListedVersion]:
    return [item for _, group in groupby(fresh, key=lambda item: item.key) for item in reversed(list(group))]


def to_chunks(known: frozenset[int]) -> tuple[str, ...]:
    """The watermark as texts of at most some 40 KB: a power of two of them, each with the fingerprints that begin with
    its number, so that one new version changes one of them.
    """
    bits = max(0, math.ceil(math.log2(len(known) / CHUNK))) if known else 0
    chunks: list[list[int]] = [[] for _ in range(2**bits)]
    for mark in sorted(known):
        chunks[mark >> (8 * FINGERPRINT_BYTES - bits)].append(mark)
    return tuple(b64encode(b"".join(mark.to_bytes(FINGERPRINT_BYTES) for mark in chunk)).decode() for chunk in chunks)


def from_chunks(chunks: Sequence[object]) -> frozenset[int]:
    """The inverse. ConfigError for what is no such text: the state can be edited by hand."""
    known: set[int] = set()
    for text in chunks:
        try:
            data = b64decode(text, validate=True) if isinstance(text, str) else None
        except binascii.Error:
            data = None
        if data is None or len(data) % FINGERPRINT_BYTES:
            raise ConfigError("the remembered watermark of this watch is damaged")
        known.update(
            int.from_bytes(data[start : start + FINGERPRINT_BYTES]) for start in range(0, len(data), FINGERPRINT_BYTES)
        )
    return frozenset(known)
