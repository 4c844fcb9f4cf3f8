"""CRC32: known values, and the arithmetic that joins parts."""

from __future__ import annotations

import base64
import zlib

from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine import checksums


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_combine_is_the_crc_of_the_concatenation(first: bytes, second: bytes) -> None:
    """CRC(A+B) follows from CRC(A), CRC(B) and the length of B."""
    joined = checksums.combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert joined == zlib.crc32(first + second)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_all_parts_join_to_the_whole(parts: list[bytes]) -> None:
    """Also for no part at all, and for empty parts."""
    joined = checksums.combine_all((zlib.crc32(part), len(part)) for part in parts)
    assert joined == zlib.crc32(b"".join(parts))


def test_combining_reaches_five_gibibytes() -> None:
    """The shift by a part of 5 GiB equals five shifts by 1 GiB: no overflow, no special case."""
    once = checksums.combine(0x12345678, 0, 5 * 1024**3)
    stepwise = 0x12345678
    for _ in range(5):
        stepwise = checksums.combine(stepwise, 0, 1024**3)
    assert once == stepwise


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_a_running_crc_is_the_crc(data: bytes, cut: int) -> None:
    """Block by block, over any buffer."""
    started = checksums.crc32(memoryview(data)[:cut])
    assert checksums.crc32(bytearray(data[cut:]), started) == zlib.crc32(data)


def test_known_values() -> None:
    """The check value of CRC-32/ISO-HDLC, and how S3 writes it."""
    assert checksums.crc32(b"123456789") == 0xCBF43926
    assert checksums.to_base64(0xCBF43926) == "y/Q5Jg=="
    assert checksums.to_base64(0) == "AAAAAA=="
    assert checksums.to_base64(zlib.crc32(b"hello world")) == "DUoRhQ=="


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_a_composite_is_the_crc_of_the_crcs(crcs: list[int]) -> None:
    """With the number of parts behind it, as S3 writes it."""
    value, _, count = checksums.composite(crcs).partition("-")
    raw = b"".join(crc.to_bytes(4, "big") for crc in crcs)
    assert int(count) == len(crcs)
    assert base64.b64decode(value) == zlib.crc32(raw).to_bytes(4, "big")
