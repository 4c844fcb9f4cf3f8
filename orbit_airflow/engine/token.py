"""The resume token: the little that a killed try leaves to the next one, and what is believed of it.

A token is hostile input (a user may edit it, an older version may have written it). It never says *where* to write:
bucket, key, path and endpoint come from the present call alone and are compared as a hash. Its upload id must be
listed under the present key. What it cannot prove is thrown away, and the transfer starts anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from orbit_airflow.engine.errors import OrbitError, StateUnavailable
from orbit_airflow.engine.fields import INT_LIMIT, Fields, TokenRejected
from orbit_airflow.engine.model import (
    GIB,
    Checksum,
    ChecksumType,
    CreatedUpload,
    Integrity,
    ObjectAttributes,
    ObjectRef,
)
from orbit_airflow.engine.proof import LocalProof
from orbit_airflow.engine.source import SourceIdentity

logger = logging.getLogger(__name__)

SCHEMA = 1
MAX_TOKEN_BYTES = 64 * 1024
_UPLOAD_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX16 = re.compile(r"[0-9a-f]{16}")


class Phase(StrEnum):
    """How far the transfer is known to have come."""

    INTENT = "intent"
    STARTED = "started"
    COMPLETING = "completing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished upload as the token remembers it."""

    etag: str
    size: int
    integrity: Integrity
    crc32: int | None = None
    version_id: str | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadToken:
    """One upload's state. ``mark`` is the random value that its object carries as ``x-amz-meta-orbit-upload``.

    ``intent_at`` and ``created_at`` (Create's answer) are seconds of the worker's clock. ``sweep``: a Create may have
    been lost, so the store is asked for an upload that nobody knows. ``attributes``: a hash of what the object was to
    be (encryption, class, ACL, ...), since an upload cannot be given others later. ``adopted``: the upload was begun by
    a try whose token was lost, so its object will carry that try's mark and not ours.
    """

    target: str
    mark: str
    intent_at: int
    phase: Phase = Phase.INTENT
    try_number: int = 1
    upload_id: str | None = None
    part_size: int | None = None
    source: SourceIdentity | None = None
    checksum_algorithm: str | None = None
    checksum_type: ChecksumType | None = None
    attributes: str | None = None
    created_at: int | None = None
    sweep: bool = False
    adopted: bool = False
    local: LocalProof | None = None
    outcome: Outcome | None = None

    @classmethod
    def intent(cls, target: str, source: SourceIdentity, now: float, try_number: int) -> UploadToken:
        """A new transfer's first token: nothing has been asked of the store yet."""
        return cls(target=target, mark=secrets.token_hex(16), intent_at=int(now), source=source, try_number=try_number)

    def started(self, created: CreatedUpload, part_size: int, now: float) -> UploadToken:
        """The upload exists; from here on its part size is fixed."""
        return replace(
            self,
            phase=Phase.STARTED,
            created_at=int(now),
            upload_id=created.upload_id,
            part_size=part_size,
            checksum_algorithm=created.checksum_algorithm,
            checksum_type=created.checksum_type,
        )

    def completing(self, local: LocalProof) -> UploadToken:
        """All parts are there; ``local`` is what the object must turn out to be."""
        return replace(self, phase=Phase.COMPLETING, local=local, sweep=False)

    def with_mark(self, mark: str | None) -> UploadToken:
        """With the mark that the object of an adopted upload turned out to carry, if it is one."""
        return replace(self, mark=mark) if mark is not None and _HEX32.fullmatch(mark) else self

    def done(self, outcome: Outcome) -> UploadToken:
        """The object is there and proved."""
        return replace(self, phase=Phase.DONE, outcome=outcome, sweep=False)

    def to_mapping(self) -> dict[str, Any]:
        """JSON-safe; without secrets; under 1 KiB whatever the number of parts."""
        return {
            "schema": SCHEMA,
            "op": "upload",
            "target": self.target,
            "mark": self.mark,
            "intent_at": self.intent_at,
            "phase": self.phase.value,
            "try_number": self.try_number,
            "upload_id": self.upload_id,
            "part_size": self.part_size,
            "source": self.source.to_list() if self.source else None,
            "checksum_algorithm": self.checksum_algorithm,
            "checksum_type": self.checksum_type.value if self.checksum_type else None,
            "attributes": self.attributes,
            "created_at": self.created_at,
            "sweep": self.sweep,
            "adopted": self.adopted,
            "local": self.local.to_mapping() if self.local else None,
            "outcome": outcome_to_mapping(self.outcome) if self.outcome else None,
        }

    @classmethod
    def from_mapping(cls, data: object, target: str) -> UploadToken:
        """The token in ``data``, if it is well-formed and of this very ``target``; else TokenRejected."""
        fields = Fields(data)
        if fields.get("schema", int) != SCHEMA:
            raise TokenRejected(f"the state was written by another version (schema {fields.get('schema', int)})")
        if fields.get("op", str) != "upload" or fields.get("target", str) != target:
            raise TokenRejected("the state belongs to another transfer (operation, bucket, key or path differ)")
        try:
            token = cls._read(fields, target)
        except (ValueError, TypeError, OverflowError) as exc:
            raise TokenRejected(f"the state is malformed: {exc}") from exc
        token._check_shape()
        return token

    @classmethod
    def _read(cls, fields: Fields, target: str) -> UploadToken:
        source, kind = fields.get("source", list, None), fields.get("checksum_type", str, None)
        outcome, local = fields.get("outcome", dict, None), fields.get("local", dict, None)
        return cls(
            target=target,
            mark=fields.matching("mark", _HEX32),
            intent_at=fields.whole("intent_at"),
            phase=Phase(fields.get("phase", str)),
            try_number=fields.whole("try_number"),
            upload_id=fields.matching("upload_id", _UPLOAD_ID) if fields.has("upload_id") else None,
            part_size=fields.whole("part_size", 1, 5 * GIB) if fields.has("part_size") else None,
            source=_source_from(source) if source is not None else None,
            checksum_algorithm="CRC32" if fields.get("checksum_algorithm", str, None) == "CRC32" else None,
            checksum_type=ChecksumType(kind) if kind is not None else None,
            attributes=fields.matching("attributes", _HEX16) if fields.has("attributes") else None,
            created_at=fields.whole("created_at") if fields.has("created_at") else None,
            sweep=fields.get("sweep", bool),
            adopted=fields.get("adopted", bool, False),
            local=_local_from(Fields(local)) if local is not None else None,
            outcome=outcome_from(Fields(outcome)) if outcome is not None else None,
        )

    def _check_shape(self) -> None:
        running = self.phase in (Phase.STARTED, Phase.COMPLETING)
        if running and (self.upload_id is None or self.part_size is None or self.source is None):
            raise TokenRejected(f"the state is incomplete for phase {self.phase.value}")
        if self.phase is Phase.DONE and self.outcome is None:
            raise TokenRejected("the state says done but has no result")


