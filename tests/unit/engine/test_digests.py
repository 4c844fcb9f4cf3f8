"""The checksum algorithms of S3: known values, and native results against a table's."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine import digests
from orbit_airflow.engine.checksums import Buffer
from orbit_airflow.engine.digests import CRC32, CrcAlgorithm, crc_algorithm, digest_algorithm, encoded, hash_algorithm
from tests.model_server import checksums as judge

CHECK_VALUES = {"CRC32": 0xCBF43926, "CRC32C": 0xE3069283, "CRC64NVME": 0xAE8B14860A799888}


def _crc(name: str) -> CrcAlgorithm:
    found = crc_algorithm(name)
    assert found is not None, f"{name} has no native implementation here"
    return found


CRCS = [_crc(name) for name in CHECK_VALUES]
NAMED = [pytest.param(crc, id=crc.name) for crc in CRCS]


def _slow(crc: CrcAlgorithm, data: bytes) -> int:
    """By the model server's tables, which share nothing with the native code."""
    table = judge.TableCrc(*judge.TABLES[crc.name])
    table.update(data)
    return int.from_bytes(table.digest(), "big")


@pytest.mark.parametrize("crc", NAMED)
def test_check_values(crc: CrcAlgorithm) -> None:
    """The values that every catalogue of CRCs gives for the nine digits; and nothing has the CRC 0."""
    assert crc.update(b"123456789", 0) == CHECK_VALUES[crc.name]
    assert crc.update(b"", 0) == 0
    assert crc.size == (8 if crc.name == "CRC64NVME" else 4)


@pytest.mark.parametrize("length", [1, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 1023, 4096, 70_001])
@pytest.mark.parametrize("crc", NAMED)
def test_native_results_are_those_of_the_table(crc: CrcAlgorithm, length: int) -> None:
    """At every length where a native implementation changes its method."""
    data = hashlib.shake_128(b"orbit").digest(length)
    assert crc.update(data, 0) == _slow(crc, data)


@given(st.sampled_from(CRCS), st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=8))
def test_any_split_joins_to_the_whole(crc: CrcAlgorithm, data: bytes, cuts: list[int]) -> None:
    """Continued block by block, and combined from the parts' own CRCs; empty parts, too."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[start:end] for start, end in pairwise(edges)]
    running = 0
    for part in parts:
        running = crc.update(part, running)
    assert running == crc.update(data, 0) == crc.combine_all((crc.update(part, 0), len(part)) for part in parts)


@given(st.sampled_from(CRCS), st.data())
def test_combining_is_associative(crc: CrcAlgorithm, data: st.DataObject) -> None:
    """Whoever joins first: parts of parts give the whole, up to lengths far beyond an object's."""
    value, length = st.integers(0, 2 ** (8 * crc.size) - 1), st.integers(0, 2**50)
    first, second, third = (data.draw(value) for _ in range(3))
    middle, last = data.draw(length), data.draw(length)
    left = crc.combine(crc.combine(first, second, middle), third, last)
    right = crc.combine(first, crc.combine(second, third, last), middle + last)
    assert left == right


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(b"x" + data))[1:]])
@pytest.mark.parametrize("crc", NAMED)
def test_any_buffer_is_taken(crc: CrcAlgorithm, buffer: Callable[[bytes], Buffer]) -> None:
    """Also a writable view at an odd address: a reused receive buffer needs no copy."""
    data = bytes(range(251)) * 40
    assert crc.update(buffer(data), 0) == _slow(crc, data)


@pytest.mark.parametrize("crc", NAMED)
def test_base64_is_as_s3_writes_it(crc: CrcAlgorithm) -> None:
    """Big-endian, with leading zeros, and back."""
    highest = 2 ** (8 * crc.size) - 1
    assert crc.to_base64(0) == base64.b64encode(bytes(crc.size)).decode()
    assert crc.to_base64(highest) == base64.b64encode(b"\xff" * crc.size).decode()
    for value in (0, 1, CHECK_VALUES[crc.name], highest):
        assert crc.from_base64(crc.to_base64(value)) == value


