"""Object properties between request headers, stored values and answer headers."""

import secrets
import urllib.parse

from tests.model_server.blobs import Content
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.operations.customer import customer_key_md5, key_headers
from tests.model_server.state import ObjectTraits, StoredVersion, Upload
from tests.model_server.xml_text import http_time

_META = "x-amz-meta-"
_MAX_METADATA = 2048
REDIRECT = "x-amz-website-redirect-location"
_SYSTEM = (
    "content-type",
    "content-encoding",
    "cache-control",
    "content-disposition",
    "content-language",
    "expires",
    REDIRECT,
)
_ENCRYPTION = (
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-bucket-key-enabled",
)
_LOCK = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold")
_STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "GLACIER_IR",
    }
)


def traits_from(ex: Exchange) -> ObjectTraits:
    """What the headers of a PutObject or CreateMultipartUpload say; raises S3Error for impossible values."""
    head = ex.head
    metadata = {name[len(_META) :]: value for name, value in head.headers.items() if name.startswith(_META)}
    if sum(len(name) + len(value) for name, value in metadata.items()) > _MAX_METADATA:
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size.")
    system = {name: head.header(name) for name in _SYSTEM if name in head.headers}
    # aws-chunked is framing of this request and no property of the object.
    words = [item.strip() for item in system.pop("content-encoding", "").split(",")]
    kept = ",".join(item for item in words if item and item != "aws-chunked")
    storage_class = head.header("x-amz-storage-class", "STANDARD")
    if storage_class not in _STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", "The storage class you specified is not valid")
    encryption = {name: head.header(name) for name in _ENCRYPTION if name in head.headers}
    return ObjectTraits(
        metadata=metadata,
        system={"content-type": "binary/octet-stream", **system, **({"content-encoding": kept} if kept else {})},
        encryption=_checked_encryption(encryption) | key_headers(customer_key_md5(ex)),
        lock={name: head.header(name) for name in _LOCK if name in head.headers},
        customer_key_md5=customer_key_md5(ex),
        storage_class=storage_class,
        tags=tuple(urllib.parse.parse_qsl(head.header("x-amz-tagging"), keep_blank_values=True)),
        acl=head.header("x-amz-acl", "private"),
    )


def _checked_encryption(given: dict[str, str]) -> dict[str, str]:
    algorithm = given.get(_ENCRYPTION[0], "")
    if algorithm not in ("", "AES256", "aws:kms", "aws:kms:dsse"):
        raise S3Error("InvalidEncryptionAlgorithmError", "The encryption request you specified is not valid.")
    if not algorithm.startswith("aws:kms") and any(name in given for name in _ENCRYPTION[1:]):
        raise S3Error("InvalidArgument", "KMS headers need x-amz-server-side-encryption aws:kms.")
    return given


def version_headers(ex: Exchange, version: StoredVersion) -> dict[str, str]:
    """The headers of a HEAD or GET answer."""
    traits = version.traits
    headers = {
        "ETag": f'"{version.etag}"',
        "Last-Modified": http_time(version.last_modified),
        "Accept-Ranges": "bytes",
        **traits.system,
        **traits.encryption,
        **traits.lock,
        **{_META + name: value for name, value in traits.metadata.items()},
        **version_id_header(ex, version),
    }
    if traits.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = traits.storage_class
    if traits.tags:
        headers["x-amz-tagging-count"] = str(len(traits.tags))
    return headers


def checksum_headers(version: StoredVersion) -> dict[str, str]:
    """The checksum and its type, if the object has one."""
    if version.checksum is None:
        return {}
    return {version.checksum.algorithm.header: version.checksum.value, "x-amz-checksum-type": version.checksum.type}


def version_id_header(ex: Exchange, version: StoredVersion) -> dict[str, str]:
    """The version id, in a bucket that has or had versioning."""
    if not ex.world.store.bucket(ex.bucket).versioning:
        return {}
    return {"x-amz-version-id": version.version_id}


def etag_for(ex: Exchange, md5: str, *, encrypted: bool = False) -> str:
    """The ETag: the MD5, or something random on a store with opaque ETags and under a customer's key or KMS."""
    return secrets.token_hex(16) if ex.world.profile.opaque_etags or encrypted else md5


def new_version(ex: Exchange, source: ObjectTraits | Upload) -> StoredVersion:
    """A version of the exchange's key without content yet."""
    traits = source.traits if isinstance(source, Upload) else source
    return StoredVersion(ex.key, "null", Content(), "", traits, ex.world.store.now(), ex.world.owner)


def opaque(traits: ObjectTraits) -> bool:
    """True when the encryption hides the MD5 of the bytes."""
    return bool(traits.customer_key_md5) or traits.encryption.get(_ENCRYPTION[0], "").startswith("aws:kms")


def check_locked_body(ex: Exchange) -> None:
    """Under Object Lock, bytes come with their MD5 or a checksum."""
    locked = ex.world.profile.object_lock or any(name in ex.head.headers for name in _LOCK)
    if locked and ex.declared is None and not ex.head.header("content-md5"):
        message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
        raise S3Error("InvalidRequest", message)
