"""The batch operators in the real task runner, against the strict S3 server."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.batch.window import Window
from orbit_airflow.engine.errors import BatchFailed, BatchRefused, ConfigError
from orbit_airflow.operators.batch import (
    OrbitS3BatchCopyOperator,
    OrbitS3BatchDeleteOperator,
    OrbitS3ChangeStorageClassOperator,
    OrbitS3TagObjectsOperator,
    OrbitS3UpdateMetadataOperator,
)
from tests.airflow.conftest import BUCKET, Try, connection_extra
from tests.airflow.fakes import FakeComms
from tests.model_server import ModelServer
from tests.model_server.conftest import client_of

RunTry = Callable[..., Try]
KEYS = [f"logs/{number:03d}" for number in range(30)]


@pytest.fixture
def client(s3: ModelServer) -> Any:
    return client_of(s3)


@pytest.fixture
def filled(s3: ModelServer, client: Any) -> list[str]:
    """30 small objects below ``logs/``, and one beside it. The server's log begins behind them."""
    for key in [*KEYS, "other"]:
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), Metadata={"a": "1"}, Tagging="t=1")
    s3.reset()
    return KEYS


def left(client: Any, prefix: str = "", bucket: str = BUCKET) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def made(dag: Any, kind: type, **kwargs: Any) -> Any:
    quick = {"retries": 3, "retry_delay_seconds": 0.0, "page_keys": 10, "max_concurrent": 2}
    with dag:
        return kind(**{"task_id": "batch", **quick, **kwargs})


def result_of(comms: FakeComms, task_id: str = "batch") -> Any:
    return comms.xcoms[task_id, -1, "return_value"]


def test_a_prefix_is_deleted(
    run_try: RunTry, dag: Any, comms: FakeComms, client: Any, filled: list[str], tmp_path: Path
) -> None:
    """With a report, a result in XCom, and figures while it runs; what is beside the prefix stays."""
    report = tmp_path / "report.jsonl"
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, prefix="logs/", exclude="logs/00*", report=str(report))
    assert run_try(op).state == "success"
    assert left(client) == [*KEYS[:10], "other"]
    told = result_of(comms)
    assert (told["verb"], told["total"], told["successful"], told["failed"]) == ("delete", 20, 20, 0)
    assert (told["bucket"], told["report"], told["try_number"]) == (BUCKET, str(report), 1)
    assert [json.loads(line)["key"] for line in report.read_text().splitlines()] == KEYS[10:]
    figures = comms.xcoms["batch", -1, "orbit_progress"]
    assert (figures["phase"], figures["items_done"], figures["items_failed"]) == ("batch", 20, 0)


def test_the_story_of_a_batch(
    run_try: RunTry, dag: Any, lines: list[tuple[str, str]], client: Any, filled: list[str]
) -> None:
    """A first line, and a last one with counts and the report's place."""
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, keys=KEYS)
    assert run_try(op).state == "success"
    texts = [text for _, text in lines]
    assert f"delete: 30 keys of s3://{BUCKET}; report: none" in texts
    assert any(text.startswith("delete: 30 keys, 30 as they should be (0 of them already), 0 failed") for text in texts)


@pytest.mark.parametrize("keys", [[], "[]", " [ ] "])
def test_an_empty_list_is_nothing(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, client: Any, filled: list[str], keys: Any
) -> None:
    """Not everything: nothing is sent but what is asked of nobody's key."""
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, keys=keys)
    assert run_try(op).state == "success"
    assert result_of(comms)["total"] == 0
    assert not s3.records("DeleteObjects")
    assert len(left(client)) == 31


@pytest.mark.parametrize("rendered", ["{{ none }}", "", "None", "logs/001", '{"a": 1}'])
def test_what_is_rendered_to_no_list_is_an_error(
    run_try: RunTry, dag: Any, client: Any, filled: list[str], rendered: str
) -> None:
    """And nothing is deleted."""
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, keys="{{ params.keys }}", params={"keys": rendered})
    ended = run_try(op)
    assert isinstance(ended.error, ConfigError)
    assert "keys is a list" in ended.error.message
    assert len(left(client)) == 31


