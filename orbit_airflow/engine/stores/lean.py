"""The lean path: the requests that come by the thousand, without botocore's per-call machinery.

botocore spends about a millisecond on each request in its serialiser, endpoint rules and event hooks. Here a bucket's
endpoint is resolved once, by botocore itself, and a request is a table look-up in botocore's own model, a signature
and a send through botocore's connection pool, with the same errors. Whatever is not plain (another signature than
SigV4, a directory bucket, an argument without a place in a header or the query, an SSE-C key, an event handler that
somebody registered, an answer that asks for another region) is left to botocore: ``answer`` gives None.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError, ParamValidationError
from botocore.response import StreamingBody
from botocore.utils import parse_timestamp

from orbit_airflow.engine.model import KIB
from orbit_airflow.engine.stores import documents
from orbit_airflow.engine.stores.http import RequestBody, answer_limit
from orbit_airflow.engine.stores.session import GuardedSession
from orbit_airflow.engine.stores.sigv4 import EMPTY_SHA256, UNSIGNED, HeaderSigner, encoded, query_string

log = logging.getLogger(__name__)

Answer = Mapping[str, Any]
OPERATIONS = frozenset({"PutObject", "UploadPart", "HeadObject", "GetObject", *documents.ROOTS})
# The store works before it answers, for as long as it takes.
_PATIENT = frozenset({"CopyObject", "DeleteObjects"})
# Above this a refusal before the body saves more than the wait for "100 Continue" costs (0.14 ms).
EXPECT_FROM = 64 * KIB
_PROBE = "orbit-probe"
_SIGV4 = frozenset({"v4", "s3v4", "orbit-s3v4"})
# Bucket, Key and Body have their own places; customer keys are encoded and hashed by botocore's handlers.
_HANDLED = frozenset({"Bucket", "Key", "Body"})
_LEFT_TO_BOTOCORE = ("SSECustomer", "CopySourceSSECustomer")
_OWN_CHECKSUM = frozenset({"ChecksumAlgorithm", "ContentMD5"})
_WHOLE = frozenset({"integer", "long"})
# Where nobody says how, botocore asks for encoded keys, and decodes them.
_ENCODED = frozenset({"ListObjectsV2", "ListObjectVersions"})
_WRITING = frozenset({"PUT", "POST"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EVENTS = (
    "provide-client-params", "before-parameter-build", "before-call", "request-created", "choose-signer", "before-sign",
    "before-send", "response-received", "before-parse", "needs-retry", "after-call", "after-call-error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """Where a parameter or a piece of an answer travels: "header", "headers" (a prefix) or "querystring"."""

    location: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One operation, from botocore's model. ``fixed`` is the query that names it; ``document`` the parameter that is
    its body in XML, "" where it has none; ``keyed``: its address has a key.
    """

    model: Any
    method: str
    fixed: str
    keyed: bool
    document: str
    params: Mapping[str, Member]
    headers: Mapping[str, tuple[str, str]]
    prefix: str
    streams: bool


@dataclass(frozen=True, slots=True)
class Plain:
    """What a call's parameters make of a request."""

    headers: dict[str, str]
    query: list[tuple[str, str]]
    body: RequestBody | bytes | None


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket's place: ``base`` is everything before the key."""

    base: str
    host: str
    path: str
    region: str
    https: bool
    headers: Mapping[str, str]
    signer: HeaderSigner


