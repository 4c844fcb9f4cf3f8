"""Customer keys (SSE-C) on the wire: on every request that S3 wants them on, and over no line that shows them."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import AccessDenied, ConfigError, InvalidRequest, RequestContext

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LOG = logging.getLogger(__name__)
# botocore's model names these; a test compares. ListParts and Complete want the key when the upload has a checksum.
KEYED_OPERATIONS = frozenset(
    {
        "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "GetObject", "GetObjectAttributes",
        "HeadObject", "ListParts", "PutObject", "SelectObjectContent", "UploadPart", "UploadPartCopy",
    }
)  # fmt: skip
# These read an object that is under a customer key as well: for now, the same key.
COPYING_OPERATIONS = frozenset({"CopyObject", "UploadPartCopy"})
_HINT = (
    "A customer key (SSE-C) goes with these requests: an upload or object that was begun with another key, or without "
    "one, is refused like this, and so is any use of such keys in a bucket that blocks them."
)


_KEYLESS_HINT = (
    "A HEAD is refused like this, without a word, also for an object under a customer key (SSE-C) "
    "when the request brings no key."
)


class CustomerKeyParams:
    """The request parameters for one key, or none at all."""

    def __init__(self, key: CustomerKey | None) -> None:
        self._write: dict[str, str] = {}
        self._read: dict[str, str] = {}
        if key is not None:
            # Encoded here: botocore encodes and hashes for some operations only, and leaves what has its MD5 alone.
            named = {"Algorithm": "AES256", "Key": key.base64, "KeyMD5": key.md5}
            self._write = {f"SSECustomer{name}": value for name, value in named.items()}
            self._read = {f"CopySourceSSECustomer{name}": value for name, value in named.items()}

    def of(self, operation: str | None) -> Mapping[str, Any]:
        """What goes with a request of ``operation`` (its name in S3's model)."""
        if operation in COPYING_OPERATIONS:
            return {**self._write, **self._read}
        return self._write if operation in KEYED_OPERATIONS else {}

    @contextmanager
    def explaining(self, context: RequestContext) -> Iterator[None]:
        """A refusal says that a key was in play: S3's own words for a wrong one are short, and a HEAD has none."""
        try:
            yield
        except (AccessDenied, InvalidRequest) as exc:
            hint = _HINT if self.of(context.operation) and exc.context.sent else ""
            if not self._write and context.operation == "HeadObject" and exc.context.status == 400:
                hint = _KEYLESS_HINT
            if not hint:
                raise
            raise exc.with_note(hint) from exc


def check_transport(client: S3Client, key: CustomerKey | None) -> None:
    """Warn of certificates that are not verified and of plain http (loopback apart); with a customer key, refuse them.

    Raises ConfigError. Asks the client itself: its endpoint may come from the environment or a shared configuration.
    """
    parts = urlsplit(client.meta.endpoint_url)
    encrypted, verified = parts.scheme == "https", _verifies(client)
    # Not the whole address: there may be a password in it.
    host = parts.hostname or ""
    if encrypted and not verified:
        _LOG.warning("TLS certificates of %s are NOT verified: whoever sits on the line can change every byte", host)
    if not encrypted and not _is_loopback(host):
        _LOG.warning("%s is spoken to over plain http: whoever sits on the line can read every byte", host)
    if key is None:
        return
    if encrypted and not verified:
        raise ConfigError("a customer key (SSE-C) is not sent over a line whose certificate is not verified (verify)")
    if not encrypted and not _is_loopback(host):
        raise ConfigError(f"a customer key (SSE-C) is not sent over plain http to {host}; https is needed")


def _verifies(client: S3Client) -> bool:
    """Botocore keeps the choice in a private attribute of its session; without it, verification is not claimed."""
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    session = getattr(session, "inner", session)
    return getattr(session, "_verify", False) is not False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
