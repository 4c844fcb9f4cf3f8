"""Changes of class and metadata of what a killed try, or anybody, has touched before: by a manifest, by a listing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import BatchConfig, CopyOptions, KeyPrefix, ManifestKeys, PrefixKeys
from orbit_airflow.engine.batch import ChangeStorageClass, UpdateMetadata
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.options import UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, fill, numbered, sent
from tests.unit.engine.test_batch_tags import DroppingStore

PART = 1024
DATA = bytes(range(256)) * 10
ALONE = BatchConfig(retry_delay=0, max_concurrent=1, page_keys=10)
LIMITS = StoreLimits(min_part_size=PART)
IN_PARTS = StoreLimits(min_part_size=PART, max_put_size=PART)
SOURCE = ObjectRef(BUCKET, "a")
KEPT = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("t", "1"),))
WORKS: dict[str, Any] = {
    "class": ChangeStorageClass(bucket=BUCKET, storage_class="STANDARD_IA"),
    "metadata": UpdateMetadata(bucket=BUCKET, metadata=(("new", "1"),)),
}
KINDS: dict[str, dict[str, Any]] = {
    "composite": {"full_object": False},
    "no checksums": {"checksums": False},
    "opaque": {"opaque_etags": True},
    "opaque, no checksums": {"opaque_etags": True, "checksums": False},
}


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def _lake(tmp_path: Path, *, parts: bool, **kind: Any) -> MemoryStore:
    memory = MemoryStore(**{"min_part_size": PART, **kind})
    path = tmp_path / "file"
    path.write_bytes(DATA)
    engine = engine_on(memory, limits=LIMITS)
    if parts:
        engine.upload(str(path), SOURCE, UploadOptions(attributes=KEPT, chunk_size=PART))
    else:
        engine.upload_bytes(DATA, SOURCE, UploadOptions(attributes=KEPT))
    memory.requests.clear()
    return memory


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", [LIMITS, IN_PARTS], ids=["at once", "copied in parts"])
def test_a_finished_copy_onto_itself_is_no_failure(
    tmp_path: Path, name: str, versioned: bool, parts: bool, kind: str, limits: StoreLimits
) -> None:
    """Whose ETag is no MD5 of the bytes: where the source was is the copy now."""
    memory = _lake(tmp_path, parts=parts, versioned=versioned, **KINDS[kind])
    result = engine_on(memory, limits=limits).batch.run(WORKS[name], ["a"], ALONE)
    assert (result.successful, result.failed, result.skipped) == (1, 0, 0)
    assert (memory.read(SOURCE), len(memory.versions(SOURCE))) == (DATA, 1 + versioned)
    assert memory.get_tags(SOURCE) == KEPT.tags


@pytest.mark.parametrize("options", [{"storage_class": "STANDARD_IA"}, {"metadata": (("new", "1"),)}], ids=WORKS)
@pytest.mark.parametrize("version_id", [None, "null"])
@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_copy_onto_itself_is_no_failure(
    tmp_path: Path, options: dict[str, Any], version_id: str | None, parts: bool, kind: str
) -> None:
    """As of a batch; also where the only version is named."""
    memory = _lake(tmp_path, parts=parts, **KINDS[kind])
    engine = engine_on(memory, limits=LIMITS)
    copied = engine.copy_object(ObjectRef(BUCKET, "a", version_id), SOURCE, CopyOptions(**options))
    assert (copied.etag, memory.read(SOURCE)) == (memory.head(SOURCE).etag, DATA)


def _manifest(tmp_path: Path, **told: Any) -> ManifestKeys:
    place = tmp_path / "keys.jsonl"
    place.write_text(json.dumps({"key": "a", **told}) + "\n")
    return ManifestKeys(bucket=BUCKET, place=str(place))


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("told", ["etag", "version_id", "both"])
def test_what_a_killed_try_has_changed_is_not_taken_for_another_object(
    tmp_path: Path, name: str, cleared: bool, told: str
) -> None:
    """A manifest tells the ETag and the version of before."""
    memory, tokens = _lake(tmp_path, parts=True, versioned=True, full_object=False), DictTokens()
    before = memory.head(SOURCE)
    all_told = {"etag": before.etag, "version_id": before.version_id}
    keys = _manifest(tmp_path, **(all_told if told == "both" else {told: all_told[told]}))
    store = FaultyStore(memory, [Fault("copy", when="after", error=Killed())])
    with pytest.raises(Killed):
        engine_on(store, limits=LIMITS).batch.run(WORKS[name], keys, ALONE, BatchRun(tokens=tokens))
    how = BatchRun(tokens=DictTokens() if cleared else tokens)
    result = engine_on(memory, limits=LIMITS).batch.run(WORKS[name], keys, ALONE, how)
    assert (result.failed, result.skipped, len(memory.versions(SOURCE))) == (0, 1, 2)


def test_an_opaque_etag_of_a_manifest_is_compared_before_a_write_only(tmp_path: Path) -> None:
    """The copy's is another one, and nothing is to be written."""
    memory, tokens = MemoryStore(versioned=True, opaque_etags=True), DictTokens()
    fill(memory, ["a"])
    keys = _manifest(tmp_path, etag=memory.head(SOURCE).etag)
    with pytest.raises(Killed):
        store = FaultyStore(memory, [Fault("copy", when="after", error=Killed())])
        engine_on(store).batch.run(WORKS["metadata"], keys, ALONE, BatchRun(tokens=tokens))
    result = engine_on(memory).batch.run(WORKS["metadata"], keys, ALONE, BatchRun(tokens=tokens))
    assert (result.failed, result.skipped, len(memory.versions(SOURCE))) == (0, 1, 2)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("newest", ["as wished", "otherwise"])