class LeanCalls:
    """The lean path of one prepared client. Thread-safe."""

    def __init__(self, client: Any, session: GuardedSession, patience: float | None = None) -> None:
        """``patience``: seconds for the answers that may take long, by default no more than for the others."""
        self._client = client
        self._session = session
        self._shapes: dict[str, Shape | None] = {}
        self._targets: dict[str, Target | None] = {}
        self._parser = documents.AnswerParser()
        config = client.meta.config
        self._stall: float = config.read_timeout
        self._patience = patience or self._stall
        self._sign_payload = (config.s3 or {}).get("payload_signing_enabled") is not False

    def answer(self, operation: str, params: Mapping[str, Any]) -> Answer | None:
        """What botocore would answer to this call, or None when botocore must make it. Raises what botocore would."""
        if operation not in OPERATIONS or (operation in _ENCODED and "EncodingType" not in params):
            return None
        shape, bucket = self._shape(operation), params["Bucket"]
        target = self._target(bucket) if shape is not None else None
        credentials = self._client._request_signer._credentials
        if shape is None or target is None or credentials is None:
            return None
        plain = _plain(shape, params)
        if plain is None:
            return None
        request = self._request(shape, target, params, plain, credentials.get_frozen_credentials())
        response = self._session.send(request)
        return self._understood(operation, shape, bucket, target, response)

    def _request(
        self, shape: Shape, target: Target, params: Mapping[str, Any], plain: Plain, keys: Any
    ) -> AWSPreparedRequest:
        body, query = plain.body, query_string(plain.query)
        base, path = _address(shape, target, params)
        whole: dict[str, Any] = {**target.headers, **plain.headers}
        now, payload = self._session.clock.now(), self._payload(body)
        signed = query_string([*_pairs(shape.fixed), *plain.query]) if shape.fixed else query
        whole |= target.signer.sign(shape.method, target.host, path, signed, whole, payload, keys, now)
        size = len(body) if body is not None else 0
        if isinstance(body, RequestBody) and size >= EXPECT_FROM:
            whole["Expect"] = b"100-continue"
        if not isinstance(body, RequestBody) and shape.method in _WRITING:
            whole["Content-Length"] = str(size)
        line = "&".join(filter(None, (shape.fixed, query)))
        url = f"{base}?{line}" if line else base
        request = AWSPreparedRequest(shape.method, url, whole, body, shape.streams)  # type: ignore[arg-type]
        limit = self._patience if shape.model.name in _PATIENT else answer_limit(self._stall, size)
        request.context = {"read_timeout": limit}  # type: ignore[attr-defined]
        return request

    def _payload(self, body: RequestBody | bytes | None) -> str:
        if not self._sign_payload:
            return UNSIGNED
        if body is None:
            return EMPTY_SHA256
        return hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else _sha256(body)

    def _understood(
        self, operation: str, shape: Shape, bucket: str, target: Target, response: AWSResponse
    ) -> Answer | None:
        status = response.status_code
        if status < 300:
            answer = self._good(operation, shape, response)
            if answer is not None:
                return answer
            # An error in a 200 is an error of the store.
            status = 500
        parsed = self._parser.error(status, response.headers, response.content)
        region = response.headers.get("x-amz-bucket-region") or parsed.get("Error", {}).get("Region")
        if response.status_code in _REDIRECTS or (response.status_code >= 400 and region and region != target.region):
            log.info("bucket %r is not where it was thought to be; botocore looks for it", bucket)
            self._targets[bucket] = None
            return None
        raise ClientError(parsed, operation)

    def _good(self, operation: str, shape: Shape, response: AWSResponse) -> Answer | None:
        if operation in documents.ROOTS:
            return self._parser.document(shape.model, response.status_code, response.headers, response.content)
        if shape.streams or b"<Error" not in response.content[:KIB]:
            return _parsed(shape, response)
        return None

    def _shape(self, operation: str) -> Shape | None:
        if operation not in self._shapes:
            strangers = _strangers(self._client, operation)
            self._shapes[operation] = None if strangers else _shape_of(self._client, operation)
        return self._shapes[operation]

    def _target(self, bucket: str) -> Target | None:
        if bucket not in self._targets:
            if len(self._targets) >= KIB:
                self._targets.clear()
            try:
                self._targets[bucket] = _resolved(self._client, bucket)
            except (AttributeError, KeyError, TypeError):
                # Private names of botocore have moved: everything still works, only slower.
                log.warning("this botocore is not understood; the lean path is off for %r", bucket, exc_info=True)
                self._targets[bucket] = None
        return self._targets[bucket]


def _resolved(client: Any, bucket: str) -> Target | None:
    """What botocore would do with a request for a key in ``bucket``; its own errors for a bucket it refuses."""
    model = client.meta.service_model.operation_model("HeadObject")
    context = {
        "client_region": client.meta.region_name,
        "client_config": client.meta.config,
        "has_streaming_input": False,
        "auth_type": model.resolved_auth_type,
        "unsigned_payload": model.unsigned_payload,
        "auth_options": client._service_model.metadata.get("auth"),
    }
    params = client._emit_api_params(
        api_params={"Bucket": bucket, "Key": _PROBE}, operation_model=model, context=context
    )
    url, extra, _ = client._resolve_endpoint_ruleset(model, params, context)
    made = client._convert_to_request_dict(
        api_params=params, operation_model=model, endpoint_url=url, context=context, headers=extra
    )
    signature = client._request_signer._choose_signer("HeadObject", "standard", context)
    signing = context.get("signing") or {}
    region = signing.get("region")
    place: str = made["url"]
    if signature not in _SIGV4 or signing.get("signing_name") != "s3" or not region or not place.endswith("/" + _PROBE):
        return None
    base, parts = place.removesuffix(_PROBE), urlsplit(place)
    default = {"http": 80, "https": 443}[parts.scheme]
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    host = host if parts.port in (None, default) else f"{host}:{parts.port}"
    path, https = parts.path.removesuffix(_PROBE), parts.scheme == "https"
    return Target(base, host, path, region, https, dict(made["headers"]), HeaderSigner(region))


def _strangers(client: Any, operation: str) -> bool:
    """Whether anybody but botocore, boto3 and the engine has a handler on the way of this operation."""
    events = client.meta.events
    try:
        handlers = getattr(events, "_emitter", events)._handlers
        names = [f"{event}.s3.{operation}" for event in _EVENTS] + ["before-endpoint-resolution.s3"]
        found = [handler for name in names for handler in handlers.prefix_search(name)]
    except AttributeError:
        return True
    return any(_module_of(handler) not in ("botocore", "boto3", "orbit_airflow") for handler in found)


def _module_of(handler: Any) -> str:
    module = getattr(handler, "__module__", None) or type(handler).__module__
    return str(module).partition(".")[0]


