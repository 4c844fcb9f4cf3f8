"""AWS Signature Version 4 in the Authorization header, verified from the undecoded request."""

import calendar
import hashlib
import hmac
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass

from tests.model_server.config import Credentials
from tests.model_server.errors import S3Error
from tests.model_server.wire import RequestHead

STREAMING_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED = "UNSIGNED-PAYLOAD"
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^,]+), *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})\Z"
)


class Keyring:
    """The key pairs the server knows, and which of them have expired."""

    def __init__(self, credentials: tuple[Credentials, ...]) -> None:
        self._lock = threading.Lock()
        self._known = {item.access_key: item for item in credentials}
        self._expired: set[str] = set()
        self._uses_left: dict[str, int] = {}

    def add(self, credentials: Credentials) -> None:
        """Know one more key pair, or replace the one with the same access key."""
        with self._lock:
            self._known[credentials.access_key] = credentials
            self._expired.discard(credentials.access_key)

    def expire(self, access_key: str, after: int = 0) -> None:
        """The key pair is answered ExpiredToken from now on, or after so many more requests."""
        with self._lock:
            if after:
                self._uses_left[access_key] = after
            else:
                self._expired.add(access_key)

    def find(self, access_key: str, token: str) -> Credentials:
        """The key pair; raises InvalidAccessKeyId, InvalidToken or ExpiredToken."""
        with self._lock:
            found, expired = self._known.get(access_key), access_key in self._expired
        if found is None:
            raise S3Error("InvalidAccessKeyId", "The access key does not exist in our records.")
        if (found.session_token or "") != token:
            raise S3Error("InvalidToken", "The provided token is malformed or otherwise invalid.")
        if expired:
            raise S3Error("ExpiredToken", "The provided token has expired.")
        self._use(access_key)
        return found

    def _use(self, access_key: str) -> None:
        with self._lock:
            if access_key not in self._uses_left:
                return
            self._uses_left[access_key] -= 1
            if not self._uses_left[access_key]:
                del self._uses_left[access_key]
                self._expired.add(access_key)


@dataclass(frozen=True)
class _Claim:
    access_key: str
    date: str
    region: str
    signed: tuple[str, ...]
    signature: str


def payload_mode(head: RequestHead) -> str:
    """The declared payload hash: hex, UNSIGNED-PAYLOAD or the streaming trailer form."""
    value = head.header("x-amz-content-sha256")
    if not value:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if value in (UNSIGNED, STREAMING_TRAILER) or _HEX_SHA256.fullmatch(value):
        return value
    if value.startswith("STREAMING-"):
        raise S3Error("NotImplemented", f"{value} is not modelled.")
    raise S3Error("InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a streaming form or a SHA-256.")


def authenticate(head: RequestHead, keyring: Keyring, region: str, now: float, max_skew: float) -> Credentials:
    """The credentials that signed the request; raises S3Error when no known ones did."""
    if head.has_parameter("X-Amz-Signature"):
        raise S3Error("NotImplemented", "Presigned requests are not modelled.")
    if not head.header("authorization"):
        raise S3Error("AccessDenied", "Anonymous access is forbidden.")
    claim = _parse(head, region)
    credentials = keyring.find(claim.access_key, head.header("x-amz-security-token"))
    stamp = _check_time(head, claim, now, max_skew)
    _check_coverage(head, claim.signed)
    canonical = canonical_request(head, claim.signed, payload_mode(head))
    scope = f"{claim.date}/{claim.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    message = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    expected = hmac.new(_signing_key(credentials.secret_key, claim), message.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
            fields={"CanonicalRequest": canonical, "StringToSign": message},
        )
    return credentials


def _parse(head: RequestHead, region: str) -> _Claim:
    match = _AUTHORIZATION.match(head.header("authorization"))
    if match is None:
        raise S3Error("AuthorizationHeaderMalformed", "The Authorization header is not AWS4-HMAC-SHA256.")
    scope = match[1].rsplit("/", 4)
    if len(scope) != 5 or scope[3:] != ["s3", "aws4_request"]:
        raise S3Error("AuthorizationHeaderMalformed", "The credential scope is malformed.")
    if scope[2] != region:
        raise S3Error(
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{scope[2]}' is wrong; expecting '{region}'",
            headers={"x-amz-bucket-region": region},
            fields={"Region": region},
        )
    return _Claim(scope[0], scope[1], scope[2], tuple(match[2].split(";")), match[3])


def _check_time(head: RequestHead, claim: _Claim, now: float, max_skew: float) -> str:
    stamp = head.header("x-amz-date")
    try:
        signed_at = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError as exc:
        raise S3Error("AccessDenied", "AWS authentication requires a valid x-amz-date header") from exc
    if not stamp.startswith(claim.date):
        raise S3Error("AuthorizationHeaderMalformed", "The scope's date is not the request's date.")
    if abs(now - signed_at) > max_skew:
        raise S3Error(
            "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        )
    return stamp


def _check_coverage(head: RequestHead, signed: tuple[str, ...]) -> None:
    must = {name for name in head.headers if name.startswith("x-amz-")} | {"host"}
    # Stricter than S3: a Content-MD5 that is not signed could be replaced together with the body.
    must |= {"content-md5"} & set(head.headers)
    missing = sorted(must - set(signed))
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(missing)},
        )
    if list(signed) != sorted(signed) or any(name not in head.headers for name in signed):
        raise S3Error("SignatureDoesNotMatch", "SignedHeaders is unsorted or names a header that was not sent.")


def canonical_request(head: RequestHead, signed: tuple[str, ...], payload: str) -> str:
    """The canonical request; S3 encodes the path once and does not normalise it."""
    path = _encode(urllib.parse.unquote(head.raw_path), safe="/")
    query = sorted((_encode(name), _encode(value)) for name, value in head.query)
    lines = [head.method, path, "&".join(f"{name}={value}" for name, value in query)]
    lines += [f"{name}:{' '.join(head.headers[name].split())}" for name in signed]
    return "\n".join([*lines, "", ";".join(signed), payload])


def _encode(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text, safe=safe + "-_.~")


def _signing_key(secret: str, claim: _Claim) -> bytes:
    key = f"AWS4{secret}".encode()
    for word in (claim.date, claim.region, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key
