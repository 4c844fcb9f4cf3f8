"""Copies, tags, deletes and lists on the lean path: botocore's bytes go out, and no wrong answer is a success."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import botocore.httpchecksum
import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ParamValidationError
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine import Credentials, EngineConfig, ObjectRef
from orbit_airflow.engine.errors import (
    ConfigError,
    ConnectionLost,
    NotFound,
    StoreError,
    Throttled,
    Unavailable,
    WrongEndpoint,
)
from orbit_airflow.engine.model import KeyPrefix, ObjectAttributes
from orbit_airflow.engine.store import CopyRequest, ListRequest, fits_xml
from orbit_airflow.engine.stores import documents, http
from orbit_airflow.engine.stores import lean as lean_module
from orbit_airflow.engine.stores.client import make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from orbit_airflow.engine.versioning import VersionsRequest
from tests.contract.keys import ODD_KEYS
from tests.scenario.scripted import read_whole, scripted
from tests.scenario.test_lean_path import ATTRIBUTES, STYLES, _client, _lean, all_heard

Call = Callable[[S3Store, str], object]


def _copy(store: S3Store, key: str) -> object:
    source = ObjectRef("bucket", key, "ver+sion/=")
    return store.copy(ObjectRef("bucket", key), CopyRequest(source=source, if_match="e-1"))


def _copy_all(store: S3Store, key: str) -> object:
    request = CopyRequest(
        source=ObjectRef("other.bucket", key), attributes=ATTRIBUTES, replace_metadata=True, replace_tags=True,
        if_none_match=True,
    )  # fmt: skip
    return store.copy(ObjectRef("bucket", key), request)


def _copy_with_expires(store: S3Store, key: str) -> object:
    attributes = ObjectAttributes(extra_args=(("Expires", "2030-01-01T00:00:00Z"),))
    return store.copy(ObjectRef("bucket", key), CopyRequest(source=ObjectRef("b2", key), attributes=attributes))


def _put_tags(store: S3Store, key: str) -> object:
    tags = ((key[:128], key[:256]), ("empty", ""), ("<a & b>", "\"'é☃"))
    store.put_tags(ObjectRef("bucket", key, "ver+sion/="), tags)
    return None


def _no_tags(store: S3Store, key: str) -> object:
    store.put_tags(ObjectRef("bucket", key), ())
    return None


def _get_tags(store: S3Store, key: str) -> object:
    return store.get_tags(ObjectRef("bucket", key, "ver+sion/="))


def _delete(store: S3Store, key: str) -> object:
    return store.delete_many("bucket", [(key, None), (key, "ver+sion/="), ("a", "<&>")])


def _delete_quietly(store: S3Store, key: str) -> object:
    return store.delete_many("bucket", [(key, None)], quiet=True)


def _list(store: S3Store, key: str) -> object:
    where = KeyPrefix("bucket", key)
    return store.list_objects(ListRequest(where=where, start_after=key, delimiter="/", max_keys=7))


def _list_all(store: S3Store, key: str) -> object:
    return store.list_objects(ListRequest(where=KeyPrefix("bucket", ""), token=key))


def _versions(store: S3Store, key: str) -> object:
    return store.list_versions(VersionsRequest(where=KeyPrefix("bucket", key), after=(key, "ver+sion/=")))


CALLS: list[Call] = [
    _copy, _copy_all, _copy_with_expires, _put_tags, _no_tags, _get_tags, _delete, _delete_quietly, _list, _list_all,
    _versions,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_line_headers_and_body_are_botocore_s(call: Call) -> None:
    """Byte for byte, for keys that something on the way is tempted to change, with every option."""
    deletes = call in (_delete, _delete_quietly)
    # The engine deletes one by one what XML cannot carry.
    keys = [key for key in ODD_KEYS.values() if not deletes or fits_xml(key)]
    ours_of_all, theirs_of_all = (all_heard(call, keys, lean) for lean in (True, False))
    for key, ours, theirs in zip(keys, ours_of_all, theirs_of_all, strict=True):
        assert ours == theirs, key
        assert ours[1]["x-amz-expected-bucket-owner"] == "123456789012"
        assert ours[1]["x-amz-security-token"] == "to+ken="


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("operation", ["DeleteObjects", "ListObjectsV2", "PutObjectTagging"])
def test_the_address_is_botocore_s(style: dict[str, Any], operation: str) -> None:
    """Buckets without a key, and queries without a value: path style, virtual hosts, endpoints with paths."""
    params: dict[str, dict[str, Any]] = {
        "DeleteObjects": {"Delete": {"Objects": [{"Key": "k"}]}},
        "ListObjectsV2": {"EncodingType": "url", "Prefix": "a b"},
        "PutObjectTagging": {"Key": "a/key", "Tagging": {"TagSet": []}, "VersionId": "1"},
    }
    whole = {"Bucket": "bucket", **params[operation]}
    client, sent = _client(**style), list[str]()

    def look(request: Any, **_: Any) -> None:
        sent.append(request.url)
        raise KeyboardInterrupt

    client.meta.events.register(f"before-send.s3.{operation}", look)
    with pytest.raises(KeyboardInterrupt):
        client._make_api_call(operation, dict(whole))
    lean, target = _lean(_client(**style)), lean_module._resolved(_client(**style), "bucket")
    shape = lean._shape(operation)
    assert shape is not None
    assert target is not None
    plain = lean_module._plain(shape, whole)
    assert plain is not None
    assert lean._request(shape, target, whole, plain, ReadOnlyCredentials("A", "S", None)).url == sent[0]


MODEL: Any = get_session().get_service_model("s3")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(names=st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_a_body_is_checked_by_what_botocore_would_send(names: list[tuple[str, str]]) -> None:
    """The checksum's headers are those that botocore computes over the same body."""
    model = MODEL.operation_model("PutObjectTagging")
    tags = [{"Key": name, "Value": value} for name, value in names]
    body = documents.written(model, {"Bucket": "b", "Key": "k", "Tagging": {"TagSet": tags}})
    request: dict[str, Any] = {"headers": {}, "body": body, "context": {"client_config": _client().meta.config}}
    botocore.httpchecksum.resolve_request_checksum_algorithm(request, model, {})
    botocore.httpchecksum.apply_request_checksum(request)
    assert documents.digests_of(model, body) == request["headers"]


