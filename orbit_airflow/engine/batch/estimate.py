"""A batch that is not run: what it would touch, with which requests, for about how much; and a manifest for later."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError, TargetError
from orbit_airflow.engine.keys import MAX_PAGE_KEYS, KeyEntry, KeySource, PrefixKeys
from orbit_airflow.engine.model import GIB, ObjectRef
from orbit_airflow.engine.version_keys import VersionKeys

# US dollars per 1,000 requests, S3 in us-east-1, STANDARD; see ``Prices``.
_PER_THOUSAND = {
    "CopyObject": 0.005, "PutObject": 0.005, "ListObjectsV2": 0.005, "ListObjectVersions": 0.005,
    "PutObjectTagging": 0.005,
    "GetObjectTagging": 0.0004, "HeadObject": 0.0004, "GetObject": 0.0004, "DeleteObject": 0.0, "DeleteObjects": 0.0,
}  # fmt: skip
_TRANSITION = {
    "STANDARD_IA": 0.01, "ONEZONE_IA": 0.01, "INTELLIGENT_TIERING": 0.01, "GLACIER_IR": 0.02, "GLACIER": 0.03,
    "DEEP_ARCHIVE": 0.05,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars: per 1,000 requests by kind, per 1,000 copies into a class, per GiB read out of a class.

    The defaults are list prices of us-east-1. Give your own for another region, contract or store.
    """

    per_thousand: Mapping[str, float] = field(default_factory=lambda: dict(_PER_THOUSAND))
    copy_into: Mapping[str, float] = field(default_factory=lambda: dict(_TRANSITION))
    retrieval_per_gib: Mapping[str, float] = field(
        default_factory=lambda: {"STANDARD_IA": 0.01, "ONEZONE_IA": 0.01, "GLACIER_IR": 0.03}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a batch would do. ``bytes`` are of the objects whose size the source tells; of ``unsized`` ones it does not.

    ``requests``: by kind, retries not counted. ``cost``: US dollars, under ``assumptions``. ``manifest``: where the
    keys were written, for ``ManifestKeys``.
    """

    verb: str
    objects: int
    bytes: int
    unsized: int
    requests: Mapping[str, int]
    cost: float
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    manifest: str | None = None


def planned(
    call: Call, work: BatchWork, source: KeySource, *, prices: Prices, write: Callable[[KeyEntry], object]
) -> BatchPlan:
    """The plan of one reading of the source; each entry goes to ``write``."""
    objects = size = unsized = pages = 0
    shares: Counter[str] = Counter()
    out: Counter[str] = Counter()
    for page in source.pages(call):
        pages += 1
        for entry in page.entries:
            objects += 1
            size += entry.size or 0
            unsized += entry.size is None
            wanted = work.requests(entry)
            shares.update(wanted)
            if work.removes and source.stable and entry.etag and entry.version_id is None:
                # It is looked at before it goes; keys that lie far apart take more.
                shares[f"ListObjectsV2/{MAX_PAGE_KEYS}"] += 1
            if wanted["CopyObject"] and entry.storage_class:
                out[entry.storage_class] += entry.size or 0
            write(entry)
    if isinstance(source, PrefixKeys):
        shares["ListObjectsV2"] += max(1, pages)
    elif isinstance(source, VersionKeys):
        shares["ListObjectVersions"] += max(1, pages)
    requests = Counter[str]()
    for kind, count in shares.items():
        name, _, share = kind.partition("/")
        requests[name] += math.ceil(count / int(share or 1))
    return BatchPlan(
        verb=work.verb,
        objects=objects,
        bytes=size,
        unsized=unsized,
        requests={kind: count for kind, count in sorted(requests.items()) if count},
        cost=round(_cost(requests, out, _class_of(work), prices), 6),
        assumptions=_assumptions(unsized),
        warnings=work.warnings() if objects else (),
    )


def _class_of(work: BatchWork) -> str | None:
    given = getattr(work, "storage_class", None) or getattr(getattr(work, "options", None), "storage_class", None)
    return None if given is None else str(given)


def _cost(requests: Counter[str], out: Counter[str], into: str | None, prices: Prices) -> float:
    dollars = sum(count / 1000 * prices.per_thousand.get(kind, 0.0) for kind, count in requests.items())
    if into is not None and into in prices.copy_into:
        copies = requests["CopyObject"] / 1000
        dollars += copies * (prices.copy_into[into] - prices.per_thousand.get("CopyObject", 0.0))
    return dollars + sum(size / GIB * prices.retrieval_per_gib.get(name, 0.0) for name, size in out.items())


def _assumptions(unsized: int) -> tuple[str, ...]:
    said = [
        "list prices of us-east-1 unless others were given; no retries; no data between regions",
        "requests and retrieval only: neither storage, minimum durations nor the size of kept versions",
        "objects above 5 GiB count as one copy; they take one request per part",
        f"pages of {MAX_PAGE_KEYS} keys",
    ]
    if unsized:
        said.append(f"{unsized} objects count as empty: the source does not tell their size")
    return tuple(said)


class ManifestWriter:
    """JSON lines of entries, into a file that appears when all of them are there. TargetError when the disk refuses.

    ``s3://bucket/key``: the file is made in the temporary directory and given to ``upload``.
    """

    def __init__(self, place: str, upload: Callable[[str, ObjectRef], object]) -> None:
        if not place.lower().endswith((".jsonl", ".ndjson")):
            raise ConfigError(f"a plan's manifest is JSON lines; its name ends in .jsonl, got {place!r}")
        self._remote = ObjectRef.parse(place) if place[:5].lower() == "s3://" else None
        self._place = place if self._remote else os.path.abspath(place)
        self._upload = upload
        self._file: IO[str]
        try:
            directory = None if self._remote else os.path.dirname(self._place)
            fd, self._name = tempfile.mkstemp(prefix=".orbit-", suffix=".jsonl", dir=directory)
        except OSError as exc:
            raise TargetError(f"the manifest {place} cannot be written: {exc.strerror}") from exc
        self._file = os.fdopen(fd, "w", encoding="utf-8")

    def write(self, entry: KeyEntry) -> None:
        """One line."""
        told = {
            "key": entry.key, "version_id": entry.version_id, "size": entry.size, "etag": entry.etag,
            "storage_class": entry.storage_class,
        }  # fmt: skip
        self.write_line(told)

    def write_line(self, told: Mapping[str, object]) -> None:
        """One line with these names; what is None is left out."""
        self._file.write(json.dumps({name: value for name, value in told.items() if value is not None}) + "\n")

    def finish(self) -> str:
        """Make it visible; returns where."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._remote is None:
            os.replace(self._name, self._place)
        else:
            self._upload(self._name, self._remote)
        return self._place

    def close(self) -> None:
        """Remove what nobody shall see."""
        self._file.close()
        with suppress(FileNotFoundError):
            os.unlink(self._name)