def test_keys_come_from_an_xcom(run_try: RunTry, dag: Any, client: Any, filled: list[str]) -> None:
    """As a list, as its text, and as JSON."""
    for number, keys in enumerate([KEYS[:3], str(KEYS[3:6]), json.dumps(KEYS[6:9])]):
        op = made(dag, OrbitS3BatchDeleteOperator, task_id=f"b{number}", bucket=BUCKET, keys=keys)
        assert run_try(op).state == "success"
    assert left(client, "logs/") == KEYS[9:]


def test_a_plan_changes_nothing_and_is_then_done(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, client: Any, filled: list[str], tmp_path: Path
) -> None:
    """The manifest that the plan writes has exactly its keys."""
    plan = str(tmp_path / "plan.jsonl")
    op = made(
        dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, prefix="logs/", match="*5", dry_run=True, plan_manifest=plan
    )
    assert run_try(op).state == "success"
    told = result_of(comms)
    assert (told["dry_run"], told["objects"], told["bytes"], told["manifest"]) == (True, 3, 24, plan)
    assert not s3.records("DeleteObjects")
    client.put_object(Bucket=BUCKET, Key="logs/995", Body=b"later")
    then = made(dag, OrbitS3BatchDeleteOperator, task_id="apply", bucket=BUCKET, manifest=plan)
    assert run_try(then).state == "success"
    assert [key for key in left(client, "logs/") if key.endswith("5")] == ["logs/995"]


def test_failed_keys_fail_the_task(
    run_try: RunTry, dag: Any, comms: FakeComms, client: Any, filled: list[str], tmp_path: Path
) -> None:
    """With the result in XCom, the report whole, the others done, and no retry by Airflow; a clear does it again."""
    report = tmp_path / "report.jsonl"
    keys = ["missing", *KEYS]
    op = made(dag, OrbitS3TagObjectsOperator, bucket=BUCKET, keys=keys, tags={"p": "x"}, report=str(report))
    ended = run_try(op)
    assert isinstance(ended.error, BatchFailed)
    assert "1 of 31 keys failed" in ended.error.message
    assert ended.state == "failed"
    told = result_of(comms)
    assert (told["total"], told["successful"], told["failed"]) == (31, 30, 1)
    assert told["errors"][0]["key"] == "missing"
    assert len(report.read_text().splitlines()) == 31
    client.put_object(Bucket=BUCKET, Key="missing", Body=b"x")
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["skipped"] == 30


@pytest.mark.parametrize(("allowed", "state"), [(0, "failed"), (1, "failed"), (2, "success"), (None, "success")])
def test_so_many_failures_are_allowed(
    run_try: RunTry, dag: Any, filled: list[str], allowed: int | None, state: str
) -> None:
    """None: any number."""
    op = made(
        dag, OrbitS3TagObjectsOperator, bucket=BUCKET, keys=["no", "nor", *KEYS[:3]], tags={"p": "x"},
        allowed_failures=allowed,
    )  # fmt: skip
    assert run_try(op).state == state


def test_a_guard_refuses(run_try: RunTry, dag: Any, client: Any, filled: list[str]) -> None:
    """Before anything is changed, and for good."""
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, prefix="logs/", max_keys=29)
    ended = run_try(op)
    assert (type(ended.error), ended.state) == (BatchRefused, "failed")
    assert len(left(client)) == 31


def test_objects_are_copied(run_try: RunTry, dag: Any, comms: FakeComms, client: Any, filled: list[str]) -> None:
    """Inside the store, with metadata and tags."""
    op = made(
        dag, OrbitS3BatchCopyOperator, source_bucket=BUCKET, prefix="logs/", dest_prefix="copy/",
        strip_prefix="logs/", dest_bucket="versioned",
    )  # fmt: skip
    assert run_try(op).state == "success"
    assert left(client, bucket="versioned") == [key.replace("logs/", "copy/") for key in KEYS]
    head = client.head_object(Bucket="versioned", Key="copy/007")
    assert head["Metadata"] == {"a": "1"}
    assert client.get_object_tagging(Bucket="versioned", Key="copy/007")["TagSet"] == [{"Key": "t", "Value": "1"}]


@pytest.fixture
def elsewhere() -> Any:
    """Another store, which knows nothing of the first one."""
    with ModelServer() as running:
        running.create_bucket("there", "Enabled")
        yield running


