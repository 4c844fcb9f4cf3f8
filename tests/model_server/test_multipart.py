"""Multipart uploads: what is accepted, what is listed, and what a repeated Complete gets."""

import base64
import hashlib
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import ModelServer, ServerProfile, raw
from tests.model_server.conftest import SMALL, MakeServer, client_of

BIG = b"x" * 1024
MULTI = {"Bucket": "plain", "Key": "m"}


def start(s3: Any, key: str = "m") -> str:
    return str(s3.create_multipart_upload(Bucket="plain", Key=key)["UploadId"])


def part(s3: Any, upload_id: str, number: int, body: bytes = BIG) -> dict[str, Any]:
    answer = s3.upload_part(**MULTI, UploadId=upload_id, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer.get("ChecksumCRC32", "")}


def complete(s3: Any, upload_id: str, *parts: dict[str, Any], **claims: Any) -> Any:
    kept = [{name: value for name, value in item.items() if value} for item in parts]
    return s3.complete_multipart_upload(**MULTI, UploadId=upload_id, MultipartUpload={"Parts": kept}, **claims)


def test_etag_is_the_md5_of_the_md5s(server: ModelServer, s3: Any) -> None:
    """The ETag of a multipart object follows the public formula, and the bytes are the parts in order."""
    upload_id = start(s3)
    answer = complete(s3, upload_id, part(s3, upload_id, 2), part(s3, upload_id, 7, b"tail"))
    digests = hashlib.md5(BIG).digest() + hashlib.md5(b"tail").digest()
    assert answer["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert server.versions("plain", "m")[0].read() == BIG + b"tail"


def test_small_part_is_refused_unless_last(s3: Any) -> None:
    """EntityTooSmall for a short part that is not the last one."""
    upload_id = start(s3)
    small, last = part(s3, upload_id, 1, b"small"), part(s3, upload_id, 2, b"last")
    with pytest.raises(ClientError, match="EntityTooSmall"):
        complete(s3, upload_id, small, last)
    complete(s3, upload_id, last)


def test_large_part_is_refused_before_its_body(make_server: MakeServer) -> None:
    """EntityTooLarge by Content-Length alone."""
    server = make_server(profile=ServerProfile(min_part_size=1, max_part_size=1000))
    s3 = client_of(server)
    with pytest.raises(ClientError, match="EntityTooLarge"):
        part(s3, start(s3), 1)
    assert server.bytes_received("UploadPart") == 0


def test_parts_must_ascend_and_exist_with_their_etag(s3: Any) -> None:
    """InvalidPartOrder for a wrong order, InvalidPart for a missing part or another ETag."""
    upload_id = start(s3)
    one, two = part(s3, upload_id, 1), part(s3, upload_id, 2, b"y" * 1024)
    for listed, code in [
        ((two, one), "InvalidPartOrder"),
        ((one, one), "InvalidPartOrder"),
        ((one, {**two, "PartNumber": 3}), "InvalidPart"),
        ((one, {**two, "ETag": one["ETag"]}), "InvalidPart"),
    ]:
        with pytest.raises(ClientError, match=rf"\({code}\)"):
            complete(s3, upload_id, *listed)


def test_upload_id_belongs_to_one_key(s3: Any) -> None:
    """An unknown upload id and the upload id of another key are NoSuchUpload in every operation."""
    foreign = start(s3, "other")
    for upload_id in (foreign, "unknown"):
        for call in (s3.list_parts, s3.abort_multipart_upload):
            with pytest.raises(ClientError, match="NoSuchUpload"):
                call(**MULTI, UploadId=upload_id)
        with pytest.raises(ClientError, match="NoSuchUpload"):
            part(s3, upload_id, 1)
        with pytest.raises(ClientError, match="NoSuchUpload"):
            complete(s3, upload_id, {"PartNumber": 1, "ETag": "x"})


@pytest.mark.parametrize("number", [0, 10_001])
def test_part_numbers_have_limits(server: ModelServer, s3: Any, number: int) -> None:
    """Part numbers outside 1..10000 are InvalidArgument."""
    path = f"/plain/m?partNumber={number}&uploadId={start(s3)}"
    assert b"InvalidArgument" in raw.send(server, "PUT", path, {}, BIG)[2]


def test_listing_pages_by_part_number(make_server: MakeServer) -> None:
    """Markers are part numbers and not indices, also when the store's page is smaller than the wish."""
    s3 = client_of(make_server(profile=ServerProfile(min_part_size=1024, max_parts_page=2)))
    upload_id = start(s3)
    for number in (1, 2500, 9999):
        part(s3, upload_id, number)
    first = s3.list_parts(**MULTI, UploadId=upload_id, MaxParts=1000)
    assert [item["PartNumber"] for item in first["Parts"]] == [1, 2500]
    assert (first["IsTruncated"], first["NextPartNumberMarker"]) == (True, 2500)
    second = s3.list_parts(**MULTI, UploadId=upload_id, PartNumberMarker=2500)
    assert [item["PartNumber"] for item in second["Parts"]] == [9999]
    assert second["IsTruncated"] is False


def test_listing_says_size_checksum_and_identity(server: ModelServer, s3: Any) -> None:
    """ListParts answers what a resume needs to prove each part."""
    answer = s3.create_multipart_upload(**MULTI, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    sent = part(s3, answer["UploadId"], 1)
    listed = s3.list_parts(**MULTI, UploadId=answer["UploadId"])
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ("CRC32", "FULL_OBJECT")
    assert (listed["Initiator"]["DisplayName"], listed["StorageClass"]) == ("model-owner", "STANDARD")
    (found,) = listed["Parts"]
    assert (found["Size"], found["ETag"], found["ChecksumCRC32"]) == (1024, sent["ETag"], sent["ChecksumCRC32"])
    assert server.open_uploads("plain")[0].parts == {1: 1024}


def test_abort_ends_the_upload(server: ModelServer, s3: Any) -> None:
    """After Abort the upload is listed nowhere, and a second Abort is NoSuchUpload."""
    upload_id = start(s3)
    part(s3, upload_id, 1)
    s3.abort_multipart_upload(**MULTI, UploadId=upload_id)
    assert server.open_uploads("plain") == []
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.abort_multipart_upload(**MULTI, UploadId=upload_id)


def test_part_in_flight_at_the_abort_is_refused(server: ModelServer, s3: Any) -> None:
    """An upload aborted during a part's body answers NoSuchUpload to that part and keeps nothing of it."""
    upload_id = start(s3)
    path = f"/plain/m?partNumber=1&uploadId={upload_id}"
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "PUT", path, {"Content-Length": "4", "Expect": "100-continue"}))
        assert b"100 Continue" in sock.recv(1024)
        s3.abort_multipart_upload(**MULTI, UploadId=upload_id)
        sock.sendall(b"part")
        assert b"NoSuchUpload" in raw.read_answer(sock)[2]


