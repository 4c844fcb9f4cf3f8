"""What a test sees of the store, the same in the server's process and through the control API."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tests.model_server.state import StoredVersion, Upload
from tests.model_server.xml_text import iso_time


@dataclass(frozen=True)
class OpenUpload:
    """An open multipart upload; `parts` is the size of each part by number."""

    key: str
    upload_id: str
    initiated: str
    initiator: str
    parts: dict[int, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "OpenUpload":
        parts = {int(number): size for number, size in values["parts"].items()}
        return cls(**{**values, "parts": parts})

    @classmethod
    def of(cls, upload: Upload) -> "OpenUpload":
        with upload.lock:
            parts = {number: upload.parts[number].size for number in sorted(upload.parts)}
        return cls(upload.key, upload.upload_id, iso_time(upload.initiated), upload.initiator.canonical_id, parts)


@dataclass(frozen=True)
class VersionView:
    """A stored version or delete marker; `read()` gives its bytes, the ETag is without quotes."""

    key: str
    version_id: str
    size: int
    etag: str
    metadata: dict[str, str]
    content_type: str
    storage_class: str
    last_modified: str
    delete_marker: bool
    multipart: bool
    checksum: str
    checksum_algorithm: str
    checksum_type: str
    _read: Callable[[], bytes] = field(repr=False, compare=False)

    def read(self) -> bytes:
        """All bytes of the version."""
        return self._read()

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_read"}

    @classmethod
    def of(cls, version: StoredVersion) -> "VersionView":
        checksum = version.checksum
        return cls(
            key=version.key,
            version_id=version.version_id,
            size=version.size,
            etag=version.etag,
            metadata=version.metadata,
            content_type=version.traits.system.get("content-type", ""),
            storage_class=version.traits.storage_class,
            last_modified=iso_time(version.last_modified),
            delete_marker=version.delete_marker,
            multipart=version.multipart,
            checksum=checksum.value if checksum else "",
            checksum_algorithm=checksum.algorithm.name if checksum else "",
            checksum_type=checksum.type if checksum else "",
            _read=version.read,
        )


class VersionState(NamedTuple):
    """What a batch can change of a version, in short: for looking at thousands of keys at once."""

    version_id: str
    delete_marker: bool
    etag: str
    storage_class: str
    metadata: dict[str, str]
    tags: dict[str, str]

    @classmethod
    def of(cls, version: StoredVersion) -> "VersionState":
        traits = version.traits
        return cls(
            version.version_id,
            version.delete_marker,
            version.etag,
            traits.storage_class,
            dict(traits.metadata),
            dict(traits.tags),
        )
