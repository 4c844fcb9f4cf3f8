"""The second look: what a killed try may have copied is called a copy only where something proves that it is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, CopyOptions
from orbit_airflow.engine.batch import ChangeStorageClass
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import AccessDenied, ConnectionLost, ObjectArchived, RequestContext
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, sent

PART = 1024
DATA = bytes(range(256)) * 10
ALONE = BatchConfig(retry_delay=0, max_concurrent=1, page_keys=10)
SOURCE, TARGET = ObjectRef(BUCKET, "a"), ObjectRef(BUCKET, "to/a")
KEPT = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("t", "1"),))
LIMITS = StoreLimits(min_part_size=PART)
# Sent, as far as anybody knows.
LOST = ConnectionLost("lost", RequestContext("CopyObject", BUCKET))
STORES: dict[str, dict[str, Any]] = {"composite": {"full_object": False}, "no checksums": {"checksums": False}}


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _lake(tmp_path: Any, **kind: Any) -> MemoryStore:
    """One object that was uploaded in parts: its ETag is that of no bytes."""
    memory = MemoryStore(**{"versioned": True, "min_part_size": PART, **kind})
    path = tmp_path / "file"
    path.write_bytes(DATA)
    options = UploadOptions(attributes=KEPT, chunk_size=PART)
    engine_on(memory, limits=LIMITS).upload(str(path), SOURCE, options)
    # As another tool's upload would be: without our mark.
    item = memory.objects[SOURCE]
    memory._versions[BUCKET, "a"] = [_without_mark(item)]
    memory.requests.clear()
    return memory


def _without_mark(item: Any) -> Any:
    return replace(item, attributes=replace(item.attributes, metadata=KEPT.metadata))


def _copy(store: Any, tokens: DictTokens, options: CopyOptions | None = None, limits: StoreLimits = LIMITS) -> Any:
    engine = engine_on(store, limits=limits)
    return engine.batch.copy(["a"], "to/", ALONE, BatchRun(tokens=tokens), options=options)


def _killed(memory: MemoryStore, tokens: DictTokens, operation: Any = "copy", when: Any = "after", **more: Any) -> None:
    with pytest.raises(Killed):
        _copy(FaultyStore(memory, [Fault(operation, when=when, error=Killed())]), tokens, **more)


def _foreign(memory: MemoryStore) -> None:
    """Somebody else's object of the same size, metadata and class, written after the source."""
    memory.put(TARGET, BytesBody(bytes(len(DATA))), PartDigests(), KEPT, if_none_match=False)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("moment", ["was there", "written since"])
def test_an_object_of_the_same_size_is_not_our_copy(tmp_path: Any, kind: str, moment: str) -> None:
    """Whether it was there before, or was written over what the killed try had made: it is copied."""
    memory, tokens = _lake(tmp_path, **STORES[kind]), DictTokens()
    if moment == "was there":
        _foreign(memory)
        _killed(memory, tokens, when="before")
    else:
        _killed(memory, tokens)
        _foreign(memory)
    assert _copy(memory, tokens).successful == 1
    assert memory.read(TARGET) == DATA
    assert not memory.uploads()


@pytest.mark.parametrize("kind", STORES)
def test_our_own_copy_is_proved_and_not_made_twice(tmp_path: Any, kind: str) -> None:
    """The store makes one part of the whole source, tells its MD5 by that, and the part is thrown away."""
    memory, tokens = _lake(tmp_path, **STORES[kind]), DictTokens()
    _killed(memory, tokens)
    memory.requests.clear()
    assert _copy(memory, tokens).successful == 1
    assert len(memory.versions(TARGET)) == 1
    assert (sent(memory, "copy_part"), sent(memory, "abort"), sent(memory, "copy")) == (1, 1, 0)
    assert not memory.uploads()
    assert [token["op"] for token in tokens.kept.values()] == ["batch"]


