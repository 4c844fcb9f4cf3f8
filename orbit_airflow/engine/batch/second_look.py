"""The second look at a key that an earlier try may have copied: is what the target holds that copy?

A wrong yes would be a success without a copy, a wrong no is one more version. So yes needs a proof of the bytes:

- equal checksums over the full object, of one algorithm;
- equal ETags: the same bytes, or the same parts;
- of a copy in parts, the first half of its mark, which names source, target and wish;
- where the source was uploaded in parts, its ETag is that of no bytes, and the copy's is the MD5 of all of them. Then
  the store is asked to make one part of the whole source, in an upload that is thrown away: the ETag (or CRC32) of that
  part is what the copy's must be. That costs what the copy would, and makes no version;
- the bytes themselves, where ETags need not be MD5s (KMS keys) and no checksums compare, and where another copy would
  be a version more, or may not replace this one: both are read, until the first difference.

Where none of these can be had (no right to begin an upload or to read; archived) the copy is made again.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from enum import Enum

from orbit_airflow.engine.batch.work import Hands
from orbit_airflow.engine.compare import bytes_differ
from orbit_airflow.engine.copy import copied_in_parts
from orbit_airflow.engine.copy_job import crc32_of
from orbit_airflow.engine.copy_parts import made_in_parts
from orbit_airflow.engine.copy_plan import copy_request
from orbit_airflow.engine.copy_token import copy_hash
from orbit_airflow.engine.errors import (
    AccessDenied,
    ClockSkewed,
    CredentialsExpired,
    InvalidRequest,
    NotFound,
    ObjectArchived,
    OrbitError,
    PreconditionFailed,
    StoreError,
    Unsupported,
)
from orbit_airflow.engine.model import (
    ChecksumType,
    ContentHeaders,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
    Part,
    PartReceipt,
)
from orbit_airflow.engine.options import CopyOptions, Pairs
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.store import CopyPartRequest
from orbit_airflow.engine.tags import set_dropped_tags
from orbit_airflow.engine.token import state_key

_MD5 = re.compile(r"[0-9a-f]{32}")
_UPLOAD_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")


class Likeness(Enum):
    """What can be told of two objects without a request."""

    OTHER = "other"
    UNPROVED = "unproved"
    SAME = "same"


def likeness(found: ObjectInfo, source: ObjectInfo, options: CopyOptions) -> Likeness:
    """Whether ``found`` is all that this copy would make of ``source``: bytes, metadata, headers, class. UNPROVED: all
    but the bytes, of which only the size is known to be equal.
    """
    metadata = source.metadata if options.metadata is None else options.metadata
    wanted_class = options.storage_class or source.storage_class or "STANDARD"
    if found.size != source.size or _unmarked(found.metadata) != _unmarked(metadata):
        return Likeness.OTHER
    if (found.storage_class or "STANDARD") != wanted_class or _told(found.headers) != _told(source.headers, options):
        return Likeness.OTHER
    one, other = found.checksum, source.checksum
    full = one is not None and other is not None and ChecksumType.COMPOSITE not in (one.type, other.type)
    if one is not None and other is not None and full and one.algorithm == other.algorithm:
        return Likeness.SAME if one.value == other.value else Likeness.OTHER
    if found.etag == source.etag:
        return Likeness.SAME
    return Likeness.UNPROVED


def _unmarked(metadata: Pairs) -> list[tuple[str, str]]:
    """A copy in parts has a mark of its own."""
    return sorted(item for item in metadata if item[0] != MARK)


def _told(headers: ContentHeaders, options: CopyOptions | None = None) -> ContentHeaders:
    """What a HEAD of every store tells."""
    kind = options.content_type if options is not None else None
    return replace(headers, content_type=kind or headers.content_type, expires=None, website_redirect=None)


def made_before(hands: Hands, info: ObjectInfo, target: ObjectRef, options: CopyOptions) -> ObjectInfo | None:
    """The copy of ``info`` that an earlier try has made, proved as above, with the tags that it is to have; else None:
    it is to be made.
    """
    look = SecondLook(hands=hands, info=info, target=target, options=options)
    look.forget()
    try:
        found = hands.call.store.head(target)
    except NotFound:
        return None
    if not look.proves(found):
        return None
    look.tag(found)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondLook:
    """At ``target``, for a copy of ``info``."""

    hands: Hands
    info: ObjectInfo
    target: ObjectRef
    options: CopyOptions

    @property
    def _state(self) -> str:
        named = ["look", self.target.bucket, self.target.key]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()

    @property
    def _in_parts(self) -> bool:
        return copied_in_parts(self.hands.call.config, self.options, self.info)

    def proves(self, found: ObjectInfo) -> bool:
        """True when ``found`` is this copy."""
        how = likeness(found, self.info, self.options)
        if how is not Likeness.UNPROVED:
            return how is Likeness.SAME
        if self._in_parts:
            request = copy_request(self.info.ref, self.info, self.options, in_parts=True)
            return made_in_parts(found, self.info, copy_hash(self.info.ref, self.target), request)
        by_parts = "-" in self.info.etag + found.etag
        return (by_parts and self._part_proves(found)) or self._bytes_prove(found)

    def _bytes_prove(self, found: ObjectInfo) -> bool:
        """By reading both; where a copy that is made again does no harm, that is the cheaper way."""
        harmless = self.options.replace and found.version_id in (None, "null")
        if harmless or self._source_is_gone:
            return False
        call = self.hands.call
        call.notice("an earlier try may have made this copy, and only its bytes can tell; reading source and target")
        self.hands.untimed()
        source = replace(
            self.info, ref=replace(self.info.ref, version_id=self.info.ref.version_id or self.info.version_id)
        )
        made = replace(found, ref=replace(self.target, version_id=found.version_id))
        try:
            return not bytes_differ(call, source, made)
        except (CredentialsExpired, ClockSkewed):
            raise
        except (AccessDenied, InvalidRequest, NotFound, ObjectArchived, PreconditionFailed) as exc:
            call.notice(f"the bytes cannot be compared ({exc.message})")
            return False

    @property
    def _source_is_gone(self) -> bool:
        """A copy onto itself that keeps no version is where its source was."""
        onto_itself = (self.info.ref.bucket, self.info.ref.key) == (self.target.bucket, self.target.key)
        return onto_itself and self.info.version_id in (None, "null")

    def _part_proves(self, found: ObjectInfo) -> bool:
        """The whole source as one part, made by the store and thrown away."""
        crc, call = crc32_of(found.checksum), self.hands.call
        if crc is None and not _MD5.fullmatch(found.etag):
            return False
        if not 0 < self.info.size <= call.config.limits.max_part_size:
            return False
        if self._source_is_gone:
            return False
        call.notice("an earlier try may have made this copy; the store is asked for a part to compare it with")
        self.hands.untimed()
        try:
            part = self._part(crc is not None)
        except (CredentialsExpired, ClockSkewed):
            raise
        except (AccessDenied, InvalidRequest) as exc:
            call.notice(f"the store makes no part to compare with ({exc.message}); copying again")
            return False
        return (crc is not None and part.crc32 == crc) or part.etag == found.etag

    def _part(self, with_crc: bool) -> PartReceipt:  # noqa: FBT001 - one caller
        store, tokens = self.hands.call.store, self.hands.tokens
        plain = ObjectAttributes(server_side_encryption=self.options.server_side_encryption)
        created = store.create(self.target, plain, checksums=with_crc and self.hands.call.config.verify_checksums)
        # Before there is anything in it: the next try throws away what a kill leaves.
        tokens.save(state_key(self._state), {"op": "look", "target": self._state, "upload_id": created.upload_id})
        source = replace(self.info.ref, version_id=self.info.ref.version_id or self.info.version_id)
        request = CopyPartRequest(
            upload_id=created.upload_id,
            part=Part(1, 0, self.info.size),
            source=source,
            if_match=self.info.etag,
            whole=True,
        )
        try:
            part = store.copy_part(self.target, request)
        except OrbitError:
            self._throw_away(created.upload_id)
            raise
        self._throw_away(created.upload_id)
        return part

    def _throw_away(self, upload_id: str) -> None:
        call = self.hands.call
        try:
            call.store.abort(self.target, upload_id)
        except StoreError as exc:
            call.notice(f"the upload {upload_id} of a look could not be aborted and stays open: {exc}", warning=True)
            return
        self.hands.tokens.drop(state_key(self._state))

    def forget(self) -> None:
        """Abort the upload that a killed look has left."""
        kept = self.hands.tokens.load(state_key(self._state))
        if kept is None:
            return
        upload_id = kept.get("upload_id") if isinstance(kept, dict) and kept.get("target") == self._state else None
        if isinstance(upload_id, str) and _UPLOAD_ID.fullmatch(upload_id):
            self._throw_away(upload_id)
        else:
            self.hands.tokens.drop(state_key(self._state))

    def tag(self, found: ObjectInfo) -> None:
        """The tags of the copy, which its try may have been killed before it set."""
        call, options = self.hands.call, self.options
        wished = (options.tags, options.metadata, options.content_type)
        at_risk = self._in_parts or any(value is not None for value in wished)
        count = self.info.tag_count if options.tags is None else len(options.tags)
        if found.tag_count == count and not at_risk:
            return
        made = replace(self.target, version_id=found.version_id)
        set_dropped_tags(call.store, made, found.etag, self._wanted_tags(), call.notice)

    def _wanted_tags(self) -> Pairs:
        if self.options.tags is not None:
            return self.options.tags
        if not self.info.tag_count and not self._in_parts:
            return ()
        try:
            return self.hands.call.store.get_tags(self.info.ref)
        except (CredentialsExpired, ClockSkewed):
            raise
        except (AccessDenied, Unsupported):
            self.hands.call.notice("the source's tags may not be looked at; whether the copy has them is not proved")
            return ()
