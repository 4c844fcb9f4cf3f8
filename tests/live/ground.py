"""Where a live run happens: a bucket that is somebody's, and in it one prefix that is ours alone."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from botocore.exceptions import ClientError

from orbit_airflow.engine import EngineConfig, ObjectRef
from orbit_airflow.engine.stores.client import make_client

HOW = (
    "live tests are off; to run them: S3_TESTS_ENABLED=1 S3_TEST_BUCKET=<an existing bucket> "
    "[S3_TEST_ENDPOINT=<url of a compatible store>] AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... make live"
)
PART = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What the environment says. Credentials are left to boto3's chain, so that a role or a profile will do, too."""

    bucket: str
    endpoint: str | None
    region: str
    storage_class: str
    encryptions: tuple[tuple[str, str | None], ...]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises ValueError, which says what is missing."""
        bucket = environ.get("S3_TEST_BUCKET", "")
        if not bucket:
            raise ValueError(f"S3_TESTS_ENABLED=1 needs S3_TEST_BUCKET; {HOW}")
        endpoint = environ.get("S3_TEST_ENDPOINT") or None
        kms_key = environ.get("S3_TEST_KMS_KEY_ID")
        return cls(
            bucket=bucket,
            endpoint=endpoint,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            # Compatible stores know few classes; all know this one.
            storage_class=environ.get("S3_TEST_STORAGE_CLASS") or ("STANDARD" if endpoint else "STANDARD_IA"),
            encryptions=(("AES256", None), *((("aws:kms", kms_key),) if kms_key else ())),
        )

    @property
    def config(self) -> EngineConfig:
        """An engine's settings for this store."""
        return EngineConfig(
            bucket=self.bucket,
            region=self.region,
            endpoint=self.endpoint,
            force_path_style=self.endpoint is not None,
            verify=os.environ.get("AWS_CA_BUNDLE"),
            chunk_size=PART,
            parallel_operations=2,
        )


def enabled(environ: Mapping[str, str]) -> bool:
    """True when somebody asked for it in so many words."""
    return environ.get("S3_TESTS_ENABLED") == "1"


class LiveGround:
    """The bucket, seen through a plain client. Touches nothing outside its random prefix, and clears that."""

    def __init__(self, settings: LiveSettings) -> None:
        self.settings = settings
        self.prefix = f"orbit-live/{uuid.uuid4().hex}/"
        self.client: Any = make_client(settings.config)

    @property
    def where(self) -> str:
        """The endpoint that is really used."""
        return str(self.client.meta.endpoint_url)

    def ref(self, name: str) -> ObjectRef:
        """An address below the prefix."""
        return ObjectRef(self.settings.bucket, self.prefix + name)

    def read(self, ref: ObjectRef) -> bytes:
        """An object's bytes."""
        data: bytes = self.client.get_object(Bucket=ref.bucket, Key=ref.key)["Body"].read()
        return data

    def head(self, ref: ObjectRef) -> dict[str, Any]:
        """HEAD, as the store says it."""
        answer: dict[str, Any] = self.client.head_object(Bucket=ref.bucket, Key=ref.key)
        return answer

    def tags(self, ref: ObjectRef) -> dict[str, str]:
        """An object's tags."""
        answer = self.client.get_object_tagging(Bucket=ref.bucket, Key=ref.key)
        return {item["Key"]: item["Value"] for item in answer.get("TagSet", [])}

    def open_uploads(self, prefix: str | None = None) -> Iterator[tuple[str, str]]:
        """(key, upload id) of the open uploads below our prefix, and of no others, whatever the store lists."""
        wanted = prefix or self.prefix
        pages = self.client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.settings.bucket, Prefix=wanted):
            for item in page.get("Uploads", []):
                if item["Key"].startswith(wanted):
                    yield item["Key"], item["UploadId"]

    def objects(self) -> Iterator[tuple[str, str | None]]:
        """(key, version id) of everything below our prefix; versions and delete markers, where the store has them."""
        try:
            yield from list(self._versions())
        except ClientError as exc:
            # Cloudflare R2 has no ListObjectVersions.
            if exc.response["Error"]["Code"] not in ("NotImplemented", "MethodNotAllowed"):
                raise
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.settings.bucket, Prefix=self.prefix):
                yield from ((item["Key"], None) for item in page.get("Contents", []))

    def _versions(self) -> Iterator[tuple[str, str | None]]:
        pages = self.client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self.settings.bucket, Prefix=self.prefix):
            for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                if item["Key"].startswith(self.prefix):
                    yield item["Key"], item.get("VersionId")

    def clear(self) -> None:
        """Remove what this run has made, then look: AssertionError when something is left."""
        bucket = self.settings.bucket
        for key, upload_id in list(self.open_uploads()):
            self.client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        for key, version in list(self.objects()):
            which = {"VersionId": version} if version else {}
            self.client.delete_object(Bucket=bucket, Key=key, **which)
        left = [*self.open_uploads(), *self.objects()]
        assert not left, f"left in {bucket}: {left}"