def test_objects_go_through_the_worker_between_two_stores(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, elsewhere: ModelServer, client: Any,
    filled: list[str], tmp_path: Path,
) -> None:  # fmt: skip
    """Byte for byte, with headers, metadata and tags; nothing is left on the disk."""
    body = os.urandom(6 * 1024 * 1024)
    client.put_object(Bucket=BUCKET, Key="logs/big", Body=body, CacheControl="no-store", ContentType="a/b")
    comms.add_connection("other", elsewhere.access_key, elsewhere.secret_key, connection_extra(elsewhere))
    folder = tmp_path / "between"
    folder.mkdir()
    op = made(
        dag, OrbitS3BatchCopyOperator, source_bucket=BUCKET, prefix="logs/", dest_prefix="x/", dest_bucket="there",
        source_aws_conn_id="aws_default", dest_aws_conn_id="other", temporary_directory=str(folder),
    )  # fmt: skip
    assert run_try(op).state == "success"
    assert result_of(comms)["successful"] == 31
    there = client_of(elsewhere)
    found = there.get_object(Bucket="there", Key="x/logs/big")
    assert found["Body"].read() == body
    assert (found["CacheControl"], found["ContentType"]) == ("no-store", "a/b")
    small = there.get_object(Bucket="there", Key="x/logs/003")
    small["Metadata"].pop("orbit-upload")
    assert (small["Body"].read(), small["Metadata"]) == (b"logs/003", {"a": "1"})
    assert there.get_object_tagging(Bucket="there", Key="x/logs/003")["TagSet"] == [{"Key": "t", "Value": "1"}]
    assert not list(folder.iterdir())
    assert not s3.records("CopyObject")


def test_classes_metadata_and_tags_are_changed(run_try: RunTry, dag: Any, client: Any, filled: list[str]) -> None:
    """Merged, or replaced."""
    common: dict[str, Any] = {"bucket": BUCKET, "keys": KEYS[:5]}
    ops = [
        made(dag, OrbitS3ChangeStorageClassOperator, task_id="c", storage_class="standard_ia", **common),
        made(dag, OrbitS3UpdateMetadataOperator, task_id="m", metadata={"B": "2"}, **common),
        made(
            dag, OrbitS3UpdateMetadataOperator, task_id="r", metadata={"c": "3"}, replace=True,
            **{**common, "keys": KEYS[:1]},
        ),
        made(dag, OrbitS3TagObjectsOperator, task_id="t", tags={"u": "2"}, **common),
    ]  # fmt: skip
    assert [run_try(op).state for op in ops] == ["success"] * 4
    head = client.head_object(Bucket=BUCKET, Key=KEYS[2])
    assert (head["StorageClass"], head["Metadata"]) == ("STANDARD_IA", {"a": "1", "b": "2"})
    assert client.head_object(Bucket=BUCKET, Key=KEYS[0])["Metadata"] == {"c": "3"}
    tags = client.get_object_tagging(Bucket=BUCKET, Key=KEYS[2])["TagSet"]
    assert {item["Key"]: item["Value"] for item in tags} == {"t": "1", "u": "2"}


def test_all_versions_of_a_prefix_go(run_try: RunTry, dag: Any, comms: FakeComms, client: Any, s3: ModelServer) -> None:
    """Markers, too."""
    for _ in range(2):
        for key in KEYS[:6]:
            client.put_object(Bucket="versioned", Key=key, Body=b"x")
    client.delete_object(Bucket="versioned", Key=KEYS[0])
    op = made(dag, OrbitS3BatchDeleteOperator, bucket="versioned", prefix="logs/", all_versions=True)
    assert run_try(op).state == "success"
    assert result_of(comms)["total"] == 13
    answer = client.list_object_versions(Bucket="versioned")
    assert not answer.get("Versions")
    assert not answer.get("DeleteMarkers")


