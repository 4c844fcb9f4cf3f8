"""The operators on versions in the real task runner, against the strict S3 server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.errors import (
    BatchIncomplete,
    BatchRefused,
    ConfigError,
    NotFound,
    ObjectDeleted,
    TargetExists,
    Unavailable,
)
from orbit_airflow.operators.prune import OrbitS3PruneVersionsOperator
from orbit_airflow.operators.restore import OrbitS3RestorePrefixOperator, OrbitS3RestoreVersionOperator
from orbit_airflow.operators.versions import (
    OrbitS3BucketVersioningOperator,
    OrbitS3CompareVersionsOperator,
    OrbitS3DeleteVersionOperator,
    OrbitS3ListVersionsOperator,
)
from tests.airflow.conftest import Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer
from tests.model_server.conftest import client_of

RunTry = Callable[..., Try]
BUCKET = "versioned"
ALL = [
    OrbitS3BucketVersioningOperator, OrbitS3ListVersionsOperator, OrbitS3DeleteVersionOperator,
    OrbitS3CompareVersionsOperator, OrbitS3RestoreVersionOperator, OrbitS3RestorePrefixOperator,
    OrbitS3PruneVersionsOperator,
]  # fmt: skip


@pytest.fixture
def put(s3: ModelServer) -> Callable[..., str]:
    """``put(key, data)``: a version; its id. The server's log begins behind it."""

    def do(key: str, data: bytes) -> str:
        answer = client_of(s3).put_object(Bucket=BUCKET, Key=key, Body=data, ChecksumAlgorithm="CRC32")
        s3.reset()
        return str(answer["VersionId"])

    return do


@pytest.fixture
def ago(s3: ModelServer) -> Iterator[Callable[[int], None]]:
    """``ago(seconds)``: from now on the server writes as of then (less than the 15 minutes that a signature allows)."""

    def set_back(seconds: int) -> None:
        s3.clock_offset = -float(seconds)

    yield set_back
    s3.clock_offset = 0.0


def made(dag: Any, kind: Any, **kwargs: Any) -> Any:
    with dag:
        return kind(**{"task_id": "work", "bucket": BUCKET, "retries": 3, **kwargs})


def succeed(run_try: RunTry, comms: FakeComms, op: Any, number: int = 1) -> dict[str, Any]:
    ended = run_try(op, number)
    assert ended.state == "success", ended.error
    value: dict[str, Any] = comms.xcoms[("work", -1, "return_value")]
    assert len(json.dumps(value)) < 20_000
    return value


def ids(s3: ModelServer, key: str) -> list[str]:
    return [str(item.version_id) for item in s3.versions(BUCKET, key)]


def now_minus(seconds: int) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_versioning_is_switched_once(dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry) -> None:
    """What it is already is not asked for again."""
    s3.create_bucket("plain")
    op = made(dag, OrbitS3BucketVersioningOperator, bucket="plain", status="enabled")
    first = succeed(run_try, comms, op)
    assert (first["previous"], first["status"], first["changed"]) == ("Unversioned", "Enabled", True)
    assert succeed(run_try, comms, op, 2)["changed"] is False
    assert len(s3.records("PutBucketVersioning")) == 1


def test_a_short_list_is_the_result(dag: Any, comms: FakeComms, put: Callable[..., str], run_try: RunTry) -> None:
    """Of this key alone, newest first."""
    first, second = put("a", b"1"), put("a", b"22")
    put("ab", b"333")
    found = succeed(run_try, comms, made(dag, OrbitS3ListVersionsOperator, key="a"))
    assert [item["version_id"] for item in found["versions"]] == [second, first]
    assert (found["count"], found["bytes"], found["manifest"], found["key"]) == (2, 3, None, "a")


@pytest.mark.parametrize("remote", [False, True])
def test_a_long_list_is_a_manifest(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., str], run_try: RunTry, tmp_path: Path, remote: bool
) -> None:
    """Which the result names; a batch can read it."""
    for number in range(5):
        put(f"l/{number}", b"x")
    place = None if remote else str(tmp_path / "list.jsonl")
    op = made(dag, OrbitS3ListVersionsOperator, prefix="l/", max_items=3, manifest=place)
    found = succeed(run_try, comms, op)
    assert (found["count"], found["versions"], found["prefix"]) == (5, [], "l/")
    if remote:
        assert found["manifest"] == f"s3://{BUCKET}/orbit-versions/d/r1/work-1.jsonl"
        text = s3.versions(BUCKET, "orbit-versions/d/r1/work-1.jsonl")[0].read().decode()
    else:
        text = (tmp_path / "list.jsonl").read_text()
    assert [json.loads(line)["key"] for line in text.splitlines()] == [f"l/{number}" for number in range(5)]


