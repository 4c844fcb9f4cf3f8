"""Every declared checksum is compared with what arrived."""

import base64
import hashlib
import zlib
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import ModelServer, ServerProfile, raw
from tests.model_server.checksums import ALGORITHMS, digest_of, encode_digest
from tests.model_server.conftest import MakeServer, client_of

BODY = b"123456789" * 500
STREAMING = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def crc32(data: bytes) -> str:
    return encode_digest(zlib.crc32(data).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("name", "check"),
    [("CRC32", "cbf43926"), ("CRC32C", "e3069283"), ("CRC64NVME", "ae8b14860a799888")],
)
def test_crcs_have_their_published_check_values(name: str, check: str) -> None:
    """The CRC of "123456789" is the one in the catalogues."""
    assert digest_of(ALGORITHMS[name], [b"1234", b"56789"]).hex() == check


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_right_checksums_are_kept_and_wrong_ones_refused(server: ModelServer, s3: Any, name: str) -> None:
    """Each algorithm: the right value is stored and answered by HEAD, a wrong one is BadDigest."""
    algorithm = ALGORITHMS[name]
    right, wrong = (encode_digest(digest_of(algorithm, [data])) for data in (BODY, b"other"))
    s3.put_object(Bucket="plain", Key="k", Body=BODY, **{algorithm.element: right})
    head = s3.head_object(Bucket="plain", Key="k", ChecksumMode="ENABLED")
    assert (head[algorithm.element], head["ChecksumType"]) == (right, "FULL_OBJECT")
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(Bucket="plain", Key="bad", Body=BODY, **{algorithm.element: wrong})
    assert server.versions("plain", "bad") == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": "no base64!"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "AAAA"}, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": crc32(BODY), "x-amz-checksum-crc32c": "AAAAAA=="}, "InvalidRequest"),
        ({"Content-MD5": "short"}, "InvalidDigest"),
        ({"Content-MD5": base64.b64encode(hashlib.md5(b"x").digest()).decode()}, "BadDigest"),
        ({"x-amz-content-sha256": STREAMING}, "InvalidRequest"),
    ],
)
def test_malformed_claims_are_refused(server: ModelServer, headers: dict[str, str], code: str) -> None:
    """A checksum that cannot be right is refused with the code S3 has for it."""
    status, _, body = raw.send(server, "PUT", "/plain/k", headers, BODY)
    assert (status, f"<Code>{code}</Code>".encode() in body) == (400, True)


@pytest.mark.parametrize(
    ("trailer", "length", "code"),
    [
        (f"x-amz-checksum-crc32:{crc32(BODY)}", len(BODY), ""),
        (f"x-amz-checksum-crc32:{crc32(b'other')}", len(BODY), "BadDigest"),
        (f"x-amz-checksum-crc32:{crc32(BODY)}", len(BODY) + 1, "IncompleteBody"),
        ("x-other:1", len(BODY), "MalformedTrailerError"),
    ],
)
def test_trailer_is_verified(server: ModelServer, trailer: str, length: int, code: str) -> None:
    """An aws-chunked body is decoded; its trailer, its length and its checksum must be right."""
    headers = {
        "x-amz-content-sha256": STREAMING,
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": str(length),
        "Content-Encoding": "aws-chunked",
    }
    status, _, body = raw.send(server, "PUT", "/plain/k", headers, raw.chunked(BODY, trailer))
    assert (status, code.encode() in body) == (400 if code else 200, True)
    stored = server.versions("plain", "k")
    assert [item.read() for item in stored] == ([] if code else [BODY])


def start(s3: Any, algorithm: str | None = None, kind: str | None = None) -> str:
    wish = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    wish |= {"ChecksumType": kind} if kind else {}
    return str(s3.create_multipart_upload(Bucket="plain", Key="m", **wish)["UploadId"])


def send_parts(s3: Any, upload_id: str, *bodies: bytes) -> list[dict[str, Any]]:
    sent = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(
            Bucket="plain", Key="m", UploadId=upload_id, PartNumber=number, Body=body, ChecksumCRC32=crc32(body)
        )
        sent.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    return sent


def complete(s3: Any, upload_id: str, parts: list[dict[str, Any]], **claims: Any) -> Any:
    return s3.complete_multipart_upload(
        Bucket="plain", Key="m", UploadId=upload_id, MultipartUpload={"Parts": parts}, **claims
    )


