"""The proof of a downloaded file, asking the store how an object's parts lie where only that can tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from orbit_airflow.engine.download_job import DownloadJob
from orbit_airflow.engine.errors import NotFound
from orbit_airflow.engine.layout import Asked, composite_of, exact_parts, md5_etag_of, part_sizes
from orbit_airflow.engine.model import ChecksumType, Integrity, ObjectInfo, ObjectPart, ObjectRef
from orbit_airflow.engine.runner import run_all
from orbit_airflow.engine.verify import LocalBytes, differing, managed, prove_md5, prove_whole

_MULTIPART = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}")
# What the object's own value must be, for parts of these sizes; None when it cannot be computed here.
_Compute = Callable[[Sequence[int]], str | None]


def prove(job: DownloadJob, info: ObjectInfo, local: LocalBytes) -> Integrity:
    """How strongly the store's own words prove the file. IntegrityError when they are those of other bytes."""
    if not job.checksums:
        return Integrity.SIZE_ETAG
    return (
        prove_whole(info, local)
        or _by_composite(job, info, local)
        or _by_multipart_etag(job, info, local)
        or prove_md5(info, local)
        or Integrity.SIZE_ETAG
    )


def _by_composite(job: DownloadJob, info: ObjectInfo, local: LocalBytes) -> Integrity | None:
    checksum = info.checksum
    if checksum is None or checksum.type is not ChecksumType.COMPOSITE:
        return None
    name = checksum.algorithm
    compute: _Compute = lambda sizes: composite_of(name, local.read_into, sizes, check=local.check)  # noqa: E731
    found = _first_match(job, info, compute, checksum.value)
    if found is False:
        raise differing(info, f"the object's {name} over its parts is {checksum.value}", "the file's is another one")
    return Integrity.PART_CRC if found else None


def _by_multipart_etag(job: DownloadJob, info: ObjectInfo, local: LocalBytes) -> Integrity | None:
    """An ETag that differs proves nothing: many stores only write it as if it were of MD5s."""
    if managed(info) or not _MULTIPART.fullmatch(info.etag):
        return None
    compute: _Compute = lambda sizes: md5_etag_of(local.read_into, sizes, check=local.check)  # noqa: E731
    return Integrity.MD5 if _first_match(job, info, compute, info.etag) else None


def _first_match(job: DownloadJob, info: ObjectInfo, compute: _Compute, wanted: str) -> bool | None:
    """True when the parts' sizes, guessed or asked for one by one, give ``wanted``; False when the exact ones do not;
    None when that cannot be told.
    """
    ref = job.pinned(info)
    try:
        guess = part_sizes(job.call.store.head_part, ref, info.size)
        value = compute(guess) if guess is not None else None
        if guess is not None and value is None:
            return None
        if value == wanted:
            return True
        sizes = _asked_for(job, ref, info)
    except NotFound:
        # Deleted since all of it was fetched.
        return None
    if sizes is None or sizes == guess:
        return None if sizes is None else False
    return compute(sizes) == wanted


def _asked_for(job: DownloadJob, ref: ObjectRef, info: ObjectInfo) -> tuple[int, ...] | None:
    def run(asked: Asked, numbers: Iterable[int]) -> Iterable[ObjectPart | None]:
        workers = job.call.config.parallel_operations
        return run_all(numbers, lambda _, number: asked(number), workers=workers, cancel=job.call.cancel)

    parts = exact_parts(job.call.store.head_part, ref, info.size, run=run)
    return None if parts is None else tuple(part.size for part in parts)
