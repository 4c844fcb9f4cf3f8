"""Sources of keys: lists and prefixes with their filters; positions, identities, and what is refused."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine import KeyList, KeyPrefix, PrefixKeys, Selection
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError, Unavailable
from orbit_airflow.engine.keys import KeySource
from orbit_airflow.engine.model import ListedObject, ListResult, ObjectAttributes
from orbit_airflow.engine.store import ListRequest
from orbit_airflow.testing import MemoryStore
from tests.unit.engine.batches import BUCKET, engine_on, fill, numbered

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _call(memory: MemoryStore | None = None) -> Call:
    return engine_on(memory or MemoryStore()).call()


def _keys(source: KeySource, call: Call, **choices: Any) -> list[str]:
    return [entry.key for page in source.pages(call, **choices) for entry in page.entries]


def _listed(key: str, **known: Any) -> ListedObject:
    return ListedObject(key, **{"size": 10, "etag": "e", "last_modified": NOW, **known})


@given(st.lists(st.text("abc", min_size=1, max_size=3)), st.integers(1, 7))
def test_a_list_may_be_continued_at_every_page(keys: list[str], most: int) -> None:
    """Behind a page's position comes exactly the rest, without repetitions."""
    source, call = KeyList(keys), _call()
    pages = list(source.pages(call, most=most))
    wanted = list(dict.fromkeys(keys))
    assert [entry.key for page in pages for entry in page.entries] == wanted
    assert source.total == len(wanted)
    done = 0
    for page in pages:
        done += len(page.entries)
        assert _keys(source, call, after=page.cursor, most=most) == wanted[done:]


def test_a_list_is_known_by_its_keys() -> None:
    """Order, versions and borders between keys count."""
    call = _call()
    lists: list[list[Any]] = [["a", "b"], ["b", "a"], ["ab"], ["a"], [("a", "v1"), "b"], []]
    assert len({KeyList(keys).identity(call) for keys in lists}) == len(lists)
    assert KeyList(["a", "b"]).identity(call) == KeyList(("a", "b")).identity(call)


@pytest.mark.parametrize(
    ("keys", "said"),
    [(["a", ""], "key number 2"), (["\ud800"], "UTF-8"), ([("a",)], "number 1"), ([3], "number 1"), ("abc", "a list")],
)
def test_a_key_that_cannot_be_is_named(keys: Any, said: str) -> None:
    """Before anything is done."""
    with pytest.raises(ConfigError, match=said):
        KeyList(keys)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (key for key in ("a", "b")), lambda: {"a", "b"}, lambda: frozenset(), lambda: {"a": 1}, lambda: None,
        lambda: iter(["a"]), lambda: 5, lambda: "a", lambda: b"a",
    ],
)  # fmt: skip
def test_what_is_neither_a_list_nor_a_source_is_refused(make: Callable[[], Any]) -> None:
    """A generator cannot be read again behind a kill, and a set has no order; nothing is sent."""
    memory = MemoryStore()
    for verb in (engine_on(memory).batch.delete, lambda keys: engine_on(memory).batch.copy(keys, "x/")):
        with pytest.raises(ConfigError, match="keys is a list"):
            verb(make())
    assert not memory.requests


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "9" * 30, "\u0663"])
def test_a_position_that_is_none_is_refused(position: str) -> None:
    """A cursor may have been edited."""
    with pytest.raises(ConfigError, match="position"):
        _keys(KeyList(["a"]), _call(), after=position)


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        ({"glob": "logs/*.gz"}, ["logs/a.gz"]),
        ({"glob": "logs/**.gz"}, ["logs/a.gz", "logs/x/b.gz"]),
        ({"glob": "logs/**/b.gz"}, ["logs/x/b.gz"]),
        ({"glob": "**/a.gz"}, ["logs/a.gz"]),
        ({"glob": "logs/?.[gt]z"}, ["logs/a.gz"]),
        ({"glob": "logs/[!a]*"}, ["logs/c.txt"]),
        ({"glob": "logs/[^a]*"}, ["logs/a.gz"]),
        ({"glob": "logs/[]a]*"}, ["logs/a.gz"]),
        ({"glob": "logs/[[a&&b]*"}, ["logs/a.gz"]),
        ({"glob": "logs/[a||~~]*"}, ["logs/a.gz"]),
        ({"match": "logs/*.gz"}, ["logs/a.gz", "logs/x/b.gz"]),
        ({"regex": r"/[ab]\.gz$"}, ["logs/a.gz", "logs/x/b.gz"]),
        ({"exclude": "logs/x/*"}, ["logs/a.gz", "logs/c.txt"]),
        ({"glob": "**", "exclude": "**.gz"}, ["logs/c.txt"]),
    ],
    ids=str,
)
def test_patterns(choice: dict[str, str], taken: list[str]) -> None:
    """``*`` stops at a slash in a glob, and crosses it in fnmatch."""
    select = Selection(**choice)  # type: ignore[arg-type]
    assert [key for key in ("logs/a.gz", "logs/c.txt", "logs/x/b.gz") if select.takes(_listed(key))] == taken


