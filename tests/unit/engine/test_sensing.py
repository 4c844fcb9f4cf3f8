"""What a sensor takes for new, over a store in memory: by version ids, never by time."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbit_airflow.engine import errors
from orbit_airflow.engine.compose import engine_over
from orbit_airflow.engine.error_mapping import error_from_mapping, error_to_mapping
from orbit_airflow.engine.errors import ConfigError, NotFound, ObjectDeleted, OrbitError, RequestContext
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.look import caveat, look, take_baseline
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.sensing import (
    MAX_KNOWN,
    MAX_TOLD,
    OVERLAP,
    Baseline,
    Verdict,
    WaitFor,
    Wanted,
    baseline_of,
    fingerprint,
    news,
)
from orbit_airflow.engine.versioning import ListedVersion, VersioningState
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore

REF = ObjectRef("bucket", "key")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(versioned=True)


@pytest.fixture
def engine(memory: MemoryStore) -> TransferEngine:
    return _engine(memory)


def _engine(memory: MemoryStore, *faults: Fault) -> TransferEngine:
    config = EngineConfig(bucket="bucket", max_retries=0, outage_patience=0)
    return engine_over(FaultyStore(memory, faults), config, rng=random.Random(1))


def _wanted(wait_for: str = "new_version", **kwargs: Any) -> Wanted:
    key = None if wait_for == "enabled" else "key"
    return Wanted(**{"bucket": "bucket", "key": key, "wait_for": WaitFor.parse(wait_for), **kwargs})


def _entry(version_id: str, **kwargs: Any) -> ListedVersion:
    return ListedVersion(
        **{"key": "key", "version_id": version_id, "is_latest": False, "last_modified": NOW, "size": 1, **kwargs}
    )


def _ids(versions: tuple[ListedVersion, ...]) -> list[str]:
    return [item.version_id for item in versions]


def test_enabled_is_when_the_bucket_is(memory: MemoryStore, engine: TransferEngine) -> None:
    """And not when versioning is suspended."""
    wanted = _wanted("enabled")
    seen = []
    for state in (VersioningState.SUSPENDED, VersioningState.ENABLED):
        memory.put_versioning("bucket", state)
        seen.append(look(engine, wanted, take_baseline(engine, wanted)))
    assert [verdict.done for verdict in seen] == [False, True]
    assert seen[1].to_mapping() == {
        "wait_for": "enabled", "bucket": "bucket", "uri": "s3://bucket", "status": "Enabled", "mfa_delete": False,
    }  # fmt: skip


def test_all_versions_between_two_looks_are_reported_newest_first(engine: TransferEngine) -> None:
    wanted = _wanted()
    engine.upload_bytes(b"old", REF)
    baseline = take_baseline(engine, wanted)
    assert not look(engine, wanted, baseline).done
    ids = [engine.upload_bytes(body, REF).version_id for body in (b"a", b"bb", b"ccc")]
    verdict = look(engine, wanted, baseline)
    assert _ids(verdict.versions) == ids[::-1]
    result = verdict.to_mapping()
    assert (result["version_id"], result["size"], result["count"], result["is_latest"]) == (ids[2], 3, 3, True)
    assert [item["size"] for item in result["versions"]] == [3, 2, 1]
    assert json.loads(json.dumps(result)) == result


def test_a_key_that_never_was_gets_its_first_version(engine: TransferEngine) -> None:
    wanted = _wanted()
    baseline = take_baseline(engine, wanted)
    engine.upload_bytes(b"x", ObjectRef("bucket", "key2"))
    assert not look(engine, wanted, baseline).done
    version_id = engine.upload_bytes(b"x", REF).version_id
    assert _ids(look(engine, wanted, baseline).versions) == [version_id]


def test_a_marker_is_no_new_version_and_a_version_no_marker(engine: TransferEngine) -> None:
    """A marker, then a version: each is found by who waits for it, also when the other one lies on top."""
    engine.upload_bytes(b"old", REF)
    versions, markers = _wanted(), _wanted("delete_marker")
    before = take_baseline(engine, versions), take_baseline(engine, markers)
    engine.delete(REF)
    assert not look(engine, versions, before[0]).done
    (marker,) = look(engine, markers, before[1]).versions
    assert marker.delete_marker
    version_id = engine.upload_bytes(b"new", REF).version_id
    assert _ids(look(engine, versions, before[0]).versions) == [version_id]
    (below,) = look(engine, markers, before[1]).versions
    assert (below.version_id, below.is_latest) == (marker.version_id, False)


@pytest.mark.parametrize("versioned", [True, False])
def test_an_overwritten_null_version_is_new(versioned: bool) -> None:
    """In a suspended bucket, and in one that never kept versions, the id alone says nothing."""
    memory = MemoryStore()
    engine = _engine(memory)
    if versioned:
        engine.versions.enable_versioning()
        engine.upload_bytes(b"kept", REF)
        engine.versions.suspend_versioning()
    engine.upload_bytes(b"one", REF)
    baseline = take_baseline(engine, _wanted())
    engine.upload_bytes(b"two", REF)
    (found,) = look(engine, _wanted(), baseline).versions
    assert (found.version_id, found.size) == ("null", 3)


def test_a_removed_newest_version_makes_no_old_one_new(engine: TransferEngine) -> None:
    """Whoever remembers only the newest id takes all others for new then."""
    ids = [engine.upload_bytes(body, REF).version_id for body in (b"a", b"b", b"c")]
    baseline = take_baseline(engine, _wanted())
    engine.versions.delete_version(REF, ids[2] or "")
    assert not look(engine, _wanted(), baseline).done
    new = engine.upload_bytes(b"d", REF).version_id
    assert _ids(look(engine, _wanted(), baseline).versions) == [new]


def test_since_counts_what_is_above_that_version(engine: TransferEngine) -> None:
    ids = [engine.upload_bytes(body, REF).version_id or "" for body in (b"a", b"b", b"c")]
    wanted = _wanted(since_version_id=ids[1])
    baseline = take_baseline(engine, wanted)
    assert _ids(look(engine, wanted, baseline).versions) == [ids[2]]


def test_since_a_version_that_is_not_there_is_an_error(engine: TransferEngine) -> None:
    engine.upload_bytes(b"a", REF)
    with pytest.raises(NotFound, match="has no version nope"):
        take_baseline(engine, _wanted(since_version_id="nope"))


def test_one_version_is_waited_for_by_its_id(engine: TransferEngine) -> None:
    """It need not be the newest one."""
    version_id = engine.upload_bytes(b"abc", REF).version_id or ""
    engine.upload_bytes(b"newer", REF)
    assert not look(engine, _wanted("version_id", version_id="nope"), Baseline(frozenset())).done
    wanted = _wanted("version_id", version_id=version_id)
    result = look(engine, wanted, take_baseline(engine, wanted)).to_mapping()
    assert (result["version_id"], result["size"], result["count"]) == (version_id, 3, 1)


def test_a_version_id_that_is_a_marker_never_comes(engine: TransferEngine) -> None:
    engine.upload_bytes(b"abc", REF)
    marker = engine.delete(REF).version_id
    with pytest.raises(ObjectDeleted):
        look(engine, _wanted("version_id", version_id=marker), Baseline(frozenset()))


def test_what_the_bucket_does_not_keep_is_said(memory: MemoryStore) -> None:
    """A sensor that can never end should say so; one that may not ask says nothing."""
    engine = _engine(memory)
    assert caveat(engine, _wanted()) is None
    assert caveat(_engine(MemoryStore()), _wanted("enabled")) is None
    assert "no marker to wait for" in (caveat(_engine(MemoryStore()), _wanted("delete_marker")) or "")
    engine.versions.suspend_versioning()
    assert "suspended" in (caveat(engine, _wanted()) or "")
    denied = Fault("get_versioning", error=errors.AccessDenied("no"))
    assert caveat(_engine(MemoryStore(), denied), _wanted()) is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"wait_for": WaitFor.NEW_VERSION}, "needs a bucket_key"),
        ({"wait_for": WaitFor.ENABLED, "key": "k"}, "takes no bucket_key"),
        ({"wait_for": WaitFor.VERSION_ID, "key": "k"}, "version_id is given with"),
        ({"wait_for": WaitFor.NEW_VERSION, "key": "k", "version_id": "v"}, "version_id is given with"),
        ({"wait_for": WaitFor.ENABLED, "since_version_id": "v"}, "since_version_id goes with"),
        ({"wait_for": WaitFor.ENABLED, "bucket": "no bucket"}, "not a bucket name"),
    ],
)
def test_what_means_nothing_is_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Wanted(**{"bucket": "bucket", **kwargs})


def test_an_unknown_wait_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'enabled', 'new_version', 'delete_marker', 'version_id', got 'gone'"):
        WaitFor.parse("gone")


def test_a_long_history_is_remembered_by_its_newest_part() -> None:
    """What is older than what is remembered is not new, and little of it is read."""
    listed = [_entry(f"v{number}") for number in range(3 * MAX_KNOWN, 0, -1)]
    baseline = baseline_of(listed, None, REF)
    assert (len(baseline.known), baseline.complete) == (MAX_KNOWN, False)
    read = iter([_entry("new"), *listed])
    assert _ids(news(baseline, read, REF)) == ["new"]
    assert len(list(read)) == len(listed) - OVERLAP
    pruned = [_entry("new"), *listed[MAX_KNOWN - 1 :]]
    assert _ids(news(baseline, pruned, REF)) == ["new"]


def test_when_all_that_is_remembered_is_gone_it_is_said() -> None:
    """Guessing would either wait for ever or call old versions new."""
    listed = [_entry(f"v{number}") for number in range(3 * MAX_KNOWN, 0, -1)]
    baseline = baseline_of(listed, None, REF)
    with pytest.raises(NotFound, match="are all gone"):
        news(baseline, listed[MAX_KNOWN:], REF)
    assert news(baseline, [], REF) == ()


def test_a_new_version_between_known_ones_is_found() -> None:
    """Some stores order by LastModified, which of an upload in parts is when it began."""
    baseline = baseline_of([_entry("b"), _entry("a")], None, REF)
    assert _ids(news(baseline, [_entry("b"), _entry("late"), _entry("a"), _entry("early")], REF)) == ["late", "early"]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_new_is_what_was_not_there_whatever_the_times_say(data: st.DataObject) -> None:
    """Any history, any times, any removals since: the answer is the difference of two sets."""
    before = [_entry(f"old{number}") for number in range(data.draw(st.integers(0, 30)))]
    after = [_entry(f"new{number}") for number in range(data.draw(st.integers(0, 30)))]
    kept = [item for item in before if data.draw(st.booleans())]
    listed = [
        replace(item, last_modified=NOW + timedelta(seconds=data.draw(st.integers(-9, 9)))) for item in (*after, *kept)
    ]
    assert _ids(news(baseline_of(before, None, REF), listed, REF)) == _ids(tuple(after))


def test_a_baseline_is_small_json_and_comes_back() -> None:
    wanted = _wanted()
    baseline = baseline_of([_entry(f"v{number}") for number in range(2 * MAX_KNOWN)], None, REF)
    text = json.dumps(baseline.to_mapping(wanted))
    assert len(text) < 16_000
    assert Baseline.from_mapping(json.loads(text), wanted) == baseline


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"known": "abc"}, {"known": ["xyz"]}, {"known": ["z" * 12]}, {"known": [1]}, {"complete": "yes"},
        {"target": "x"}, {"known": ["0" * 12] * (MAX_KNOWN + 1)},
    ],
)  # fmt: skip
def test_an_edited_baseline_is_none(change: dict[str, Any]) -> None:
    mapping = Baseline(frozenset([1])).to_mapping(_wanted())
    assert Baseline.from_mapping({**mapping, **change}, _wanted()) is None
    assert Baseline.from_mapping([mapping], _wanted()) is None


def test_a_baseline_belongs_to_what_it_was_taken_for() -> None:
    mapping = Baseline(frozenset([1])).to_mapping(_wanted())
    assert Baseline.from_mapping(mapping, _wanted(key="other")) is None
    assert Baseline.from_mapping(mapping, _wanted("delete_marker")) is None


def test_the_result_lists_at_most_a_thousand_and_counts_all() -> None:
    versions = tuple(_entry(f"v{number}") for number in range(MAX_TOLD + 5))
    result = Verdict(wanted=_wanted(), versions=versions).to_mapping()
    assert (len(result["versions"]), result["count"]) == (MAX_TOLD, MAX_TOLD + 5)


def test_ids_make_versions_equal_and_nothing_else_does() -> None:
    """A transition to another class, or another latest one, makes no new version."""
    item = _entry("v", etag="a")
    assert fingerprint(replace(item, storage_class="GLACIER", is_latest=True, last_modified=None)) == fingerprint(item)
    others = [replace(item, key="other"), replace(item, version_id="w"), replace(item, version_id="null")]
    assert len({fingerprint(other) for other in (item, *others)}) == 4


def _all_errors() -> list[type[OrbitError]]:
    found = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, OrbitError)]
    return sorted(found, key=lambda item: item.__name__)


@pytest.mark.parametrize("kind", _all_errors())
def test_every_error_survives_json(kind: type[OrbitError]) -> None:
    """With its class, its context and its notes."""
    context = RequestContext("HeadObject", "b", "k", status=403, code="X", retry_after=1.5, sent=False, notes=("n",))
    error = kind("what happened", context)
    again = error_from_mapping(json.loads(json.dumps(error_to_mapping(error))))
    assert type(again) is kind
    assert (again.message, again.context, str(again)) == (error.message, error.context, str(error))


@pytest.mark.parametrize(
    "value",
    [{}, {"class": "os.system", "message": "m"}, {"class": "orbit_airflow.engine.errors.Disposition", "context": 1}],
)
def test_an_unknown_class_is_the_base_class(value: dict[str, Any]) -> None:
    """Nothing is imported by name."""
    assert type(error_from_mapping(value)) is OrbitError
