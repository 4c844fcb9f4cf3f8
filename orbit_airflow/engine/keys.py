"""Where the keys of a batch come from: a list, or a prefix with filters. Streams of pages, in constant memory.

A page ends at a position that the source itself understands (the last key, a number of records); a source that is
opened again at that position continues behind it. What the source *is* has an identity, so that a position is never
used with another source. No source is ever "everything" by accident: an empty list has no keys, and a whole bucket has
to be asked for.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Protocol

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError, RequestContext, Unavailable
from orbit_airflow.engine.model import KeyPrefix, ListedObject, ObjectRef
from orbit_airflow.engine.storage_class import StorageClass
from orbit_airflow.engine.store import ListRequest

MAX_PAGE_KEYS = 1000
# A pattern is tried on every key of a listing; a longer one is a mistake.
MAX_PATTERN = 1024


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One object of a batch, with what its source happens to know of it (None: not told). ``listed``: by a listing of
    this very run; what a manifest says may be old.
    """

    key: str
    version_id: str | None = None
    size: int | None = None
    etag: str | None = None
    storage_class: str | None = None
    listed: bool = False

    def ref(self, bucket: str) -> ObjectRef:
        """Its address. ConfigError for a key that S3 cannot hold."""
        return ObjectRef(bucket, self.key, self.version_id)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """So many entries, and the position behind them. ``scanned`` counts the keys that were looked at for them."""

    entries: tuple[KeyEntry, ...]
    cursor: str
    scanned: int


class KeySource(Protocol):
    """Where a batch's keys come from. Frozen; may be opened as often as is liked."""

    @property
    def stable(self) -> bool:
        """True when the batch's own work cannot change what the source gives (a list, a manifest; not a prefix)."""

    @property
    def total(self) -> int | None:
        """How many keys it has, where that is known without reading it."""

    def identity(self, call: Call) -> str:
        """A digest (hex) of what the source is; equal as long as its positions mean the same."""

    def pages(self, call: Call, *, after: str | None = None, most: int = MAX_PAGE_KEYS) -> Iterator[KeyPage]:
        """The entries behind position ``after`` (None: all), at most ``most`` (1 to 1,000) to a page; each key (with
        its version id) in one page only, once.

        ConfigError for a position, line or key that cannot be, naming it. Filters may leave a page empty.
        """

    def within(self, position: str | None, last: str) -> bool:
        """True when what lies directly behind ``position`` is not behind ``last``."""


def digest_of(kind: str, *words: object) -> str:
    """A source's identity from what makes it."""
    text = json.dumps([kind, *words], ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class KeyList:
    """Keys (or (key, version id) pairs) that are in memory already; one that is named twice counts once.

    An empty list has no keys: the batch does nothing.
    """

    keys: Sequence[str | tuple[str, str | None]]

    def __post_init__(self) -> None:
        if isinstance(self.keys, str) or not isinstance(self.keys, Sequence):
            raise ConfigError(f"keys is a list of keys, got {type(self.keys).__name__}")
        for number, item in enumerate(self.keys, 1):
            key, version = (item, None) if isinstance(item, str) else _pair(item, number)
            try:
                ObjectRef("bucket", key, version)
            except ConfigError as exc:
                raise ConfigError(f"key number {number}: {exc.message}") from exc

    @property
    def stable(self) -> bool:
        """A list stays as it is."""
        return True

    @property
    def total(self) -> int | None:
        """Its length, without repetitions."""
        return len(self._entries)

    @cached_property
    def _entries(self) -> tuple[KeyEntry, ...]:
        pairs = ((item, None) if isinstance(item, str) else (item[0], item[1]) for item in self.keys)
        return tuple(KeyEntry(key, version) for key, version in dict.fromkeys(pairs))

    def identity(self, call: Call) -> str:
        """Of all keys, in their order."""
        del call
        whole = hashlib.sha256()
        for entry in self._entries:
            whole.update(json.dumps([entry.key, entry.version_id]).encode() + b"\n")
        return digest_of("list", whole.hexdigest())

    def pages(self, call: Call, *, after: str | None = None, most: int = MAX_PAGE_KEYS) -> Iterator[KeyPage]:
        """From the numbered key on."""
        return paged(call, islice(self._entries, position_of(after), None), position_of(after), most)

    def within(self, position: str | None, last: str) -> bool:
        """By number."""
        return position_of(position) < position_of(last)


def _pair(item: object, number: int) -> tuple[str, str | None]:
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str):
        version = item[1]
        if version is None or isinstance(version, str):
            return item[0], version
    raise ConfigError(f"key number {number} is neither a key nor a pair of key and version id: {item!r}")


