"""Signature Version 4 for S3, in the Authorization header, with the store's time.

``HeaderSigner`` is the lean path's: it computes what botocore's signer computes (a property test compares them byte
for byte), without its request objects, and keeps the day's signing key. ``ClockedSigV4Auth`` is botocore's own signer
with another clock, for all other requests. Neither uses awscrt, which signs slowly through Python callbacks.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

EMPTY_SHA256 = hashlib.sha256().hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
# The name under which our client asks for ClockedSigV4Auth; no other client's requests ever carry it.
SIGNATURE = "orbit-s3v4"
CLOCK = "orbit_clock"
_UNSIGNED_HEADERS = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})


def encoded(text: str, safe: str = "") -> str:
    """Percent-encoded as a signature wants it."""
    return quote(text, safe=safe + "-._~")


def query_string(pairs: Iterable[tuple[str, str]]) -> str:
    """The query in its canonical order and encoding, which is sent as well."""
    coded = sorted((encoded(name), encoded(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in coded)


class HeaderSigner:
    """Signs for one region. Thread-safe: the kept key is one tuple, replaced as a whole."""

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region = region
        self._service = service
        self._kept: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self, method: str, host: str, path: str, query: str, headers: Mapping[str, str], payload: str,
        keys: ReadOnlyCredentials, now: datetime,
    ) -> dict[str, str]:  # fmt: skip
        """The headers to add. ``path`` and ``query`` as they are sent; ``payload`` is the body's SHA-256 in hex, or
        UNSIGNED; names in ``headers`` in any case.
        """
        stamp = now.strftime(SIGV4_TIMESTAMP)
        added = {"X-Amz-Date": stamp, "X-Amz-Content-SHA256": payload}
        if keys.token:
            added["X-Amz-Security-Token"] = keys.token
        covered = {name.lower(): " ".join(value.split()) for name, value in {**headers, **added}.items()}
        covered = {name: value for name, value in covered.items() if name not in _UNSIGNED_HEADERS}
        covered["host"] = host
        names = sorted(covered)
        signed = ";".join(names)
        lines = [method, path, query, *(f"{name}:{covered[name]}" for name in names), "", signed, payload]
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        message = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(self._key(keys.secret_key or "", stamp[:8]), message.encode(), "sha256").hex()
        added["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return added

    def _key(self, secret: str, day: str) -> bytes:
        kept_secret, kept_day, key = self._kept
        if kept_secret != secret or kept_day != day:
            key = f"AWS4{secret}".encode()
            for word in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, word.encode(), "sha256")
            self._kept = (secret, day, key)
        return key


class ClockedSigV4Auth(S3SigV4Auth):
    """botocore's S3 signer with the time of the clock in the request's context."""

    def add_auth(self, request: AWSRequest) -> None:
        """As botocore's, whose own reads the machine's clock."""
        if self.credentials is None:
            raise NoCredentialsError
        context: dict[str, Any] = request.context
        context["timestamp"] = context[CLOCK].now().strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]  # not in the stubs
        message = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(message, request))  # type: ignore[attr-defined]


def register_signer() -> None:
    """Make SIGNATURE known to botocore; harmless for every client that does not ask for it."""
    AUTH_TYPE_MAPS.setdefault(SIGNATURE, ClockedSigV4Auth)