@pytest.mark.parametrize("error", [AccessDenied("no"), ObjectArchived("frozen")])
def test_where_nothing_can_prove_it_the_copy_is_made_again(tmp_path: Any, error: Exception) -> None:
    """ETags that are no MD5s, and unreadable: a second version is the lesser harm than somebody else's bytes."""
    memory, tokens = _lake(tmp_path, checksums=False, opaque_etags=True), DictTokens()
    _killed(memory, tokens)
    assert _copy(FaultyStore(memory, [Fault("get", times=None, error=error)]), tokens).successful == 1
    assert len(memory.versions(TARGET)) == 2


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("uploaded", ["in parts", "at once"])
def test_the_bytes_prove_what_no_etag_does(tmp_path: Any, uploaded: str, versioned: bool, replaces: bool) -> None:
    """Where a copy that is made again is a version more, or fails because of our own. Else reading is not worth it."""
    memory, tokens = _lake(tmp_path, checksums=False, opaque_etags=True, versioned=versioned), DictTokens()
    if uploaded == "at once":
        memory.put(SOURCE, BytesBody(DATA), PartDigests(), KEPT, if_none_match=False)
    options = CopyOptions(replace=replaces)
    _killed(memory, tokens, options=options)
    memory.requests.clear()
    assert _copy(memory, tokens, options).successful == 1
    assert len(memory.versions(TARGET)) == 1
    assert (sent(memory, "copy"), sent(memory, "get")) == ((0, 2) if versioned or not replaces else (1, 0))


def test_other_bytes_under_an_etag_that_says_nothing_are_not_ours(tmp_path: Any) -> None:
    """Of the same size, metadata and class: with replace=False they stay, and the key fails."""
    memory, tokens = _lake(tmp_path, checksums=False, opaque_etags=True), DictTokens()
    options = CopyOptions(replace=False)
    _killed(memory, tokens, when="before", options=options)
    _foreign(memory)
    result = _copy(memory, tokens, options)
    assert (result.failed, memory.read(TARGET)) == (1, bytes(len(DATA)))


def test_who_may_not_ask_copies_again(tmp_path: Any) -> None:
    """The key does not fail for the sake of a proof."""
    memory, tokens = _lake(tmp_path, checksums=False), DictTokens()
    _killed(memory, tokens)
    no = AccessDenied("no")
    denied = FaultyStore(memory, [Fault("create", times=None, error=no), Fault("get", times=None, error=no)])
    assert _copy(denied, tokens).successful == 1
    assert len(memory.versions(TARGET)) == 2


@pytest.mark.parametrize("operation", ["create", "copy_part", "abort"])
def test_a_kill_while_asking_leaves_no_upload(tmp_path: Any, operation: str) -> None:
    """Its id is kept before the part is made. (An upload without parts, whose id was lost, costs nothing.)"""
    memory, tokens = _lake(tmp_path, checksums=False), DictTokens()
    _killed(memory, tokens)
    _killed(memory, tokens, operation)
    assert _copy(memory, tokens).successful == 1
    assert len(memory.versions(TARGET)) == 1
    assert not [upload for upload in memory.uploads() if upload.parts]
    assert [token["op"] for token in tokens.kept.values()] == ["batch"]


def test_a_state_that_names_no_upload_id_is_not_used(tmp_path: Any) -> None:
    """It is hostile input: nothing is aborted by it."""
    memory, tokens = _lake(tmp_path, checksums=False), DictTokens()
    _killed(memory, tokens)
    _killed(memory, tokens, "copy_part")
    name = next(key for key, token in tokens.kept.items() if token["op"] == "look")
    tokens.kept[name]["upload_id"] = "../../x y"
    memory.requests.clear()
    assert _copy(memory, tokens).successful == 1
    assert sent(memory, "abort") == 1


@pytest.mark.parametrize("lost", ["nothing", "tokens"])
def test_a_copy_in_parts_is_known_by_its_mark(tmp_path: Any, lost: str) -> None:
    """Which names source and target: also when its own token was forgotten, as it is right behind the copy."""
    memory, tokens = _lake(tmp_path, checksums=False), DictTokens()
    limits = StoreLimits(min_part_size=PART, max_put_size=PART)
    _killed(memory, tokens, "complete", limits=limits)
    if lost == "tokens":
        tokens.kept = {key: token for key, token in tokens.kept.items() if token["op"] == "batch"}
    assert _copy(memory, tokens, limits=limits).successful == 1
    assert len(memory.versions(TARGET)) == 1