def test_two_versions_are_compared(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., str], run_try: RunTry
) -> None:
    """Without a second version it is the one that the key shows."""
    first, second = put("a", b"1"), put("a", b"22")
    found = succeed(run_try, comms, made(dag, OrbitS3CompareVersionsOperator, key="a", version_id_a=first))
    assert (found["version_id_b"], found["size_diff"], found["content_differs"]) == (second, 1, True)
    assert found["decided_by"] == "size"
    assert ids(s3, "a") == [second, first]


def test_a_version_is_removed_for_good(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., str], run_try: RunTry
) -> None:
    """Twice is as good as once."""
    first, second = put("a", b"1"), put("a", b"22")
    op = made(dag, OrbitS3DeleteVersionOperator, key="a", version_id=first)
    assert succeed(run_try, comms, op)["version_id"] == first
    assert succeed(run_try, comms, op, 2)["delete_marker"] is False
    assert ids(s3, "a") == [second]


def test_a_template_that_renders_to_nothing_deletes_nothing(
    dag: Any, s3: ModelServer, put: Callable[..., str], run_try: RunTry
) -> None:
    """A delete without a version would hide the object."""
    version = put("a", b"1")
    ended = run_try(made(dag, OrbitS3DeleteVersionOperator, key="a", version_id="{{ '' }}"))
    assert ended.state == "failed"
    assert ids(s3, "a") == [version]


@pytest.mark.parametrize("by", ["version_id", "as_of"])
def test_a_version_is_restored_once(
    dag: Any, comms: FakeComms, s3: ModelServer, put: Callable[..., str], ago: Callable[[int], None],
    run_try: RunTry, by: str,
) -> None:  # fmt: skip
    """A second try, as after a death behind the copy, finds it and makes no other."""
    ago(600)
    old = put("a", b"old")
    ago(0)
    put("a", b"newer")
    wanted = {"version_id": old} if by == "version_id" else {"as_of": now_minus(300)}
    op = made(dag, OrbitS3RestoreVersionOperator, key="a", **wanted)
    first = succeed(run_try, comms, op)
    assert (first["restored_version"], first["changed"], first["size"]) == (old, True, 3)
    assert s3.versions(BUCKET, "a")[0].read() == b"old"
    second = succeed(run_try, comms, op, 2)
    assert (second["version_id"], second["changed"]) == (first["version_id"], True)
    assert len(ids(s3, "a")) == 3
    assert len(s3.records("CopyObject")) == 1


def test_a_restored_version_reaches_the_assets(dag: Any, put: Callable[..., str], run_try: RunTry) -> None:
    """An object was made: the outlet learns its version."""
    from airflow.sdk import Asset

    old = put("a", b"old")
    put("a", b"newer")
    outlet = Asset(uri=f"s3://{BUCKET}/a")
    ended = run_try(made(dag, OrbitS3RestoreVersionOperator, key="a", version_id=old, outlets=[outlet]))
    assert ended.state == "success", ended.error


def test_what_was_not_there_cannot_be_restored(
    dag: Any, s3: ModelServer, put: Callable[..., str], ago: Callable[[int], None], run_try: RunTry
) -> None:
    """Neither yet, nor any more."""
    ago(600)
    put("gone", b"x")
    client_of(s3).delete_object(Bucket=BUCKET, Key="gone")
    ago(0)
    put("new", b"x")
    put("gone", b"y")
    for key, error in (("new", NotFound), ("gone", ObjectDeleted)):
        ended = run_try(made(dag, OrbitS3RestoreVersionOperator, task_id=f"work-{key}", key=key, as_of=now_minus(300)))
        assert (ended.state, type(ended.error)) == ("failed", error)


@pytest.fixture
def history(s3: ModelServer, put: Callable[..., str], ago: Callable[[int], None]) -> Callable[[], dict[str, bytes]]:
    """Ten keys ten minutes ago; since then three changed, one deleted, one born. Returns what is shown."""
    ago(600)
    for number in range(10):
        put(f"t/{number}", b"old %d" % number)
    ago(0)
    for number in range(3):
        put(f"t/{number}", b"newer %d" % number)
    client_of(s3).delete_object(Bucket=BUCKET, Key="t/3")
    put("t/born", b"b")

    def shown() -> dict[str, bytes]:
        keys = [f"t/{number}" for number in range(10)] + ["t/born"]
        found = {key: s3.versions(BUCKET, key)[0] for key in keys}
        return {key: item.read() for key, item in found.items() if not item.delete_marker}

    return shown


AS_IT_WAS = {f"t/{number}": b"old %d" % number for number in range(10)}


