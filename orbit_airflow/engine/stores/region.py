"""A bucket's region, when nobody named one: the bucket is asked once, and its requests are signed for that region.

Left alone, botocore signs for us-east-1 and finds out by a refused request. Here one HEAD per bucket comes first, and
the answer is given to botocore where it asks itself: when it makes the endpoint of a request.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HEADER = "x-amz-bucket-region"
# The name becomes part of a host: nothing else than a region may come from an answer.
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{1,40}")


def bucket_region(client: S3Client, bucket: str, owner: str | None = None) -> str | None:
    """The region that the store names for ``bucket``, also in a refusal (301, 400, 403); None when it names none.

    Raises BotoCoreError when there is no answer.
    """
    expected: dict[str, Any] = {"ExpectedBucketOwner": owner} if owner else {}
    try:
        answer: Any = client.head_bucket(Bucket=bucket, **expected)
    except ClientError as exc:
        answer = exc.response
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found = str(headers.get(HEADER) or answer.get("Error", {}).get("Region") or "")
    return found if _REGION.fullmatch(found) else None


class BucketRegions:
    """Each bucket's region, asked for once; threads that want the same bucket wait for the one that asks."""

    def __init__(self, ask: Callable[[str], str | None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._known: dict[str, str | None] = {}

    def of(self, bucket: str) -> str | None:
        """The region, or None when the store names none. A store that does not answer is asked again next time."""
        with self._lock:
            if bucket in self._known:
                return self._known[bucket]
            turn = self._asking.setdefault(bucket, threading.Lock())
        with turn:
            if bucket not in self._known:
                try:
                    self._known[bucket] = self._ask(bucket)
                except BotoCoreError:
                    # The request itself will meet the same trouble and say so.
                    return None
            return self._known[bucket]


def follow_buckets(client: S3Client, owner: str | None = None) -> S3Client:
    """``client`` with every request signed for its bucket's own region. For clients that were given no region."""
    regions = BucketRegions(lambda bucket: bucket_region(client, bucket, owner))

    def at_home(builtins: dict[str, Any], params: dict[str, Any], model: Any, **_: Any) -> None:
        bucket = params.get("Bucket")
        if model.name == "HeadBucket" or not isinstance(bucket, str) or bucket.startswith("arn:"):
            return
        region = regions.of(bucket)
        if region is not None:
            builtins["AWS::Region"] = region

    client.meta.events.register("before-endpoint-resolution.s3", at_home, unique_id="orbit-bucket-region")
    return client
