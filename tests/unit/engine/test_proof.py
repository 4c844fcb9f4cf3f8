"""What an answer proves: a table of answers and verdicts."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from orbit_airflow.engine.checksums import composite, to_base64
from orbit_airflow.engine.errors import IntegrityError
from orbit_airflow.engine.model import Checksum, ChecksumType, Integrity, ListedPart, ObjectInfo, ObjectRef, PartReceipt
from orbit_airflow.engine.proof import LocalProof, is_ours, part_is_local, proved, same_bytes, wants_md5
from tests.unit.engine.bench import data_of

DATA = data_of(5000)
CHUNKS = [DATA[:2000], DATA[2000:4000], DATA[4000:]]
MD5S = [hashlib.md5(chunk).digest() for chunk in CHUNKS]
ETAG = f"{hashlib.md5(b''.join(MD5S)).hexdigest()}-3"
OTHER = "f" * 32 + "-3"
WHOLE = Checksum("CRC32", to_base64(zlib.crc32(DATA)))
PARTS = Checksum("CRC32", composite(zlib.crc32(chunk) for chunk in CHUNKS), ChecksumType.COMPOSITE)
REF = ObjectRef("bucket", "key")


def _local(*, md5: bool, etags: bool = True) -> LocalProof:
    receipts = [
        PartReceipt(number, len(chunk), digest.hex() if etags else "opaque", zlib.crc32(chunk), digest if md5 else None)
        for number, (chunk, digest) in enumerate(zip(CHUNKS, MD5S, strict=True), 1)
    ]
    return LocalProof.of_parts(receipts)


def test_the_local_side_follows_from_the_receipts() -> None:
    """CRC of the whole, composite, and the ETag that S3 would make."""
    local = _local(md5=True)
    assert (local.size, local.crc32, local.composite) == (5000, zlib.crc32(DATA), PARTS.value)
    assert (local.md5_etag, local.md5_binding) == (ETAG, True)
    assert local.checksum == WHOLE


def test_without_md5_there_is_no_expected_etag() -> None:
    """And no ETag can contradict."""
    local = _local(md5=False)
    assert (local.md5_etag, local.md5_binding) == (None, False)


@pytest.mark.parametrize(
    ("local", "etag", "checksum", "verdict"),
    [
        (_local(md5=False), OTHER, WHOLE, Integrity.FULL_CRC),
        (_local(md5=True), OTHER, WHOLE, Integrity.FULL_CRC),
        (_local(md5=False), OTHER, PARTS, Integrity.PART_CRC),
        (_local(md5=True), ETAG, None, Integrity.MD5),
        (_local(md5=True), ETAG, Checksum("CRC64NVME", "x"), Integrity.MD5),
        (_local(md5=False), ETAG, None, Integrity.SIZE_ETAG),
        (_local(md5=True, etags=False), OTHER, None, Integrity.SIZE_ETAG),
        (_local(md5=True), "opaque", None, Integrity.SIZE_ETAG),
        (_local(md5=True), "", None, Integrity.SIZE_ETAG),
        # A composite checksum says nothing to somebody who does not know the parts.
        (LocalProof(5000, zlib.crc32(DATA)), ETAG, PARTS, Integrity.SIZE_ETAG),
    ],
)
def test_what_an_answer_proves(local: LocalProof, etag: str, checksum: Checksum | None, verdict: Integrity) -> None:
    """The strongest thing that is known."""
    assert proved(local, etag, checksum) is verdict


@pytest.mark.parametrize(
    ("local", "etag", "checksum"),
    [
        (_local(md5=False), ETAG, Checksum("CRC32", "AAAAAA==")),
        (_local(md5=True), ETAG, Checksum("CRC32", "AAAAAA==-3", ChecksumType.COMPOSITE)),
        (_local(md5=True), OTHER, None),
    ],
)
def test_what_contradicts_is_an_integrity_error(local: LocalProof, etag: str, checksum: Checksum | None) -> None:
    """Other bytes are never a success."""
    with pytest.raises(IntegrityError):
        proved(local, etag, checksum)


@pytest.mark.parametrize(
    ("size", "mark", "ours"), [(5000, "m" * 32, True), (5000, "x", False), (5000, None, False), (4999, "m" * 32, False)]
)
def test_an_object_is_ours_by_size_and_mark(size: int, mark: str | None, ours: bool) -> None:
    """Neither alone."""
    metadata = (("orbit-upload", mark),) if mark else ()
    assert is_ours(ObjectInfo(REF, size, "e", metadata=metadata), "m" * 32, 5000) is ours


@pytest.mark.parametrize(
    ("size", "checksum", "same"),
    [
        (5000, WHOLE, True),
        (5000, None, False),
        (4999, WHOLE, False),
        (5000, PARTS, False),
        (5000, Checksum("CRC32C", WHOLE.value), False),
        (5000, Checksum("CRC32", "AAAAAA=="), False),
    ],
)
def test_same_bytes_need_a_checksum_of_all(size: int, checksum: Checksum | None, same: bool) -> None:
    """A composite depends on the parts, and a size proves nothing."""
    assert same_bytes(ObjectInfo(REF, size, ETAG, checksum=checksum), _local(md5=True)) is same


def _listed(etag: str, crc: int | None) -> ListedPart:
    return ListedPart(1, 2000, etag, None if crc is None else Checksum("CRC32", to_base64(crc)), None)


@pytest.mark.parametrize(
    ("etag", "crc", "local"),
    [
        ("opaque", zlib.crc32(CHUNKS[0]), True),
        (MD5S[0].hex(), 1, False),
        (MD5S[0].hex(), None, True),
        (MD5S[1].hex(), None, False),
        ("opaque", None, False),
    ],
)
def test_a_listed_part_is_local_by_checksum_then_md5(etag: str, crc: int | None, local: bool) -> None:
    """A checksum that differs is not outvoted by an ETag that fits."""
    assert part_is_local(_listed(etag, crc), zlib.crc32(CHUNKS[0]), MD5S[0]) is local


@pytest.mark.parametrize(
    ("etag", "crc", "wanted"),
    [
        ("a" * 32, None, True),
        ("a" * 32, 5, False),
        ("A" * 32, None, False),
        ("a" * 31, None, False),
        ("x", None, False),
    ],
)
def test_md5_is_computed_only_when_it_can_help(etag: str, crc: int | None, wanted: bool) -> None:
    """It costs a third of the disk's speed."""
    assert wants_md5(_listed(etag, crc)) is wanted
