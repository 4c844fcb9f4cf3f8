"""Tags of objects that are copied onto themselves, noted while the copy is under way.

Some stores drop the tags of such a copy, and then nobody can read them any more: a try that is killed before it has set
them again leaves them to its note. Stores that were seen to keep tags need none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import AccessDenied, ClockSkewed, ConfigError, CredentialsExpired, Unsupported
from orbit_airflow.engine.fields import Fields, TokenRejected
from orbit_airflow.engine.model import ObjectAttributes, ObjectInfo
from orbit_airflow.engine.options import Pairs, check_attributes
from orbit_airflow.engine.tags import settable
from orbit_airflow.engine.token import TokenStore, state_key


class TagNotes:
    """The notes of one batch, in its token store. Thread-safe; keys do not meet."""

    def __init__(self, tokens: TokenStore) -> None:
        self._tokens = tokens
        self._kept = False

    def begin(self, call: Call, info: ObjectInfo) -> Pairs:
        """The object's tags, which are noted unless the store was seen to keep them; none where they may not be read.

        AWS's own tags, which nobody can send, are not among them.
        """
        try:
            tags = settable(call.store.get_tags(info.ref))
        except (CredentialsExpired, ClockSkewed):
            raise
        except (AccessDenied, Unsupported):
            call.notice("the tags may not be looked at; whether the copy keeps them is up to the store")
            return ()
        if tags and not self._kept:
            name = _name(info)
            self._tokens.save(state_key(name), _Note(name, tags, info.size, info.etag).to_mapping())
        return tags

    def end(self, info: ObjectInfo, *, dropped: bool) -> None:
        """The copy has its tags; ``dropped``: they had to be set."""
        if not self._kept:
            self._tokens.drop(state_key(_name(info)))
            self._kept = not dropped

    def settle(self, call: Call, info: ObjectInfo) -> None:
        """Set what a killed try has noted, if ``info`` is the copy that it made, and nobody has set tags since."""
        name = _name(info)
        kept = self._tokens.load(state_key(name))
        if kept is None:
            return
        try:
            note = _Note.from_mapping(kept, name)
        except TokenRejected as exc:
            call.notice(f"the note of an object's tags is not used: {exc.message}", warning=True)
        else:
            if note.fits(info) and not call.store.get_tags(info.ref):
                call.notice(
                    "an earlier try was interrupted before it had set the tags that the store dropped; doing so"
                )
                call.store.put_tags(info.ref, note.tags)
        self._tokens.drop(state_key(name))


@dataclass(frozen=True, slots=True)
class _Note:
    """The tags of an object before it was copied onto itself."""

    name: str
    tags: Pairs
    size: int
    etag: str

    def fits(self, info: ObjectInfo) -> bool:
        """True when ``info`` may be of the same bytes; a copy's ETag may only differ where it is no MD5 of them."""
        opaque = "-" in self.etag + info.etag or (info.server_side_encryption or "").startswith("aws:kms")
        return info.size == self.size and (info.etag == self.etag or opaque or info.customer_key)

    def to_mapping(self) -> dict[str, Any]:
        """As JSON."""
        tags = [list(item) for item in self.tags]
        return {"op": "tags", "target": self.name, "tags": tags, "size": self.size, "etag": self.etag}

    @classmethod
    def from_mapping(cls, data: object, name: str) -> _Note:
        """The note, if it is one, of this very object, with tags that may be set; else TokenRejected."""
        fields = Fields(data)
        if fields.get("op", str) != "tags" or fields.get("target", str) != name:
            raise TokenRejected("it is of something else")
        try:
            tags = tuple((_text(key), _text(value)) for key, value in fields.get("tags", list))
            check_attributes(ObjectAttributes(tags=tags))
        except (TypeError, ValueError, ConfigError) as exc:
            raise TokenRejected(f"its tags are malformed: {exc}") from exc
        return cls(name, tags, fields.whole("size"), fields.get("etag", str))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {type(value).__name__}")
    return value


def _name(info: ObjectInfo) -> str:
    named = ["tags", info.ref.bucket, info.ref.key]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
