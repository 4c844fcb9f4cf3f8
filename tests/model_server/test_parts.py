"""Objects that are put there without a request, and their parts by number."""

import base64
import hashlib
from typing import Any, get_args

import pytest
from botocore.exceptions import ClientError

from tests.model_server import ModelProcess, ModelServer, Seed, raw
from tests.model_server.checksums import ALGORITHMS, TABLES, TableCrc, composite, digest_of, encode_digest
from tests.model_server.conftest import client_of
from tests.model_server.seeds import KINDS, Kind

DATA = bytes(range(256)) * 20
OBJECT = {"Bucket": "plain", "Key": "k"}
UNEVEN = (1100, 1500, 1100, 1420)


def _parts() -> list[bytes]:
    ends = [sum(UNEVEN[: at + 1]) for at in range(len(UNEVEN))]
    return [DATA[end - size : end] for end, size in zip(ends, UNEVEN, strict=True)]


def _seed(**wishes: Any) -> Seed:
    return Seed("plain", "k", DATA, **{"parts": UNEVEN, **wishes})


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 255, 256, 1023, 5001])
def test_fast_crcs_are_those_of_the_table(name: str, length: int) -> None:
    """What judges others is judged by the textbook, at lengths where a fast method changes."""
    table, data = TableCrc(*TABLES[name]), DATA[:length]
    table.update(data)
    assert digest_of(ALGORITHMS[name], [data]) == table.digest()


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_seed_is_what_its_kind_says(server: ModelServer, s3: Any, kind: Kind) -> None:
    """HEAD shows the size, the checksum and the ETag; GET the bytes."""
    view = server.seed(Seed.of_kind(kind, "plain", "k", DATA, part_size=1500))
    shown, wish = s3.head_object(**OBJECT, ChecksumMode="ENABLED"), KINDS[kind]
    assert shown["ContentLength"] == len(DATA)
    assert s3.get_object(**OBJECT)["Body"].read() == DATA == view.read()
    assert shown.get("ChecksumType") == (wish.checksum_type if wish.checksum else None)
    assert [name for name in ALGORITHMS if f"Checksum{name}" in shown] == ([wish.checksum] if wish.checksum else [])
    is_md5 = shown["ETag"].strip('"') == hashlib.md5(DATA).hexdigest()
    assert is_md5 is (kind == "md5")


