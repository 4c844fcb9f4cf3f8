"""Customer keys, Object Lock, payer and owner: the server refuses what S3 refuses."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import ModelServer, ServerProfile, raw
from tests.model_server.conftest import MakeServer, client_of

OBJECT = {"Bucket": "plain", "Key": "k"}
KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
OTHER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "o" * 32}


def test_an_object_is_read_with_its_own_key(s3: Any) -> None:
    """Without a key 400, with another one 403, and a key for an object without one is 400."""
    answer = s3.put_object(**OBJECT, Body=b"x", **KEY)
    assert answer["SSECustomerAlgorithm"] == "AES256"
    assert s3.get_object(**OBJECT, **KEY)["Body"].read() == b"x"
    with pytest.raises(ClientError, match="400"):
        s3.head_object(**OBJECT)
    with pytest.raises(ClientError, match="403"):
        s3.head_object(**OBJECT, **OTHER)
    s3.put_object(Bucket="plain", Key="bare", Body=b"x")
    with pytest.raises(ClientError, match="InvalidRequest"):
        s3.get_object(Bucket="plain", Key="bare", **KEY)


def test_the_etag_hides_the_bytes(s3: Any) -> None:
    """Twice the same bytes, two ETags; so under KMS, and not under AES256."""

    def etags(**sse: str) -> int:
        return len({s3.put_object(**OBJECT, Body=b"x", **sse)["ETag"] for _ in range(2)})

    assert (etags(**KEY), etags(ServerSideEncryption="aws:kms"), etags(ServerSideEncryption="AES256")) == (2, 2, 1)


@pytest.mark.parametrize("checksum", [True, False])
def test_every_part_comes_with_the_key_of_its_upload(server: ModelServer, s3: Any, checksum: bool) -> None:
    """ListParts and Complete need it when the upload has a checksum, and never take another one."""
    wish: dict[str, str] = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if checksum else {}
    place = {**OBJECT, "UploadId": s3.create_multipart_upload(**OBJECT, **KEY, **wish)["UploadId"]}
    named = {"ChecksumAlgorithm": "CRC32"} if checksum else {}
    for wrong in ({}, OTHER):
        with pytest.raises(ClientError, match="InvalidRequest"):
            s3.upload_part(**place, PartNumber=1, Body=b"part", **named, **wrong)
    etag = s3.upload_part(**place, PartNumber=1, Body=b"part", **named, **KEY)["ETag"]
    parts = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}
    # ListParts is not among the operations for which botocore encodes a key.
    keyed = f"/plain/k?uploadId={place['UploadId']}"
    assert raw.send(server, "GET", keyed, {})[0] == (400 if checksum else 200)
    if checksum:
        with pytest.raises(ClientError, match="InvalidRequest"):
            s3.complete_multipart_upload(**place, **parts)
    with pytest.raises(ClientError, match="InvalidRequest"):
        s3.complete_multipart_upload(**place, **parts, **OTHER)
    s3.complete_multipart_upload(**place, **parts, **(KEY if checksum else {}))
    assert s3.get_object(**OBJECT, **KEY)["Body"].read() == b"part"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"key": "c2hvcnQ=", "key-md5": "x", "algorithm": "AES256"}, 400),
        ({"key": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=", "key-md5": "wrong", "algorithm": "AES256"}, 400),
        ({"key": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=", "key-md5": "x", "algorithm": "ROT13"}, 400),
        ({"algorithm": "AES256"}, 400),
    ],
)
def test_headers_that_do_not_fit_are_refused(server: ModelServer, headers: dict[str, str], status: int) -> None:
    """A short key, a wrong MD5, another algorithm, no key."""
    named = {f"x-amz-server-side-encryption-customer-{name}": value for name, value in headers.items()}
    assert raw.send(server, "PUT", "/plain/k", named, b"x")[0] == status


def test_a_bucket_may_block_customer_keys(make_server: MakeServer) -> None:
    """403, as S3's buckets do by default."""
    s3 = client_of(make_server(profile=ServerProfile(customer_keys_blocked=True)))
    with pytest.raises(ClientError, match="blocked"):
        s3.put_object(**OBJECT, Body=b"x", **KEY)


def test_locked_bytes_come_with_a_checksum(make_server: MakeServer) -> None:
    """In such a bucket, and wherever a lock is asked for."""
    server = make_server(profile=ServerProfile(object_lock=True))
    assert raw.send(server, "PUT", "/plain/k", {}, b"x")[0] == 400
    client_of(server).put_object(**OBJECT, Body=b"x", ChecksumAlgorithm="CRC32")
    hold = {"x-amz-object-lock-legal-hold": "ON"}
    assert raw.send(make_server(), "PUT", "/plain/k", hold, b"x")[0] == 400


def test_a_lock_is_shown(s3: Any) -> None:
    """By HEAD."""
    s3.put_object(**OBJECT, Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate="2031-01-01T00:00:00Z")
    assert s3.head_object(**OBJECT)["ObjectLockMode"] == "COMPLIANCE"


def test_payer_and_owner_are_demanded_of_every_call(make_server: MakeServer) -> None:
    """Where S3 has such a parameter."""
    s3 = client_of(make_server(profile=ServerProfile(requester_pays=True, owner_expected=True)))
    both = {"RequestPayer": "requester", "ExpectedBucketOwner": "123456789012"}
    s3.put_object(**OBJECT, Body=b"x", **both)
    for missing in both:
        rest = {name: value for name, value in both.items() if name != missing}
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.list_objects_v2(Bucket="plain", **rest)
    s3.head_bucket(Bucket="plain", ExpectedBucketOwner="123456789012")
    s3.list_buckets()


def test_credentials_expire_after_so_many_requests(server: ModelServer, s3: Any) -> None:
    """Then ExpiredToken."""
    server.expire_credentials(server.access_key, after=2)
    for _ in range(2):
        s3.list_objects_v2(Bucket="plain")
    with pytest.raises(ClientError, match="ExpiredToken"):
        s3.list_objects_v2(Bucket="plain")
