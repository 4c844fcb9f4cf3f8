"""UploadPartCopy and PutObjectTagging, as plain boto3 sees them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import Fault, ModelServer, ServerProfile
from tests.model_server.conftest import MakeServer, client_of

SOURCE = {"Bucket": "kept", "Key": "a/from?x"}
TARGET = {"Bucket": "plain", "Key": "to"}
BODY = bytes(range(256)) * 20


@pytest.fixture
def small(make_server: MakeServer) -> Any:
    return client_of(make_server(profile=ServerProfile(min_part_size=1024, max_part_size=4096)))


def test_parts_are_ranges_of_one_version(small: Any) -> None:
    """The object is the source's bytes, with the checksum that Create asked for."""
    first = small.put_object(**SOURCE, Body=BODY)
    small.put_object(**SOURCE, Body=b"newer")
    upload = small.create_multipart_upload(**TARGET, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT")[
        "UploadId"
    ]
    parts = []
    for number, (start, stop) in enumerate(((0, 2048), (2048, len(BODY))), 1):
        answer = small.upload_part_copy(
            **TARGET,
            UploadId=upload,
            PartNumber=number,
            CopySource={**SOURCE, "VersionId": first["VersionId"]},
            CopySourceRange=f"bytes={start}-{stop - 1}",
            CopySourceIfMatch=first["ETag"],
        )
        assert answer["CopySourceVersionId"] == first["VersionId"]
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    small.complete_multipart_upload(**TARGET, UploadId=upload, MultipartUpload={"Parts": parts})
    head = small.head_object(**TARGET, ChecksumMode="ENABLED")
    assert small.get_object(**TARGET)["Body"].read() == BODY
    assert (head["ChecksumType"], "ChecksumCRC64NVME" in head) == ("FULL_OBJECT", True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"CopySourceIfMatch": '"other"'}, "PreconditionFailed"),
        ({"CopySourceRange": "bytes=0-5120"}, "InvalidArgument"),
        ({"CopySourceRange": "bytes=5-4"}, "InvalidArgument"),
        ({"CopySourceRange": "bytes=0-4096"}, "InvalidRequest"),
        ({"CopySource": {"Bucket": "kept", "Key": "none"}}, "NoSuchKey"),
        ({"CopySource": {**SOURCE, "VersionId": "none"}}, "NoSuchVersion"),
        ({"CopySource": {"Bucket": "kept", "Key": "small"}, "CopySourceRange": "bytes=0-1"}, "InvalidRequest"),
        ({"UploadId": "none"}, "NoSuchUpload"),
    ],
)
def test_what_cannot_be_copied_is_refused(small: Any, changes: dict[str, Any], code: str) -> None:
    """And no part is there."""
    small.put_object(**SOURCE, Body=BODY)
    small.put_object(Bucket="kept", Key="small", Body=b"123")
    upload = small.create_multipart_upload(**TARGET)["UploadId"]
    fixed = {"UploadId": upload, "PartNumber": 1, "CopySource": SOURCE, "CopySourceRange": "bytes=0-99"}
    with pytest.raises(ClientError, match=code):
        small.upload_part_copy(**TARGET, **{**fixed, **changes})
    assert "Parts" not in small.list_parts(**TARGET, UploadId=upload)


def test_a_200_may_hold_an_error(server: ModelServer, s3: Any) -> None:
    """The fault works for parts, too."""
    s3.put_object(**SOURCE, Body=BODY)
    upload = s3.create_multipart_upload(**TARGET)["UploadId"]
    server.inject(Fault("UploadPartCopy", "answer_200_error", code="SlowDown"))
    with pytest.raises(ClientError, match="SlowDown"):
        s3.upload_part_copy(**TARGET, UploadId=upload, PartNumber=1, CopySource=SOURCE)


def test_tags_are_replaced_as_a_set(s3: Any) -> None:
    """Of the version that is named."""
    first = s3.put_object(**SOURCE, Body=b"1", Tagging="a=1")["VersionId"]
    second = s3.put_object(**SOURCE, Body=b"2", Tagging="b=2")["VersionId"]
    s3.put_object_tagging(**SOURCE, VersionId=first, Tagging={"TagSet": [{"Key": "c d", "Value": "ü"}]})
    assert s3.get_object_tagging(**SOURCE, VersionId=first)["TagSet"] == [{"Key": "c d", "Value": "ü"}]
    assert s3.get_object_tagging(**SOURCE, VersionId=second)["TagSet"] == [{"Key": "b", "Value": "2"}]
    with pytest.raises(ClientError, match="InvalidTag"):
        s3.put_object_tagging(**SOURCE, Tagging={"TagSet": [{"Key": "a", "Value": "1"}] * 2})
