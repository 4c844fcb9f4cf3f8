"""The verbs of the port as S3 requests over a boto3 client. One call, one request, one mapped error."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import ChecksumRefused, NotFound, RequestContext, Unavailable, UploadGone
from orbit_airflow.engine.model import (
    ByteRange,
    CreatedUpload,
    DeleteManyResult,
    DeleteReceipt,
    ListedPart,
    ListedUpload,
    ListResult,
    ObjectAttributes,
    ObjectInfo,
    ObjectPart,
    ObjectRef,
    Part,
    PartReceipt,
    PartsPage,
    UploadsPage,
    WriteReceipt,
)
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.store import (
    Body,
    CompleteRequest,
    CopyPartRequest,
    CopyRequest,
    DeleteItem,
    ListRequest,
    PartDigests,
    checked_items,
)
from orbit_airflow.engine.stores import versions
from orbit_airflow.engine.stores.answers import (
    Answer,
    checksum_in,
    checksum_type,
    info_in,
    mapping,
    object_part_in,
    page_in,
    understanding,
    unquoted,
    upload_key,
)
from orbit_airflow.engine.stores.calls import Calls
from orbit_airflow.engine.stores.credentials import CredentialKeeper
from orbit_airflow.engine.stores.customer import CustomerKeyParams, check_transport
from orbit_airflow.engine.stores.deletions import deleted_in
from orbit_airflow.engine.stores.http import RequestBody
from orbit_airflow.engine.stores.stream import S3Stream, opened
from orbit_airflow.engine.versioning import VersioningState, VersioningStatus, VersionsPage, VersionsRequest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Store:
    """S3 and its compatibles. Thread-safe: a boto3 client is."""

    def __init__(self, client: S3Client, config: EngineConfig) -> None:
        self._client = client
        self._calls = Calls(client, config)
        self._stall = config.stall_timeout
        check_transport(client, config.customer_key)
        self._keeper = CredentialKeeper(client)
        self._customer = CustomerKeyParams(config.customer_key)
        self._always: dict[str, Any] = {}
        if config.expected_bucket_owner:
            self._always["ExpectedBucketOwner"] = config.expected_bucket_owner
        if config.request_payer:
            self._always["RequestPayer"] = config.request_payer
        versions.keep_order(client)

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """HeadObject with ChecksumMode."""
        context = RequestContext("HeadObject", ref.bucket, ref.key)
        answer = self._call(context, self._client.head_object, ref, {"ChecksumMode": "ENABLED", **_version(ref)})
        with understanding(context):
            return info_in(answer, ref, int(answer["ContentLength"]), checksum_in(answer))

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """HeadObject with PartNumber."""
        context = RequestContext("HeadObject", ref.bucket, ref.key, part_number=number)
        params = {"ChecksumMode": "ENABLED", "PartNumber": number, **_version(ref)}
        answer = self._call(context, self._client.head_object, ref, params)
        with understanding(context):
            return object_part_in(answer, number, context)

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> S3Stream:
        """GetObject with ChecksumMode; the answer is compared with what was asked for before a byte is given on."""
        context = RequestContext("GetObject", ref.bucket, ref.key)
        params = {"ChecksumMode": "ENABLED", **_version(ref)}
        if span is not None:
            params["Range"] = span.header
        if if_match is not None:
            params["IfMatch"] = f'"{if_match}"'
        answer = self._call(context, self._client.get_object, ref, params)
        return opened(answer, ref, span, if_match, context)

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """PutObject with the checksum as a header."""
        context = RequestContext("PutObject", ref.bucket, ref.key)
        params = {**_attribute_params(attributes), **_digest_params(digests), **self._body_params(body)}
        if if_none_match:
            params["IfNoneMatch"] = "*"
        answer = self._call(context, self._client.put_object, ref, params)
        return WriteReceipt(unquoted(answer.get("ETag")), answer.get("VersionId"), checksum_in(answer))

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """CopyObject. botocore makes an error of a 200 that holds one."""
        context = RequestContext("CopyObject", ref.bucket, ref.key)
        source = request.source
        params: dict[str, Any] = {"CopySource": {"Bucket": source.bucket, "Key": source.key, **_version(source)}}
        params |= _copied_attributes(request)
        if request.if_match is not None:
            params["CopySourceIfMatch"] = f'"{request.if_match}"'
        if request.if_none_match:
            params["IfNoneMatch"] = "*"
        if "ExpectedBucketOwner" in self._always and source.bucket == ref.bucket:
            params["ExpectedSourceBucketOwner"] = self._always["ExpectedBucketOwner"]
        answer = self._call(context, self._client.copy_object, ref, params)
        with understanding(context):
            result = answer.get("CopyObjectResult") or {}
            receipt = WriteReceipt(unquoted(result.get("ETag")), answer.get("VersionId"), checksum_in(result))
        if not receipt.etag:
            raise Unavailable("the answer to CopyObject has no ETag", context)
        return receipt

    def delete(self, ref: ObjectRef) -> DeleteReceipt:
        """DeleteObject; a key that is gone is what was wanted."""
        context = RequestContext("DeleteObject", ref.bucket, ref.key)
        try:
            answer = self._call(context, self._client.delete_object, ref, _version(ref))
        except NotFound as exc:
            if exc.context.code != "NoSuchKey":
                raise
            return DeleteReceipt()
        return DeleteReceipt(bool(answer.get("DeleteMarker")), answer.get("VersionId"))

    def delete_many(self, bucket: str, items: Sequence[DeleteItem], *, quiet: bool = False) -> DeleteManyResult:
        """DeleteObjects, with Content-MD5 and a CRC: some stores want the one, some the other."""
        context, wanted = RequestContext("DeleteObjects", bucket), checked_items(items)
        objects = [{"Key": key, **({"VersionId": version} if version else {})} for key, version in wanted]
        params: dict[str, Any] = {"Bucket": bucket, "Delete": {"Objects": objects, "Quiet": quiet}, **self._always}
        delete_objects = self._client.delete_objects
        with mapping(context):
            answer: Answer = self._keeper.run(lambda: self._calls.make("DeleteObjects", delete_objects, params))
        with understanding(context):
            return deleted_in(answer, wanted, context, quiet=quiet)

    def list_objects(self, request: ListRequest) -> ListResult:
        """ListObjectsV2, one page, url-encoded on the wire: XML cannot carry every key."""
        bucket, prefix = request.where.bucket, request.where.prefix
        context = RequestContext("ListObjectsV2", bucket, prefix)
        params: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "EncodingType": "url", **self._always}
        named = {"ContinuationToken": request.token, "StartAfter": request.start_after, "Delimiter": request.delimiter}
        params |= {name: value for name, value in named.items() if value is not None}
        params["MaxKeys"] = request.max_keys
        list_objects = self._client.list_objects_v2
        with mapping(context):
            answer: Answer = self._keeper.run(lambda: self._calls.make("ListObjectsV2", list_objects, params))
        with understanding(context):
            page = page_in(answer)
        if page.is_truncated and page.continuation_token in (None, request.token):
            raise Unavailable("the store's list of objects does not advance", context)
        return page

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """CreateMultipartUpload; with ``checksums`` a CRC32 over the full object is asked for."""
        context = RequestContext("CreateMultipartUpload", ref.bucket, ref.key)
        params = _attribute_params(attributes)
        if checksums:
            params |= {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        answer = self._call(context, self._client.create_multipart_upload, ref, params)
        if not answer.get("UploadId"):
            raise Unavailable("the answer to CreateMultipartUpload has no upload id", context)
        algorithm = answer.get("ChecksumAlgorithm") if checksums else None
        return CreatedUpload(
            upload_id=answer["UploadId"],
            checksum_algorithm="CRC32" if algorithm == "CRC32" else None,
            checksum_type=checksum_type(answer) if algorithm == "CRC32" else None,
            abort_date=answer.get("AbortDate"),
        )

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """UploadPart; a checksum in the answer must be the one that was sent."""
        context = RequestContext("UploadPart", ref.bucket, ref.key, upload_id, part.number)
        params = {"UploadId": upload_id, "PartNumber": part.number}
        params |= {**_digest_params(digests), **self._body_params(body)}
        answer = self._call(context, self._client.upload_part, ref, params)
        etag, echo = unquoted(answer.get("ETag")), answer.get("ChecksumCRC32")
        if not etag:
            raise Unavailable("the answer to UploadPart has no ETag", context)
        if digests.crc32 is not None and echo is not None and echo != to_base64(digests.crc32):
            raise ChecksumRefused("the store acknowledged another checksum than that of the bytes sent", context)
        return PartReceipt(part.number, part.size, etag, digests.crc32, digests.md5, echoed=echo is not None)

    def list_parts(self, ref: ObjectRef, upload_id: str, after: int = 0) -> PartsPage:
        """ListParts, one page."""
        context = RequestContext("ListParts", ref.bucket, ref.key, upload_id)
        params = {"UploadId": upload_id, **({"PartNumberMarker": after} if after else {})}
        answer = self._call(context, self._client.list_parts, ref, params)
        with understanding(context):
            parts = tuple(_listed_part(item) for item in answer.get("Parts", []))
            marker = None
            if answer.get("IsTruncated"):
                marker = int(answer.get("NextPartNumberMarker") or (parts[-1].number if parts else 0))
                if marker <= after:
                    raise Unavailable("the store's list of parts does not advance", context)
            return PartsPage(parts, marker, answer.get("Initiator", {}).get("ID"))

    def complete(self, ref: ObjectRef, request: CompleteRequest) -> WriteReceipt:
        """CompleteMultipartUpload. An answer without ETag is returned as it is: the flow asks what happened."""
        context = RequestContext("CompleteMultipartUpload", ref.bucket, ref.key, request.upload_id)
        params: dict[str, Any] = {
            "UploadId": request.upload_id,
            "MultipartUpload": {"Parts": [_completed(item, request) for item in request.receipts]},
            "MpuObjectSize": request.size,
        }
        if request.full_crc32 is not None:
            params |= {"ChecksumCRC32": to_base64(request.full_crc32), "ChecksumType": "FULL_OBJECT"}
        if request.if_none_match:
            params["IfNoneMatch"] = "*"
        answer = self._call(context, self._client.complete_multipart_upload, ref, params)
        return WriteReceipt(unquoted(answer.get("ETag")), answer.get("VersionId"), checksum_in(answer))

    def abort(self, ref: ObjectRef, upload_id: str) -> None:
        """AbortMultipartUpload; an upload that is gone is what was wanted."""
        context = RequestContext("AbortMultipartUpload", ref.bucket, ref.key, upload_id)
        with suppress(UploadGone):
            self._call(context, self._client.abort_multipart_upload, ref, {"UploadId": upload_id})

    def list_uploads(self, ref: ObjectRef, after: tuple[str, str] | None = None) -> UploadsPage:
        """ListMultipartUploads, one page, url-encoded on the wire: botocore does not decode this one by itself."""
        context = RequestContext("ListMultipartUploads", ref.bucket, ref.key)
        params: dict[str, Any] = {"Bucket": ref.bucket, "Prefix": ref.key, "EncodingType": "url", **self._always}
        if after is not None:
            params |= {"KeyMarker": after[0], "UploadIdMarker": after[1]}
        list_uploads = self._client.list_multipart_uploads
        with mapping(context):
            answer: Answer = self._keeper.run(lambda: self._calls.make("ListMultipartUploads", list_uploads, params))
        with understanding(context):
            uploads = tuple(_listed_upload(item, ref.key) for item in answer.get("Uploads", []))
            marker = (upload_key(answer.get("NextKeyMarker", ""), ref.key), answer.get("NextUploadIdMarker", ""))
            more = bool(answer.get("IsTruncated")) and marker != (after or ("", ""))
            return UploadsPage(uploads, marker if more else None)

    def _body_params(self, body: Body) -> dict[str, Any]:
        return {"Body": RequestBody(body, self._stall), "ContentLength": body.size}

    def _call(
        self, context: RequestContext, method: Callable[..., Any], ref: ObjectRef, params: Mapping[str, Any]
    ) -> Answer:
        operation = context.operation or ""
        whole = {"Bucket": ref.bucket, "Key": ref.key, **params, **self._always, **self._customer.of(context.operation)}
        with self._customer.explaining(context), mapping(context):
            answer: Answer = self._keeper.run(lambda: self._calls.make(operation, method, whole))
        return answer

    def copy_part(self, ref: ObjectRef, request: CopyPartRequest) -> PartReceipt:
        """UploadPartCopy of a pinned range."""
        return versions.copy_part(self._ask, self._client, ref, request, self._always)

    def get_tags(self, ref: ObjectRef) -> tuple[tuple[str, str], ...]:
        """GetObjectTagging."""
        return versions.get_tags(self._ask, self._client, ref)

    def put_tags(self, ref: ObjectRef, tags: tuple[tuple[str, str], ...]) -> None:
        """PutObjectTagging."""
        versions.put_tags(self._ask, self._client, ref, tags)

    def list_versions(self, request: VersionsRequest) -> VersionsPage:
        """ListObjectVersions."""
        return versions.list_versions(self._ask, self._client, request)

    def get_versioning(self, bucket: str) -> VersioningStatus:
        """GetBucketVersioning."""
        return versions.get_versioning(self._ask, self._client, bucket)

    def put_versioning(self, bucket: str, state: VersioningState) -> None:
        """PutBucketVersioning."""
        versions.put_versioning(self._ask, self._client, bucket, state)

    def _ask(self, context: RequestContext, method: Callable[..., Any], params: Mapping[str, Any]) -> Answer:
        operation = context.operation or ""
        whole = {**params, **self._always, **self._customer.of(operation)}
        if "Bucket" in operation:
            # S3 knows no RequestPayer there.
            whole.pop("RequestPayer", None)
        with self._customer.explaining(context), mapping(context):
            answer: Answer = self._keeper.run(lambda: self._calls.make(operation, method, whole))
        return answer


def _version(ref: ObjectRef) -> dict[str, str]:
    return {"VersionId": ref.version_id} if ref.version_id else {}


def _digest_params(digests: PartDigests) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if digests.crc32 is not None:
        # Both headers: Ceph 20 ignores the value of a PutObject without the algorithm.
        params |= {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": to_base64(digests.crc32)}
    if digests.md5 is not None:
        params["ContentMD5"] = base64.b64encode(digests.md5).decode()
    return params


def _attribute_params(attributes: ObjectAttributes) -> dict[str, Any]:
    named = {
        "ContentType": attributes.content_type,
        "StorageClass": attributes.storage_class,
        "ServerSideEncryption": attributes.server_side_encryption,
        "SSEKMSKeyId": attributes.kms_key_id,
        "ACL": attributes.acl,
        "Metadata": dict(attributes.metadata) or None,
        "Tagging": urlencode(attributes.tags, quote_via=quote) or None,
    }
    return {**dict(attributes.extra_args), **{name: value for name, value in named.items() if value is not None}}


def _copied_attributes(request: CopyRequest) -> dict[str, Any]:
    """Only what the directives let through: S3 ignores the rest, others may not."""
    params = _attribute_params(request.attributes)
    if not request.replace_metadata:
        params = {name: value for name, value in params.items() if name not in ("ContentType", "Metadata")}
    if not request.replace_tags:
        params.pop("Tagging", None)
    directives = {
        "MetadataDirective": "REPLACE" if request.replace_metadata else "COPY",
        # Without tags of its own a copy has the source's; only an empty set takes them away.
        "TaggingDirective": "REPLACE" if request.replace_tags else "COPY",
    }
    return {**params, **directives}


def _completed(receipt: PartReceipt, request: CompleteRequest) -> dict[str, Any]:
    item: dict[str, Any] = {"PartNumber": receipt.number, "ETag": f'"{receipt.etag}"'}
    if request.send_part_checksums and receipt.crc32 is not None:
        item["ChecksumCRC32"] = to_base64(receipt.crc32)
    return item


def _listed_part(item: Answer) -> ListedPart:
    checksum = checksum_in(item)
    return ListedPart(
        int(item["PartNumber"]), int(item["Size"]), unquoted(item.get("ETag")), checksum, item.get("LastModified")
    )


def _listed_upload(item: Answer, prefix: str) -> ListedUpload:
    initiator = (item.get("Initiator") or {}).get("ID")
    return ListedUpload(upload_key(item["Key"], prefix), item["UploadId"], item.get("Initiated"), initiator)
