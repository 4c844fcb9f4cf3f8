"""Versions, tags and copied parts as S3 requests; the verbs of S3Store that need more than a line."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote_plus

from orbit_airflow.engine.errors import ConfigError, NotFound, RequestContext, Unavailable
from orbit_airflow.engine.model import KeyPrefix, ObjectRef, PartReceipt
from orbit_airflow.engine.store import CopyPartRequest
from orbit_airflow.engine.stores import documents
from orbit_airflow.engine.stores.answers import DAMAGED, Answer, understanding, unquoted
from orbit_airflow.engine.versioning import (
    NULL,
    ListedVersion,
    VersioningState,
    VersioningStatus,
    VersionsPage,
    VersionsRequest,
    in_order,
)

# Where the order of the entries is put into the answer.
ORDER = documents.ORDER
Pairs = tuple[tuple[str, str], ...]


class Ask(Protocol):
    """One request: its context, the client's method, the parameters. Maps every error."""

    def __call__(self, context: RequestContext, method: Callable[..., Any], params: Mapping[str, Any], /) -> Answer:
        """The answer."""


def keep_order(client: Any) -> None:
    """Let the answers of ListObjectVersions say in which order they were written.

    botocore makes two lists of one, of versions and of markers; which of two that were made in the same second is the
    newer one, only their order in the document tells.
    """
    client.meta.events.register("before-parse.s3.ListObjectVersions", _note_order, unique_id="orbit-order-of-versions")


