"""Customer keys (SSE-C): three headers that must fit each other, the object, and the line they come over."""

import base64
import binascii
import hashlib

from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.state import ObjectTraits

_PREFIX = "x-amz-server-side-encryption-customer-"


def customer_key_md5(ex: Exchange) -> str:
    """The MD5 of the request's customer key, "" without one; raises S3Error for headers that contradict each other."""
    algorithm, key, md5 = (ex.head.header(_PREFIX + name) for name in ("algorithm", "key", "key-md5"))
    if not (algorithm or key or md5):
        return ""
    if ex.world.profile.customer_keys_blocked:
        raise S3Error("AccessDenied", "Server-side encryption with customer-provided keys is blocked for this bucket.")
    if algorithm != "AES256":
        raise S3Error("InvalidEncryptionAlgorithmError", "The encryption algorithm is AES256 for customer keys.")
    if "x-amz-server-side-encryption" in ex.head.headers:
        raise S3Error("InvalidArgument", "Server Side Encryption with Customer provided key is incompatible with it.")
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise S3Error("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    if base64.b64encode(hashlib.md5(raw).digest()).decode() != md5:
        raise S3Error("InvalidArgument", "The calculated MD5 hash of the key did not match the hash that was provided.")
    return md5


def key_headers(md5: str) -> dict[str, str]:
    """What answers say about a customer key."""
    return {_PREFIX + "algorithm": "AES256", _PREFIX + "key-md5": md5} if md5 else {}


def check_read_key(ex: Exchange, traits: ObjectTraits) -> None:
    """HEAD and GET need the object's own key: none is 400, another one 403."""
    given = customer_key_md5(ex)
    if given == traits.customer_key_md5:
        return
    if not given:
        message = "The object was stored using a form of Server Side Encryption. The correct parameters are needed"
        raise S3Error("InvalidRequest", message)
    if not traits.customer_key_md5:
        raise S3Error("InvalidRequest", "The encryption parameters are not applicable to this object.")
    raise S3Error("AccessDenied", "Access Denied")


def check_upload_key(ex: Exchange, traits: ObjectTraits, *, optional: bool = False) -> None:
    """Parts need the key that the upload began with; ``optional`` for calls that need it with a checksum only."""
    given = customer_key_md5(ex)
    if given == traits.customer_key_md5 or (optional and not given):
        return
    if not given:
        message = "The multipart upload initiate requested encryption. Subsequent part requests must include it"
        raise S3Error("InvalidRequest", message)
    raise S3Error("InvalidRequest", "The provided encryption parameters did not match the ones used originally.")
