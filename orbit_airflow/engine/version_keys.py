"""All versions and delete markers below a prefix, as the keys of a batch: what a delete for good works through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.keys import MAX_PAGE_KEYS, KeyEntry, KeyPage, Selection, digest_of
from orbit_airflow.engine.model import KeyPrefix, ListedObject
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.engine.versions import every_version


@dataclass(frozen=True, kw_only=True)
class VersionKeys:
    """Every version and every delete marker of the keys that begin with ``prefix``, to the letter, and that ``select``
    takes (a marker has size 0 and the class STANDARD). Constant memory.

    An empty prefix is the whole bucket and a ConfigError, unless ``whole_bucket`` says that it is meant. Positions are
    keys: a page ends with a key's last version. A key of more versions than a page is read again from its first one
    after a kill; what was deleted of it is not there any more, and what failed may be in the outcome twice.
    """

    where: KeyPrefix
    select: Selection = field(default_factory=Selection)
    whole_bucket: bool = False

    def __post_init__(self) -> None:
        if not self.where.prefix and not self.whole_bucket:
            raise ConfigError("an empty prefix means the whole bucket; say whole_bucket=True if that is meant")

    @property
    def stable(self) -> bool:
        """A delete changes the listing."""
        return False

    @property
    def total(self) -> int | None:
        """Only a listing tells."""
        return None

    def identity(self, call: Call) -> str:
        """Of the address and the filters, not of what is there."""
        del call
        return digest_of("versions", self.where.bucket, self.where.prefix, *self.select.words())

    def pages(self, call: Call, *, after: str | None = None, most: int = MAX_PAGE_KEYS) -> Iterator[KeyPage]:
        """Pages of whole keys, behind the key ``after``; parts of a key only where it has more than ``most`` versions.

        Unavailable when the store's listing goes round in circles.
        """
        page: list[ListedVersion] = []
        behind = after or ""
        for key, versions in groupby(every_version(call, self.where, after), key=lambda item: item.key):
            while group := list(islice(versions, most)):
                if page and len(page) + len(group) > most:
                    yield self._page(page, behind)
                    page = []
                page += group
                if len(group) == most:
                    # There may be more of this key: the position stays before it.
                    yield self._page(page, behind)
                    page = []
            behind = key
        if page or behind != (after or ""):
            yield self._page(page, behind)

    def _page(self, versions: list[ListedVersion], cursor: str) -> KeyPage:
        taken = (item for item in versions if self.select.takes(_as_object(item)))
        entries = tuple(KeyEntry(i.key, i.version_id, i.size, i.etag or None, i.storage_class) for i in taken)
        return KeyPage(entries, cursor, len(versions))

    def within(self, position: str | None, last: str) -> bool:
        """In the order of the keys' bytes, which is that of a listing."""
        return position is None or position.encode() < last.encode()


def _as_object(item: ListedVersion) -> ListedObject:
    return ListedObject(item.key, item.size, item.etag, item.last_modified, item.storage_class)