def position_of(text: str | None) -> int:
    """A position that counts records. ConfigError for anything else."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ConfigError(f"not a position in a list of keys: {text[:40]!r}")
    return int(text)


def paged(call: Call, entries: Iterable[KeyEntry], start: int, most: int) -> Iterator[KeyPage]:
    """Pages of a stream whose positions count its records, from ``start`` on."""
    stream = iter(entries)
    while page := tuple(islice(stream, most)):
        call.cancel.check()
        start += len(page)
        yield KeyPage(page, str(start), len(page))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which keys of a listing are meant; None means: do not ask. All that are given must hold.

    ``glob``: the whole key; ``*`` and ``?`` stop at ``/``, ``**`` crosses it. ``match``: the whole key by Python's
    fnmatch, whose ``*`` crosses ``/``. ``regex``: searched for in the key. Sizes are bytes, both ends included; times
    are aware datetimes, ``modified_after`` included and ``modified_before`` not. ``storage_classes``: one of these;
    what the store does not name is STANDARD. ``exclude``: keys that match this glob are not meant.
    """

    glob: str | None = None
    match: str | None = None
    regex: str | None = None
    exclude: str | None = None
    modified_after: datetime | None = None
    modified_before: datetime | None = None
    min_size: int | None = None
    max_size: int | None = None
    storage_classes: tuple[str, ...] | None = None
    _patterns: tuple[tuple[re.Pattern[str], bool], ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        made = [
            (_compiled(name, getattr(self, name)), name != "exclude") for name in ("glob", "match", "regex", "exclude")
        ]
        object.__setattr__(
            self, "_patterns", tuple((pattern, wanted) for pattern, wanted in made if pattern is not None)
        )
        for name in ("modified_after", "modified_before"):
            moment = getattr(self, name)
            if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
                raise ConfigError(f"{name} is a datetime with a time zone, got {moment!r}")
        for name in ("min_size", "max_size"):
            size = getattr(self, name)
            if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
                raise ConfigError(f"{name} is a number of bytes, got {size!r}")
        if self.storage_classes is not None:
            classes = tuple(StorageClass.parse(name).value for name in self.storage_classes)
            object.__setattr__(self, "storage_classes", classes)

    def takes(self, item: ListedObject) -> bool:
        """True when the object is meant. One without a time is not, when a time is asked for."""
        if any((pattern.search(item.key) is not None) is not wanted for pattern, wanted in self._patterns):
            return False
        low, high = self.min_size, self.max_size
        if (low is not None and item.size < low) or (high is not None and item.size > high):
            return False
        if self.storage_classes is not None and (item.storage_class or "STANDARD") not in self.storage_classes:
            return False
        return self._in_time(item.last_modified)

    def _in_time(self, moment: datetime | None) -> bool:
        if self.modified_after is None and self.modified_before is None:
            return True
        if moment is None or (self.modified_after is not None and moment < self.modified_after):
            return False
        return self.modified_before is None or moment < self.modified_before

    def words(self) -> list[object]:
        """What it is made of, for an identity."""
        return [getattr(self, item.name) for item in fields(self) if item.init]


def _compiled(name: str, text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_PATTERN:
        raise ConfigError(f"{name} is a pattern of 1 to {MAX_PATTERN} characters, got {text!r:.80}")
    try:
        if name == "regex":
            return re.compile(text)
        expression = fnmatch.translate(text) if name == "match" else _glob(text)
        return re.compile(r"\A" + expression)
    except re.error as exc:
        raise ConfigError(f"{name} is no pattern: {exc}") from exc


def _glob(text: str) -> str:
    """``**`` is anything, ``*`` anything but ``/``, ``?`` one character but ``/``; ``[...]`` as in fnmatch."""
    made, rest = list[str](), text
    while rest:
        bracket = re.match(r"\[(?:!(?:\]|[^\]])|\]|[^\]!])[^\]]*\]", rest, re.DOTALL)
        if rest.startswith("**/"):
            made, rest = [*made, "(?:.*/)?"], rest[3:]
        elif rest.startswith("**"):
            made, rest = [*made, ".*"], rest[2:]
        elif rest[0] in "*?":
            made, rest = [*made, "[^/]*" if rest[0] == "*" else "[^/]"], rest[1:]
        elif bracket is not None:
            # Fnmatch's own reading of the set, without what it puts around a whole pattern: "(?s:" and ")\Z".
            made, rest = [*made, fnmatch.translate(bracket[0])[4:-3]], rest[bracket.end() :]
        else:
            made, rest = [*made, re.escape(rest[0])], rest[1:]
    return f"(?s:{''.join(made)})\\Z"


@dataclass(frozen=True, kw_only=True)
class PrefixKeys:
    """The objects whose keys begin with ``prefix``, to the letter, and that ``select`` takes.

    An empty prefix is the whole bucket and a ConfigError, unless ``whole_bucket`` says that it is meant. A listing is
    no snapshot: what others write behind the present position is part of it.
    """

    where: KeyPrefix
    select: Selection = Selection()
    whole_bucket: bool = False

    def __post_init__(self) -> None:
        if not self.where.prefix and not self.whole_bucket:
            raise ConfigError("an empty prefix means the whole bucket; say whole_bucket=True if that is meant")

    @property
    def stable(self) -> bool:
        """A batch that deletes or writes changes the listing."""
        return False

    @property
    def total(self) -> int | None:
        """Only a listing tells."""
        return None

    def identity(self, call: Call) -> str:
        """Of the address and the filters, not of what is there."""
        del call
        return digest_of("prefix", self.where.bucket, self.where.prefix, *self.select.words())

    def pages(self, call: Call, *, after: str | None = None, most: int = MAX_PAGE_KEYS) -> Iterator[KeyPage]:
        """One page for each page of the listing, behind the key ``after``.

        Unavailable when the store does not list in the order of the keys' bytes: no position would be safe.
        """
        request_token: str | None = None
        while True:
            call.cancel.check()
            start = None if request_token else after
            page = call.store.list_objects(
                ListRequest(where=self.where, token=request_token, start_after=start, max_keys=most)
            )
            for item in page.objects:
                if after is not None and item.key.encode() <= after.encode():
                    context = RequestContext("ListObjectsV2", self.where.bucket, self.where.prefix)
                    raise Unavailable("the store does not list keys in their order; give the batch a manifest", context)
                after = item.key
            if page.objects:
                taken = (item for item in page.objects if self.select.takes(item))
                entries = tuple(KeyEntry(i.key, None, i.size, i.etag, i.storage_class, listed=True) for i in taken)
                yield KeyPage(entries, page.objects[-1].key, len(page.objects))
            request_token = page.continuation_token
            if request_token is None:
                return

    def within(self, position: str | None, last: str) -> bool:
        """In the order of the keys' bytes, which is that of a listing."""
        return position is None or position.encode() < last.encode()
