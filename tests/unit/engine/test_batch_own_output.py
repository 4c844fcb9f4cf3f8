"""A copy of a prefix to below itself, which would go on with its own output, is refused before a request is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, KeyPrefix, PrefixKeys, Selection
from orbit_airflow.engine.batch import ChangeStorageClass, Copy
from orbit_airflow.engine.batch.streaming import StreamedCopy
from orbit_airflow.engine.errors import AccessDenied, ConfigError
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.version_keys import VersionKeys
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.batches import BUCKET, engine_on, fill

SMALL = BatchConfig(retry_delay=0.0, max_concurrent=1, page_keys=2)
DATA = ["data/a", "data/b", "data/c"]


def _prefix(prefix: str = "data/", **select: Any) -> PrefixKeys:
    return PrefixKeys(where=KeyPrefix(BUCKET, prefix), select=Selection(**select), whole_bucket=not prefix)


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize(
    ("source", "dest", "strip"),
    [
        (_prefix(), "data/z-", ""),
        (_prefix(), "data/arch/", ""),
        (_prefix(), "data/arch/", "data/"),
        (_prefix(), "data/arch/", "data/2024/"),
        (_prefix(""), "copies/", ""),
        (_prefix(glob="data/**"), "data/arch/", "data/"),
        (_prefix(glob="data/*"), "data/z-", "data/"),
        (_prefix(exclude="data/arch/*"), "data/arch/", "data/"),
        (_prefix(exclude="data/other/**"), "data/arch/", "data/"),
        (VersionKeys(where=KeyPrefix(BUCKET, "data/")), "data/arch/", ""),
    ],
)
def test_a_copy_below_its_own_prefix_is_refused(source: Any, dest: str, strip: str, planned: bool) -> None:
    """By a run and by a plan, with a word about where the copies would be."""
    memory = MemoryStore()
    fill(memory, DATA)
    work = Copy(bucket=BUCKET, dest_prefix=dest, strip_prefix=strip)
    batch = engine_on(memory).batch
    with pytest.raises(ConfigError, match="below the prefix"):
        batch.plan(work, source) if planned else batch.run(work, source, SMALL)
    assert not memory.requests


@pytest.mark.parametrize(
    ("source", "dest", "strip", "copies"),
    [
        (_prefix(), "arch/", "", 3),
        (_prefix(), "data", "", 3),
        (_prefix(), "", "data/", 3),
        (_prefix(exclude="data/arch/**"), "data/arch/", "data/", 3),
        (_prefix(exclude="data/arch**"), "data/arch/", "data/", 3),
        (_prefix("", exclude="copies/**"), "copies/", "", 3),
        (_prefix(glob="data/a*"), "data/z-", "data/", 1),
        (_prefix(match="data/[ab]"), "other/", "data/", 2),
    ],
)
def test_a_copy_elsewhere_ends(source: Any, dest: str, strip: str, copies: int) -> None:
    """Also below the prefix, where the patterns take none of the copies."""
    memory = MemoryStore()
    fill(memory, DATA)
    result = engine_on(memory).batch.run(Copy(bucket=BUCKET, dest_prefix=dest, strip_prefix=strip), source, SMALL)
    assert (result.total, result.successful, len(memory.objects)) == (copies, copies, 3 + copies)


def test_another_bucket_and_a_list_do_not_feed_on_themselves() -> None:
    """What is copied there, or named before, is not listed on the way; and a change of class makes no key."""
    memory = MemoryStore()
    keys = fill(memory, DATA)
    batch = engine_on(memory).batch
    there = Copy(bucket=BUCKET, dest_bucket="there", dest_prefix="data/z-")
    assert batch.run(there, _prefix(), SMALL).total == 3
    assert batch.run(Copy(bucket=BUCKET, dest_prefix="data/z-"), keys, SMALL).total == 3
    assert batch.run(ChangeStorageClass(bucket=BUCKET, storage_class="STANDARD_IA"), _prefix(), SMALL).total == 6


def _streamed(reader: Any, writer: Any, folder: Path) -> Any:
    ours, theirs = engine_on(reader), engine_on(writer)
    work = StreamedCopy(bucket=BUCKET, dest_prefix="data/z-", directory=str(folder), reader=ours, writer=theirs)
    return ours.batch.run(work, _prefix(), SMALL)


def test_two_connections_may_lead_to_one_bucket(tmp_path: Path) -> None:
    """The writer shows the very object that the reader lists."""
    memory = MemoryStore()
    fill(memory, DATA)
    with pytest.raises(ConfigError, match="below the prefix"):
        _streamed(memory, memory, tmp_path)
    assert len(memory.objects) == 3


@pytest.mark.parametrize("there", ["nothing", "another object", "no right to look"])
def test_a_bucket_of_the_same_name_in_another_store_is_another_one(tmp_path: Path, there: str) -> None:
    """A mirror, new or in use."""
    memory, mirror = MemoryStore(), MemoryStore(clock=lambda: 1e9)
    fill(memory, DATA)
    if there != "nothing":
        fill(mirror, DATA[:1])
    faults = [Fault("head", error=AccessDenied("no"))] if there == "no right to look" else []
    result = _streamed(memory, FaultyStore(mirror, faults), tmp_path)
    assert (result.total, result.failed) == (3, 0)
    assert ObjectRef(BUCKET, "data/z-data/a") in mirror.objects
