"""Batches of copies, classes, metadata and tags: what is kept, what is skipped, what fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orbit_airflow.engine import BatchConfig, BatchResult, CopyOptions, KeyPrefix, PrefixKeys, TransferEngine
from orbit_airflow.engine.batch import ChangeStorageClass, Copy, TagObjects, UpdateMetadata
from orbit_airflow.engine.batch.work import Hands
from orbit_airflow.engine.errors import ConfigError, ConnectionLost, PreconditionFailed, RequestContext, Unavailable
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.testing import Fault, MemoryStore
from tests.unit.engine.batches import BUCKET, QUICK, engine_on, faulty, fill, numbered, sent

RICH = ObjectAttributes(
    metadata=(("colour", "blue"), ("owner", "ann")),
    tags=(("team", "data"),),
    content_type="text/x-orbit",
    server_side_encryption="aws:kms",
    kms_key_id="key-1",
    extra_args=(("CacheControl", "no-store"), ("ContentEncoding", "identity")),
)
Change = Callable[[TransferEngine, list[str]], BatchResult]
CHANGES: dict[str, Change] = {
    "class": lambda engine, keys: engine.batch.change_storage_class(keys, "STANDARD_IA", QUICK),
    "metadata": lambda engine, keys: engine.batch.update_metadata(keys, {"Project": "x"}, QUICK),
    "tags": lambda engine, keys: engine.batch.tag_objects(keys, {"project": "x"}, QUICK),
}


def _only(memory: MemoryStore, key: str) -> ObjectAttributes:
    return memory.objects[ObjectRef(BUCKET, key)].attributes


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_all_that_it_is_not_about(name: str) -> None:
    """Headers, metadata, tags, encryption and class."""
    memory = MemoryStore()
    keys = fill(memory, numbered(12), RICH)
    result = CHANGES[name](engine_on(memory), keys)
    assert (result.successful, result.failed) == (12, 0)
    info, found = memory.head(ObjectRef(BUCKET, keys[5])), _only(memory, keys[5])
    project = (("project", "x"),)
    assert dict(info.metadata) == dict(RICH.metadata + (project if name == "metadata" else ()))
    assert dict(found.tags) == dict(RICH.tags + (project if name == "tags" else ()))
    assert info.storage_class == ("STANDARD_IA" if name == "class" else None)
    assert (info.headers.content_type, info.headers.cache_control) == ("text/x-orbit", "no-store")
    assert (info.server_side_encryption, info.kms_key_id) == ("aws:kms", "key-1")


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_there_already_is_skipped(name: str) -> None:
    """No second version."""
    memory = MemoryStore(versioned=True)
    keys = fill(memory, numbered(12), RICH)
    engine = engine_on(memory)
    CHANGES[name](engine, keys)
    versions = [len(memory.versions(ObjectRef(BUCKET, key))) for key in keys]
    again = CHANGES[name](engine, keys)
    assert (again.skipped, again.successful) == (12, 12)
    assert [len(memory.versions(ObjectRef(BUCKET, key))) for key in keys] == versions


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["class", "metadata"])
def test_a_lost_answer_makes_one_version(name: str, when: str) -> None:
    """The copy is looked at before it is sent again."""
    memory = MemoryStore(versioned=True)
    keys = fill(memory, ["a"])
    lost = Fault("copy", when=when, error=ConnectionLost("lost", RequestContext("CopyObject", BUCKET)))  # type: ignore[arg-type]
    result = CHANGES[name](engine_on(faulty(memory, lost)), keys)
    assert (result.successful, len(memory.versions(ObjectRef(BUCKET, "a")))) == (1, 2)


def test_a_listing_tells_the_class() -> None:
    """Nothing is asked about objects that are in it."""
    memory = MemoryStore()
    fill(memory, numbered(10), ObjectAttributes(storage_class="STANDARD_IA"))
    work = ChangeStorageClass(bucket=BUCKET, storage_class="StandardIa")
    result = engine_on(memory).batch.run(work, PrefixKeys(where=KeyPrefix(BUCKET, "logs/")), QUICK)
    assert (result.skipped, {request.operation for request in memory.requests}) == (10, {"list_objects"})


def test_an_archived_object_is_a_typed_failure() -> None:
    """Before anything is written; the others go on."""
    memory = MemoryStore()
    fill(memory, ["old"], ObjectAttributes(storage_class="DEEP_ARCHIVE"))
    fill(memory, ["new"])
    result = engine_on(memory).batch.change_storage_class(["old", "new"], "GLACIER_IR", QUICK)
    assert (result.successful, [(error.key, error.code) for error in result.errors]) == (
        1,
        [("old", "InvalidObjectState")],
    )


def test_metadata_and_tags_may_be_replaced() -> None:
    """As a whole, and taken away."""
    memory = MemoryStore()
    keys = fill(memory, ["a"], RICH)
    batch = engine_on(memory).batch
    batch.update_metadata(keys, {"only": "this"}, QUICK, replace_all=True)
    batch.tag_objects(keys, {"only": "this"}, QUICK, replace_all=True)
    assert (_only(memory, "a").metadata, _only(memory, "a").tags) == ((("only", "this"),), (("only", "this"),))
    batch.update_metadata(keys, {}, QUICK, replace_all=True)
    batch.tag_objects(keys, {}, QUICK, replace_all=True)
    assert (_only(memory, "a").metadata, _only(memory, "a").tags) == ((), ())


def test_objects_of_the_engines_own_uploads_take_metadata() -> None:
    """Their mark of the upload is no obstacle, and is not kept."""
    memory = MemoryStore()
    engine = engine_on(memory)
    engine.upload_bytes(b"x", "a")
    assert engine.batch.update_metadata(["a"], {"p": "1"}, QUICK).successful == 1
    assert _only(memory, "a").metadata == (("p", "1"),)


def test_limits_are_checked_first() -> None:
    """Of what is given at once; of what a merge makes, per key."""
    with pytest.raises(ConfigError, match="at most 10 tags"):
        TagObjects(bucket=BUCKET, tags=tuple((str(n), "") for n in range(11)))
    with pytest.raises(ConfigError, match="ASCII"):
        UpdateMetadata(bucket=BUCKET, metadata=(("name", "\u00e4"),))
    with pytest.raises(ConfigError, match="no storage class"):
        ChangeStorageClass(bucket=BUCKET, storage_class="GLACEIR")
    for empty in (lambda: TagObjects(bucket=BUCKET, tags=()), lambda: UpdateMetadata(bucket=BUCKET, metadata=())):
        with pytest.raises(ConfigError, match="merge"):
            empty()
    memory = MemoryStore()
    fill(memory, ["full"], ObjectAttributes(tags=tuple((str(n), "") for n in range(10))))
    fill(memory, ["free"])
    result = engine_on(memory).batch.tag_objects(["full", "free"], {"one": "more"}, QUICK)
    assert (result.successful, [(error.key, error.code) for error in result.errors]) == (1, [("full", "ConfigError")])


def test_an_object_that_was_replaced_since_it_was_listed_is_left() -> None:
    """By a manifest's ETag."""
    memory = MemoryStore()
    fill(memory, ["a"])
    work = UpdateMetadata(bucket=BUCKET, metadata=(("p", "1"),))
    call = engine_on(memory).call()
    with pytest.raises(PreconditionFailed, match="replaced meanwhile"):
        work.change(Hands(call=call, policy=call.config.policy), KeyEntry("a", etag="0" * 32), again=False)