def _source_from(values: list[object]) -> SourceIdentity:
    numbers = [value for value in values if type(value) is int and abs(value) < 2 * INT_LIMIT]
    if len(numbers) != 5 or len(values) != 5:
        raise TokenRejected("the state's 'source' is not five whole numbers")
    return SourceIdentity(*numbers)


def _local_from(fields: Fields) -> LocalProof:
    return LocalProof(
        size=fields.whole("size"),
        crc32=fields.whole("crc32", 0, 2**32 - 1),
        composite=fields.get("composite", str, None),
        md5_etag=fields.get("md5_etag", str, None),
        md5_binding=fields.get("md5_binding", bool),
    )


def outcome_to_mapping(outcome: Outcome) -> dict[str, Any]:
    """JSON-safe, for the tokens of all that makes objects."""
    checksum = outcome.checksum
    return {
        "etag": outcome.etag,
        "size": outcome.size,
        "integrity": outcome.integrity.value,
        "crc32": outcome.crc32,
        "version_id": outcome.version_id,
        "checksum": [checksum.algorithm, checksum.value, checksum.type.value] if checksum else None,
    }


def outcome_from(fields: Fields) -> Outcome:
    """The outcome in an untrusted token. TokenRejected or ValueError for what is none."""
    checksum = fields.get("checksum", list, None)
    return Outcome(
        etag=fields.get("etag", str),
        size=fields.whole("size"),
        integrity=Integrity(fields.get("integrity", str)),
        crc32=fields.whole("crc32", 0, 2**32 - 1) if fields.has("crc32") else None,
        version_id=fields.get("version_id", str, None),
        checksum=_checksum_from(checksum) if checksum is not None else None,
    )


def _checksum_from(values: list[object]) -> Checksum:
    if len(values) != 3 or not all(isinstance(value, str) for value in values):
        raise TokenRejected("the state's 'checksum' is not three texts")
    algorithm, value, kind = (str(item) for item in values)
    return Checksum(algorithm, value, ChecksumType(kind))