@pytest.mark.parametrize("text", ["", "AAAA", "AAAAAB==", "AAAAAA==-2", "AAAAAA", "AA AAAA==", "é", "AAAAAAAAAAAAAAAA"])
@pytest.mark.parametrize("crc", NAMED)
def test_what_is_no_value_is_refused(crc: CrcAlgorithm, text: str) -> None:
    """A composite value, another algorithm's length, stray bits: none is taken for a CRC over the object."""
    with pytest.raises(ValueError):
        crc.from_base64(text)


def test_a_known_value_of_each_width() -> None:
    """AWS's own example of the digits, in each width."""
    assert CRC32.to_base64(CHECK_VALUES["CRC32"]) == "y/Q5Jg=="
    assert _crc("CRC32C").to_base64(CHECK_VALUES["CRC32C"]) == "4waSgw=="
    assert _crc("CRC64NVME").to_base64(CHECK_VALUES["CRC64NVME"]) == "rosUhgp5mIg="


@pytest.mark.parametrize("crc", NAMED)
def test_a_composite_is_the_crc_of_the_crcs(crc: CrcAlgorithm) -> None:
    """With the number of parts behind it; made by hand here."""
    values = [crc.update(part, 0) for part in (b"first part", b"second", b"")]
    raw = b"".join(value.to_bytes(crc.size, "big") for value in values)
    assert crc.composite(values) == base64.b64encode(_slow(crc, raw).to_bytes(crc.size, "big")).decode() + "-3"


@pytest.mark.parametrize("name", ["SHA1", "SHA256", "SHA512", "MD5"])
def test_hashes_by_the_names_of_s3(name: str) -> None:
    """They hash; and no CRC goes by their names."""
    made = hash_algorithm(name)
    assert made is not None
    hasher = made()
    hasher.update(b"abc")
    assert hasher.digest() == hashlib.new(name.lower(), b"abc").digest()
    assert crc_algorithm(name) is None


@pytest.mark.parametrize("name", judge.ALGORITHMS)
def test_every_algorithm_has_the_face_of_a_hash(name: str) -> None:
    """Block by block; the digest is what S3 encodes."""
    made = digest_algorithm(name)
    assert made is not None
    hasher = made()
    for block in (b"1234", memoryview(b"567"), bytearray(b"89")):
        hasher.update(block)
    expected = judge.digest_of(judge.algorithm_named(name), [b"123456789"])
    assert (hasher.digest(), hasher.hexdigest()) == (expected, expected.hex())
    assert encoded(hasher.digest()) == judge.encode_digest(expected)


@pytest.mark.parametrize("name", ["XXHASH64", "XXHASH3", "XXHASH128", "crc32", "", "CRC16"])
def test_what_is_not_fast_here_is_not_there(name: str) -> None:
    """None, and never a slow substitute."""
    assert crc_algorithm(name) is None
    assert hash_algorithm(name) is None
    assert digest_algorithm(name) is None


@pytest.mark.parametrize("name", ["CRC32C", "CRC64NVME"])
def test_without_the_library_there_is_no_algorithm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof gets weaker; nothing fails."""
    monkeypatch.setitem(sys.modules, "anycrc", None)
    digests._native.cache_clear()
    try:
        assert crc_algorithm(name) is None
    finally:
        digests._native.cache_clear()


def test_a_library_that_is_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are not called bad because the judge is."""
    import anycrc

    monkeypatch.setattr(anycrc, "Model", lambda _name: anycrc.CRC(32, 0x04C11DB7, 2**32 - 1, True, True, 2**32 - 1))
    digests._native.cache_clear()
    try:
        assert crc_algorithm("CRC32C") is None
    finally:
        digests._native.cache_clear()
