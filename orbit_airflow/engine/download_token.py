"""What a download leaves to its next try beside the journal: which object it was of, where, and how it ended.

The journal says which bytes are there and is enough to continue. The token says what no file can: that the download
is done although its file is elsewhere, that it went to another host, and that the object has changed since. It is
hostile input like an upload's token: bucket, key and path come from the present call alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from orbit_airflow.engine.fields import Fields, TokenRejected
from orbit_airflow.engine.model import Integrity, ObjectInfo
from orbit_airflow.engine.partial import NONCE

SCHEMA = 1
_U64 = 2**64 - 1


class DownloadPhase(StrEnum):
    """How far the download is known to have come."""

    STARTED = "started"
    PUBLISHING = "publishing"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """The finished file as it was when it got its name, and its CRC by ``algorithm``. ``ctime_ns`` is known once it has
    it; nobody can set that back.
    """

    dev: int
    ino: int
    mtime_ns: int
    algorithm: str
    crc: int
    ctime_ns: int | None = None

    def to_mapping(self) -> dict[str, Any]:
        """JSON-safe."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadToken:
    """One download's state. ``host`` is where its part file is, ``nonce`` the random part of that file's name."""

    target: str
    etag: str
    size: int
    host: str
    nonce: str
    version_id: str | None = None
    phase: DownloadPhase = DownloadPhase.STARTED
    try_number: int = 1
    integrity: Integrity | None = None
    file: LocalFile | None = None

    @classmethod
    def started(cls, target: str, info: ObjectInfo, host: str, nonce: str, try_number: int) -> DownloadToken:
        """The part file exists and is empty."""
        return cls(
            target=target,
            etag=info.etag,
            size=info.size,
            version_id=info.version_id,
            host=host,
            nonce=nonce,
            try_number=try_number,
        )

    def publishing(self, integrity: Integrity, file: LocalFile) -> DownloadToken:
        """Every byte is there and proved; the file gets its name next."""
        return replace(self, phase=DownloadPhase.PUBLISHING, integrity=integrity, file=file)

    def done(self, ctime_ns: int | None = None) -> DownloadToken:
        """The file has its name."""
        file = replace(self.file, ctime_ns=ctime_ns) if self.file is not None else None
        return replace(self, phase=DownloadPhase.DONE, file=file)

    def is_of(self, info: ObjectInfo) -> bool:
        """True when ``info`` is the object (the same bytes) that this download was begun with."""
        return same_object((self.etag, self.size, self.version_id), info)

    def to_mapping(self) -> dict[str, Any]:
        """JSON-safe; without secrets; under 1 KiB whatever the size of the object."""
        return {
            "schema": SCHEMA,
            "op": "download",
            "target": self.target,
            "etag": self.etag,
            "size": self.size,
            "version_id": self.version_id,
            "host": self.host,
            "nonce": self.nonce,
            "phase": self.phase.value,
            "try_number": self.try_number,
            "integrity": self.integrity.value if self.integrity else None,
            "file": self.file.to_mapping() if self.file else None,
        }

    @classmethod
    def from_mapping(cls, data: object, target: str) -> DownloadToken:
        """The token in ``data``, if it is well-formed and of this very ``target``; else TokenRejected."""
        fields = Fields(data)
        if fields.get("schema", int) != SCHEMA:
            raise TokenRejected(f"the state was written by another version (schema {fields.get('schema', int)})")
        if fields.get("op", str) != "download" or fields.get("target", str) != target:
            raise TokenRejected("the state belongs to another transfer (operation, bucket, key or path differ)")
        try:
            token = cls._read(fields, target)
        except (ValueError, TypeError, OverflowError) as exc:
            raise TokenRejected(f"the state is malformed: {exc}") from exc
        if token.phase is not DownloadPhase.STARTED and (token.file is None or token.integrity is None):
            raise TokenRejected(f"the state is incomplete for phase {token.phase.value}")
        return token

    @classmethod
    def _read(cls, fields: Fields, target: str) -> DownloadToken:
        integrity, file = fields.get("integrity", str, None), fields.get("file", dict, None)
        return cls(
            target=target,
            etag=fields.get("etag", str),
            size=fields.whole("size"),
            version_id=fields.get("version_id", str, None),
            host=fields.get("host", str),
            nonce=fields.matching("nonce", NONCE),
            phase=DownloadPhase(fields.get("phase", str)),
            try_number=fields.whole("try_number"),
            integrity=Integrity(integrity) if integrity is not None else None,
            file=_file_from(Fields(file)) if file is not None else None,
        )


def same_object(known: tuple[str, int, str | None], info: ObjectInfo) -> bool:
    """Whether ETag, size and version are those of ``info``. A version that one of them does not know does not count:
    a bucket may have begun to keep versions, or this user may not read by them.
    """
    etag, size, version = known
    same_version = version == info.version_id if version is not None and info.version_id is not None else True
    return same_version and (etag, size) == (info.etag, info.size)


def _file_from(fields: Fields) -> LocalFile:
    return LocalFile(
        dev=fields.whole("dev", 0, _U64),
        ino=fields.whole("ino", 0, _U64),
        mtime_ns=fields.whole("mtime_ns", -_U64, _U64),
        algorithm=fields.get("algorithm", str),
        crc=fields.whole("crc", 0, _U64),
        ctime_ns=fields.whole("ctime_ns", -_U64, _U64) if fields.has("ctime_ns") else None,
    )