def _note_order(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    body = response_dict.get("body")
    if isinstance(body, bytes):
        customized_response_dict[ORDER] = documents.order_of(body)


def list_versions(ask: Ask, client: Any, request: VersionsRequest) -> VersionsPage:
    """ListObjectVersions, one page, url-encoded on the wire: XML cannot carry every key."""
    where = request.where
    context = RequestContext("ListObjectVersions", where.bucket, where.prefix)
    params: dict[str, Any] = {
        "Bucket": where.bucket,
        "Prefix": where.prefix,
        "EncodingType": "url",
        "MaxKeys": request.max_keys,
    }
    if request.after is not None:
        key, version_id = request.after
        params |= {"KeyMarker": key, **({"VersionIdMarker": version_id} if version_id else {})}
    answer = ask(context, client.list_object_versions, params)
    with understanding(context):
        page = _page(answer, where)
    if answer.get("IsTruncated") and page.next_marker in (None, request.after):
        raise Unavailable("the store's list of versions does not advance", context)
    return page


def _page(answer: Answer, where: KeyPrefix) -> VersionsPage:
    encoded = answer.get("EncodingType") == "url"

    def decode(text: str) -> str:
        if encoded and DAMAGED in text:
            raise ValueError(f"a key that is no valid XML, and not encoded: {text!r}")
        return unquote_plus(text) if encoded else text

    written = [_listed(item, decode, marker=marker) for item, marker in _as_written(answer)]
    strangers = [item.key for item in written if not item.key.startswith(where.prefix)]
    if strangers:
        raise ValueError(f"a key that does not begin with the prefix: {strangers[0]!r}")
    after = None
    if answer.get("IsTruncated") and answer.get("NextKeyMarker"):
        after = (decode(answer["NextKeyMarker"]), answer.get("NextVersionIdMarker") or "")
    return VersionsPage(in_order(written), after)


def _as_written(answer: Answer) -> list[tuple[Answer, bool]]:
    """The entries in the document's order; versions first where that is not known."""
    versions, markers = list(answer.get("Versions", [])), list(answer.get("DeleteMarkers", []))
    order = answer.get(ORDER, "")
    if (order.count("V"), order.count("M")) != (len(versions), len(markers)):
        order = "V" * len(versions) + "M" * len(markers)
    queues = {"V": iter(versions), "M": iter(markers)}
    return [(next(queues[kind]), kind == "M") for kind in order]


def _listed(item: Answer, decode: Callable[[str], str], *, marker: bool) -> ListedVersion:
    return ListedVersion(
        key=decode(item["Key"]),
        # Some stores write nothing for what was there before versioning.
        version_id=item.get("VersionId") or NULL,
        is_latest=bool(item["IsLatest"]),
        last_modified=item.get("LastModified"),
        size=0 if marker else int(item["Size"]),
        etag=unquoted(item.get("ETag")),
        storage_class=item.get("StorageClass"),
        delete_marker=marker,
    )


def get_versioning(ask: Ask, client: Any, bucket: str) -> VersioningStatus:
    """GetBucketVersioning; an answer without a status is a bucket that never kept versions."""
    context = RequestContext("GetBucketVersioning", bucket)
    answer = ask(context, client.get_bucket_versioning, {"Bucket": bucket})
    with understanding(context):
        state = VersioningState(answer.get("Status") or VersioningState.UNVERSIONED)
        return VersioningStatus(state, answer.get("MFADelete") == "Enabled")


def put_versioning(ask: Ask, client: Any, bucket: str, state: VersioningState) -> None:
    """PutBucketVersioning."""
    context = RequestContext("PutBucketVersioning", bucket)
    if state is VersioningState.UNVERSIONED:
        raise ConfigError("a bucket that has kept versions can be suspended, but never be unversioned again", context)
    params = {"Bucket": bucket, "VersioningConfiguration": {"Status": state.value}}
    ask(context, client.put_bucket_versioning, params)


def copy_part(
    ask: Ask, client: Any, ref: ObjectRef, request: CopyPartRequest, always: Mapping[str, Any]
) -> PartReceipt:
    """UploadPartCopy. botocore makes an error of a 200 that holds one."""
    source, part = request.source, request.part
    context = RequestContext("UploadPartCopy", ref.bucket, ref.key, request.upload_id, part.number)
    place = {"Bucket": source.bucket, "Key": source.key}
    params: dict[str, Any] = {
        "Bucket": ref.bucket,
        "Key": ref.key,
        "UploadId": request.upload_id,
        "PartNumber": part.number,
        "CopySource": {**place, **({"VersionId": source.version_id} if source.version_id else {})},
        "CopySourceIfMatch": f'"{request.if_match}"',
    }
    if not request.whole:
        # S3 refuses a range for a source of 5 MiB or less; the last part of a plan is never alone there.
        params["CopySourceRange"] = f"bytes={part.offset}-{part.offset + part.size - 1}"
    if "ExpectedBucketOwner" in always and source.bucket == ref.bucket:
        params["ExpectedSourceBucketOwner"] = always["ExpectedBucketOwner"]
    answer = ask(context, client.upload_part_copy, params)
    with understanding(context):
        result = answer.get("CopyPartResult") or {}
        etag, crc = unquoted(result.get("ETag")), _crc32(result.get("ChecksumCRC32"))
    if not etag:
        raise Unavailable("the answer to UploadPartCopy has no ETag", context)
    return PartReceipt(part.number, part.size, etag, crc, echoed=crc is not None)


def _crc32(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        raw = b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"a CRC32 that is no base64: {text!r}") from exc
    if len(raw) != 4:
        raise ValueError(f"a CRC32 of {len(raw)} bytes: {text!r}")
    return int.from_bytes(raw, "big")


def get_tags(ask: Ask, client: Any, ref: ObjectRef) -> Pairs:
    """GetObjectTagging; some stores answer an object without tags with an error, and Ceph one whose tags it dropped
    with an empty document. HEAD's count tells that from an answer that lost its body: Unavailable when it counts any.
    """
    context = RequestContext("GetObjectTagging", ref.bucket, ref.key)
    try:
        answer = ask(context, client.get_object_tagging, _address(ref))
    except NotFound as exc:
        if exc.context.code != "NoSuchTagSet":
            raise
        return ()
    if "TagSet" not in answer:
        head = ask(RequestContext("HeadObject", ref.bucket, ref.key), client.head_object, _address(ref))
        if head.get("TagCount"):
            raise Unavailable("the store answered with an empty document, but the object has tags", context)
        return ()
    with understanding(context):
        return tuple((item["Key"], item["Value"]) for item in answer["TagSet"])


def put_tags(ask: Ask, client: Any, ref: ObjectRef, tags: Pairs) -> None:
    """PutObjectTagging."""
    context = RequestContext("PutObjectTagging", ref.bucket, ref.key)
    listed = [{"Key": name, "Value": value} for name, value in tags]
    ask(context, client.put_object_tagging, {**_address(ref), "Tagging": {"TagSet": listed}})


def _address(ref: ObjectRef) -> dict[str, str]:
    return {"Bucket": ref.bucket, "Key": ref.key, **({"VersionId": ref.version_id} if ref.version_id else {})}