def test_a_copy_in_parts_of_another_source_is_not_ours(tmp_path: Any) -> None:
    """The mark is of the pinned source: what the target holds is a copy of the version before."""
    memory, tokens = _lake(tmp_path, checksums=False), DictTokens()
    limits = StoreLimits(min_part_size=PART, max_put_size=PART)
    _killed(memory, tokens, "complete", limits=limits)
    tokens.kept = {key: token for key, token in tokens.kept.items() if token["op"] == "batch"}
    other = bytes(reversed(DATA))
    memory.put(SOURCE, BytesBody(other), PartDigests(), KEPT, if_none_match=False)
    assert _copy(memory, tokens, limits=limits).successful == 1
    assert memory.read(TARGET) == other


def test_headers_are_part_of_a_copy(tmp_path: Any) -> None:
    """The same bytes with another content type are another object."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    memory.put(SOURCE, BytesBody(DATA), PartDigests(), ObjectAttributes(content_type="a/b"), if_none_match=False)
    memory.put(TARGET, BytesBody(DATA), PartDigests(), ObjectAttributes(content_type="c/d"), if_none_match=False)
    _killed(memory, tokens, when="before")
    assert _copy(memory, tokens).successful == 1
    assert memory.head(TARGET).headers.content_type == "a/b"


def test_a_source_of_one_part_costs_one_look(tmp_path: Any) -> None:
    """Equal MD5s prove it: no part is made."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    memory.put(SOURCE, BytesBody(DATA), PartDigests(), KEPT, if_none_match=False)
    _killed(memory, tokens)
    memory.requests.clear()
    assert _copy(memory, tokens).successful == 1
    assert [request.operation for request in memory.requests] == ["head", "head"]


def test_tags_that_were_dropped_are_set_by_the_second_look(tmp_path: Any) -> None:
    """The copy was made with new metadata, its tags were lost on the way, and the try was killed before it saw that."""
    memory, tokens = MemoryStore(versioned=True), DictTokens()
    memory.put(SOURCE, BytesBody(DATA), PartDigests(), KEPT, if_none_match=False)
    options = CopyOptions(metadata=(("new", "1"),))
    _killed(memory, tokens, options=options)
    memory.put_tags(TARGET, ())
    assert _copy(memory, tokens, options).successful == 1
    assert memory.get_tags(TARGET) == KEPT.tags
    assert len(memory.versions(TARGET)) == 1


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_is_looked_at_as_strictly(tmp_path: Any, kind: str, moment: Any) -> None:
    """In the same try: one version if the copy was made, and never somebody else's object."""
    memory, tokens = _lake(tmp_path, **STORES[kind]), DictTokens()
    _foreign(memory)
    assert _copy(FaultyStore(memory, [Fault("copy", when=moment, error=LOST)]), tokens).successful == 1
    assert memory.read(TARGET) == DATA
    assert len(memory.versions(TARGET)) == 2
    assert not memory.uploads()


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_of_a_change_makes_one_version(tmp_path: Any, versioned: bool, moment: Any) -> None:
    """Onto itself, where the source is gone with the copy unless versions are kept."""
    memory, tokens = _lake(tmp_path, checksums=False, versioned=versioned), DictTokens()
    store = FaultyStore(memory, [Fault("copy", when=moment, error=LOST)])
    work = ChangeStorageClass(bucket=BUCKET, storage_class="STANDARD_IA")
    result = engine_on(store, limits=LIMITS).batch.run(work, ["a"], ALONE, BatchRun(tokens=tokens))
    assert (result.successful, memory.read(SOURCE), memory.head(SOURCE).storage_class) == (1, DATA, "STANDARD_IA")
    assert len(memory.versions(SOURCE)) == 1 + versioned
    assert not memory.uploads()


def test_an_older_version_is_not_taken_for_the_newest_one(tmp_path: Any) -> None:
    """Restored over an object of the same size and metadata, with a lost answer: the same key, but another object."""
    memory = _lake(tmp_path, checksums=False)
    older = replace(SOURCE, version_id=memory.versions(SOURCE)[0].version_id)
    memory.put(SOURCE, BytesBody(bytes(len(DATA))), PartDigests(), KEPT, if_none_match=False)
    store = FaultyStore(memory, [Fault("copy", when="before", error=LOST)])
    engine_on(store, limits=LIMITS).copy_object(older, SOURCE)
    assert memory.read(SOURCE) == DATA
