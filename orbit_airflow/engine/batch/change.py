"""Batches that change objects one by one: copies, classes, metadata, tags. Each looks before it writes.

S3 changes an object's class and metadata by copying it onto itself, which makes a new version where versions are kept.
So an object that is as it should be already is skipped: that is also what makes these verbs safe to repeat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from orbit_airflow.engine.batch.copying import copy_of, forget_copy
from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.second_look import SecondLook, made_before
from orbit_airflow.engine.batch.work import Hands, Worker
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.copy import copied_in_parts
from orbit_airflow.engine.copy_plan import not_kept
from orbit_airflow.engine.errors import (
    ConfigError,
    ObjectArchived,
    PreconditionFailed,
    RequestContext,
)
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import KeyPrefix, ObjectAttributes, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import CopyOptions, Pairs, check_attributes
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.storage_class import StorageClass

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_ADDED_VERSION = "where versions are kept, each object gains a version, and the old one is still billed"
_ACLS = "an object's own ACL is not copied: S3 gives each copy the bucket's default; and a Last-Modified of its own"
_OLDER = "an older version cannot be changed: its copy would become the newest one"
_MINIMUM_DAYS = {
    "STANDARD_IA": 30, "ONEZONE_IA": 30, "GLACIER_IR": 90, "GLACIER": 90, "DEEP_ARCHIVE": 180,
}  # fmt: skip


class OneByOne:
    """The Worker of these verbs. What it raises is about the one key that it was given."""

    def __init__(self, work: _Changing, hands: Hands) -> None:
        self._work = work
        self._hands = hands

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """One by one."""
        return [self._work.change(self._hands, entry, again=again) for entry in entries]


class _Changing:
    """What the four verbs share."""

    whole_pages = False
    removes = False
    bucket: str

    def change(self, hands: Hands, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """One object. An OrbitError is this key's."""
        raise NotImplementedError  # pragma: no cover - each verb has its own

    def worker(self, hands: Hands) -> Worker:
        """At work."""
        return OneByOne(self, hands)

    def words(self) -> list[object]:
        """All fields."""
        return [getattr(self, item.name) for item in fields(self)]  # type: ignore[arg-type]  # dataclasses all

    def warnings(self) -> tuple[str, ...]:
        """None."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Copy(_Changing):
    """Copy each object to ``dest_bucket`` (None: the same) under ``dest_prefix`` + its key without ``strip_prefix``.

    Without ``strip_prefix`` the whole key follows the prefix: no two keys can meet. ``options`` as of ``copy_object``.
    """

    bucket: str
    dest_prefix: str
    dest_bucket: str | None = None
    strip_prefix: str = ""
    options: CopyOptions = field(default_factory=CopyOptions)

    verb = "copy"

    def __post_init__(self) -> None:
        self._check_addresses()
        if self.target_bucket == self.bucket and self.dest_prefix == self.strip_prefix:
            raise ConfigError("this copy would put every object onto itself; choose another dest_prefix")

    def _check_addresses(self) -> None:
        KeyPrefix(self.bucket, self.strip_prefix)
        KeyPrefix(self.target_bucket, self.dest_prefix)

    @property
    def target_bucket(self) -> str:
        """Where the copies go."""
        return self.dest_bucket or self.bucket

    def target(self, key: str) -> ObjectRef:
        """Where the copy of ``key`` goes. ConfigError when the key does not begin with ``strip_prefix``."""
        if not key.startswith(self.strip_prefix):
            raise ConfigError(f"the key does not begin with strip_prefix {self.strip_prefix!r}: {key!r}")
        return ObjectRef(self.target_bucket, self.dest_prefix + key[len(self.strip_prefix) :])

    def lists_own_output(self, call: Call, where: KeyPrefix) -> bool:
        """Whether a copy to ``where`` is seen by a listing of it: in one store, yes."""
        del call, where
        return True

    def change(self, hands: Hands, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """One copy; when it may have been made, the target is looked at first."""
        source, target = entry.ref(self.bucket), self.target(entry.key)
        info = hands.call.store.head(source)
        if again:
            found = made_before(hands, info, target, self.options)
            if found is not None:
                forget_copy(hands, info, source, target, self.options)
                return KeyOutcome.done(entry, found.version_id, not_kept(info, found.etag, found.checksum))
        result = copy_of(hands, info, source, target, self.options)
        return KeyOutcome.done(entry, result.version_id, result.not_kept)

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """One CopyObject, and the looks at source and, where the answer proves nothing, target."""
        del entry
        return Counter({"HeadObject": 2, "CopyObject": 1})

    def warnings(self) -> tuple[str, ...]:
        """What no copy keeps, and no HEAD tells."""
        return () if self.options.acl is not None else (_ACLS,)


@dataclass(frozen=True, kw_only=True)
class ChangeStorageClass(_Changing):
    """Move each object to ``storage_class`` (AWS's name or the guide's) by a copy onto itself, with all that a copy can
    keep. What is in the class already is skipped; what is archived is a failure (ObjectArchived) until it is restored.
    """

    bucket: str
    storage_class: str

    verb = "change_storage_class"

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)
        object.__setattr__(self, "storage_class", StorageClass.parse(self.storage_class).value)

    def change(self, hands: Hands, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """One object."""
        here = f"it is in {self.storage_class} already"
        if self._listed_there(entry) and not again:
            return KeyOutcome.skipped(entry, here)
        options = CopyOptions(storage_class=self.storage_class)
        info = hands.call.store.head(ObjectRef(self.bucket, entry.key))
        if _class_of(info.storage_class) == self.storage_class:
            _refuse_older(hands, entry, info, options)
            _settle_if(again, hands, info)
            return KeyOutcome.skipped(entry, here)
        _refuse_another(entry, info)
        _refuse_archived(info)
        options = replace(options, if_match=info.etag)
        return _onto_itself(hands, info, entry, options)

    def _listed_there(self, entry: KeyEntry) -> bool:
        told = entry.listed and entry.storage_class is not None
        return told and _class_of(entry.storage_class) == self.storage_class

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """Nothing for what a listing shows there already."""
        if self._listed_there(entry):
            return Counter()
        return Counter({"HeadObject": 1, "CopyObject": 1})

    def warnings(self) -> tuple[str, ...]:
        """What it costs that a price list does not show at once."""
        said = [_ADDED_VERSION, _ACLS]
        if self.storage_class in _MINIMUM_DAYS:
            days = _MINIMUM_DAYS[self.storage_class]
            said.append(
                f"{self.storage_class} is billed for at least {days} days; small objects as 128 KiB or with overhead"
            )
        if self.storage_class in _ARCHIVES:
            said.append(f"objects in {self.storage_class} have to be restored before they can be read")
        said.append("objects that leave STANDARD_IA, ONEZONE_IA or GLACIER_IR are billed for their retrieval")
        return tuple(said)


@dataclass(frozen=True, kw_only=True)
class UpdateMetadata(_Changing):
    """Set user metadata by a copy onto itself. By default names are merged into what is there; ``replace`` makes
    ``metadata`` the whole set. Headers, class, tags and encryption stay. Names are lower case, as S3 gives them back.
    """

    bucket: str
    metadata: Pairs
    replace: bool = False

    verb = "update_metadata"

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)
        lower = tuple(sorted((name.lower(), value) for name, value in self.metadata))
        check_attributes(ObjectAttributes(metadata=lower))
        if not lower and not self.replace:
            raise ConfigError("there is no metadata to merge; replace=True with none takes all away")
        object.__setattr__(self, "metadata", lower)

    def change(self, hands: Hands, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """One object; what has the metadata already is skipped. The engine's mark of the upload is not kept."""
        info = hands.call.store.head(ObjectRef(self.bucket, entry.key))
        had = {name: value for name, value in info.metadata if name != MARK}
        wanted = dict(self.metadata) if self.replace else {**had, **dict(self.metadata)}
        options = CopyOptions(metadata=tuple(sorted(wanted.items())))
        if wanted == had:
            _refuse_older(hands, entry, info, options)
            _settle_if(again, hands, info)
            return KeyOutcome.skipped(entry, "it has this metadata already")
        _refuse_another(entry, info)
        _refuse_archived(info)
        options = replace(options, if_match=info.etag)
        return _onto_itself(hands, info, entry, options)

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """One copy, and a look."""
        del entry
        return Counter({"HeadObject": 1, "CopyObject": 1})

    def warnings(self) -> tuple[str, ...]:
        """A copy is a version."""
        return (_ADDED_VERSION, _ACLS)