def test_a_parameter_that_botocore_refuses_is_refused_by_it() -> None:
    """In its own words, before anything is sent."""
    model = MODEL.operation_model("PutObjectTagging")
    wrong = {"Bucket": "b", "Key": "k", "Tagging": {"TagSet": [{"Key": "k", "Value": 7}]}}
    with pytest.raises(ParamValidationError):
        documents.written(model, wrong)
    assert _lean(_client(endpoint_url="http://127.0.0.1:9")).answer("PutObjectTagging", wrong) is None
    with pytest.raises(ConfigError, match="Value"):
        _told(lambda store, key: store.put_tags(ObjectRef("bucket", key), (("k", 7),)), b"", True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("CopyObject", {"CopySource": {"Bucket": "b", "Key": "k", "VersionId": "x\r\ny"}}),
        ("CopyObject", {"CopySource": "b/k", "CopySourceSSECustomerKey": "k", "CopySourceSSECustomerAlgorithm": "A"}),
        ("PutObjectTagging", {"Tagging": {"TagSet": []}, "ChecksumAlgorithm": "SHA256"}),
        ("PutObjectTagging", {"Tagging": {"TagSet": []}, "ContentMD5": "x"}),
        ("GetObjectTagging", {"NotAParameter": "x"}),
        ("ListObjectsV2", {"Prefix": "botocore asks for encoded keys, and decodes them"}),
    ],
)
def test_what_is_not_plain_is_left_to_botocore(operation: str, more: dict[str, Any]) -> None:
    """Nothing is sent and nothing is decided here."""
    lean = _lean(_client(endpoint_url="http://127.0.0.1:9"))
    assert lean.answer(operation, {"Bucket": "bucket", "Key": "key", **more}) is None


def _told(call: Call, answer: bytes, lean: bool) -> object:
    """What the store makes of this answer."""

    def script(sock: socket.socket, stop: threading.Event) -> None:
        read_whole(sock)
        sock.sendall(answer)

    with scripted(script) as address:
        config = EngineConfig(
            endpoint=f"http://{address}", region="eu-central-1", force_path_style=True, lean=lean,
            credentials=Credentials(access_key="A", secret_key="S"),
        )  # fmt: skip
        return call(S3Store(prepare_client(make_client(config), config), config), "key")


def _ok(body: bytes, announced: int | None = None, head: bytes = b"200 OK") -> bytes:
    size = len(body) if announced is None else announced
    lines = b"HTTP/1.1 %b\r\nx-amz-request-id: R-1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (head, size)
    return lines + body


