"""Objects: conditions, versions, ranges, properties, listings."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import ModelServer, ServerProfile, raw
from tests.model_server.conftest import MakeServer, client_of

OBJECT = {"Bucket": "plain", "Key": "k"}


def test_put_may_demand_absence_or_an_etag(server: ModelServer, s3: Any) -> None:
    """If-None-Match and If-Match of a PutObject hold, or are 412 and change nothing."""
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.put_object(**OBJECT, Body=b"0", IfMatch='"x"')
    first = s3.put_object(**OBJECT, Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(**OBJECT, Body=b"2", IfNoneMatch="*")
    s3.put_object(**OBJECT, Body=b"3", IfMatch=first["ETag"])
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(**OBJECT, Body=b"4", IfMatch=first["ETag"])
    assert server.versions("plain", "k")[0].read() == b"3"


def test_complete_may_demand_absence(s3: Any) -> None:
    """If-None-Match on Complete is 412 when the key exists, and the upload stays open."""
    upload_id = s3.create_multipart_upload(**OBJECT)["UploadId"]
    etag = s3.upload_part(**OBJECT, UploadId=upload_id, PartNumber=1, Body=b"part")["ETag"]
    s3.put_object(**OBJECT, Body=b"first")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.complete_multipart_upload(
            **OBJECT,
            UploadId=upload_id,
            IfNoneMatch="*",
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
        )
    assert len(s3.list_parts(**OBJECT, UploadId=upload_id)["Parts"]) == 1


def test_conditional_writes_conflict_while_one_is_in_flight(server: ModelServer) -> None:
    """A second conditional write during the body of the first is 409, and possible again afterwards."""
    headers = {"If-None-Match": "*", "Content-Length": "4", "Expect": "100-continue"}
    with raw.connect(server) as first:
        first.sendall(raw.head_bytes(server, "PUT", "/plain/k", headers))
        assert b"100 Continue" in first.recv(1024)
        assert raw.send(server, "PUT", "/plain/k", {"If-None-Match": "*"}, b"late")[0] == 409
        first.sendall(b"body")
        assert raw.read_answer(first)[0] == 200
    assert raw.send(server, "PUT", "/plain/k", {"If-None-Match": "*"}, b"late")[0] == 412


def test_conditions_do_not_belong_on_create_or_parts(server: ModelServer) -> None:
    """CreateMultipartUpload with a condition is 501."""
    assert raw.send(server, "POST", "/plain/k?uploads=", {"If-None-Match": "*"})[0] == 501


def test_weak_store_ignores_conditions(make_server: MakeServer) -> None:
    """conditional_writes=False: the second write succeeds."""
    s3 = client_of(make_server(profile=ServerProfile(conditional_writes=False)))
    for _ in range(2):
        s3.put_object(**OBJECT, Body=b"1", IfNoneMatch="*")


def test_versions_are_kept_hidden_and_removed(server: ModelServer, s3: Any) -> None:
    """Enabled versioning: every write has its id, a delete leaves a marker, a version can be removed."""
    place = {"Bucket": "kept", "Key": "k"}
    ids = [s3.put_object(**place, Body=body)["VersionId"] for body in (b"1", b"2")]
    marker = s3.delete_object(**place)
    assert marker["DeleteMarker"] is True
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(**place)
    with pytest.raises(ClientError, match="405"):
        s3.head_object(**place, VersionId=marker["VersionId"])
    assert s3.get_object(**place, VersionId=ids[0])["Body"].read() == b"1"
    assert [item.version_id for item in server.versions("kept", "k")] == [marker["VersionId"], ids[1], ids[0]]
    s3.delete_object(**place, VersionId=marker["VersionId"])
    assert s3.get_object(**place)["Body"].read() == b"2"
    listed = s3.list_object_versions(Bucket="kept", MaxKeys=1)
    assert (listed["NextVersionIdMarker"], listed["IsTruncated"]) == (ids[1], True)


def test_suspended_versioning_replaces_only_null(server: ModelServer, s3: Any) -> None:
    """Suspended: writes replace the version "null" and keep the numbered ones."""
    s3.put_object(Bucket="kept", Key="k", Body=b"1")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Suspended"})
    assert s3.get_bucket_versioning(Bucket="kept")["Status"] == "Suspended"
    for body in (b"2", b"3"):
        assert s3.put_object(Bucket="kept", Key="k", Body=body)["VersionId"] == "null"
    assert [item.read() for item in server.versions("kept", "k")] == [b"3", b"1"]


@pytest.mark.parametrize(
    ("wish", "got"), [("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89"), ("bytes=8-99", b"89")]
)
def test_ranges_across_parts(make_server: MakeServer, wish: str, got: bytes) -> None:
    """A range of an object of several parts is exactly its bytes, with the whole size in Content-Range."""
    s3 = client_of(make_server(profile=ServerProfile(min_part_size=1)))
    upload_id = s3.create_multipart_upload(**OBJECT)["UploadId"]
    parts = [
        {"PartNumber": at, "ETag": s3.upload_part(**OBJECT, UploadId=upload_id, PartNumber=at, Body=body)["ETag"]}
        for at, body in enumerate((b"012", b"345", b"6789"), 1)
    ]
    s3.complete_multipart_upload(**OBJECT, UploadId=upload_id, MultipartUpload={"Parts": parts})
    answer = s3.get_object(**OBJECT, Range=wish)
    assert answer["Body"].read() == got
    assert answer["ContentRange"].endswith("/10")


def test_range_behind_the_end_is_refused(s3: Any) -> None:
    """A range that begins behind the last byte is 416."""
    s3.put_object(**OBJECT, Body=b"123")
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(**OBJECT, Range="bytes=3-")


def test_properties_are_kept_and_answered(s3: Any) -> None:
    """Metadata, system headers, class, tags and encryption survive; aws-chunked does not."""
    s3.put_object(
        **OBJECT,
        Body=b"1",
        Metadata={"orbit-upload": "abc"},
        ContentType="text/x",
        ContentEncoding="aws-chunked,gzip",
        CacheControl="no-store",
        StorageClass="GLACIER_IR",
        Tagging="a=1&b=2",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key",
    )
    head = s3.head_object(**OBJECT)
    found = [head[name] for name in ("ContentType", "ContentEncoding", "CacheControl", "StorageClass", "SSEKMSKeyId")]
    assert found == ["text/x", "gzip", "no-store", "GLACIER_IR", "key"]
    assert head["Metadata"] == {"orbit-upload": "abc"}
    assert s3.get_object_tagging(**OBJECT)["TagSet"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]


def test_reads_take_conditions(s3: Any) -> None:
    """If-Match pins a read to one ETag; If-None-Match is 304."""
    etag = s3.put_object(**OBJECT, Body=b"1")["ETag"]
    s3.get_object(**OBJECT, IfMatch=etag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.get_object(**OBJECT, IfMatch='"other"')
    with pytest.raises(ClientError, match="304"):
        s3.get_object(**OBJECT, IfNoneMatch=etag)


def test_head_of_nothing_has_no_body(server: ModelServer) -> None:
    """HEAD answers 404 without a body, and the connection stays usable."""
    with raw.connect(server) as sock:
        for _ in range(2):
            sock.sendall(raw.head_bytes(server, "HEAD", "/plain/none", {}))
            assert sock.recv(4096).startswith(b"HTTP/1.1 404")


def test_objects_are_listed_in_pages(s3: Any) -> None:
    """Paging, prefix and delimiter give every key once, with hostile names intact."""
    keys = ["a", "d/1", "d/2", "d/é +&<", "z"]
    for key in keys:
        s3.put_object(Bucket="plain", Key=key, Body=b"1")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="plain", PaginationConfig={"PageSize": 2})
    assert [item["Key"] for page in pages for item in page["Contents"]] == keys
    listed = s3.list_objects_v2(Bucket="plain", Delimiter="/")
    assert [item["Prefix"] for item in listed["CommonPrefixes"]] == ["d/"]
    assert [item["Key"] for item in listed["Contents"]] == ["a", "z"]


def test_buckets_live_and_die(s3: Any) -> None:
    """A bucket is made, found, refused deletion while it holds something, and deleted."""
    s3.create_bucket(Bucket="fresh")
    s3.put_object(Bucket="fresh", Key="k", Body=b"1")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        s3.delete_bucket(Bucket="fresh")
    s3.delete_object(Bucket="fresh", Key="k")
    s3.delete_bucket(Bucket="fresh")
    with pytest.raises(ClientError, match="404"):
        s3.head_bucket(Bucket="fresh")
    assert [item["Name"] for item in s3.list_buckets()["Buckets"]] == ["kept", "plain"]


def test_foreign_owner_is_refused(s3: Any) -> None:
    """ExpectedBucketOwner of another account is AccessDenied."""
    s3.put_object(**OBJECT, Body=b"1", ExpectedBucketOwner="123456789012")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(**OBJECT, Body=b"1", ExpectedBucketOwner="999999999999")