@dataclass(frozen=True, kw_only=True)
class TagObjects(_Changing):
    """Set tags. By default they are merged into what is there (which is read first: of two who do so at once, one may
    win); ``replace`` makes ``tags`` the whole set. No version is made.
    """

    bucket: str
    tags: Pairs
    replace: bool = False

    verb = "tag_objects"

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)
        check_attributes(ObjectAttributes(tags=self.tags))
        if not self.tags and not self.replace:
            raise ConfigError("there are no tags to merge; replace=True with none takes all away")

    def change(self, hands: Hands, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        """One object; more than ten tags after merging are a failure of the key."""
        del again
        ref = entry.ref(self.bucket)
        wanted = self.tags
        if not self.replace:
            had = hands.call.store.get_tags(ref)
            wanted = tuple({**dict(had), **dict(self.tags)}.items())
            if dict(wanted) == dict(had):
                return KeyOutcome.skipped(entry, "it has these tags already")
            check_attributes(ObjectAttributes(tags=tuple(item for item in wanted if not item[0].startswith("aws:"))))
        hands.call.store.put_tags(ref, wanted)
        return KeyOutcome.done(entry)

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """The set is read to be merged."""
        del entry
        return Counter({"PutObjectTagging": 1} if self.replace else {"GetObjectTagging": 1, "PutObjectTagging": 1})


def _class_of(name: str | None) -> str:
    return name or "STANDARD"


def _names(entry: KeyEntry, info: ObjectInfo) -> bool:
    """True when the newest version is the one that is meant. Where no versions are kept, the only one is "null"."""
    return entry.version_id in (None, info.version_id) or (entry.version_id == "null" and info.version_id is None)


def _refuse_another(entry: KeyEntry, info: ObjectInfo) -> None:
    """Before it is written: only the newest version can be changed, and only as the object that was listed."""
    if not _names(entry, info):
        raise ConfigError(_OLDER)
    if entry.etag is not None and entry.etag != info.etag:
        context = RequestContext("HeadObject", info.ref.bucket, info.ref.key)
        raise PreconditionFailed("the object is not the one that was listed; it was replaced meanwhile", context)


def _refuse_older(hands: Hands, entry: KeyEntry, info: ObjectInfo, options: CopyOptions) -> None:
    """The newest version is as wished. If another one is meant, the newest must be its copy, made by a killed try."""
    if _names(entry, info):
        return
    meant = hands.call.store.head(entry.ref(info.ref.bucket))
    target = ObjectRef(info.ref.bucket, entry.key)
    if not SecondLook(hands=hands, info=meant, target=target, options=options).proves(info):
        raise ConfigError(_OLDER)


def _refuse_archived(info: ObjectInfo) -> None:
    readable = info.restore is not None and not info.restore.ongoing
    if (info.storage_class in _ARCHIVES or info.archive_status is not None) and not readable:
        context = RequestContext("HeadObject", info.ref.bucket, info.ref.key, code="InvalidObjectState")
        raise ObjectArchived(f"the object is in {info.archive_status or info.storage_class}; restore it first", context)


def _settle_if(again: bool, hands: Hands, info: ObjectInfo) -> None:  # noqa: FBT001 - the flow's own word
    """It is as it should be: what a try left that was killed behind the copy is brought to its end."""
    if again:
        ref = ObjectRef(info.ref.bucket, info.ref.key)
        hands.notes.settle(hands.call, info)
        forget_copy(hands, info, ref, ref, CopyOptions())


def _onto_itself(hands: Hands, info: ObjectInfo, entry: KeyEntry, options: CopyOptions) -> KeyOutcome:
    ref = ObjectRef(info.ref.bucket, entry.key)
    in_parts = copied_in_parts(hands.call.config, options, info)
    # A copy in parts has what it is sent, and one with new metadata loses its tags in some stores.
    at_risk = info.tag_count > 0 and (in_parts or options.metadata is not None)
    tags = hands.notes.begin(hands.call, info) if at_risk else ()
    # Sent with the request, so that they are never missing where the store keeps them.
    result = copy_of(hands, info, ref, ref, replace(options, tags=tags) if len(tags) == info.tag_count > 0 else options)
    if tags:
        hands.notes.end(info, dropped=result.tagged_again)
    return KeyOutcome.done(entry, result.version_id, result.not_kept)
