"""Tags that a store drops from copies with new metadata and from uploads in parts: set again, also behind a kill."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, CopyOptions, Notice, TransferEvent
from orbit_airflow.engine.batch import ChangeStorageClass, UpdateMetadata
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import AccessDenied, CredentialsExpired, Unsupported
from orbit_airflow.engine.model import CreatedUpload, ObjectAttributes, ObjectRef, WriteReceipt
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.store import CopyRequest, PartDigests
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, fill, sent

PART = 1024
ALONE = BatchConfig(retry_delay=0, max_concurrent=1, page_keys=10)
KEPT = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("t", "1"), ("u", "2")))
NEW = UpdateMetadata(bucket=BUCKET, metadata=(("new", "1"),))
LIMITS = StoreLimits(min_part_size=PART)
IN_PARTS = StoreLimits(min_part_size=PART, max_put_size=PART)
SOURCE, TARGET = ObjectRef(BUCKET, "a"), ObjectRef(BUCKET, "to/a")


class Killed(BaseException):
    """What no ``except Exception`` sees."""


class DroppingStore(MemoryStore):
    """Ceph: a copy with new metadata, and an upload in parts, lose their tags whatever the request says."""

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """Without tags, if its metadata are new."""
        if request.replace_metadata:
            request = replace(request, replace_tags=True, attributes=replace(request.attributes, tags=()))
        return super().copy(ref, request)

    def create(self, ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> CreatedUpload:
        """Without tags."""
        return super().create(ref, replace(attributes, tags=()), checksums=checksums)


def _killed(run: Any, store: MemoryStore, *faults: Fault) -> None:
    with pytest.raises(Killed):
        run(FaultyStore(store, faults))


def _run(store: Any, tokens: DictTokens, work: Any = NEW, limits: StoreLimits = LIMITS) -> Any:
    return engine_on(store, limits=limits).batch.run(work, ["a", "b"], ALONE, BatchRun(tokens=tokens))


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("fault", [("copy", "after"), ("put_tags", "before"), ("put_tags", "after")])
def test_a_kill_between_a_copy_and_its_tags_loses_none(fault: Any, versioned: bool) -> None:
    """The metadata are as wished, nobody can read the tags from the object any more, and the next try sets them."""
    memory, tokens = DroppingStore(versioned=versioned), DictTokens()
    keys = fill(memory, ["a", "b"], KEPT)
    _killed(lambda store: _run(store, tokens), memory, Fault(fault[0], when=fault[1], error=Killed()))
    assert _run(memory, tokens).failed == 0
    for key in keys:
        assert memory.get_tags(ObjectRef(BUCKET, key)) == KEPT.tags
        assert dict(memory.head(ObjectRef(BUCKET, key)).metadata) == {"colour": "blue", "new": "1"}
        assert len(memory.versions(ObjectRef(BUCKET, key))) == 1 + versioned
    assert [token["op"] for token in tokens.kept.values()] == ["batch"]


def test_tags_that_somebody_has_set_since_stay() -> None:
    """The note is about an object without any."""
    memory, tokens = DroppingStore(), DictTokens()
    fill(memory, ["a", "b"], KEPT)
    _killed(lambda store: _run(store, tokens), memory, Fault("copy", when="after", error=Killed()))
    memory.put_tags(SOURCE, (("theirs", "1"),))
    _run(memory, tokens)
    assert memory.get_tags(SOURCE) == (("theirs", "1"),)


def test_tags_of_another_object_are_not_set() -> None:
    """It was replaced between the tries: what the note says was about other bytes."""
    memory, tokens = DroppingStore(), DictTokens()
    fill(memory, ["a", "b"], KEPT)
    _killed(lambda store: _run(store, tokens), memory, Fault("copy", when="after", error=Killed()))
    theirs = ObjectAttributes(metadata=(("new", "1"),))
    memory.put(SOURCE, BytesBody(b"other"), PartDigests(), theirs, if_none_match=False)
    _run(memory, tokens)
    assert memory.get_tags(SOURCE) == ()


def test_a_note_is_hostile_input() -> None:
    """One that is no note, or of another key, sets nothing."""
    memory, tokens = DroppingStore(), DictTokens()
    fill(memory, ["a", "b"], KEPT)
    _killed(lambda store: _run(store, tokens), memory, Fault("copy", when="after", error=Killed()))
    note = next(key for key, token in tokens.kept.items() if token["op"] == "tags")
    tokens.kept[note]["tags"] = [["aws:x", 5]]
    assert _run(memory, tokens).failed == 0
    assert memory.get_tags(SOURCE) == ()


def test_a_store_that_keeps_tags_costs_one_note() -> None:
    """Once it was seen to keep them, none is written."""
    memory, tokens = MemoryStore(), DictTokens()
    keys = fill(memory, [f"{number}" for number in range(9)], KEPT)
    result = engine_on(memory).batch.run(NEW, keys, ALONE, BatchRun(tokens=tokens))
    assert result.successful == 9
    assert sum(token["op"] == "tags" for token in tokens.saves) == 1
    assert (sent(memory, "copy"), sent(memory, "put_tags")) == (9, 0)


@pytest.mark.parametrize("operation", ["complete", "put_tags"])
def test_a_class_that_is_changed_in_parts_keeps_tags(operation: Any) -> None:
    """They went with Create, were dropped, and the try was killed before it set them."""
    memory, tokens = DroppingStore(versioned=True, min_part_size=PART), DictTokens()
    for key in ("a", "b"):
        body = BytesBody(bytes(4 * PART))
        memory.put(ObjectRef(BUCKET, key), body, PartDigests(), KEPT, if_none_match=False)
    work = ChangeStorageClass(bucket=BUCKET, storage_class="STANDARD_IA")
    when: Any = "after" if operation == "complete" else "before"
    fault = Fault(operation, when=when, error=Killed())
    _killed(lambda store: _run(store, tokens, work, IN_PARTS), memory, fault)
    assert _run(memory, tokens, work, IN_PARTS).failed == 0
    for key in ("a", "b"):
        assert memory.get_tags(ObjectRef(BUCKET, key)) == KEPT.tags
        assert len(memory.versions(ObjectRef(BUCKET, key))) == 2


def test_a_copy_gets_the_tags_that_it_was_asked_for() -> None:
    """Also of a store that drops them from the request."""
    memory = DroppingStore()
    fill(memory, ["a"], KEPT)
    options = CopyOptions(metadata=(("new", "1"),), tags=(("only", "this"),))
    assert engine_on(memory).batch.copy(["a"], "to/", ALONE, options=options).successful == 1
    assert memory.get_tags(TARGET) == (("only", "this"),)


# Uploads in parts.


def _upload(store: Any, path: Any, tokens: DictTokens, events: list[TransferEvent] | None = None) -> Any:
    options = UploadOptions(attributes=ObjectAttributes(tags=KEPT.tags), chunk_size=PART)
    reporter = events.append if events is not None else lambda event: None
    return engine_on(store, limits=LIMITS).upload(str(path), SOURCE, options, tokens=tokens, reporter=reporter)


@pytest.fixture
def path(tmp_path: Any) -> Any:
    """A file of three parts."""
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * PART))
    return file


@pytest.mark.parametrize("fault", [None, ("complete", "after"), ("get_tags", "before"), ("put_tags", "before")])
def test_an_upload_in_parts_gets_its_tags(path: Any, fault: Any) -> None:
    """Behind Complete, of the version that was made; killed in between, by the next try, which sends no part."""
    memory, tokens = DroppingStore(versioned=True, min_part_size=PART), DictTokens()
    if fault is not None:
        struck = Fault(fault[0], when=fault[1], error=Killed())
        _killed(lambda store: _upload(store, path, tokens), memory, struck)
        memory.requests.clear()
    result = _upload(memory, path, tokens)
    assert memory.get_tags(SOURCE) == KEPT.tags
    assert result.version_id == memory.versions(SOURCE)[0].version_id
    assert len(memory.versions(SOURCE)) == 1
    assert sent(memory, "upload_part") == (3 if fault is None else 0)


def test_an_upload_without_tags_asks_for_none(path: Any) -> None:
    """The look is for those who asked for tags."""
    memory = DroppingStore(min_part_size=PART)
    engine_on(memory, limits=LIMITS).upload(str(path), SOURCE, UploadOptions(chunk_size=PART))
    assert sent(memory, "get_tags") == 0


@pytest.mark.parametrize("error", [AccessDenied("no"), Unsupported("no")])
def test_who_may_not_read_tags_uploads_all_the_same(path: Any, error: Exception) -> None:
    """And is told that they are not proved."""
    memory, events = DroppingStore(min_part_size=PART), list[TransferEvent]()
    store = FaultyStore(memory, [Fault("get_tags", times=None, error=error)])
    assert _upload(store, path, DictTokens(), events).size == 3 * PART
    assert any(isinstance(event, Notice) and "tags" in event.message for event in events)


def test_expired_credentials_are_no_refusal(path: Any) -> None:
    """The next try has others, and proves the tags."""
    memory, tokens = DroppingStore(min_part_size=PART), DictTokens()
    store = FaultyStore(memory, [Fault("get_tags", times=None, error=CredentialsExpired("old"))])
    with pytest.raises(CredentialsExpired):
        _upload(store, path, tokens)
    _upload(memory, path, tokens)
    assert memory.get_tags(SOURCE) == KEPT.tags


def test_another_writers_object_keeps_its_tags(path: Any) -> None:
    """It came between Complete and the tags, where no versions are kept."""
    memory = DroppingStore(min_part_size=PART)

    def replaced() -> None:
        memory.put(SOURCE, BytesBody(b"theirs"), PartDigests(), ObjectAttributes(), if_none_match=False)

    _upload(FaultyStore(memory, [Fault("get_tags", call=replaced)]), path, DictTokens())
    assert memory.get_tags(SOURCE) == ()