def target_hash(operation: str, ref: ObjectRef, path: str) -> str:
    """What a token is bound to: the operation, the address (with a version, if one is named) and the local path of the
    present call.
    """
    version = [ref.version_id] if ref.version_id is not None else []
    text = json.dumps([operation, ref.bucket, ref.key, os.path.abspath(path), *version], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def attributes_hash(attributes: ObjectAttributes) -> str:
    """What an open upload's attributes are compared by. Without metadata: templates put the try's own time there."""
    fixed = [
        attributes.content_type,
        attributes.storage_class,
        attributes.server_side_encryption,
        attributes.kms_key_id,
        attributes.acl,
        sorted(attributes.tags),
        sorted((name, str(value)) for name, value in attributes.extra_args),
    ]
    return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:16]


def state_key(target: str) -> str:
    """The name under which a token is kept: several transfers of one task do not collide."""
    return f"orbit:{target[:16]}"


class TokenStore(Protocol):
    """Where tokens live between tries. Implementations may be slow or fail; a transfer never fails because of them."""

    def load(self, key: str) -> object:
        """The mapping saved last under ``key``; None when certainly nothing is kept.

        Raises StateUnavailable when that cannot be told: beginning anew would throw away what an earlier try sent.
        """

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Keep ``token``; True when it is certainly kept now, False when that is not (yet) known."""

    def drop(self, key: str) -> None:
        """Forget ``key``."""


class NoTokens:
    """Keeps nothing: a killed transfer starts anew."""

    def load(self, key: str) -> object:
        """Nothing was kept."""
        del key
        return None

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Nothing is kept, and nothing was promised."""
        del key, token
        return True

    def drop(self, key: str) -> None:
        """There is nothing to forget."""
        del key


class FileTokenStore:
    """Tokens as small files (0600) in a directory of the user's, replaced atomically and synced. For scripts."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def _path(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def load(self, key: str) -> object:
        """The token's mapping; None when there is none, or when the file is no JSON of reasonable size."""
        path = self._path(key)
        try:
            if path.stat().st_size > MAX_TOKEN_BYTES:
                return None
            return json.loads(path.read_text())
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        except OSError as exc:
            raise StateUnavailable(f"the state file {path} could not be read: {exc.strerror}") from exc

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Write, sync, rename, sync the directory. False when the disk refuses."""
        path = self._path(key)
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd, name = tempfile.mkstemp(prefix=".orbit-", dir=self._directory)
            try:
                with os.fdopen(fd, "w") as file:
                    json.dump(token, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
            _sync_directory(self._directory)
        except OSError:
            return False
        return True

    def drop(self, key: str) -> None:
        """Remove the file, if it is there."""
        self._path(key).unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Token(Protocol):
    """What a Ledger keeps: one transfer's state, JSON-safe, without secrets, small."""

    def to_mapping(self) -> dict[str, Any]:
        """As it is stored."""


T = TypeVar("T", bound=Token)


class Ledger(Generic[T]):
    """One transfer's token, as it stands now, and the store that keeps it. ``read`` makes a token of an untrusted
    mapping and the target's hash, or raises TokenRejected.
    """

    def __init__(self, tokens: TokenStore, target: str, read: Callable[[object, str], T]) -> None:
        self._tokens = tokens
        self._target = target
        self._read = read
        self.current: T | None = None

    def load(self) -> T | None:
        """What an earlier try left; None when there is nothing. TokenRejected when it cannot be used,
        StateUnavailable when it cannot be read.
        """
        try:
            data = self._tokens.load(state_key(self._target))
        except OrbitError:
            raise
        except Exception as exc:
            raise StateUnavailable(f"the transfer's saved state could not be read ({type(exc).__name__})") from exc
        self.current = None if data is None else self._read(data, self._target)
        return self.current

    def save(self, token: T) -> T:
        """Keep the token and return it. A failure to keep it is for the token store to report."""
        self.current = token
        _guarded(lambda: self._tokens.save(state_key(self._target), token.to_mapping()), "kept")
        return token

    def drop(self) -> None:
        """Forget the transfer."""
        self.current = None
        _guarded(lambda: self._tokens.drop(state_key(self._target)), "dropped")


def _guarded(call: Callable[[], object], what: str) -> object:
    """The call's value; None, and a line in the log, when a token store raises although it must not."""
    try:
        return call()
    except Exception:
        logger.warning("the transfer's state could not be %s; the transfer goes on", what, exc_info=True)
        return None


@dataclass(frozen=True, slots=True)
class ResumeState:
    """A script's handle on an upload: the guide's value, returned by ``upload_file_multipart`` and taken by it again.

    ``token`` is the engine's token as JSON text; it is validated on use, so a state from a file or a queue is fine.
    """

    key: str
    token: str

    @property
    def completed(self) -> bool:
        """True when the object is there."""
        try:
            data = json.loads(self.token)
        except ValueError:
            return False
        return isinstance(data, dict) and data.get("phase") == Phase.DONE.value
