"""Which operation a request is, and how it is served; everything not listed is 501 NotImplemented."""

from tests.model_server.checksums import BY_HEADER
from tests.model_server.config import ServerProfile
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Operation
from tests.model_server.operations import buckets, complete, listing, multipart, objects
from tests.model_server.wire import RequestHead

_SERVED = {
    item.name: item
    for item in (
        Operation("ListBuckets", buckets.list_buckets),
        Operation("CreateBucket", buckets.create_bucket),
        Operation("HeadBucket", buckets.head_bucket),
        Operation("GetBucketLocation", buckets.get_location),
        Operation("DeleteBucket", buckets.delete_bucket),
        Operation("PutBucketVersioning", buckets.put_versioning, buckets.admit_existing),
        Operation("GetBucketVersioning", buckets.get_versioning),
        Operation("PutBucketLifecycleConfiguration", buckets.put_lifecycle, buckets.admit_existing),
        Operation("GetBucketLifecycleConfiguration", buckets.get_lifecycle),
        Operation("ListObjectsV2", listing.list_objects),
        Operation("ListObjectVersions", listing.list_versions),
        Operation("ListMultipartUploads", multipart.list_uploads),
        Operation("PutObject", objects.put_object, objects.admit_put, stores_body=True),
        Operation("CopyObject", objects.copy_object, objects.admit_copy),
        Operation("GetObject", objects.get_object),
        Operation("HeadObject", objects.get_object),
        Operation("DeleteObject", objects.delete_object),
        Operation("GetObjectTagging", objects.get_tagging),
        Operation("CreateMultipartUpload", multipart.create_upload, multipart.admit_create),
        Operation("UploadPart", multipart.upload_part, multipart.admit_part, stores_body=True),
        Operation("ListParts", multipart.list_parts),
        Operation("AbortMultipartUpload", multipart.abort_upload),
        Operation("CompleteMultipartUpload", complete.complete_upload, complete.admit_complete, object_checksum=True),
    )
}

OPERATION_NAMES = frozenset(_SERVED)

# (method, level, the parameter that names the sub-resource) -> operation, parameters it takes besides that one
_ROUTES: dict[tuple[str, str, str], tuple[str, str]] = {
    ("GET", "service", ""): ("ListBuckets", ""),
    ("PUT", "bucket", ""): ("CreateBucket", ""),
    ("HEAD", "bucket", ""): ("HeadBucket", ""),
    ("DELETE", "bucket", ""): ("DeleteBucket", ""),
    ("GET", "bucket", "location"): ("GetBucketLocation", ""),
    ("PUT", "bucket", "versioning"): ("PutBucketVersioning", ""),
    ("GET", "bucket", "versioning"): ("GetBucketVersioning", ""),
    ("PUT", "bucket", "lifecycle"): ("PutBucketLifecycleConfiguration", ""),
    ("GET", "bucket", "lifecycle"): ("GetBucketLifecycleConfiguration", ""),
    ("GET", "bucket", "list-type"): (
        "ListObjectsV2",
        "prefix delimiter encoding-type max-keys continuation-token start-after fetch-owner",
    ),
    ("GET", "bucket", "versions"): (
        "ListObjectVersions",
        "prefix delimiter encoding-type max-keys key-marker version-id-marker",
    ),
    ("GET", "bucket", "uploads"): (
        "ListMultipartUploads",
        "prefix delimiter encoding-type max-uploads key-marker upload-id-marker",
    ),
    ("PUT", "object", ""): ("PutObject", ""),
    ("PUT", "object", "x-amz-copy-source"): ("CopyObject", ""),
    ("GET", "object", ""): ("GetObject", "versionId partNumber"),
    ("HEAD", "object", ""): ("HeadObject", "versionId partNumber"),
    ("DELETE", "object", ""): ("DeleteObject", "versionId"),
    ("GET", "object", "tagging"): ("GetObjectTagging", "versionId"),
    ("POST", "object", "uploads"): ("CreateMultipartUpload", ""),
    ("PUT", "object", "uploadId"): ("UploadPart", "partNumber"),
    ("GET", "object", "uploadId"): ("ListParts", "max-parts part-number-marker"),
    ("DELETE", "object", "uploadId"): ("AbortMultipartUpload", ""),
    ("POST", "object", "uploadId"): ("CompleteMultipartUpload", ""),
}
_SUBRESOURCES = frozenset(sub for _, _, sub in _ROUTES if sub)

