"""The resume token of a copy in parts. Hostile input, like an upload's: it never says what to copy, or whereto."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any

from orbit_airflow.engine.fields import Fields, TokenRejected
from orbit_airflow.engine.model import GIB, ChecksumType, CreatedUpload, ObjectInfo, ObjectRef
from orbit_airflow.engine.token import SCHEMA, Outcome, Phase, outcome_from, outcome_to_mapping

_UPLOAD_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX16 = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyToken:
    """One copy's state. ``source`` is a hash of the pinned source (version, ETag, size), ``attributes`` one of what the
    copy is to be: an open upload can be given neither later. ``mark`` is what the copy carries as
    ``x-amz-meta-orbit-upload``. ``sweep``: a Create may have been lost.
    """

    target: str
    mark: str
    intent_at: int
    source: str
    attributes: str
    phase: Phase = Phase.INTENT
    upload_id: str | None = None
    part_size: int | None = None
    checksum_type: ChecksumType | None = None
    created_at: int | None = None
    sweep: bool = False
    outcome: Outcome | None = None

    @classmethod
    def intent(cls, target: str, source: str, attributes: str, now: float) -> CopyToken:
        """A new copy's first token: nothing has been asked of the store yet."""
        mark = mark_of(target, source, attributes) + secrets.token_hex(8)
        return cls(target=target, mark=mark, intent_at=int(now), source=source, attributes=attributes)

    def started(self, created: CreatedUpload, part_size: int, now: float) -> CopyToken:
        """The upload exists; from here on its part size is fixed."""
        return replace(
            self,
            phase=Phase.STARTED,
            upload_id=created.upload_id,
            part_size=part_size,
            checksum_type=created.checksum_type,
            created_at=int(now),
        )

    def completing(self) -> CopyToken:
        """All parts are there."""
        return replace(self, phase=Phase.COMPLETING, sweep=False)

    def done(self, outcome: Outcome) -> CopyToken:
        """The copy is there and proved."""
        return replace(self, phase=Phase.DONE, outcome=outcome, sweep=False)

    def to_mapping(self) -> dict[str, Any]:
        """JSON-safe; without secrets; under 1 KiB whatever the number of parts."""
        return {
            "schema": SCHEMA,
            "op": "copy",
            "target": self.target,
            "mark": self.mark,
            "intent_at": self.intent_at,
            "source": self.source,
            "attributes": self.attributes,
            "phase": self.phase.value,
            "upload_id": self.upload_id,
            "part_size": self.part_size,
            "checksum_type": self.checksum_type.value if self.checksum_type else None,
            "created_at": self.created_at,
            "sweep": self.sweep,
            "outcome": outcome_to_mapping(self.outcome) if self.outcome else None,
        }

    @classmethod
    def from_mapping(cls, data: object, target: str) -> CopyToken:
        """The token in ``data``, if it is well-formed and of this very ``target``; else TokenRejected."""
        fields = Fields(data)
        if fields.get("schema", int) != SCHEMA:
            raise TokenRejected(f"the state was written by another version (schema {fields.get('schema', int)})")
        if fields.get("op", str) != "copy" or fields.get("target", str) != target:
            raise TokenRejected("the state belongs to another transfer (operation, source or target differ)")
        try:
            token = cls._read(fields, target)
        except (ValueError, TypeError, OverflowError) as exc:
            raise TokenRejected(f"the state is malformed: {exc}") from exc
        token._check_shape()
        return token

    @classmethod
    def _read(cls, fields: Fields, target: str) -> CopyToken:
        kind, outcome = fields.get("checksum_type", str, None), fields.get("outcome", dict, None)
        return cls(
            target=target,
            mark=fields.matching("mark", _HEX32),
            intent_at=fields.whole("intent_at"),
            source=fields.matching("source", _HEX16),
            attributes=fields.matching("attributes", _HEX16),
            phase=Phase(fields.get("phase", str)),
            upload_id=fields.matching("upload_id", _UPLOAD_ID) if fields.has("upload_id") else None,
            part_size=fields.whole("part_size", 1, 5 * GIB) if fields.has("part_size") else None,
            checksum_type=ChecksumType(kind) if kind is not None else None,
            created_at=fields.whole("created_at") if fields.has("created_at") else None,
            sweep=fields.get("sweep", bool),
            outcome=outcome_from(Fields(outcome)) if outcome is not None else None,
        )

    def _check_shape(self) -> None:
        running = self.phase in (Phase.STARTED, Phase.COMPLETING)
        if running and (self.upload_id is None or self.part_size is None):
            raise TokenRejected(f"the state is incomplete for phase {self.phase.value}")
        if self.phase is Phase.DONE and self.outcome is None:
            raise TokenRejected("the state says done but has no result")


def mark_of(target: str, source: str, attributes: str) -> str:
    """The first half of a mark, which names the copy: source, target and wish. The other half is this transfer's."""
    return hashlib.sha256(json.dumps(["mark", target, source, attributes]).encode()).hexdigest()[:16]


def copy_hash(source: ObjectRef, target: ObjectRef) -> str:
    """What a token is bound to: source and target of the present call."""
    named = ["copy", source.bucket, source.key, source.version_id, target.bucket, target.key]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def source_hash(info: ObjectInfo) -> str:
    """What the parts of an upload are copies of: one version of the source, as its HEAD shows it."""
    modified = info.last_modified.isoformat() if info.last_modified is not None else None
    seen = [info.version_id, info.etag, info.size, modified]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]
