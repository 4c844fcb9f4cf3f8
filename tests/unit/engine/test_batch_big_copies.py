"""Objects of a batch that are more than one CopyObject can carry: in parts, and continued."""

from __future__ import annotations

from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, BatchProgress, TransferCompleted, TransferEvent, TransferStarted
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, fill, sent

PART = 1024
CONFIG = BatchConfig(retry_delay=0, max_concurrent=2, page_keys=10)
LIMITS = StoreLimits(max_put_size=4 * PART, min_part_size=PART)
KEPT = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("a", "b"),), content_type="text/x")


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _lake() -> MemoryStore:
    memory = MemoryStore(versioned=True, min_part_size=PART)
    fill(memory, ["small"], KEPT)
    for key in ("big/1", "big/2"):
        body = BytesBody(bytes(range(256)) * 40)
        memory.put(ObjectRef(BUCKET, key), body, PartDigests(), KEPT, if_none_match=False)
    memory.requests.clear()
    return memory


def _engine(store: Any) -> Any:
    return engine_on(store, limits=LIMITS)


def _copy(store: Any, tokens: DictTokens, events: list[TransferEvent] | None = None) -> Any:
    how = BatchRun(tokens=tokens, reporter=(events.append if events is not None else lambda event: None))
    return _engine(store).batch.copy(["big/1", "big/2", "small"], "copy/", CONFIG, how)


def test_big_objects_are_copied_in_parts_with_all_they_have() -> None:
    """Small ones by one request; no token but the batch's is left."""
    memory, tokens, events = _lake(), DictTokens(), list[TransferEvent]()
    result = _copy(memory, tokens, events)
    assert (result.successful, result.failed) == (3, 0)
    assert sent(memory, "create") == 2
    for key in ("big/1", "small"):
        info = memory.head(ObjectRef(BUCKET, "copy/" + key))
        assert dict(info.metadata)["colour"] == "blue"
        assert memory.get_tags(ObjectRef(BUCKET, "copy/" + key)) == (("a", "b"),)
    assert [token["op"] for token in tokens.kept.values()] == ["batch"]
    assert not [event for event in events if isinstance(event, TransferStarted | TransferCompleted)]
    assert [event for event in events if isinstance(event, BatchProgress)]


@pytest.mark.parametrize("nth", range(3, 30, 3))
def test_a_killed_batch_continues_its_big_copies(nth: int) -> None:
    """Each target has one version in the end, and parts that were there are not copied again from zero each time."""
    memory, tokens = _lake(), DictTokens()
    first = Fault("*", nth=nth, times=1, when="after", error=Killed())
    store = FaultyStore(memory, [first, Fault("*", nth=nth + 1, times=None, error=Killed())])
    try:
        _copy(store, tokens)
    except Killed:
        assert tokens.kept
    result = _copy(memory, tokens)
    assert (result.total, result.successful) == (3, 3)
    for key in ("big/1", "big/2", "small"):
        assert len(memory.versions(ObjectRef(BUCKET, "copy/" + key))) == 1
    assert [token["op"] for token in tokens.kept.values()] == ["batch"]


def test_the_class_of_a_big_object_is_changed_in_parts() -> None:
    """And the second time there is nothing to do."""
    memory = _lake()
    for skipped in (0, 2):
        result = _engine(memory).batch.change_storage_class(["big/1", "big/2"], "STANDARD_IA", CONFIG)
        assert (result.successful, result.skipped) == (2, skipped)
    assert memory.head(ObjectRef(BUCKET, "big/1")).storage_class == "STANDARD_IA"
    assert len(memory.versions(ObjectRef(BUCKET, "big/1"))) == 2


def test_a_copy_asks_for_its_source_once() -> None:
    """The look of the batch is the look of the copy."""
    memory = MemoryStore()
    fill(memory, ["a"])
    _engine(memory).batch.copy(["a"], "copy/", CONFIG)
    # The proof needs no look at the target: equal MD5s of objects without checksums are all that there is.
    assert (sent(memory, "head"), sent(memory, "copy")) == (1, 1)