def test_a_seed_has_the_etag_and_checksums_of_a_real_upload(server: ModelServer, s3: Any) -> None:
    """The same parts sent by a client give the same object."""
    upload_id = s3.create_multipart_upload(**OBJECT, ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")["UploadId"]
    sent = []
    for number, part in enumerate(_parts(), 1):
        answer = s3.upload_part(**OBJECT, UploadId=upload_id, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32")
        sent.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    s3.complete_multipart_upload(**OBJECT, UploadId=upload_id, MultipartUpload={"Parts": sent})
    real = server.versions("plain", "k")[0]
    seeded = server.seed(_seed(checksum="CRC32", checksum_type="COMPOSITE"))
    assert (seeded.etag, seeded.checksum, seeded.checksum_type) == (real.etag, real.checksum, real.checksum_type)
    for number in range(1, 5):
        part = s3.head_object(**OBJECT, PartNumber=number, ChecksumMode="ENABLED")
        assert part["ChecksumCRC32"] == sent[number - 1]["ChecksumCRC32"]


def test_a_seed_is_a_version_with_properties(server: ModelServer, s3: Any) -> None:
    """Each one is newer than the last; metadata, storage class and a chosen ETag are shown."""
    server.seed(Seed("kept", "k", b"old"))
    new = server.seed(Seed("kept", "k", b"new", etag="chosen", metadata={"a": "b"}, storage_class="GLACIER"))
    assert [view.read() for view in server.versions("kept", "k")] == [b"new", b"old"]
    shown = s3.head_object(Bucket="kept", Key="k")
    assert (shown["VersionId"], shown["ETag"], shown["Metadata"]) == (new.version_id, '"chosen"', {"a": "b"})
    assert shown["StorageClass"] == "GLACIER"


@pytest.mark.parametrize(
    "wishes",
    [
        {"parts": (1, 2)},
        {"checksum": "MD2"},
        {"checksum": "CRC64NVME", "checksum_type": "COMPOSITE"},
        {"checksum": "SHA256"},
        {"parts": (), "checksum": "CRC32", "checksum_type": "COMPOSITE"},
    ],
)
def test_impossible_seeds_are_refused(wishes: dict[str, Any]) -> None:
    """ValueError for what S3 could not hold."""
    with pytest.raises(ValueError, match=r"parts have|no such|of such an object"):
        _seed(**wishes)


def test_a_seed_reaches_another_process() -> None:
    """Through the control API, bytes of every value."""
    with ModelProcess() as process:
        process.create_bucket("plain")
        view = process.seed(_seed(checksum="CRC64NVME"))
        assert view.read() == DATA
        part = client_of(process).head_object(**OBJECT, PartNumber=2)
    assert (view.checksum_type, part["ContentLength"], part["PartsCount"]) == ("FULL_OBJECT", 1500, 4)


def test_a_part_is_a_range_with_a_count(server: ModelServer, s3: Any) -> None:
    """HEAD and GET: 206, the part's Content-Range and bytes, the object's ETag, the number of parts."""
    view = server.seed(_seed())
    start = 0
    for number, part in enumerate(_parts(), 1):
        head, got = (call(**OBJECT, PartNumber=number) for call in (s3.head_object, s3.get_object))
        for answer in (head, got):
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert answer["ContentRange"] == f"bytes {start}-{start + len(part) - 1}/{len(DATA)}"
            assert (answer["ContentLength"], answer["PartsCount"]) == (len(part), 4)
            assert answer["ETag"] == f'"{view.etag}"'
        assert got["Body"].read() == part
        start += len(part)
    assert "PartsCount" not in s3.head_object(**OBJECT)


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_parts_of_a_composite_have_their_own_checksum(server: ModelServer, s3: Any, name: str) -> None:
    """And the object's is made of these."""
    view = server.seed(_seed(checksum=name, checksum_type="COMPOSITE"))
    shown = [
        s3.head_object(**OBJECT, PartNumber=number, ChecksumMode="ENABLED")[f"Checksum{name}"] for number in range(1, 5)
    ]
    assert shown == [encode_digest(digest_of(ALGORITHMS[name], [part])) for part in _parts()]
    assert view.checksum == composite(ALGORITHMS[name], [base64.b64decode(value) for value in shown])


def test_parts_under_one_checksum_show_none(server: ModelServer, s3: Any) -> None:
    """Of a FULL_OBJECT checksum only a part that is the whole object has one."""
    server.seed(_seed(checksum="CRC64NVME"))
    assert "ChecksumCRC64NVME" not in s3.head_object(**OBJECT, PartNumber=1, ChecksumMode="ENABLED")
    view = server.seed(_seed(checksum="CRC64NVME", parts=(len(DATA),)))
    assert s3.head_object(**OBJECT, PartNumber=1, ChecksumMode="ENABLED")["ChecksumCRC64NVME"] == view.checksum


def test_numbers_are_those_of_the_upload(s3: Any) -> None:
    """Gaps stay: a number that was never sent is 416, though there are more parts than that."""
    upload_id = s3.create_multipart_upload(**OBJECT)["UploadId"]
    sent = []
    for number, part in ((2, DATA[:1024]), (40, b"end")):
        answer = s3.upload_part(**OBJECT, UploadId=upload_id, PartNumber=number, Body=part)
        sent.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(**OBJECT, UploadId=upload_id, MultipartUpload={"Parts": sent})
    assert s3.head_object(**OBJECT, PartNumber=40)["ContentLength"] == 3
    with pytest.raises(ClientError, match="416"):
        s3.head_object(**OBJECT, PartNumber=1)
    with pytest.raises(ClientError, match="InvalidPartNumber"):
        s3.get_object(**OBJECT, PartNumber=3)


def test_an_object_without_parts_is_its_own_first_one(server: ModelServer, s3: Any) -> None:
    """Without a count; an empty one without a range; there is no second one."""
    server.seed(_seed(parts=(), checksum="CRC32"))
    shown = s3.head_object(**OBJECT, PartNumber=1, ChecksumMode="ENABLED")
    assert shown["ContentRange"] == f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    assert "PartsCount" not in shown
    assert "ChecksumCRC32" in shown
    with pytest.raises(ClientError, match="416"):
        s3.head_object(**OBJECT, PartNumber=2)
    server.seed(Seed("plain", "k", b""))
    assert s3.get_object(**OBJECT, PartNumber=1)["Body"].read() == b""


@pytest.mark.parametrize(("number", "code"), [("0", 400), ("10001", 400), ("x", 400), ("5", 416)])
def test_wrong_numbers_are_refused(server: ModelServer, number: str, code: int) -> None:
    """Outside 1 to 10,000, no number, or none of the object's."""
    server.seed(_seed())
    assert raw.send(server, "GET", f"/plain/k?partNumber={number}", {})[0] == code


def test_a_part_and_a_range_exclude_each_other(server: ModelServer) -> None:
    """InvalidRequest."""
    server.seed(_seed())
    status, _, text = raw.send(server, "GET", "/plain/k?partNumber=1", {"Range": "bytes=0-1"})
    assert (status, b"InvalidRequest" in text) == (400, True)
