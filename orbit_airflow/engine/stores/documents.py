"""Bodies in XML, both ways, for the lean path: written by botocore's serialiser and read by its parser.

An answer is read once. What is not the document of its operation (a proxy's page, half of a document, an error behind
a 200) is an error of the store, on this path and on botocore's alike.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore import handlers, parsers, serialize
from botocore.utils import parse_timestamp

from orbit_airflow.engine.stores.answers import legible

# What a right answer's document is called; "" where the answer has none.
ROOTS: Mapping[str, str] = {
    "CopyObject": "CopyObjectResult",
    "DeleteObjects": "DeleteResult",
    "GetObjectTagging": "Tagging",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjectsV2": "ListBucketResult",
    "PutObjectTagging": "",
}
# Ceph says nothing at all of an object whose tags it dropped with an upload in parts; whoever asks looks further.
_MAY_BE_EMPTY = frozenset({"GetObjectTagging"})
# These bodies go with a Content-MD5 beside the checksum, and with line ends that survive the store's parser.
_WITH_MD5 = frozenset({"DeleteObjects"})
# Atomic: an answer made to be matched in many ways is looked through once. A document type fits nowhere here.
_BEFORE = rb"(?:\xef\xbb\xbf)?(?>\s+|<\?(?>.*?\?>)|<!--(?>.*?-->))*+"
_FIRST_NAME = re.compile(_BEFORE + rb"<(?:[\w.-]+:)?([\w.-]+)[\s/>]", re.DOTALL)
_ENTRY = re.compile(rb"<(Version|DeleteMarker)>")
# Where the order of the entries is put into an answer of ListObjectVersions.
ORDER = "OrbitOrder"
_SERIALIZER: Any = serialize.create_serializer("rest-xml", include_validation=True)


def root_of(body: bytes) -> str:
    """The name of the document's element, without its namespace; "" for an empty body, "?" for what is no XML."""
    if not body or body.isspace():
        return ""
    found = _FIRST_NAME.match(body)
    return found[1].decode("ascii", "replace") if found is not None else "?"


def refuse_strangers(response_dict: dict[str, Any], operation_model: Any, **_: object) -> None:
    """For botocore's ``before-parse``: a 200 with the document of something else is a failure of the store."""
    body, status = response_dict.get("body"), response_dict.get("status_code")
    if isinstance(body, bytes) and status in (200, 204) and not _belongs(body, operation_model.name):
        response_dict["status_code"] = 500


def _belongs(body: bytes, operation: str) -> bool:
    root = root_of(body)
    return root == ROOTS[operation] or (root == "" and operation in _MAY_BE_EMPTY)


def written(model: Any, params: Mapping[str, Any]) -> bytes:
    """The body of ``model``'s operation. Raises what botocore raises for parameters that it refuses."""
    request: dict[str, Any] = {"body": _SERIALIZER.serialize_to_request(params, model)["body"]}
    if model.name in _WITH_MD5:
        handlers.escape_xml_payload(request)
    body: bytes = request["body"]
    return body


def digests_of(model: Any, body: bytes) -> dict[str, str]:
    """The headers with which botocore, and the engine's handler for it, let a body be checked."""
    headers = {
        "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        "x-amz-sdk-checksum-algorithm": "CRC32",
    }
    if model.name in _WITH_MD5:
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers["Content-MD5"] = base64.b64encode(digest).decode()
    return headers


def copy_source(value: object) -> object:
    """A CopySource as the header's text, encoded by botocore."""
    params = {"CopySource": value}
    handlers.handle_copy_source_param(params)
    return params["CopySource"]


class AnswerParser:
    """botocore's parser behind one look at the document. Thread-safe: nothing is kept."""

    def __init__(self) -> None:
        factory = parsers.ResponseParserFactory()
        factory.set_parser_defaults(timestamp_parser=_timestamp)
        self._parser: Any = factory.create_parser("rest-xml")

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """What a refusal says."""
        answer = {"headers": headers, "status_code": status, "body": legible(body)}
        return self._parser.parse(answer, None)

    def document(self, model: Any, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
        """The answer, or None when it is no right answer to this operation."""
        body = legible(body)
        if not _belongs(body, model.name):
            return None
        try:
            found: dict[str, Any] = self._parser.parse(
                {"headers": headers, "status_code": status, "body": body}, model.output_shape
            )
        except parsers.ResponseParserError:
            # Half of a document.
            return None
        if model.name == "ListObjectVersions":
            found[ORDER] = order_of(body)
        return found


def order_of(body: bytes) -> str:
    """How versions ("V") and delete markers ("M") follow each other; botocore makes two lists of them."""
    return "".join("M" if name == b"DeleteMarker" else "V" for name in _ENTRY.findall(body))


def _timestamp(value: str) -> datetime:
    """S3's own form without dateutil, which takes longer than everything else about a page of keys."""
    if len(value) in (20, 24) and value.endswith("Z"):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    return parse_timestamp(value)