def _shape_of(client: Any, operation: str) -> Shape:
    model = client.meta.service_model.operation_model(operation)
    params = {
        name: _member(name, shape)
        for name, shape in model.input_shape.members.items()
        if name not in _HANDLED and not name.startswith(_LEFT_TO_BOTOCORE)
    }
    payload = model.input_shape.serialization.get("payload", "")
    document = payload if payload not in _HANDLED else ""
    if document:
        # Another checksum than the usual is botocore's to make.
        params = {name: member for name, member in params.items() if name not in _OWN_CHECKSUM}
    outputs = {name: _member(name, shape) for name, shape in model.output_shape.members.items()}
    headers = {item.name.lower(): (name, item.kind) for name, item in outputs.items() if item.location == "header"}
    prefix = next((item.name.lower() for item in outputs.values() if item.location == "headers"), "")
    path, _, fixed = model.http["requestUri"].partition("?")
    streams = bool(model.has_streaming_output)
    return Shape(model, model.http["method"], fixed, "{Key+}" in path, document, params, headers, prefix, streams)


def _address(shape: Shape, target: Target, params: Mapping[str, Any]) -> tuple[str, str]:
    """Where a request goes, without its query, and the path that is signed."""
    if shape.keyed:
        key = encoded(params["Key"], "/")
        return target.base + key, target.path + key
    if target.path == "/":
        return target.base, target.path
    return target.base.removesuffix("/"), target.path.removesuffix("/")


def _pairs(fixed: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (item.partition("=") for item in fixed.split("&"))]


def _member(name: str, shape: Any) -> Member:
    place = shape.serialization
    return Member(place.get("location", ""), place.get("name", name), shape.type_name)


def _plain(shape: Shape, params: Mapping[str, Any]) -> Plain | None:
    """The pieces of a request, or None when one of its parameters is not plain."""
    made = Plain({}, [], params.get("Body"))
    if not (made.body is None or isinstance(made.body, RequestBody)):
        return None
    for name, value in params.items():
        if name in _HANDLED or name == shape.document:
            continue
        member = shape.params.get(name)
        if member is None or not _placed(member, documents.copy_source(value) if name == "CopySource" else value, made):
            return None
    return _with_document(shape, params, made) if shape.document else made


def _placed(member: Member, value: object, made: Plain) -> bool:
    pairs = value.items() if member.location == "headers" and isinstance(value, Mapping) else (("", value),)
    for end, item in pairs:
        text = _text(item, member.kind if member.location != "headers" else "string")
        if item == "" and member.location == "querystring":
            text = ""
        if text is None or not (end + text).isascii() or not (end + text).isprintable():
            return False
        if member.location == "querystring":
            made.query.append((member.name, text))
        elif member.location in ("header", "headers"):
            made.headers[member.name + end] = text
        else:
            return False
    return True


def _with_document(shape: Shape, params: Mapping[str, Any], made: Plain) -> Plain | None:
    named = {name: params[name] for name in ("Bucket", "Key", shape.document) if name in params}
    try:
        body = documents.written(shape.model, named)
    except ParamValidationError:
        # botocore says what is wrong, of all of them.
        return None
    return Plain({**made.headers, **documents.digests_of(shape.model, body)}, made.query, body)


def _text(value: object, kind: str) -> str | None:
    if kind == "string" and isinstance(value, str) and value:
        return value
    if kind == "boolean" and isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if kind in _WHOLE and isinstance(value, int) and not isinstance(value, bool) else None


def _sha256(body: RequestBody) -> str:
    digest = hashlib.sha256()
    for block in body.hashed_blocks():
        digest.update(block)
    return digest.hexdigest()


def _parsed(shape: Shape, response: AWSResponse) -> Answer:
    """The answer as botocore's parser gives it, from the headers alone: these operations have no XML."""
    lower = {name.lower(): value for name, value in response.headers.items()}
    answer: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for name, value in lower.items():
        known = shape.headers.get(name)
        if known is not None:
            converted = _converted(value, known[1])
            if converted is not None:
                answer[known[0]] = converted
        elif shape.prefix and name.startswith(shape.prefix):
            metadata[name[len(shape.prefix) :]] = value
    if shape.prefix:
        answer["Metadata"] = metadata
    if shape.streams:
        answer["Body"] = StreamingBody(response.raw, lower.get("content-length"))  # type: ignore[arg-type]
    answer["ResponseMetadata"] = {
        "RequestId": lower.get("x-amz-request-id", ""),
        "HTTPStatusCode": response.status_code,
        "HTTPHeaders": lower,
    }
    return answer


def _converted(value: str, kind: str) -> Any:
    if kind in _WHOLE:
        return int(value)
    if kind == "boolean":
        return value.lower() == "true"
    if kind == "timestamp":
        return _timestamp(value)
    return value


@lru_cache(maxsize=64)
def _timestamp(value: str) -> datetime | None:
    """All ranges of an object come with the same one, and dateutil takes its time."""
    try:
        return parse_timestamp(value)
    except ValueError:
        # A user's own Expires may be anything.
        return None