def test_copies_go_under_the_prefix() -> None:
    """The whole key, or what is left of it; a key that does not begin as it should fails alone."""
    memory = MemoryStore()
    fill(memory, ["in/a", "in/b/c", "other"], RICH)
    batch = engine_on(memory).batch
    assert batch.copy(["in/a"], "archive/", QUICK).successful == 1
    result = batch.copy(["in/a", "in/b/c", "other"], "out/", QUICK, strip_prefix="in/", dest_bucket="dest")
    assert (result.successful, result.failed) == (2, 1)
    assert {ref.uri for ref in memory.objects} >= {"s3://lake/archive/in/a", "s3://dest/out/a", "s3://dest/out/b/c"}
    assert memory.objects[ObjectRef("dest", "out/a")].attributes.tags == RICH.tags
    with pytest.raises(ConfigError, match="onto itself"):
        Copy(bucket=BUCKET, dest_prefix="", strip_prefix="")


def test_copies_obey_their_options() -> None:
    """replace=False is a failure of the key whose target is taken."""
    memory = MemoryStore()
    fill(memory, ["a", "b", "to/b"])
    options = CopyOptions(replace=False, storage_class="GLACIER_IR")
    result = engine_on(memory).batch.copy(["a", "b"], "to/", QUICK, options=options)
    assert [(error.key, error.code) for error in result.errors] == [("b", "TargetExists")]
    assert _only(memory, "to/a").storage_class == "GLACIER_IR"


def test_five_broken_keys_fail_alone() -> None:
    """Although a breaker would have counted five failures in a row: the store is asked, and is well."""
    memory = MemoryStore()
    keys = fill(memory, numbered(100))
    broken = Fault("put_tags", times=20, error=Unavailable("made up", RequestContext(code="InternalError")))
    store = faulty(memory, broken)
    config = BatchConfig(retry_delay=0, max_concurrent=1)
    work = TagObjects(bucket=BUCKET, tags=(("a", "b"),), replace=True)
    result = engine_on(store).batch.run(work, keys, config)
    assert (result.total, result.failed, result.successful) == (100, 5, 95)
    assert sent(memory, "put_tags") == 95


@pytest.mark.parametrize("name", ["class", "metadata"])
def test_a_change_costs_one_look_and_one_copy(name: str) -> None:
    """As the plan says: who has looked at the object does not look again before copying it."""
    memory = MemoryStore()
    keys = fill(memory, numbered(12))
    CHANGES[name](engine_on(memory), keys)
    assert (sent(memory, "head"), sent(memory, "copy")) == (12, 12)


def test_a_copy_that_its_md5_proves_is_not_looked_at() -> None:
    """Where neither side has a checksum, HEAD could add nothing to equal MD5s."""
    memory = MemoryStore(checksums=False)
    keys = fill(memory, numbered(12))
    assert engine_on(memory).batch.copy(keys, "copies/", QUICK).successful == 12
    assert (sent(memory, "head"), sent(memory, "copy")) == (12, 12)
