"""The watch over a prefix: what it tells of, what it remembers, and in how much room."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.engine.watching import CHUNK, ListingPage, PrefixWatch, from_chunks, to_chunks


def _entry(key: str, version_id: str) -> ListedVersion:
    return ListedVersion(key=key, version_id=version_id, is_latest=False, last_modified=None)


def _page(*names: str, first: bool = True, last: bool = True) -> ListingPage:
    """``a1``: version 1 of key a."""
    return ListingPage(versions=tuple(_entry(name[0], name[1:]) for name in names), first=first, last=last)


def _look(watch: PrefixWatch, *names: str) -> list[str]:
    told = watch.take(_page(*names))
    watch.finish()
    return [item.key + item.version_id for item in told]


def test_the_first_look_of_a_new_watch_tells_nothing() -> None:
    watch = PrefixWatch(None)
    assert _look(watch, "a1", "b1") == []
    assert _look(watch, "a1", "b1") == []
    assert _look(watch, "a1", "b2", "b1", "c1") == ["b2", "c1"]


def test_an_empty_prefix_is_a_watermark_too() -> None:
    """Else the first object ever would only be the baseline."""
    watch = PrefixWatch(None)
    watch.take(_page())
    assert watch.finish() == frozenset()
    assert _look(watch, "a1") == ["a1"]


def test_a_keys_versions_are_told_oldest_first() -> None:
    watch = PrefixWatch(frozenset())
    assert _look(watch, "a3", "a2", "a1", "b1") == ["a1", "a2", "a3", "b1"]


def test_a_removed_version_is_forgotten_and_makes_no_other_one_new() -> None:
    watch = PrefixWatch(None)
    _look(watch, "a3", "a2", "a1")
    assert _look(watch, "a2", "a1") == []
    assert watch.known is not None
    assert len(watch.known) == 2


def test_a_look_that_broke_off_is_not_told_twice_and_forgets_nothing() -> None:
    """Its events are out; the next look, which is whole, does not repeat them."""
    watch = PrefixWatch(None)
    _look(watch, "a1", "z1")
    before = watch.known
    assert [item.version_id for item in watch.take(_page("a2", "a1", last=False))] == ["2"]
    assert watch.known == before
    assert _look(watch, "a3", "a2", "a1", "z2", "z1") == ["a3", "z2"]
    assert _look(watch, "a3", "a2", "a1", "z2", "z1") == []


def test_a_watch_that_joins_in_the_middle_waits_for_a_beginning() -> None:
    """Half a listing would make the other half new."""
    watch = PrefixWatch(frozenset())
    assert watch.take(_page("m1", first=False)) == []
    assert watch.finish() is None
    assert _look(watch, "a1", "m1") == ["a1", "m1"]


def test_the_watermark_changes_only_when_the_listing_does() -> None:
    """So that a quiet prefix writes nothing."""
    watch = PrefixWatch(None)
    watch.take(_page("a1"))
    assert watch.finish() is not None
    watch.take(_page("a1"))
    assert watch.finish() is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 40)), min_size=1, max_size=8), st.integers(0, 7))
def test_whatever_is_there_at_a_look_is_told_once_also_over_a_restart(history: list[set[int]], restart: int) -> None:
    """The watermark of a whole look, stored and read back, goes on without a gap and without a repetition."""
    watch = PrefixWatch(frozenset())
    told: list[str] = []
    for number, present in enumerate(history):
        if number == restart:
            watch = PrefixWatch(from_chunks(to_chunks(watch.known or frozenset())))
        told += _look(watch, *(f"k{item}" for item in sorted(present)))
    before: set[int] = set()
    expected = 0
    for present in history:
        expected += len(present - before)
        before = present
    assert len(told) == expected


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 10 * CHUNK])
def test_the_watermark_is_texts_below_the_limit_of_the_state_store(count: int) -> None:
    """Eight characters for a version, some of them for the uneven spread."""
    marks = frozenset(number * 0x9E3779B97F4A7C15 % 2**48 for number in range(count))
    chunks = to_chunks(marks)
    assert from_chunks(chunks) == marks
    assert all(len(text) < 65_535 for text in chunks)
    assert sum(len(text) for text in chunks) <= 8 * count + 4 * len(chunks)


def test_one_new_version_changes_one_chunk() -> None:
    """A watch over a hundred thousand versions writes 40 KB for it, not 800."""
    marks = frozenset(number * 0x9E3779B97F4A7C15 % 2**48 for number in range(5 * CHUNK))
    before, after = to_chunks(marks), to_chunks(marks | {12345})
    assert len(before) == len(after) == 8
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("chunks", [[None], [7], ["not base64!"], [base64.b64encode(b"12345").decode()], [{}]])
def test_a_damaged_watermark_is_refused(chunks: list[object]) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        from_chunks(chunks)


def test_a_page_says_nothing_of_other_properties() -> None:
    """A transition to another class is no new version."""
    watch = PrefixWatch(None)
    _look(watch, "a1")
    moved = replace(_entry("a", "1"), storage_class="GLACIER", is_latest=True)
    assert watch.take(ListingPage(versions=(moved,), first=True, last=True)) == []
