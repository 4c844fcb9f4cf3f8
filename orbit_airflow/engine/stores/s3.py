"""The verbs of the port as S3 requests over a boto3 client. One call, one request, one mapped error."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_plus, urlencode

from botocore.exceptions import BotoCoreError, ClientError

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import ChecksumRefused, RequestContext, Unavailable, UploadGone
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    CreatedUpload,
    ListedPart,
    ListedUpload,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
    Part,
    PartReceipt,
    PartsPage,
    UploadsPage,
    WriteReceipt,
)
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.store import Body, CompleteRequest, PartDigests
from orbit_airflow.engine.stores.calls import Calls
from orbit_airflow.engine.stores.credentials import CredentialKeeper
from orbit_airflow.engine.stores.customer import CustomerKeyParams, check_transport
from orbit_airflow.engine.stores.errormap import mapped
from orbit_airflow.engine.stores.http import RequestBody

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA256", "SHA1")
Answer = Mapping[str, Any]


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

    def head(self, ref: ObjectRef) -> ObjectInfo:
        """HeadObject with ChecksumMode."""
        version = {"VersionId": ref.version_id} if ref.version_id else {}
        context = RequestContext("HeadObject", ref.bucket, ref.key)
        answer = self._call(context, self._client.head_object, ref, {"ChecksumMode": "ENABLED", **version})
        with _understanding(context):
            return ObjectInfo(
                ref=ref,
                size=int(answer["ContentLength"]),
                etag=_unquoted(answer.get("ETag")),
                version_id=answer.get("VersionId"),
                last_modified=answer.get("LastModified"),
                checksum=_checksum_in(answer),
                metadata=tuple((name.lower(), value) for name, value in answer.get("Metadata", {}).items()),
                storage_class=answer.get("StorageClass"),
            )

    def put(
        self, ref: ObjectRef, body: Body, digests: PartDigests, attributes: ObjectAttributes, *, if_none_match: bool
    ) -> WriteReceipt:
        """PutObject with the checksum as a header."""
        context = RequestContext("PutObject", ref.bucket, ref.key)
        params = {**_attribute_params(attributes), **_digest_params(digests), **self._body_params(body)}
        if if_none_match:
            params["IfNoneMatch"] = "*"
        answer = self._call(context, self._client.put_object, ref, params)
        return WriteReceipt(_unquoted(answer.get("ETag")), answer.get("VersionId"), _checksum_in(answer))

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
            checksum_type=_checksum_type(answer) if algorithm == "CRC32" else None,
            abort_date=answer.get("AbortDate"),
        )

    def upload_part(self, ref: ObjectRef, upload_id: str, part: Part, body: Body, digests: PartDigests) -> PartReceipt:
        """UploadPart; a checksum in the answer must be the one that was sent."""
        context = RequestContext("UploadPart", ref.bucket, ref.key, upload_id, part.number)
        params = {"UploadId": upload_id, "PartNumber": part.number}
        params |= {**_digest_params(digests), **self._body_params(body)}
        answer = self._call(context, self._client.upload_part, ref, params)
        etag, echo = _unquoted(answer.get("ETag")), answer.get("ChecksumCRC32")
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
        with _understanding(context):
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
        return WriteReceipt(_unquoted(answer.get("ETag")), answer.get("VersionId"), _checksum_in(answer))

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
        with _mapping(context):
            list_uploads = self._client.list_multipart_uploads
            answer: Answer = self._keeper.run(lambda: self._calls.make("ListMultipartUploads", list_uploads, params))
        encoded = answer.get("EncodingType") == "url"
        with _understanding(context):
            uploads = tuple(_listed_upload(item, ref.key, encoded=encoded) for item in answer.get("Uploads", []))
            next_key = _listed_key(answer.get("NextKeyMarker", ""), ref.key, encoded=encoded)
            marker = (next_key, answer.get("NextUploadIdMarker", ""))
            more = bool(answer.get("IsTruncated")) and marker != (after or ("", ""))
            return UploadsPage(uploads, marker if more else None)

    def _body_params(self, body: Body) -> dict[str, Any]:
        return {"Body": RequestBody(body, self._stall), "ContentLength": body.size}

    def _call(
        self, context: RequestContext, method: Callable[..., Any], ref: ObjectRef, params: Mapping[str, Any]
    ) -> Answer:
        operation = context.operation or ""
        whole = {"Bucket": ref.bucket, "Key": ref.key, **params, **self._always, **self._customer.of(context.operation)}
        with self._customer.explaining(context), _mapping(context):
            answer: Answer = self._keeper.run(lambda: self._calls.make(operation, method, whole))
        return answer


@contextmanager
def _mapping(context: RequestContext) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError, OSError, ValueError) as exc:
        raise mapped(exc, context) from exc


@contextmanager
def _understanding(context: RequestContext) -> Iterator[None]:
    """An answer that lacks what it must have, or has it in another shape, is an unavailable store, not a crash."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise Unavailable(f"the answer could not be understood: {exc!r}", context) from exc


def _unquoted(etag: str | None) -> str:
    return (etag or "").strip('"')


def _checksum_type(answer: Answer) -> ChecksumType:
    return ChecksumType.FULL_OBJECT if answer.get("ChecksumType") == "FULL_OBJECT" else ChecksumType.COMPOSITE


def _checksum_in(answer: Answer) -> Checksum | None:
    for algorithm in _ALGORITHMS:
        value = answer.get(f"Checksum{algorithm}")
        if value:
            composite = "-" in value or answer.get("ChecksumType") == "COMPOSITE"
            return Checksum(algorithm, value, ChecksumType.COMPOSITE if composite else ChecksumType.FULL_OBJECT)
    return None


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


def _completed(receipt: PartReceipt, request: CompleteRequest) -> dict[str, Any]:
    item: dict[str, Any] = {"PartNumber": receipt.number, "ETag": f'"{receipt.etag}"'}
    if request.send_part_checksums and receipt.crc32 is not None:
        item["ChecksumCRC32"] = to_base64(receipt.crc32)
    return item


def _listed_part(item: Answer) -> ListedPart:
    checksum = _checksum_in(item)
    return ListedPart(
        int(item["PartNumber"]), int(item["Size"]), _unquoted(item.get("ETag")), checksum, item.get("LastModified")
    )


def _listed_upload(item: Answer, wanted: str, *, encoded: bool) -> ListedUpload:
    initiator = (item.get("Initiator") or {}).get("ID")
    key = _listed_key(item["Key"], wanted, encoded=encoded)
    return ListedUpload(key, item["UploadId"], item.get("Initiated"), initiator)


def _listed_key(raw: str, wanted: str, *, encoded: bool) -> str:
    """A listed key in plain text. Stores do not agree with what they say: Ceph 16 encodes without saying so,
    LocalStack says so without encoding. A key that is the wanted one in any reading is the wanted one; a confusion
    does no harm, since every later request names the wanted key itself.
    """
    if wanted in (raw, unquote(raw), unquote_plus(raw)):
        return wanted
    return unquote_plus(raw) if encoded else raw