RIGHT: dict[str, tuple[Call, bytes]] = {
    "copy": (_copy, b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'),
    "get tags": (_get_tags, b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"),
    "put tags": (_put_tags, b""),
    "delete": (_delete, b"<DeleteResult><Deleted><Key>key</Key></Deleted></DeleteResult>"),
    "delete quietly": (_delete_quietly, b"<DeleteResult></DeleteResult>"),
    "list": (_list, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
    "versions": (_versions, b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"),
}
BOMB = b"".join(
    [b'<!DOCTYPE x [<!ENTITY a0 "', b"a" * 1000, b'">']
    + [b'<!ENTITY a%d "%b">' % (i, b"&a%d;" % (i - 1) * 20) for i in range(1, 8)]
    + [b"]><CopyObjectResult><ETag>&a7;</ETag></CopyObjectResult>"]
)
WRONG: dict[str, tuple[bytes, type[StoreError]]] = {
    "an error": (b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code></Error>", Unavailable),
    "an error with a name space": (b'<Error xmlns="urn:x"><Code>InternalError</Code></Error>', Unavailable),
    "a plea for patience": (b"<Error><Code>SlowDown</Code><Message>m</Message></Error>", Throttled),
    "a page": (b"<!DOCTYPE html><html><body>Log in, please</body></html>", Unavailable),
    "a page that is XML": (b"<html><body>Log in, please</body></html>", Unavailable),
    "no XML": (b"OK", Unavailable),
    "another answer": (b"<CompleteMultipartUploadResult/>", Unavailable),
    "entities without end": (BOMB, Unavailable),
    "instructions without end": (b"<?a?>" * 20_000 + b"<", Unavailable),
}


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("verb", RIGHT)
def test_a_right_answer_is_believed(verb: str, lean: bool) -> None:
    """With a name space and a declaration, or without."""
    call, body = RIGHT[verb]
    plain = _told(call, _ok(body), lean)
    root, _, rest = body.partition(b">")
    dressed = b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- x --> ' + root + b' xmlns="urn:x">' + rest
    assert _told(call, _ok(dressed if body else b""), lean) == plain


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("verb", RIGHT)
def test_a_wrong_answer_is_no_success(verb: str, wrong: str, lean: bool) -> None:
    """A 200 with something else in it is the store's failure; with the code that it names, and the request's id."""
    body, kind = WRONG[wrong]
    with pytest.raises(kind) as caught:
        _told(RIGHT[verb][0], _ok(body), lean)
    assert type(caught.value) is kind
    assert caught.value.context.request_id == "R-1"


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("verb", [verb for verb in RIGHT if verb != "put tags"])
def test_half_an_answer_is_no_success(verb: str, lean: bool) -> None:
    """Cut at any place: by the store, with a length that fits, or by the line; or nothing at all."""
    call, body = RIGHT[verb]
    # Nothing at all in answer to a question for tags has a test of its own.
    for end in (len(body) // 2, len(body) - 1, *([0] if verb != "get tags" else [])):
        with pytest.raises(Unavailable):
            _told(call, _ok(body[:end]), lean)
        with pytest.raises(ConnectionLost):
            _told(call, _ok(body[:end], announced=len(body)), lean)


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("count", [None, 0, 2])
def test_an_empty_answer_means_no_tags_only_where_head_counts_none(count: int | None, lean: bool) -> None:
    """Ceph answers so for an object whose tags it dropped; a line may have lost the body of another answer."""
    counted = b"" if count is None else b"x-amz-tagging-count: %d\r\n" % count
    head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\n%bContent-Length: 1\r\nConnection: close\r\n\r\n' % counted

    def script(sock: socket.socket, stop: threading.Event) -> None:
        sock.sendall(head if read_whole(sock).startswith(b"HEAD") else _ok(b""))

    with scripted(script) as address:
        config = EngineConfig(
            endpoint=f"http://{address}", region="eu-central-1", force_path_style=True, lean=lean,
            credentials=Credentials(access_key="A", secret_key="S"),
        )  # fmt: skip
        store = S3Store(prepare_client(make_client(config), config), config)
        if count:
            with pytest.raises(Unavailable, match="has tags"):
                _get_tags(store, "key")
        else:
            assert _get_tags(store, "key") == ()


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("verb", RIGHT)
def test_a_refusal_is_told_with_its_code(verb: str, lean: bool) -> None:
    """404 with a code and the ids."""
    body = b"<Error><Code>NoSuchBucket</Code><Message>gone \x01</Message><RequestId>R-1</RequestId></Error>"
    with pytest.raises(NotFound, match="gone") as caught:
        _told(RIGHT[verb][0], _ok(body, head=b"404 Not Found"), lean)
    context = caught.value.context
    assert (context.status, context.code, context.request_id) == (404, "NoSuchBucket", "R-1")


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("verb", RIGHT)
def test_a_bucket_of_another_region_is_told(verb: str, lean: bool) -> None:
    """The store answers so to everything: botocore looks for the bucket, and then the region is named."""
    body = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
    answer = _ok(body, head=b"301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1")
    with pytest.raises(WrongEndpoint, match="eu-west-1"):
        _told(RIGHT[verb][0], answer, lean)


def test_an_answer_is_acknowledged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that sends head and body apart does not wait for a delayed acknowledgement (where the kernel can)."""
    option = getattr(socket, "TCP_QUICKACK", None)
    plain, seen = http._acknowledge_at_once, list[int]()

    def spy(sock: socket.socket) -> None:
        plain(sock)
        if option is not None:
            seen.append(sock.getsockopt(socket.IPPROTO_TCP, option))

    monkeypatch.setattr(http, "_acknowledge_at_once", spy)
    call, body = RIGHT["get tags"]
    assert _told(call, _ok(body), True) == (("k", "v"),)
    assert seen == ([1] if option is not None else [])


def test_a_line_that_takes_no_wishes_is_used_as_it_is() -> None:
    """Not every socket is a TCP one, and a dead one says so itself, later."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        http._acknowledge_at_once(ours)
    http._acknowledge_at_once(ours)
    http._acknowledge_at_once(None)
    assert ours.fileno() == -1


@pytest.mark.parametrize("value", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678Z", "Fri, 02 Jan 2026 03:04:05 GMT"])
def test_times_are_botocore_s(value: str) -> None:
    """S3's own form, and what other stores write."""
    assert documents._timestamp(value) == botocore.utils.parse_timestamp(value)