@pytest.mark.parametrize("named", ["the first", "null"])
def test_an_older_version_is_no_success(name: str, newest: str, named: str) -> None:
    """Not even where the newest one, which has other bytes, is as that one was to be."""
    memory = MemoryStore(versioned=named != "null")
    fill(memory, ["a"])
    version = memory.head(SOURCE).version_id or "null"
    engine = engine_on(memory)
    engine.versions.enable_versioning(BUCKET)
    done = ObjectAttributes(metadata=(("new", "1"),), storage_class="STANDARD_IA")
    engine.upload_bytes(b"y", SOURCE, options=UploadOptions(attributes=done if newest == "as wished" else KEPT))
    result = engine.batch.run(WORKS[name], [("a", version)], ALONE)
    assert (result.successful, [error.code for error in result.errors]) == (0, ["ConfigError"])
    assert len(memory.versions(SOURCE)) == 2


def test_the_class_that_a_manifest_tells_may_be_old(tmp_path: Path) -> None:
    """The object is looked at, and a plan counts that."""
    memory = MemoryStore()
    fill(memory, ["a"])
    keys, engine = _manifest(tmp_path, storage_class="STANDARD_IA"), engine_on(memory)
    assert dict(engine.batch.plan(WORKS["class"], keys).requests) == {"HeadObject": 1, "CopyObject": 1}
    result = engine.batch.run(WORKS["class"], keys, ALONE)
    assert (result.successful, result.skipped, memory.head(SOURCE).storage_class) == (1, 0, "STANDARD_IA")


def test_a_listing_behind_a_kill_does_not_hide_dropped_tags() -> None:
    """The class is there, and the tags that the store has dropped of a copy in parts are still to be set."""
    memory, tokens = DroppingStore(min_part_size=PART), DictTokens()
    engine_on(memory).upload_bytes(DATA, SOURCE, options=UploadOptions(attributes=KEPT))
    keys = PrefixKeys(where=KeyPrefix(BUCKET, "a"))
    with pytest.raises(Killed):
        store = FaultyStore(memory, [Fault("complete", when="after", error=Killed())])
        engine_on(store, limits=IN_PARTS).batch.run(WORKS["class"], keys, ALONE, BatchRun(tokens=tokens))
    assert (memory.head(SOURCE).storage_class, memory.get_tags(SOURCE)) == ("STANDARD_IA", ())
    result = engine_on(memory, limits=IN_PARTS).batch.run(WORKS["class"], keys, ALONE, BatchRun(tokens=tokens))
    assert (result.skipped, memory.get_tags(SOURCE)) == (1, KEPT.tags)
    assert [token["op"] for token in tokens.kept.values()] == ["batch"]


def test_a_listing_of_a_first_try_is_believed() -> None:
    """Nothing is asked about objects that it shows in their class."""
    memory = MemoryStore()
    fill(memory, numbered(3), ObjectAttributes(storage_class="STANDARD_IA"))
    result = engine_on(memory).batch.run(WORKS["class"], PrefixKeys(where=KeyPrefix(BUCKET, "logs/")), ALONE)
    assert (result.skipped, sent(memory, "head")) == (3, 0)
