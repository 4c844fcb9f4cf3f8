"""CopyObject and the bucket's location, as plain boto3 sees them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import Fault, ModelServer, ServerProfile
from tests.model_server.conftest import MakeServer, client_of

SOURCE = {"Bucket": "plain", "Key": "from"}
TARGET = {"Bucket": "plain", "Key": "to"}


def _traits(s3: Any, **place: str) -> tuple[Any, ...]:
    head = s3.head_object(**place)
    tags = s3.get_object_tagging(**place)["TagSet"]
    return head["Metadata"], head["ContentType"], head.get("StorageClass"), [(t["Key"], t["Value"]) for t in tags]


def test_a_copy_keeps_metadata_and_tags_and_loses_its_class(s3: Any) -> None:
    """COPY is the default of both directives; the class is the request's or STANDARD."""
    s3.put_object(
        **SOURCE, Body=b"123", Metadata={"a": "b"}, ContentType="text/x", Tagging="t=1", StorageClass="STANDARD_IA"
    )
    answer = s3.copy_object(**TARGET, CopySource=SOURCE)
    assert answer["CopyObjectResult"]["ETag"] == s3.head_object(**TARGET)["ETag"]
    assert _traits(s3, **TARGET) == ({"a": "b"}, "text/x", None, [("t", "1")])
    s3.copy_object(**TARGET, CopySource=SOURCE, StorageClass="GLACIER_IR")
    assert _traits(s3, **TARGET)[2] == "GLACIER_IR"
    assert s3.get_object(**TARGET)["Body"].read() == b"123"


def test_directives_replace(s3: Any) -> None:
    """REPLACE takes the request's alone: what is not sent again is gone."""
    s3.put_object(**SOURCE, Body=b"1", Metadata={"a": "b"}, ContentType="text/x", Tagging="t=1")
    s3.copy_object(**TARGET, CopySource=SOURCE, MetadataDirective="REPLACE", Metadata={"c": "d"})
    assert _traits(s3, **TARGET) == ({"c": "d"}, "binary/octet-stream", None, [("t", "1")])
    s3.copy_object(**TARGET, CopySource=SOURCE, TaggingDirective="REPLACE", Tagging="u=2")
    assert _traits(s3, **TARGET) == ({"a": "b"}, "text/x", None, [("u", "2")])


def test_a_copy_is_pinned_by_version_and_condition(s3: Any) -> None:
    """VersionId names the bytes; If-Match and If-None-Match of the source are 412."""
    place = {"Bucket": "kept", "Key": "k"}
    first = s3.put_object(**place, Body=b"1")
    s3.put_object(**place, Body=b"2")
    answer = s3.copy_object(**TARGET, CopySource={**place, "VersionId": first["VersionId"]})
    assert answer["CopySourceVersionId"] == first["VersionId"]
    assert s3.get_object(**TARGET)["Body"].read() == b"1"
    for condition in ({"CopySourceIfMatch": first["ETag"]}, {"CopySourceIfNoneMatch": "*"}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.copy_object(**TARGET, CopySource=place, **condition)
    with pytest.raises(ClientError, match="NoSuchVersion"):
        s3.copy_object(**TARGET, CopySource={**place, "VersionId": "none"})


def test_a_copy_over_something_may_be_forbidden(s3: Any) -> None:
    """If-None-Match of the target."""
    s3.put_object(**SOURCE, Body=b"1")
    s3.copy_object(**TARGET, CopySource=SOURCE, IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.copy_object(**TARGET, CopySource=SOURCE, IfNoneMatch="*")


def test_a_copy_onto_itself_must_change_something(s3: Any) -> None:
    """InvalidRequest, unless the class or the metadata is another one; the bytes survive."""
    s3.put_object(**SOURCE, Body=b"123")
    with pytest.raises(ClientError, match="without changing"):
        s3.copy_object(**SOURCE, CopySource=SOURCE)
    s3.copy_object(**SOURCE, CopySource=SOURCE, StorageClass="STANDARD_IA")
    s3.copy_object(**SOURCE, CopySource=SOURCE, MetadataDirective="REPLACE", Metadata={"a": "b"})
    assert s3.get_object(**SOURCE)["Body"].read() == b"123"


@pytest.mark.parametrize("key", ["a+b c%20?versionId=x#&=", "größe/文件 🙂", "\x01\n\r\t", "/lead//", "..", "q'\"\\<"])
def test_odd_keys_are_copied(server: ModelServer, s3: Any, key: str) -> None:
    """As sources and as targets."""
    s3.put_object(Bucket="plain", Key=key, Body=key.encode())
    s3.copy_object(**TARGET, CopySource={"Bucket": "plain", "Key": key})
    s3.copy_object(Bucket="kept", Key=key, CopySource=TARGET)
    assert server.versions("kept", key)[0].read() == key.encode()


def test_a_multipart_source_becomes_one_part(s3: Any) -> None:
    """ETag and checksum type change, the bytes do not."""
    upload = s3.create_multipart_upload(**SOURCE, ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")["UploadId"]
    parts = []
    for number, body in enumerate((b"x" * 1024, b"y"), 1):
        sent = s3.upload_part(**SOURCE, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32": sent["ChecksumCRC32"]})
    s3.complete_multipart_upload(**SOURCE, UploadId=upload, MultipartUpload={"Parts": parts})
    result = s3.copy_object(**TARGET, CopySource=SOURCE)["CopyObjectResult"]
    assert "-" not in result["ETag"]
    assert result["ChecksumType"] == "FULL_OBJECT"
    assert s3.get_object(**TARGET)["Body"].read() == b"x" * 1024 + b"y"


def test_large_and_missing_sources_are_refused(make_server: MakeServer) -> None:
    """Above the limit of one request, and what is not there."""
    s3 = client_of(make_server(profile=ServerProfile(max_put_size=10)))
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.copy_object(**TARGET, CopySource=SOURCE)
    s3.put_object(**SOURCE, Body=b"0123456789")
    s3.copy_object(**TARGET, CopySource=SOURCE)


def test_a_200_may_hold_an_error(server: ModelServer, s3: Any) -> None:
    """The fault works for copies; nothing is done."""
    s3.put_object(**SOURCE, Body=b"1")
    server.inject(Fault("CopyObject", "answer_200_error", code="SlowDown"))
    with pytest.raises(ClientError, match="SlowDown"):
        s3.copy_object(**TARGET, CopySource=SOURCE)
    assert server.versions("plain", "to") == []


def test_a_bucket_says_where_it_is(make_server: MakeServer) -> None:
    """Empty for us-east-1, as always."""
    assert client_of(make_server()).get_bucket_location(Bucket="plain")["LocationConstraint"] is None
    other = make_server(region="eu-west-3")
    assert client_of(other).get_bucket_location(Bucket="plain")["LocationConstraint"] == "eu-west-3"
