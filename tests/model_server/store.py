"""The buckets and the changes they allow; every method holds the lock only for the state change."""

import re
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from tests.model_server.errors import S3Error
from tests.model_server.state import Bucket, CompletedUpload, StoredVersion, Upload, Versioning

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Store:
    """All buckets of one server."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self._buckets: dict[str, Bucket] = {}
        self._clock = clock

    def now(self) -> datetime:
        """The server's time."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def buckets(self) -> list[Bucket]:
        """The buckets by name."""
        with self.lock:
            return [self._buckets[name] for name in sorted(self._buckets)]

    def create_bucket(self, name: str, versioning: Versioning = "") -> Bucket:
        """A new bucket; raises InvalidBucketName or BucketAlreadyOwnedByYou."""
        if not _BUCKET_NAME.fullmatch(name):
            raise S3Error("InvalidBucketName", "The specified bucket is not valid.")
        with self.lock:
            if name in self._buckets:
                raise S3Error("BucketAlreadyOwnedByYou", "You already own this bucket.")
            self._buckets[name] = Bucket(name, self.now(), versioning)
            return self._buckets[name]

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket; raises BucketNotEmpty."""
        with self.lock:
            bucket = self.bucket(name)
            if bucket.objects or bucket.uploads:
                raise S3Error("BucketNotEmpty", "The bucket you tried to delete is not empty")
            del self._buckets[name]

    def bucket(self, name: str) -> Bucket:
        """The bucket; raises NoSuchBucket."""
        with self.lock:
            found = self._buckets.get(name)
        if found is None:
            raise S3Error("NoSuchBucket", "The specified bucket does not exist", fields={"BucketName": name})
        return found

    def upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        """The open upload of exactly this key; raises NoSuchUpload."""
        with self.lock:
            found = self.bucket(bucket).uploads.get(upload_id)
        if found is None or found.key != key or not found.open:
            raise no_such_upload(upload_id)
        return found

    def completed(self, bucket: str, key: str, upload_id: str) -> CompletedUpload | None:
        """The finished upload of exactly this key, if there was one."""
        with self.lock:
            found = self.bucket(bucket).completed.get(upload_id)
        return found if found is not None and found.key == key else None

    def versions(self, bucket: str, key: str) -> list[StoredVersion]:
        """The versions and delete markers of a key, newest first."""
        with self.lock:
            return list(reversed(self.bucket(bucket).objects.get(key, [])))

    def current(self, bucket: str, key: str) -> StoredVersion | None:
        """The newest version, unless it is a delete marker."""
        found = self.versions(bucket, key)
        return found[0] if found and not found[0].delete_marker else None

    def put(self, bucket: str, version: StoredVersion) -> StoredVersion:
        """Make the version the newest of its key; what it replaces is gone."""
        with self.lock:
            home = self.bucket(bucket)
            version.version_id = fresh_id() if home.versioning == "Enabled" else "null"
            held = home.objects.setdefault(version.key, [])
            if version.version_id == "null":
                _drop(held, "null")
            held.append(version)
        return version

    def remove(self, bucket: str, key: str, version_id: str) -> StoredVersion | None:
        """Remove one version for good; None when there was none."""
        with self.lock:
            home = self.bucket(bucket)
            held = home.objects.get(key, [])
            removed = _drop(held, version_id)
            if not held:
                home.objects.pop(key, None)
        return removed


def _drop(held: list[StoredVersion], version_id: str) -> StoredVersion | None:
    for at, version in enumerate(held):
        if version.version_id == version_id:
            del held[at]
            version.content.delete()
            return version
    return None


def fresh_id() -> str:
    """A new opaque id for a version or an upload."""
    return secrets.token_urlsafe(24)


def no_such_upload(upload_id: str) -> S3Error:
    """The error for an upload that is unknown, finished, aborted or of another key."""
    return S3Error(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted "
        "or completed.",
        fields={"UploadId": upload_id},
    )
