"""What one download works with, in one value, so that its steps need few parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.digests import CRC32, CrcAlgorithm, crc_algorithm
from orbit_airflow.engine.download_token import DownloadToken
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    NotFound,
    ObjectArchived,
    RequestContext,
    printable,
)
from orbit_airflow.engine.host import host_id
from orbit_airflow.engine.journal import MAX_RANGES, Header
from orbit_airflow.engine.model import MIB, ChecksumType, Integrity, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import DownloadOptions
from orbit_airflow.engine.partial import PartialFile
from orbit_airflow.engine.token import Ledger
from orbit_airflow.engine.verify import best_proof

# What is read from the line, hashed and written at once, per worker.
BLOCK = MIB
_OFFLINE = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadJob:
    """One download's fixed things; the same for all its restarts. ``target`` is the hash that binds its state;
    ``prefix``: so many bytes at its beginning may be taken from the file that has the path already.
    """

    call: Call
    ref: ObjectRef
    path: str
    options: DownloadOptions
    ledger: Ledger[DownloadToken]
    target: str
    prefix: int = 0

    @property
    def checksums(self) -> bool:
        """True when the bytes are compared with what the store says about them."""
        chosen = self.options.verify_checksums
        return self.call.config.verify_checksums if chosen is None else chosen

    def look(self, version_id: str | None = None) -> ObjectInfo:
        """The object as it is now, or a version of it; every later request is pinned to what this shows.

        NotFound, ObjectDeleted; ObjectArchived when its bytes are offline; ConfigError when it has more than
        ``max_size`` bytes.
        """
        info = self.head(version_id)
        refuse_offline(info)
        most = self.options.max_size
        if most is not None and info.size > most:
            raise ConfigError(f"{self.uri} has {info.size} bytes and max_size is {most}; nothing was fetched")
        return info

    def head(self, version_id: str | None = None) -> ObjectInfo:
        """What the store says of the object now, whatever that is."""
        return self.call.store.head(replace(self.ref, version_id=self.ref.version_id or version_id))

    def pinned(self, info: ObjectInfo) -> ObjectRef:
        """The address of the very object that ``info`` is of, where it has a version."""
        return replace(self.ref, version_id=info.version_id or self.ref.version_id)

    @property
    def uri(self) -> str:
        """The address for messages: a key writes no lines of its own."""
        return printable(self.ref.uri)

    def still_there(self, token: DownloadToken) -> ObjectInfo | None:
        """The version that an earlier try had begun with, wherever the key points now; None when it is gone, or when
        this user may not read by version.
        """
        if token.version_id in (None, "null") or self.ref.version_id is not None:
            return None
        try:
            info = self.look(token.version_id)
        except NotFound:
            return None
        except AccessDenied as exc:
            if refuses_versions(exc):
                return None
            raise
        return info if token.is_of(info) else None

    def range_size(self, size: int) -> int:
        """Bytes of one range: the wish, grown (in whole MiB) until MAX_RANGES of them suffice."""
        wished = self.options.chunk_size or self.call.config.chunk_size
        needed = -(-size // MAX_RANGES)
        return wished if needed <= wished else -(-needed // MIB) * MIB

    def best_proof(self, info: ObjectInfo) -> Integrity:
        """The strongest proof that this download may come to."""
        return best_proof(info) if self.checksums else Integrity.SIZE_ETAG

    def algorithm(self, info: ObjectInfo) -> CrcAlgorithm:
        """The CRC that ranges are hashed with: the object's own, if it has one over all bytes; else CRC32."""
        checksum = info.checksum
        if checksum is not None and checksum.type is ChecksumType.FULL_OBJECT:
            return crc_algorithm(checksum.algorithm) or CRC32
        return CRC32

    def header(self, info: ObjectInfo, partial: PartialFile, range_size: int) -> Header:
        """The journal's first line."""
        return Header(
            target=self.target,
            etag=info.etag,
            size=info.size,
            range_size=range_size,
            algorithm=self.algorithm(info).name,
            host=host_id(),
            dev=partial.dev,
            ino=partial.ino,
            version_id=info.version_id,
        )


def refuses_versions(error: AccessDenied) -> bool:
    """Whether it may be the version that is refused (s3:GetObjectVersion) and not the key, the clock or the session."""
    return type(error) is AccessDenied


def refuse_offline(info: ObjectInfo) -> None:
    """ObjectArchived for an object whose bytes cannot be read now, before anything is asked of the store for nothing.

    GLACIER and DEEP_ARCHIVE need a restored copy; INTELLIGENT_TIERING only in its two archive tiers. GLACIER_IR reads.
    """
    offline = info.storage_class in _OFFLINE or info.archive_status is not None
    restored = info.restore is not None and not info.restore.ongoing
    if not offline or restored:
        return
    where = info.archive_status or info.storage_class
    state = "its restore is under way" if info.restore is not None else "restore it first (RestoreObject)"
    raise ObjectArchived(
        f"{printable(info.ref.uri)} is archived in {where}: {state}; nothing was fetched",
        RequestContext("HeadObject", info.ref.bucket, info.ref.key, code="InvalidObjectState"),
    )