def test_all_versions_of_an_inventory_go(
    run_try: RunTry, dag: Any, client: Any, tmp_path: Path, comms: FakeComms
) -> None:
    """Keys that are hidden behind a marker are in it, and are meant."""
    client.put_object(Bucket="versioned", Key="hidden", Body=b"x")
    client.delete_object(Bucket="versioned", Key="hidden")
    listed = client.list_object_versions(Bucket="versioned", Prefix="hidden")
    rows = [f'"versioned","hidden","{item["VersionId"]}","true","true"' for item in listed["DeleteMarkers"]]
    rows += [f'"versioned","hidden","{item["VersionId"]}","false","false"' for item in listed["Versions"]]
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker"
    told = {"sourceBucket": "versioned", "fileFormat": "CSV", "fileSchema": schema, "files": [{"key": "data.csv.gz"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    place = str(tmp_path / "manifest.json")
    op = made(dag, OrbitS3BatchDeleteOperator, bucket="versioned", manifest=place, all_versions=True)
    assert run_try(op).state == "success"
    assert result_of(comms)["total"] == 2
    answer = client.list_object_versions(Bucket="versioned", Prefix="hidden")
    assert (answer.get("Versions", []), answer.get("DeleteMarkers", [])) == ([], [])


class Killed(BaseException):
    """What no ``except Exception`` sees: the process is gone."""


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_killed_batch_continues(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, client: Any, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, after: int,
) -> None:  # fmt: skip
    """From the cursor: one marker per key, the report whole, at most a page per worker looked at again."""
    keys = [f"k/{number:04d}" for number in range(100)]
    for key in keys:
        client.put_object(Bucket="versioned", Key=key, Body=b"x")
    s3.reset()
    report = tmp_path / "r.jsonl"
    op = made(dag, OrbitS3BatchDeleteOperator, bucket="versioned", prefix="k/", report=str(report))
    done, end = 0, Window.end

    def killed(window: Any, unit: Any, outcomes: Any) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise Killed
        end(window, unit, outcomes)

    monkeypatch.setattr(Window, "end", killed)
    assert isinstance(run_try(op, 1).error, Killed)
    monkeypatch.setattr(Window, "end", end)
    s3.reset()
    assert run_try(op, 2).state == "success"
    # The pages that had ended are not sent again.
    assert len(s3.records("DeleteObjects")) <= 10 - after
    told = result_of(comms)
    assert (told["total"], told["failed"], told["resumed"]) == (100, 0, True)
    assert sorted(json.loads(line)["key"] for line in report.read_text().splitlines()) == keys
    markers = client.list_object_versions(Bucket="versioned", Prefix="k/")["DeleteMarkers"]
    assert sorted(item["Key"] for item in markers) == keys


def _verbs() -> dict[str, tuple[type, dict[str, Any], str]]:
    """Each operator with its arguments, and the request by which it changes a key."""
    return {
        "delete": (OrbitS3BatchDeleteOperator, {"bucket": "versioned"}, "DeleteObjects"),
        "copy": (
            OrbitS3BatchCopyOperator,
            {"source_bucket": "versioned", "dest_prefix": "copy/", "strip_prefix": "k/"},
            "CopyObject",
        ),
        "class": (
            OrbitS3ChangeStorageClassOperator,
            {"bucket": "versioned", "storage_class": "STANDARD_IA"},
            "CopyObject",
        ),
        "metadata": (OrbitS3UpdateMetadataOperator, {"bucket": "versioned", "metadata": {"b": "2"}}, "CopyObject"),
        "tags": (OrbitS3TagObjectsOperator, {"bucket": "versioned", "tags": {"u": "2"}}, "PutObjectTagging"),
    }


def _as_wished(client: Any, verb: str, key: str) -> bool:
    """The key's final state, by the versions that one run of the verb makes."""
    answer = client.list_object_versions(Bucket="versioned", Prefix=key)
    versions, markers = answer.get("Versions", []), answer.get("DeleteMarkers", [])
    if verb == "delete":
        return (len(versions), len(markers)) == (1, 1)
    shown = key.replace("k/", "copy/") if verb == "copy" else key
    copies = client.list_object_versions(Bucket="versioned", Prefix=shown)["Versions"]
    head = client.head_object(Bucket="versioned", Key=shown)
    tags = client.get_object_tagging(Bucket="versioned", Key=shown)["TagSet"]
    return (
        len(copies) == (2 if verb in ("class", "metadata") else 1)
        and head.get("StorageClass", "STANDARD") == ("STANDARD_IA" if verb == "class" else "STANDARD")
        and head["Metadata"] == ({"a": "1", "b": "2"} if verb == "metadata" else {"a": "1"})
        and {item["Key"]: item["Value"] for item in tags} == ({"t": "1", "u": "2"} if verb == "tags" else {"t": "1"})
    )


@pytest.mark.parametrize("after", [1, 7])
@pytest.mark.parametrize("verb", ["delete", "copy", "class", "metadata", "tags"])
def test_every_killed_operator_does_what_is_left(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, client: Any, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, verb: str, after: int,
) -> None:  # fmt: skip
    """Behind a request, before it was noted: over both tries each key is changed by one request, and is right."""
    keys = [f"k/{number:02d}" for number in range(20)]
    for key in keys:
        client.put_object(Bucket="versioned", Key=key, Body=key.encode(), Metadata={"a": "1"}, Tagging="t=1")
    s3.reset()
    kind, arguments, write = _verbs()[verb]
    report = tmp_path / "r.jsonl"
    page_keys = 1 if verb == "delete" else 5
    op = made(dag, kind, **arguments, prefix="k/", report=str(report), page_keys=page_keys)
    done, end = 0, Window.end

    def killed(window: Any, unit: Any, outcomes: Any) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise Killed
        end(window, unit, outcomes)

    monkeypatch.setattr(Window, "end", killed)
    assert isinstance(run_try(op, 1).error, Killed)
    monkeypatch.setattr(Window, "end", end)
    assert run_try(op, 2).state == "success"
    told = result_of(comms)
    assert (told["total"], told["failed"], told["resumed"]) == (20, 0, True)
    assert len(s3.records(write)) == 20
    assert [json.loads(line)["key"] for line in report.read_text().splitlines()] == keys
    assert [key for key in keys if not _as_wished(client, verb, key)] == []
    s3.reset()
    # A task that is cleared after a success finds that all is done.
    assert run_try(op, 3).state == "success"
    assert not s3.records(write)


def test_a_report_of_two_connections_is_written_where_the_copies_are(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, elsewhere: ModelServer, client: Any,
    filled: list[str], tmp_path: Path,
) -> None:  # fmt: skip
    """The source is asked for nothing but to be read."""
    comms.add_connection("other", elsewhere.access_key, elsewhere.secret_key, connection_extra(elsewhere))
    op = made(
        dag, OrbitS3BatchCopyOperator, source_bucket=BUCKET, keys=KEYS[:3], dest_prefix="x/", dest_bucket="there",
        source_aws_conn_id="aws_default", dest_aws_conn_id="other", temporary_directory=str(tmp_path),
        report="s3://there/report/",
    )  # fmt: skip
    assert run_try(op).state == "success"
    names = left(client_of(elsewhere), "report/", "there")
    (name,) = names
    assert re.fullmatch(r"report/run-[0-9a-f]{16}/page-000000001\.jsonl", name)
    lines = client_of(elsewhere).get_object(Bucket="there", Key=names[0])["Body"].read().splitlines()
    assert [json.loads(line)["key"] for line in lines] == KEYS[:3]
    assert {record.operation for record in s3.records()} <= {"HeadObject", "GetObject", "GetObjectTagging"}


@pytest.mark.parametrize("after", [0, 2])
def test_a_killed_streamed_copy_does_what_is_left(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, elsewhere: ModelServer, client: Any,
    filled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int,
) -> None:  # fmt: skip
    """One version of each, nothing on the disk, no open upload."""
    folder = tmp_path / "between"
    folder.mkdir()
    comms.add_connection("other", elsewhere.access_key, elsewhere.secret_key, connection_extra(elsewhere))
    op = made(
        dag, OrbitS3BatchCopyOperator, source_bucket=BUCKET, keys=KEYS[:6], dest_prefix="x/", dest_bucket="there",
        source_aws_conn_id="aws_default", dest_aws_conn_id="other", temporary_directory=str(folder), page_keys=3,
    )  # fmt: skip
    done, end = 0, Window.end

    def killed(window: Any, unit: Any, outcomes: Any) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise Killed
        end(window, unit, outcomes)

    monkeypatch.setattr(Window, "end", killed)
    assert isinstance(run_try(op, 1).error, Killed)
    monkeypatch.setattr(Window, "end", end)
    assert run_try(op, 2).state == "success"
    assert result_of(comms)["successful"] == 6
    there = client_of(elsewhere)
    versions = there.list_object_versions(Bucket="there", Prefix="x/")["Versions"]
    assert [item["Key"] for item in versions] == [f"x/{key}" for key in KEYS[:6]]
    assert not there.list_multipart_uploads(Bucket="there").get("Uploads")
    assert not list(folder.iterdir())
