"""How an object's parts lie, and the checksums that are made of them."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine import layout
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConnectionLost,
    InvalidRequest,
    NotFound,
    Paused,
    StoreError,
    TargetError,
    Unsupported,
)
from orbit_airflow.engine.layout import composite_of, digest_of, exact_parts, md5_etag_of, part_sizes
from orbit_airflow.engine.model import MIB, ObjectPart, ObjectRef
from tests.model_server import ModelServer, Seed
from tests.model_server import checksums as judge

REF = ObjectRef("bucket", "key")
SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=12)


class Store:
    """An object of these parts; ``asked`` are the numbers."""

    def __init__(self, sizes: Iterable[int], *, etag: str = "etag", refusal: type[StoreError] = InvalidRequest) -> None:
        self.sizes = tuple(sizes)
        self.etag = etag
        self.refusal = refusal
        self.asked: list[int] = []

    def head_part(self, ref: ObjectRef, number: int) -> ObjectPart | None:
        """As S3."""
        assert ref == REF
        self.asked.append(number)
        if number > len(self.sizes):
            raise self.refusal("no such part")
        return ObjectPart(number, len(self.sizes), self.sizes[number - 1], None, self.etag)


def _reader(data: bytes, at_most: int = MIB) -> Callable[[memoryview, int], int]:
    """A file with these bytes, which gives at most so many at a time."""

    def read_into(view: memoryview, offset: int) -> int:
        piece = data[offset : offset + min(len(view), at_most)]
        view[: len(piece)] = piece
        return len(piece)

    return read_into


def _cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    edges = [0, *itertools.accumulate(sizes)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def _data(size: int) -> bytes:
    return hashlib.shake_128(b"layout").digest(size)


@pytest.mark.parametrize(
    "sizes", [(5,), (0,), (5, 5), (5, 5, 1), (5, 1), (5,) * 9 + (4,), (1,) * 10_000, (5 * 1024**3, 1)]
)
def test_parts_alike_are_known_from_the_first(sizes: tuple[int, ...]) -> None:
    """One request, whatever their number."""
    store = Store(sizes)
    assert part_sizes(store.head_part, REF, sum(sizes)) == sizes
    assert store.asked == [1]


@pytest.mark.parametrize("sizes", [(5, 6), (6, 2, 2, 6), (1, 5, 5), (5, 1, 1), (5, 0), (0, 5), (1,) * 10_001])
def test_parts_that_cannot_be_alike_are_not_guessed(sizes: tuple[int, ...]) -> None:
    """Their number tells."""
    assert part_sizes(Store(sizes).head_part, REF, sum(sizes)) is None


def test_a_guess_may_be_wrong() -> None:
    """Uneven parts whose number fits: the sum is right all the same, and the exact ones tell."""
    store = Store((5, 4, 5, 4))
    assert part_sizes(store.head_part, REF, 18) == (5, 5, 5, 3)
    parts = exact_parts(store.head_part, REF, 18)
    assert parts is not None
    assert tuple(part.size for part in parts) == (5, 4, 5, 4)


@given(SIZES)
def test_exact_parts_are_asked_one_by_one(sizes: list[int]) -> None:
    """One request for each part, in order."""
    store = Store(sizes)
    parts = exact_parts(store.head_part, REF, sum(sizes))
    assert parts is not None
    assert [part.size for part in parts] == sizes
    assert store.asked == list(range(1, len(sizes) + 1))


def test_some_parts_are_asked_at_a_time() -> None:
    """``run`` is a pool's map here; then one whose answers come in another order."""
    sizes = tuple(range(1, 40))
    with ThreadPoolExecutor(4) as pool:
        pooled = exact_parts(Store(sizes).head_part, REF, sum(sizes), run=pool.map)
    backwards = exact_parts(
        Store(sizes).head_part,
        REF,
        sum(sizes),
        run=lambda ask, numbers: [ask(number) for number in list(numbers)[::-1]],
    )
    assert pooled == backwards
    assert pooled is not None
    assert tuple(part.size for part in pooled) == sizes


@pytest.mark.parametrize("size", [17, 19])
def test_parts_of_another_size_are_another_object_s(size: int) -> None:
    """Fewer or more bytes than the object has: the sum tells, and of an only part the guess."""
    for sizes in ((18,), (9, 9), (9, 1, 8)):
        assert exact_parts(Store(sizes).head_part, REF, size) is None
    assert part_sizes(Store((18,)).head_part, REF, size) is None
    assert part_sizes(Store((9, 9)).head_part, REF, 19) is None


@pytest.mark.parametrize("find", [part_sizes, exact_parts])
def test_parts_of_another_etag_are_another_object_s(find: Callable[..., object]) -> None:
    """The object was replaced since it was looked at."""
    assert find(Store((5, 5)).head_part, REF, 10, etag="etag") is not None
    assert find(Store((5, 5), etag="new").head_part, REF, 10, etag="etag") is None


def test_an_object_that_changes_between_the_parts_has_none() -> None:
    """Another count in a later answer."""
    stores = iter((Store((5, 5, 5)), Store((5, 5)), Store((5, 5, 5))))
    assert exact_parts(lambda ref, number: next(stores).head_part(ref, number), REF, 15) is None


