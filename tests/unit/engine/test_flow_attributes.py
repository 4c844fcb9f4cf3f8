"""Encryption, class, ACL, tags and headers belong to the upload: changed ones need a new upload, metadata does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orbit_airflow.engine.model import ObjectAttributes
from orbit_airflow.engine.token import attributes_hash
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench

SIZE = 5 * PART + 7
OLD = ObjectAttributes(server_side_encryption="AES256", acl="public-read", storage_class="STANDARD", tags=(("a", "1"),))
CHANGED = {
    "encryption": ObjectAttributes(
        server_side_encryption="aws:kms", acl="public-read", storage_class="STANDARD", tags=(("a", "1"),)
    ),
    "key": ObjectAttributes(
        server_side_encryption="AES256", kms_key_id="k", acl="public-read", storage_class="STANDARD", tags=(("a", "1"),)
    ),
    "acl": ObjectAttributes(
        server_side_encryption="AES256", acl="private", storage_class="STANDARD", tags=(("a", "1"),)
    ),
    "class": ObjectAttributes(
        server_side_encryption="AES256", acl="public-read", storage_class="DEEP_ARCHIVE", tags=(("a", "1"),)
    ),
    "tags": ObjectAttributes(
        server_side_encryption="AES256", acl="public-read", storage_class="STANDARD", tags=(("a", "2"),)
    ),
    "extra": ObjectAttributes(
        server_side_encryption="AES256",
        acl="public-read",
        storage_class="STANDARD",
        tags=(("a", "1"),),
        extra_args=(("CacheControl", "no-store"),),
    ),
    "none": ObjectAttributes(),
}


@pytest.mark.parametrize("name", CHANGED)
def test_an_open_upload_with_other_attributes_is_aborted_and_begun_anew(bench: Bench, name: str) -> None:
    """Its Create has fixed them: the parts are not worth a public or unencrypted object."""
    bench.use(versioned=True)
    data = bench.write(SIZE)
    bench.die(5, attributes=OLD)
    old = bench.token["upload_id"]
    result = bench.upload(attributes=CHANGED[name])
    bench.settled(data)
    assert (result.resumed, result.bytes_sent, result.parts_found) == (False, SIZE, 0)
    assert bench.token["upload_id"] != old
    metadata = bench.memory.versions(bench.ref)[0].attributes.metadata
    assert bench.memory.versions(bench.ref)[0].attributes == _with(CHANGED[name], metadata)
    assert "starting anew" in bench.notices


def _with(attributes: ObjectAttributes, metadata: tuple[tuple[str, str], ...]) -> ObjectAttributes:
    from dataclasses import replace

    return replace(attributes, metadata=metadata)


@pytest.mark.parametrize("size", [100, SIZE])
@pytest.mark.parametrize("name", CHANGED)
def test_a_finished_upload_with_other_attributes_is_uploaded_again(bench: Bench, name: str, size: int) -> None:
    """The object that is there is not the one that was asked for."""
    data = bench.write(size)
    bench.upload(attributes=OLD)
    result = bench.upload(attributes=CHANGED[name])
    bench.settled(data)
    assert (result.resumed, result.bytes_sent) == (False, size)
    (found,) = bench.memory.versions(bench.ref)
    assert found.attributes == _with(CHANGED[name], found.attributes.metadata)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_complete_in_the_dark_with_other_attributes_is_uploaded_again(bench: Bench, when: str) -> None:
    """Whether it was done or not: the newest version is as asked for now, and nothing stays open."""
    bench.use(versioned=True)
    data = bench.write(SIZE)
    bench.die(8, when, attributes=OLD)  # type: ignore[arg-type]  # one of the two moments
    assert bench.token["phase"] == "completing"
    bench.upload(attributes=CHANGED["acl"])
    assert bench.stored == data
    assert bench.memory.versions(bench.ref)[0].attributes.acl == "private"
    assert bench.memory.uploads() == []


@pytest.mark.parametrize("size", [100, SIZE])
def test_changed_metadata_alone_changes_nothing(bench: Bench, size: int) -> None:
    """Templates put the try's own time there: a finished upload stays finished."""
    data = bench.write(size)
    bench.upload(attributes=ObjectAttributes(metadata=(("try", "1"),)))
    result = bench.upload(attributes=ObjectAttributes(metadata=(("try", "2"),)))
    bench.settled(data)
    assert (result.resumed, result.bytes_sent) == (True, 0)


def test_an_open_upload_with_other_metadata_goes_on(bench: Bench) -> None:
    """The parts that were sent are used."""
    data = bench.write(SIZE)
    bench.die(5, attributes=ObjectAttributes(metadata=(("try", "1"),)))
    result = bench.upload(attributes=ObjectAttributes(metadata=(("try", "2"),)))
    bench.settled(data)
    assert (result.resumed, result.parts_found, bench.sent) == (True, 3, SIZE)


def test_a_token_from_before_attributes_were_kept_goes_on(bench: Bench) -> None:
    """It does not say what they were: no reason to throw a night's work away."""
    data = bench.write(SIZE)
    bench.die(5, attributes=OLD)
    bench.edit_token(attributes=None)
    assert bench.upload(attributes=OLD).parts_found == 3
    bench.settled(data)


def test_a_create_lost_by_a_death_is_swept_although_the_attributes_changed(bench: Bench) -> None:
    """The intent is thrown away, and what its Create left is not forgotten."""
    data = bench.write(SIZE)
    bench.die(1, "after", attributes=OLD)
    assert (bench.token["phase"], len(bench.memory.uploads())) == ("intent", 1)
    bench.upload(attributes=CHANGED["acl"])
    bench.settled(data)


def test_a_create_lost_in_an_upload_of_other_attributes_is_swept(bench: Bench) -> None:
    """The old upload is aborted, and its lost twin as well."""
    data = bench.write(SIZE)
    bench.workers = 1
    bench.faulty.add(Fault("create", when="after"), Fault("upload_part", nth=3, error=_denied()))
    with pytest.raises(type(_denied())):
        bench.upload(attributes=OLD)
    assert len(bench.memory.uploads()) == 2
    bench.upload(attributes=CHANGED["acl"])
    bench.settled(data)


def _denied() -> Exception:
    from orbit_airflow.engine.errors import AccessDenied

    return AccessDenied("x")


def test_the_order_of_tags_and_arguments_is_no_change() -> None:
    """Both are sets by nature, and come from mappings."""
    one = ObjectAttributes(tags=(("a", "1"), ("b", "2")), extra_args=(("X", "1"), ("Y", True)))
    two = ObjectAttributes(tags=(("b", "2"), ("a", "1")), extra_args=(("Y", True), ("X", "1")))
    assert attributes_hash(one) == attributes_hash(two)


def test_a_date_among_the_arguments_is_compared() -> None:
    """ObjectLockRetainUntilDate is one."""
    dates = [datetime(2030, 1, day, tzinfo=UTC) for day in (1, 1, 2)]
    hashes = [attributes_hash(ObjectAttributes(extra_args=(("ObjectLockRetainUntilDate", date),))) for date in dates]
    assert hashes[0] == hashes[1] != hashes[2]
