"""How the parts of an object lie, and what its bytes must show then: COMPOSITE checksums, and the MD5 ETags of parts.

Both are made of the parts' digests, so they can be compared with local bytes only by one who knows the parts' sizes.
S3 says them to a HEAD by part number. Nearly every client makes all parts alike but the last: one request is a guess
that the bytes then confirm. A guess that they do not confirm proves nothing against them; only the exact sizes do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from orbit_airflow.engine.digests import Hash, digest_algorithm, encoded
from orbit_airflow.engine.errors import InvalidRequest, TargetError
from orbit_airflow.engine.model import MIB, ObjectPart, ObjectRef

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html; no answer makes us ask more often.
MAX_PARTS = 10_000
_BLOCK = MIB

HeadPart = Callable[[ObjectRef, int], ObjectPart | None]
Asked = Callable[[int], ObjectPart | None]
Run = Callable[[Asked, Iterable[int]], Iterable[ObjectPart | None]]
ReadInto = Callable[[memoryview, int], int]


def part_sizes(head_part: HeadPart, ref: ObjectRef, size: int, *, etag: str | None = None) -> tuple[int, ...] | None:
    """The sizes of the object's parts as a guess from the first one, in order. One request.

    None when the store does not say, when so many parts of ``size`` bytes together cannot be all alike but the last,
    and when the part is of an object with another ETag than ``etag`` (when given).
    """
    first = _asked(head_part, ref, 1, etag)
    if first is None or (first.count == 1 and first.size != size):
        return None
    if first.count == 1:
        return (size,)
    if not first.size or first.count != -(-size // first.size):
        return None
    alike = first.count - 1
    return (*(first.size,) * alike, size - alike * first.size)


def exact_parts(
    head_part: HeadPart, ref: ObjectRef, size: int, *, etag: str | None = None, run: Run = map
) -> tuple[ObjectPart, ...] | None:
    """All parts of the object, in order, by one request for each; with their checksums where the store keeps those.

    ``run`` makes the requests: like ``map``, and it may make some of them at a time and answer in any order; when the
    answers cannot be right it is left in the middle. None when the store does not say, when they are not those of an
    object of ``size`` bytes and (when given) ``etag``, and for an object whose part numbers have gaps.
    """
    first = _asked(head_part, ref, 1, etag)
    if first is None:
        return None
    found, total = [first], first.size
    for part in run(lambda number: _asked(head_part, ref, number, etag), range(2, first.count + 1)):
        if part is None or part.count != first.count or total + part.size > size:
            return None
        found.append(part)
        total += part.size
    return tuple(sorted(found, key=lambda part: part.number)) if total == size else None


def _asked(head_part: HeadPart, ref: ObjectRef, number: int, etag: str | None) -> ObjectPart | None:
    try:
        part = head_part(ref, number)
    except InvalidRequest:
        # A store that does not know the parameter, or a number that was never uploaded.
        return None
    return part if part is not None and etag in (None, part.etag) and part.count <= MAX_PARTS else None


def _go_on() -> None:
    """Nobody asks to stop."""


def composite_of(
    name: str, read_into: ReadInto, sizes: Sequence[int], *, check: Callable[[], object] = _go_on
) -> str | None:
    """What S3's COMPOSITE checksum of algorithm ``name`` is for these bytes in parts of these sizes, with its ``-N``.

    None when the algorithm has no fast implementation here. ``read_into(view, offset)`` fills the view from that
    offset of the file and says how many bytes it got; ``check`` is called before each block and may raise. TargetError
    when the file ends before the last part does.
    """
    made = digest_algorithm(name)
    if made is None:
        return None
    whole = made()
    for digest in _digests(made, read_into, sizes, check):
        whole.update(digest)
    return f"{encoded(whole.digest())}-{len(sizes)}"


def md5_etag_of(read_into: ReadInto, sizes: Sequence[int], *, check: Callable[[], object] = _go_on) -> str:
    """The ETag of a multipart object of these parts where no key management is involved: the MD5 of the parts' MD5s in
    hex digits, with ``-N``. Else as ``composite_of``.
    """
    made: Callable[[], Hash] = lambda: hashlib.md5(usedforsecurity=False)  # noqa: E731
    whole = made()
    for digest in _digests(made, read_into, sizes, check):
        whole.update(digest)
    return f"{whole.hexdigest()}-{len(sizes)}"


def digest_of(name: str, read_into: ReadInto, size: int, *, check: Callable[[], object] = _go_on) -> bytes | None:
    """The digest of the file's first ``size`` bytes: for hashes over the full object, and for the ETag of a single PUT
    (MD5, in hex digits). Else as ``composite_of``.
    """
    made = digest_algorithm(name)
    return None if made is None else next(_digests(made, read_into, (size,), check))


def _digests(
    made: Callable[[], Hash], read_into: ReadInto, sizes: Sequence[int], check: Callable[[], object]
) -> Iterator[bytes]:
    """The digest of each part, through one buffer."""
    view, offset = memoryview(bytearray(min(_BLOCK, max(sizes, default=0)))), 0
    for size in sizes:
        hasher, end = made(), offset + size
        while offset < end:
            check()
            count = read_into(view[: end - offset], offset)
            if count <= 0:
                raise TargetError(f"the file ends at {offset} bytes and its parts at {sum(sizes)}")
            hasher.update(view[:count])
            offset += count
        yield hasher.digest()