def test_a_drill_dry_run_apply_undo(
    dag: Any, comms: FakeComms, s3: ModelServer, history: Callable[[], dict[str, bytes]], run_try: RunTry
) -> None:
    """The plan that was approved is what is applied, and what is undone."""
    before = history()
    dry = made(dag, OrbitS3RestorePrefixOperator, task_id="work", prefix="t/", as_of=now_minus(300), dry_run=True)
    plan = succeed(run_try, comms, dry)
    assert (plan["keys"], plan["changes"], plan["copy"], plan["delete"], plan["undelete"]) == (11, 5, 3, 1, 1)
    assert (plan["dry_run"], history()) == (True, before)
    s3.reset()
    comms.state.clear()
    with dag:
        apply = OrbitS3RestorePrefixOperator(task_id="apply", bucket=BUCKET, plan=plan["manifest"], max_changes=5)
        undo = OrbitS3RestorePrefixOperator(task_id="undo", bucket=BUCKET, undo=plan["manifest"])
    ended = run_try(apply)
    assert ended.state == "success", ended.error
    assert history() == AS_IT_WAS
    assert len(s3.records("CopyObject")) == 3
    assert comms.xcoms[("apply", -1, "return_value")]["applied"]["successful"] == 5
    ended = run_try(undo)
    assert ended.state == "success", ended.error
    assert history() == before


def test_a_try_that_was_interrupted_goes_on_with_its_plan(
    dag: Any, comms: FakeComms, s3: ModelServer, history: Callable[[], dict[str, bytes]], run_try: RunTry,
    tmp_path: Path,
) -> None:  # fmt: skip
    """One plan over both tries, and each copy once."""
    s3.inject(Fault(operation="CopyObject", action="error", status=500, nth=2, times=None))
    op = made(
        dag, OrbitS3RestorePrefixOperator, prefix="t/", as_of=now_minus(300), max_concurrent=1,
        report=str(tmp_path / "report.jsonl"),
    )  # fmt: skip
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", BatchIncomplete)
    assert "2 of 5 keys failed" in str(first.error)
    made_once = len([r for r in s3.records("CopyObject") if r.status == 200])
    s3.reset()
    result = succeed(run_try, comms, op, 2)
    assert history() == AS_IT_WAS
    assert (made_once, len(s3.records("CopyObject"))) == (1, 2)
    assert result["manifest"].endswith("/work-1.jsonl")
    assert sorted(len(ids(s3, f"t/{number}")) for number in range(4)) == [1, 3, 3, 3]


def test_the_guards_fail_the_task_for_good(
    dag: Any, s3: ModelServer, history: Callable[[], dict[str, bytes]], run_try: RunTry
) -> None:
    """No retry can help, and nothing was changed."""
    before = history()
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"as_of": now_minus(300), "max_changes": 4}, BatchRefused),
        ({"as_of": now_minus(-3600)}, ConfigError),
        ({"as_of": now_minus(3600)}, BatchRefused),
        ({"as_of": now_minus(300), "prefix": "typo/"}, BatchRefused),
    ]
    for number, (kwargs, error) in enumerate(cases):
        op = made(dag, OrbitS3RestorePrefixOperator, **{"task_id": f"work-{number}", "prefix": "t/", **kwargs})
        ended = run_try(op)
        assert (ended.state, type(ended.error)) == ("failed", error)
    assert history() == before
    assert s3.records("CopyObject") == []


def test_a_manifest_that_is_there_is_not_overwritten(
    dag: Any, history: Callable[[], dict[str, bytes]], run_try: RunTry, tmp_path: Path
) -> None:
    """By another task, or a rerun that has lost its state."""
    before = history()
    (tmp_path / "plan.jsonl").write_text("precious")
    op = made(
        dag, OrbitS3RestorePrefixOperator, prefix="t/", as_of=now_minus(300), manifest=str(tmp_path / "plan.jsonl")
    )
    ended = run_try(op)
    assert (ended.state, type(ended.error), history()) == ("failed", TargetExists, before)
    assert (tmp_path / "plan.jsonl").read_text() == "precious"


def test_what_old_versions_cost_and_their_removal(
    dag: Any, comms: FakeComms, s3: ModelServer, history: Callable[[], dict[str, bytes]], run_try: RunTry
) -> None:
    """Costs, a dry run, the removal; what is shown stays, and so does what a marker hides."""
    before = history()
    costs = succeed(run_try, comms, made(dag, OrbitS3PruneVersionsOperator, prefix="t/"))
    assert (costs["manifest"], costs["costs"]["old"]) == (None, {"count": 4, "bytes": 20})
    with dag:
        dry = OrbitS3PruneVersionsOperator(task_id="dry", bucket=BUCKET, prefix="t/", keep_last=1)
        prune = OrbitS3PruneVersionsOperator(task_id="prune", bucket=BUCKET, prefix="t/", keep_last=1, dry_run=False)
    assert run_try(dry).state == "success"
    assert comms.xcoms[("dry", -1, "return_value")]["count"] == 3
    assert s3.records("DeleteObjects") == []
    ended = run_try(prune)
    assert ended.state == "success", ended.error
    assert comms.xcoms[("prune", -1, "return_value")]["applied"]["successful"] == 3
    assert history() == before
    assert [len(ids(s3, f"t/{number}")) for number in range(5)] == [1, 1, 1, 2, 1]