def test_repeated_complete_gets_the_same_answer(server: ModelServer, s3: Any) -> None:
    """By default the store remembers a finished upload, and makes no second version."""
    upload_id = start(s3)
    sent = part(s3, upload_id, 1)
    first, second = (complete(s3, upload_id, sent, IfNoneMatch="*") for _ in range(2))
    assert first["ETag"] == second["ETag"]
    assert len(server.versions("plain", "m")) == 1


def test_repeated_complete_may_be_gone(make_server: MakeServer) -> None:
    """complete_repeat="gone": the second Complete is NoSuchUpload."""
    s3 = client_of(make_server(profile=ServerProfile(complete_repeat="gone")))
    upload_id = start(s3)
    sent = part(s3, upload_id, 1)
    complete(s3, upload_id, sent)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        complete(s3, upload_id, sent)


def test_uploads_are_listed_in_pages(s3: Any) -> None:
    """Uploads of one key are told apart by the upload-id marker; keys survive encoding-type=url."""
    ids = [start(s3, "a/é +"), start(s3, "a/é +"), start(s3, "b")]
    found: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    while True:
        page = s3.list_multipart_uploads(Bucket="plain", MaxUploads=1, **markers)
        found += [(item["Key"], item["UploadId"]) for item in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert sorted(found) == sorted(zip(["a/é +", "a/é +", "b"], ids, strict=True))
    assert len(s3.list_multipart_uploads(Bucket="plain", Prefix="a/")["Uploads"]) == 2


def test_listing_uploads_may_be_denied(make_server: MakeServer) -> None:
    """list_uploads_denied=True: AccessDenied."""
    s3 = client_of(make_server(profile=ServerProfile(list_uploads_denied=True)))
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_multipart_uploads(Bucket="plain")


def test_weak_store_answers_an_empty_etag_once(make_server: MakeServer) -> None:
    """empty_complete_etag=True: the first Complete has no ETag, the repeated one has."""
    s3 = client_of(make_server(profile=ServerProfile(empty_complete_etag=True)))
    upload_id = start(s3)
    sent = part(s3, upload_id, 1)
    assert complete(s3, upload_id, sent).get("ETag", "") == ""
    assert complete(s3, upload_id, sent)["ETag"].endswith('-1"')


def test_opaque_etags_are_no_md5(make_server: MakeServer) -> None:
    """opaque_etags=True: equal bytes, different ETags."""
    s3 = client_of(make_server(profile=ServerProfile(opaque_etags=True)))
    upload_id = start(s3)
    assert part(s3, upload_id, 1)["ETag"] != part(s3, upload_id, 2)["ETag"]


def test_content_md5_of_a_part_is_verified(server: ModelServer, s3: Any) -> None:
    """A wrong Content-MD5 on a part is BadDigest."""
    headers = {"Content-MD5": base64.b64encode(hashlib.md5(b"other").digest()).decode()}
    path = f"/plain/m?partNumber=1&uploadId={start(s3)}"
    assert b"BadDigest" in raw.send(server, "PUT", path, headers, BIG)[2]
    assert server.open_uploads("plain")[0].parts == {}


def test_lifecycle_rule_shows_at_create(s3: Any) -> None:
    """A bucket that aborts incomplete uploads says when, and by which rule."""
    rule = {
        "ID": "clean",
        "Status": "Enabled",
        "Filter": {"Prefix": "m"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
    }
    s3.put_bucket_lifecycle_configuration(Bucket="plain", LifecycleConfiguration={"Rules": [rule]})
    assert s3.get_bucket_lifecycle_configuration(Bucket="plain")["Rules"] == [rule]
    answer = s3.create_multipart_upload(**MULTI)
    assert answer["AbortRuleId"] == "clean"
    assert answer["AbortDate"].hour == 0
    assert "AbortDate" not in s3.create_multipart_upload(Bucket="plain", Key="other")


def test_profile_can_change_under_way(server: ModelServer, s3: Any) -> None:
    """A test may turn the store into another one between two requests."""
    upload_id = start(s3)
    sent = part(s3, upload_id, 1)
    complete(s3, upload_id, sent)
    server.set_profile(ServerProfile(min_part_size=SMALL.min_part_size, complete_repeat="gone"))
    with pytest.raises(ClientError, match="NoSuchUpload"):
        complete(s3, upload_id, sent)