def test_a_store_that_ignores_the_number_is_found_out_early() -> None:
    """It gives the whole object's length each time: two requests, not ten thousand."""
    asked: list[int] = []

    def head_part(_: ObjectRef, number: int) -> ObjectPart:
        asked.append(number)
        return ObjectPart(number, 10_000, 50_000, None, "etag")

    assert part_sizes(head_part, REF, 50_000) is None
    assert exact_parts(head_part, REF, 50_000) is None
    assert asked == [1, 1, 2]


@pytest.mark.parametrize("find", [part_sizes, exact_parts])
def test_a_store_that_does_not_say_is_no_error(find: Callable[..., object]) -> None:
    """None from the verb, and refusals of the parameter."""
    assert find(lambda *_: None, REF, 5) is None
    for refusal in (InvalidRequest, Unsupported):
        assert find(Store((), refusal=refusal).head_part, REF, 5) is None


@pytest.mark.parametrize("failure", [ConnectionLost, AccessDenied, NotFound])
@pytest.mark.parametrize("find", [part_sizes, exact_parts])
def test_failures_are_the_caller_s(find: Callable[..., object], failure: type[StoreError]) -> None:
    """A line that broke says nothing of the parts."""
    with pytest.raises(failure):
        find(Store((), refusal=failure).head_part, REF, 5)


@given(st.sampled_from(["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]), SIZES, st.integers(1, 500))
def test_a_composite_is_that_of_the_parts(name: str, sizes: list[int], at_most: int) -> None:
    """For uneven parts, and a reader that gives less than it is asked for."""
    data, algorithm = _data(sum(sizes)), judge.algorithm_named(name)
    expected = judge.composite(algorithm, [judge.digest_of(algorithm, [part]) for part in _cut(data, sizes)])
    assert composite_of(name, _reader(data, at_most), sizes) == expected


@given(SIZES, st.integers(1, 500))
def test_a_multipart_etag_is_the_md5_of_md5s(sizes: list[int], at_most: int) -> None:
    """In hex digits, with the number of parts."""
    data = _data(sum(sizes))
    joined = b"".join(hashlib.md5(part).digest() for part in _cut(data, sizes))
    assert md5_etag_of(_reader(data, at_most), sizes) == f"{hashlib.md5(joined).hexdigest()}-{len(sizes)}"


@pytest.mark.parametrize("name", ["MD5", "SHA512", "CRC64NVME"])
@pytest.mark.parametrize("size", [0, 1, MIB, 2 * MIB + 5])
def test_a_digest_over_the_full_object(name: str, size: int) -> None:
    """Block by block; nothing behind ``size`` is read."""
    data = _data(size)
    expected = (
        judge.digest_of(judge.algorithm_named(name), [data])
        if name in judge.ALGORITHMS
        else hashlib.new(name, data).digest()
    )
    assert digest_of(name, _reader(data + b"tail"), size) == expected


def test_parts_without_bytes_have_a_digest() -> None:
    """The only part of an empty object, and an empty last one."""
    empty, algorithm = judge.digest_of(judge.ALGORITHMS["SHA256"], []), judge.ALGORITHMS["SHA256"]
    assert composite_of("SHA256", _reader(b""), (0,)) == judge.composite(algorithm, [empty])
    full = judge.digest_of(algorithm, [b"abc"])
    assert composite_of("SHA256", _reader(b"abc"), (3, 0)) == judge.composite(algorithm, [full, empty])


def test_unknown_algorithms_prove_nothing() -> None:
    """None, and no byte is read."""
    read = _reader(b"")
    assert composite_of("XXHASH3", read, (5,)) is None
    assert digest_of("XXHASH128", read, 5) is None


def test_a_file_that_is_too_short_is_an_error() -> None:
    """Never a checksum of fewer bytes."""
    with pytest.raises(TargetError, match="ends at 9 bytes and its parts at 10"):
        composite_of("CRC32", _reader(_data(9)), (5, 5))


def test_a_stop_order_comes_between_two_blocks() -> None:
    """Before each of them, through one buffer of a mebibyte."""
    views: list[int] = []
    read = _reader(_data(5 * MIB))

    def read_into(view: memoryview, offset: int) -> int:
        views.append(len(view))
        return read(view, offset)

    def check() -> None:
        if len(views) == 3:
            raise Paused("stop")

    with pytest.raises(Paused):
        md5_etag_of(read_into, (5 * MIB // 2, 5 * MIB // 2), check=check)
    assert views == [MIB, MIB, MIB // 2]
    assert layout._BLOCK == MIB


@pytest.mark.parametrize("sizes", [(1500, 1500, 500), (1500, 1100, 900)])
def test_a_store_s_own_words_are_reproduced(sizes: tuple[int, ...]) -> None:
    """The composite and the ETag that the model server shows, from its bytes and its answers about the parts."""
    data = _data(sum(sizes))
    with ModelServer() as server:
        server.create_bucket("bucket")
        view = server.seed(Seed("bucket", "key", data, sizes, checksum="CRC32C", checksum_type="COMPOSITE"))
    assert composite_of("CRC32C", _reader(data), sizes) == view.checksum
    assert md5_etag_of(_reader(data), sizes) == view.etag
    assert base64.b64decode(view.checksum.partition("-")[0])