def test_an_outage_is_the_try_s_own_and_the_next_one_goes_on(
    dag: Any, comms: FakeComms, s3: ModelServer, history: Callable[[], dict[str, bytes]], run_try: RunTry
) -> None:
    """All answers to what looks and removes are 500 from some point on."""
    s3.inject(Fault(operation="DeleteObjects", action="error", status=500, times=None))
    s3.inject(Fault(operation="HeadObject", action="error", status=500, nth=4, times=None))
    op = made(dag, OrbitS3PruneVersionsOperator, prefix="t/", keep_last=1, dry_run=False)
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", Unavailable)
    s3.reset()
    assert succeed(run_try, comms, op, 2)["applied"]["successful"] == 3


@pytest.mark.parametrize(
    ("kind", "kwargs", "error"),
    [
        (OrbitS3BucketVersioningOperator, {"status": "on"}, ValueError),
        (OrbitS3BucketVersioningOperator, {"bucket": ""}, ValueError),
        (OrbitS3ListVersionsOperator, {}, TypeError),
        (OrbitS3ListVersionsOperator, {"key": "a", "prefix": "a"}, TypeError),
        (OrbitS3ListVersionsOperator, {"key": "a", "max_items": 10**6}, ValueError),
        (OrbitS3DeleteVersionOperator, {"key": "a", "version_id": ""}, ValueError),
        (OrbitS3CompareVersionsOperator, {"key": "", "version_id_a": "v"}, ValueError),
        (OrbitS3RestoreVersionOperator, {"key": "a"}, TypeError),
        (OrbitS3RestoreVersionOperator, {"key": "a", "version_id": "v", "as_of": "2026-01-01T00:00Z"}, TypeError),
        (OrbitS3RestoreVersionOperator, {"key": "a", "as_of": "yesterday"}, ValueError),
        (OrbitS3RestoreVersionOperator, {"key": "a", "as_of": "2026-01-01T00:00"}, ValueError),
        (OrbitS3RestorePrefixOperator, {"prefix": "t/"}, TypeError),
        (OrbitS3RestorePrefixOperator, {"as_of": "2026-01-01T00:00Z"}, TypeError),
        (OrbitS3RestorePrefixOperator, {"plan": "p.jsonl", "undo": "p.jsonl"}, TypeError),
        (OrbitS3RestorePrefixOperator, {"plan": "p.jsonl", "dry_run": True}, TypeError),
        (OrbitS3RestorePrefixOperator, {"plan": "p.jsonl", "max_changes": -1}, ValueError),
        (OrbitS3RestorePrefixOperator, {"plan": "p.jsonl", "max_concurrent": 0}, ValueError),
        (OrbitS3PruneVersionsOperator, {"prefix": "t/", "dry_run": False}, TypeError),
        (OrbitS3PruneVersionsOperator, {"prefix": "t/", "keep_last": 0}, ValueError),
        (OrbitS3PruneVersionsOperator, {"prefix": "t/", "older_than": -1}, ValueError),
    ],
)
def test_what_is_certainly_wrong_is_refused_when_the_dag_is_parsed(kind: Any, kwargs: Any, error: Any) -> None:
    """And a template is left for later."""
    with pytest.raises(error):
        kind(**{"task_id": "work", "bucket": "b", **kwargs})


def test_templates_are_left_for_the_run() -> None:
    """All of them in one DAG that parses."""
    cases: tuple[tuple[Any, dict[str, Any]], ...] = (
        (OrbitS3BucketVersioningOperator, {"status": "{{ params.status }}"}),
        (OrbitS3RestoreVersionOperator, {"key": "{{ ds }}", "as_of": "{{ ts }}"}),
        (OrbitS3RestorePrefixOperator, {"prefix": "{{ ds }}", "as_of": "{{ ts }}"}),
    )
    for kind, kwargs in cases:
        op = kind(**{"task_id": "work", "bucket": "{{ params.bucket }}", **kwargs})
        assert op.bucket == "{{ params.bucket }}"


def test_their_modules_parse_without_boto3() -> None:
    """In a process of their own."""
    code = (
        "import sys; from orbit_airflow.operators import prune, restore, versions;"
        "sys.exit(any(name.partition('.')[0] in ('boto3', 'botocore', 'urllib3') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