def test_part_must_carry_the_algorithm_of_its_upload(server: ModelServer, s3: Any) -> None:
    """A part without the upload's checksum, or with another one, is InvalidRequest."""
    path = f"/plain/m?partNumber=1&uploadId={start(s3, 'CRC32')}"
    assert b"InvalidRequest" in raw.send(server, "PUT", path, {}, BODY)[2]
    assert b"InvalidRequest" in raw.send(server, "PUT", path, {"x-amz-checksum-crc32c": "AAAAAA=="}, BODY)[2]


def test_full_object_checksum_is_compared_with_the_concatenation(s3: Any) -> None:
    """Complete with the whole object's CRC: right is kept, wrong is BadDigest and leaves the upload open."""
    upload_id = start(s3, "CRC32", "FULL_OBJECT")
    parts = send_parts(s3, upload_id, BODY, b"tail")
    with pytest.raises(ClientError, match="BadDigest"):
        complete(s3, upload_id, parts, ChecksumCRC32=crc32(b"other"), ChecksumType="FULL_OBJECT")
    answer = complete(s3, upload_id, parts, ChecksumCRC32=crc32(BODY + b"tail"), ChecksumType="FULL_OBJECT")
    assert answer["ChecksumCRC32"] == crc32(BODY + b"tail")
    head = s3.head_object(Bucket="plain", Key="m", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (crc32(BODY + b"tail"), "FULL_OBJECT")


def test_composite_needs_and_checks_the_part_checksums(s3: Any) -> None:
    """COMPOSITE: Complete must list each part's checksum, and the object gets the checksum of checksums."""
    upload_id = start(s3, "CRC32")
    parts = send_parts(s3, upload_id, BODY, b"tail")
    bare = [{name: part[name] for name in ("PartNumber", "ETag")} for part in parts]
    with pytest.raises(ClientError, match="InvalidRequest"):
        complete(s3, upload_id, bare)
    with pytest.raises(ClientError, match="InvalidPart"):
        complete(s3, upload_id, [{**part, "ChecksumCRC32": crc32(b"?")} for part in parts])
    digests = b"".join(base64.b64decode(part["ChecksumCRC32"]) for part in parts)
    assert complete(s3, upload_id, parts)["ChecksumCRC32"] == f"{crc32(digests)}-2"


def test_impossible_checksum_types_are_refused(s3: Any) -> None:
    """SHA-256 has no FULL_OBJECT form, and CRC64NVME no COMPOSITE one."""
    with pytest.raises(ClientError, match="InvalidRequest"):
        start(s3, "SHA256", "FULL_OBJECT")
    with pytest.raises(ClientError, match="InvalidRequest"):
        start(s3, "CRC64NVME", "COMPOSITE")


def test_object_size_claim_is_checked(s3: Any) -> None:
    """Complete with a wrong MpuObjectSize is InvalidRequest."""
    upload_id = start(s3, "CRC32", "FULL_OBJECT")
    parts = send_parts(s3, upload_id, BODY)
    with pytest.raises(ClientError, match="InvalidRequest"):
        complete(s3, upload_id, parts, MpuObjectSize=len(BODY) + 1)
    complete(s3, upload_id, parts, MpuObjectSize=len(BODY))


def test_discarding_server_still_verifies(make_server: MakeServer) -> None:
    """Without keeping bytes, parts are verified and the whole CRC is combined from theirs."""
    s3 = client_of(make_server(discard=True))
    upload_id = start(s3, "CRC32", "FULL_OBJECT")
    parts = send_parts(s3, upload_id, BODY, b"tail")
    with pytest.raises(ClientError, match="BadDigest"):
        complete(s3, upload_id, parts, ChecksumCRC32=crc32(BODY))
    assert complete(s3, upload_id, parts)["ChecksumCRC32"] == crc32(BODY + b"tail")


def test_store_without_checksums_ignores_and_hides_them(make_server: MakeServer) -> None:
    """flexible_checksums=False: a wrong checksum is accepted and none is answered."""
    server = make_server(profile=ServerProfile(flexible_checksums=False))
    answer = client_of(server).put_object(Bucket="plain", Key="k", Body=BODY, ChecksumCRC32=crc32(b"other"))
    assert "ChecksumCRC32" not in answer


def test_store_without_full_object_checksums_answers_composite(make_server: MakeServer) -> None:
    """full_object_checksums=False: FULL_OBJECT is asked, COMPOSITE is answered."""
    s3 = client_of(make_server(profile=ServerProfile(full_object_checksums=False)))
    answer = s3.create_multipart_upload(Bucket="plain", Key="m", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    assert answer["ChecksumType"] == "COMPOSITE"