@pytest.mark.filterwarnings("error")
@given(st.text("^!]ab-z&|~\\\\[", min_size=1, max_size=5), st.sampled_from("^!]abmz-&|~\\\\["))
def test_brackets_are_those_of_fnmatch(inside: str, character: str) -> None:
    """Whatever stands in them, a set or none."""
    select = Selection(glob=f"[{inside}]")
    assert select.takes(_listed(character)) is fnmatch.fnmatchcase(character, f"[{inside}]")


def test_sizes_times_and_classes() -> None:
    """All that are given must hold; ends are as the docstring says."""
    assert Selection(min_size=10, max_size=10).takes(_listed("a"))
    assert not Selection(min_size=11).takes(_listed("a"))
    assert not Selection(max_size=9).takes(_listed("a"))
    assert Selection(modified_after=NOW).takes(_listed("a"))
    assert not Selection(modified_before=NOW).takes(_listed("a"))
    assert Selection(modified_before=NOW + timedelta(seconds=1)).takes(_listed("a"))
    assert not Selection(modified_before=NOW).takes(_listed("a", last_modified=None))
    assert Selection(storage_classes=("GlacierFlexibleRetrieval",)).takes(_listed("a", storage_class="GLACIER"))
    assert Selection(storage_classes=("STANDARD",)).takes(_listed("a"))
    assert not Selection(storage_classes=("STANDARD",)).takes(_listed("a", storage_class="GLACIER"))


@pytest.mark.parametrize(
    "choice",
    [
        {"regex": "("},
        {"glob": ""},
        {"glob": "x" * 2000},
        {"min_size": -1},
        {"max_size": True},
        {"modified_after": NOW.replace(tzinfo=None)},
        {"storage_classes": ("GLACEIR",)},
    ],
    ids=str,
)
def test_a_filter_that_cannot_be_is_refused(choice: dict[str, Any]) -> None:
    """When it is made, not at the millionth key."""
    with pytest.raises(ConfigError):
        Selection(**choice)


def test_a_prefix_is_literal() -> None:
    """No directory, and nothing beside it; the filters are applied below it."""
    memory = MemoryStore(page_size=3)
    fill(memory, ["a/1.gz", "a/2.txt", "a/b/3.gz", "ab/4.gz", "b"])
    source = PrefixKeys(where=KeyPrefix(BUCKET, "a/"), select=Selection(glob="a/*.gz"))
    assert _keys(source, _call(memory)) == ["a/1.gz"]
    assert [page.scanned for page in source.pages(_call(memory))] == [3]


def test_a_whole_bucket_has_to_be_asked_for() -> None:
    """An empty template renders to an empty prefix."""
    with pytest.raises(ConfigError, match="whole_bucket"):
        PrefixKeys(where=KeyPrefix(BUCKET))
    memory = MemoryStore()
    fill(memory, ["a", "b"])
    assert _keys(PrefixKeys(where=KeyPrefix(BUCKET), whole_bucket=True), _call(memory)) == ["a", "b"]


def test_a_prefix_is_continued_behind_a_key() -> None:
    """Also when that key is gone, and filtered pages have positions, too."""
    memory = MemoryStore(page_size=4)
    fill(memory, numbered(20))
    source = PrefixKeys(where=KeyPrefix(BUCKET, "logs/"), select=Selection(regex="[05]$"))
    pages = list(source.pages(_call(memory)))
    assert [len(page.entries) for page in pages] == [1, 1, 1, 1, 0]
    assert _keys(source, _call(memory), after=pages[1].cursor) == ["logs/00010", "logs/00015"]
    assert source.identity(_call()) != replace(source, select=Selection()).identity(_call())


def test_a_listing_out_of_order_is_refused() -> None:
    """A position in it would mean nothing."""

    class Shuffled(MemoryStore):
        def list_objects(self, request: ListRequest) -> ListResult:
            return ListResult((_listed("logs/b"), _listed("logs/a")))

    with pytest.raises(Unavailable, match="manifest"):
        _keys(PrefixKeys(where=KeyPrefix(BUCKET, "logs/")), _call(Shuffled()))


def test_entries_know_what_the_listing_tells() -> None:
    """Size, ETag and class."""
    memory = MemoryStore()
    fill(memory, ["a/x"], ObjectAttributes(storage_class="STANDARD_IA"))
    (page,) = PrefixKeys(where=KeyPrefix(BUCKET, "a/")).pages(_call(memory))
    assert (page.entries[0].size, page.entries[0].storage_class, page.cursor) == (1, "STANDARD_IA", "a/x")
