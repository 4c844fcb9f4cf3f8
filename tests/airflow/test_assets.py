"""Asset events: what Airflow is told with a task's success, and what it is spared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias

from orbit_airflow.durable.outlets import as_asset, emit_assets
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, Try
from tests.airflow.fakes import FakeComms, RecordingLog
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
SUMMARY = {
    "uri": "s3://b/k", "bucket": "b", "key": "k", "size": 5, "checksum": "CRC32:AAAA", "version_id": "v1",
    "integrity": "full-crc", "etag": "e", "try_number": 1,
}  # fmt: skip
PROOF = {"size": 5, "checksum": "CRC32:AAAA", "version_id": "v1", "integrity": "full-crc", "etag": "e"}
HELP = "cannot be the URI of an Airflow asset"


def upload(dag: Any, path: Path, key: str = "a/b c.tar", **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{"task_id": "up", "filename": str(path), "dest_bucket": BUCKET, "dest_key": key, **kwargs}
        )


def told(comms: FakeComms) -> list[dict[str, Any]]:
    """The events of the one success."""
    (message,) = comms.writes("SucceedTask")
    events: list[dict[str, Any]] = message.outlet_events
    return events


class Outlets:
    """A context whose task has these outlets."""

    def __init__(self, *outlets: Any) -> None:
        from airflow.sdk.execution_time.context import OutletEventAccessors

        self.events, self.log = OutletEventAccessors(), RecordingLog()
        self.context: Any = {"task": type("Task", (), {"outlets": outlets})(), "outlet_events": self.events}

    def emit(self, **changes: Any) -> None:
        emit_assets(self.context, {**SUMMARY, **changes}, self.log)

    def alias_events(self, name: str = "x") -> list[Any]:
        return list(self.events[AssetAlias(name)].asset_alias_events)


def test_an_outlet_with_the_objects_address_learns_the_proof(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile
) -> None:
    """Through the task runner, as the API server gets it; outlets of other addresses get a plain event."""
    uri = f"s3://{BUCKET}/a/b c.tar"
    outlets = [Asset(uri), Asset("nightly", uri=uri, group="backups"), Asset("s3://elsewhere/x")]
    assert run_try(upload(dag, make_file(100), outlets=outlets)).state == "success"
    result = comms.xcoms[("up", -1, "return_value")]
    extra = {"uri": uri, **{name: result[name] for name in PROOF}}
    assert extra["integrity"] == "full-crc"
    events = {event["dest_asset_key"]["name"]: event["extra"] for event in told(comms)}
    assert events == {uri: extra, "nightly": extra}
    (message,) = comms.writes("SucceedTask")
    assert len(message.task_outlets) == 3


def test_an_alias_gets_an_event_on_the_objects_asset(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile
) -> None:
    both = [AssetAlias("uploads"), AssetAlias("backups")]
    op = upload(dag, make_file(100), dest_bucket="versioned", outlets=both)
    assert run_try(op).state == "success"
    events = told(comms)
    assert [event["source_alias_name"] for event in events] == ["uploads", "backups"]
    for event in events:
        assert event["dest_asset_key"]["uri"] == "s3://versioned/a/b c.tar"
        assert event["extra"]["version_id"] == comms.xcoms[("up", -1, "return_value")]["version_id"]
        assert event["extra"]["version_id"] is not None


def test_a_failed_try_tells_nothing(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    s3.inject(Fault(operation="PutObject", status=403, code="AccessDenied", times=None))
    assert run_try(upload(dag, make_file(100), outlets=[AssetAlias("uploads")])).state == "failed"
    assert comms.writes("SucceedTask") == []


@pytest.mark.parametrize("key", ["a#b", "folder/", "k?b=1&a=2", "line\nfeed", "tab\there", "q?"])
def test_a_key_that_no_asset_can_have_is_skipped_with_one_warning(key: str) -> None:
    """Airflow would make the asset of another key of it."""
    outlets = Outlets(AssetAlias("x"), AssetAlias("y"), Asset("s3://b/a"), Asset("s3://b/folder"))
    outlets.emit(uri=f"s3://b/{key}", key=key)
    assert len(outlets.events) == 0
    (warning,) = outlets.log.texts("warning")
    assert HELP in warning
    assert "\n" not in warning


def test_such_a_key_is_uploaded_all_the_same(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, lines: list[tuple[str, str]]
) -> None:
    assert run_try(upload(dag, make_file(100), "a#b", outlets=[AssetAlias("x")])).state == "success"
    assert len([text for level, text in lines if level == "warning" and HELP in text]) == 1
    assert told(comms) == []
    assert len(s3.versions(BUCKET, "a#b")) == 1


def test_nobody_is_warned_who_has_no_outlets() -> None:
    outlets = Outlets()
    outlets.emit(uri="s3://b/a#b")
    assert outlets.log.texts() == []


@pytest.mark.parametrize("key", ["a", "a//b", "ü/文", "a%20b", "a b", "q?a=1", "+&=@:", "[", " ", "a" * 1024])
def test_odd_keys_that_can_be_assets(key: str) -> None:
    asset = as_asset(f"s3://b/{key}")
    assert asset is not None
    assert asset.uri == f"s3://b/{key}"


def test_a_path_may_be_too_long() -> None:
    assert as_asset("file:///" + "x" * 1600) is None


def test_a_downloads_asset_is_the_file() -> None:
    """The object is its source, and no outlet of it."""
    outlets = Outlets(AssetAlias("x"), Asset("file:///data/in put.bin"), Asset("s3://b/k"))
    outlets.emit(path="/data/in put.bin")
    extra = {"uri": "file:///data/in put.bin", "source_uri": "s3://b/k", **PROOF}
    (event,) = outlets.alias_events()
    assert (event.dest_asset_key.uri, event.extra) == ("file:///data/in put.bin", extra)
    assert outlets.events[Asset("file:///data/in put.bin")].extra == extra
    assert outlets.events[Asset("s3://b/k")].extra == {}


def test_what_a_dag_author_put_there_stays() -> None:
    """An on_execute callback, or a subclass, may have its own words in the extra."""
    outlets = Outlets(Asset("s3://b/k"))
    outlets.events[Asset("s3://b/k")].extra["mine"] = 1
    outlets.emit()
    assert outlets.events[Asset("s3://b/k")].extra == {"mine": 1, "uri": "s3://b/k", **PROOF}


def test_events_are_no_reason_to_fail() -> None:
    outlets = Outlets(AssetAlias("x"))
    del outlets.context["outlet_events"]
    outlets.emit()
    (warning,) = outlets.log.texts("warning")
    assert "the transfer itself is done" in warning