_HEADERS = frozenset(BY_HEADER) | {
    f"x-amz-{name}"
    for name in (
        "date",
        "content-sha256",
        "security-token",
        "decoded-content-length",
        "trailer",
        "sdk-checksum-algorithm",
        "checksum-mode",
        "checksum-algorithm",
        "checksum-type",
        "mp-object-size",
        "expected-bucket-owner",
        "request-payer",
        "acl",
        "storage-class",
        "tagging",
        "server-side-encryption",
        "server-side-encryption-aws-kms-key-id",
        "server-side-encryption-context",
        "server-side-encryption-bucket-key-enabled",
        "server-side-encryption-customer-algorithm",
        "server-side-encryption-customer-key",
        "server-side-encryption-customer-key-md5",
        "object-lock-mode",
        "object-lock-retain-until-date",
        "object-lock-legal-hold",
        "server-side-encryption-bucket-key-enabled",
        "website-redirect-location",
        "copy-source",
        "copy-source-if-match",
        "copy-source-if-none-match",
        "metadata-directive",
        "tagging-directive",
        "source-expected-bucket-owner",
    )
}
# S3's model has no RequestPayer for these, and no ExpectedBucketOwner for those below.
_PAID_BY_NOBODY = frozenset(name for name in _SERVED if "Bucket" in name)
_OWNED_BY_NOBODY = frozenset({"ListBuckets", "CreateBucket"})


def name_of(head: RequestHead) -> str:
    """The operation of a request, or "" when it is none of ours."""
    level = "object" if head.key else "bucket" if head.bucket else "service"
    sub = next((name for name, _ in head.query if name in _SUBRESOURCES), "")
    if not sub and "x-amz-copy-source" in head.headers:
        # The one operation that a header makes another one.
        sub = "x-amz-copy-source"
    return _ROUTES.get((head.method, level, sub), ("", ""))[0]


def operation_of(head: RequestHead, profile: ServerProfile) -> Operation:
    """The operation, with every parameter and x-amz header understood; raises NotImplemented otherwise."""
    operation = _SERVED.get(name_of(head))
    if operation is None:
        raise S3Error("NotImplemented", "A request like this is not modelled.")
    taken = next(f"{route[2]} {taken}" for route, (name, taken) in _ROUTES.items() if name == operation.name).split()
    # x-id is an operation name some SDKs add for their own logs.
    unknown = [name for name, _ in head.query if name not in (*taken, "x-id")]
    unknown += [
        name
        for name in head.headers
        if name.startswith("x-amz-") and name not in _HEADERS and not name.startswith("x-amz-meta-")
    ]
    if unknown:
        raise S3Error("NotImplemented", f"Not modelled: {', '.join(unknown)}")
    if len(head.key.encode()) > 1024:
        raise S3Error("KeyTooLongError", "Your key is too long")
    _check_account(head, operation.name, profile)
    return operation


def _check_account(head: RequestHead, name: str, profile: ServerProfile) -> None:
    """Who owns the bucket, and who pays."""
    missing = "" if profile.owner_expected and name not in _OWNED_BY_NOBODY else profile.account_id
    if head.header("x-amz-expected-bucket-owner", missing) != profile.account_id:
        raise S3Error("AccessDenied", "The bucket is not owned by the expected account.")
    payer = head.header("x-amz-request-payer")
    if profile.requester_pays and name not in _PAID_BY_NOBODY and payer != "requester":
        raise S3Error("AccessDenied", "Requester pays, and this one did not say so.")
