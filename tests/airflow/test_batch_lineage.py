"""What Airflow and OpenLineage are told of batches: outlets, hook lineage, datasets, of prefixes and never of keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.base import DefaultExtractor
from airflow.sdk import Asset, AssetAlias
from openlineage.client.serde import Serde

from orbit_airflow.engine.model import KeyPrefix
from orbit_airflow.operators._batch_lineage import BatchEnds, lineage_of_batch
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
KEYS = [f"logs/{number}" for number in range(5)]
COPY = {"source_bucket": BUCKET, "prefix": "logs/", "dest_prefix": "copy/", "dest_bucket": "versioned"}
CHANGES = [
    (OrbitS3ChangeStorageClassOperator, {"storage_class": "STANDARD_IA"}),
    (OrbitS3UpdateMetadataOperator, {"metadata": {"a": "1"}}),
    (OrbitS3TagObjectsOperator, {"tags": {"a": "1"}}),
]


@pytest.fixture(autouse=True)
def filled(s3: ModelServer) -> None:
    """Five objects below ``logs/``."""
    client = client_of(s3)
    for key in KEYS:
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())


def made(dag: Any, kind: type, **kwargs: Any) -> Any:
    with dag:
        return kind(**{"task_id": "batch", "retry_delay_seconds": 0.0, **kwargs})


def told(comms: FakeComms) -> list[dict[str, Any]]:
    """The events of the one success."""
    (message,) = comms.writes("SucceedTask")
    events: list[dict[str, Any]] = message.outlet_events
    return events


def named(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(item.namespace, item.name) for item in datasets]


def at_start(op: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    lineage: Any = DefaultExtractor(op).extract()
    return named(lineage.inputs), named(lineage.outputs)


def at_the_end(ended: Try) -> Any:
    return DefaultExtractor(ended.task).extract_on_complete(object())


def test_every_outlet_asset_learns_of_the_batch(run_try: RunTry, dag: Any, comms: FakeComms, tmp_path: Path) -> None:
    """Whatever its URI: which asset stands for so many keys is known to the DAG's author."""
    report = tmp_path / "r.jsonl"
    outlets = [Asset(f"s3://{BUCKET}/logs/"), Asset("table", uri="x-lake://logs")]
    op = made(
        dag, OrbitS3TagObjectsOperator, bucket=BUCKET, prefix="logs/", tags={"a": "1"}, report=str(report),
        outlets=outlets,
    )  # fmt: skip
    assert run_try(op).state == "success"
    extra = {
        "uri": f"s3://{BUCKET}/logs/", "verb": "tag_objects", "total": 5, "successful": 5, "skipped": 0, "failed": 0,
        "report_uri": f"file://{report}",
    }  # fmt: skip
    events = {event["dest_asset_key"]["name"]: event["extra"] for event in told(comms)}
    assert events == {f"s3://{BUCKET}/logs/": extra, "table": extra}


def test_an_alias_gets_an_event_on_the_prefix(run_try: RunTry, dag: Any, comms: FakeComms) -> None:
    """Of a copy: the one that it has written to. It is the asset that a DAG makes of the prefix's address."""
    outlets = [AssetAlias("copies")]
    assert run_try(made(dag, OrbitS3BatchCopyOperator, **COPY, outlets=outlets)).state == "success"
    (event,) = told(comms)
    asset = Asset("s3://versioned/copy/")
    assert event["source_alias_name"] == "copies"
    assert event["dest_asset_key"] == {"name": asset.name, "uri": asset.uri}
    extra = event["extra"]
    assert (extra["uri"], extra["dest_uri"]) == ("s3://versioned/copy/", "s3://versioned/copy/")
    assert (extra["source_uri"], extra["verb"], extra["total"]) == (f"s3://{BUCKET}/logs/", "copy", 5)


def test_a_list_of_keys_stands_for_its_bucket(run_try: RunTry, dag: Any, comms: FakeComms) -> None:
    """Nothing is told key by key."""
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, keys=KEYS, outlets=[AssetAlias("x")])
    assert at_start(op) == ([], [(f"s3://{BUCKET}", "/")])
    ended = run_try(op)
    (event,) = told(comms)
    assert event["dest_asset_key"]["uri"] == event["extra"]["uri"] == f"s3://{BUCKET}/"
    (bucket,) = at_the_end(ended).outputs
    assert (bucket.name, bucket.facets) == ("/", {})


def test_allowed_failures_are_in_the_event(run_try: RunTry, dag: Any, comms: FakeComms) -> None:
    op = made(
        dag, OrbitS3TagObjectsOperator, bucket=BUCKET, keys=["no", *KEYS], tags={"a": "1"}, allowed_failures=1,
        outlets=[Asset("s3://elsewhere/x")],
    )  # fmt: skip
    assert run_try(op).state == "success"
    (event,) = told(comms)
    assert (event["extra"]["total"], event["extra"]["successful"], event["extra"]["failed"]) == (6, 5, 1)


def test_a_failed_batch_has_no_event_and_tells_what_should_have_been(
    run_try: RunTry, dag: Any, comms: FakeComms
) -> None:
    op = made(
        dag, OrbitS3TagObjectsOperator, bucket=BUCKET, keys=["no", *KEYS], tags={"a": "1"}, outlets=[AssetAlias("x")]
    )
    ended = run_try(op)
    assert (ended.state, comms.writes("SucceedTask")) == ("failed", [])
    lineage: Any = DefaultExtractor(ended.task).extract_on_failure(object())
    assert named(lineage.outputs) == [(f"s3://{BUCKET}", "/")]
    assert lineage.outputs[0].outputFacets == {}


def test_a_prefix_that_no_asset_can_have_is_skipped_with_one_warning(
    run_try: RunTry, dag: Any, comms: FakeComms, lines: list[tuple[str, str]]
) -> None:
    """Only aliases need its address."""
    both = [AssetAlias("x"), AssetAlias("y"), Asset("s3://elsewhere/x")]
    op = made(dag, OrbitS3BatchCopyOperator, **{**COPY, "dest_prefix": "a#b/"}, outlets=both)
    assert run_try(op).state == "success"
    (event,) = told(comms)
    assert event["dest_asset_key"]["uri"] == "s3://elsewhere/x"
    assert len([text for level, text in lines if level == "warning" and "cannot be the URI" in text]) == 1


@pytest.mark.parametrize(("kind", "arguments"), [(OrbitS3BatchDeleteOperator, {}), *CHANGES])
def test_a_dry_run_tells_nothing(
    run_try: RunTry, dag: Any, comms: FakeComms, kind: type, arguments: dict[str, Any]
) -> None:
    """Not even the plain event that Airflow makes for each outlet of a success: what waits for it would begin."""
    both = [AssetAlias("x"), Asset(f"s3://{BUCKET}/logs/")]
    op = made(dag, kind, bucket=BUCKET, prefix="logs/", dry_run=True, outlets=both, **arguments)
    assert at_start(op) == ([], [])
    ended = run_try(op)
    assert ended.state == "success"
    (message,) = comms.writes("SucceedTask")
    assert (message.outlet_events, message.task_outlets) == ([], [])
    lineage = at_the_end(ended)
    assert (lineage.inputs, lineage.outputs) == ([], [])
    # The DAG's own operator keeps them: its next run may be none.
    assert op.outlets == both


def test_a_copy_reads_its_source_and_writes_its_target(run_try: RunTry, dag: Any, comms: FakeComms) -> None:
    op = made(dag, OrbitS3BatchCopyOperator, **COPY)
    assert at_start(op) == ([(f"s3://{BUCKET}", "logs/")], [("s3://versioned", "copy/")])
    lineage = at_the_end(run_try(op))
    (source,), (target,) = lineage.inputs, lineage.outputs
    assert (named([source]), named([target])) == at_start(op)
    assert source.inputFacets["inputStatistics"].fileCount == 5
    assert target.outputFacets["outputStatistics"].fileCount == 5


@pytest.mark.parametrize("filters", [{}, {"exclude": "logs/0"}])
def test_a_deleted_prefix_was_dropped(run_try: RunTry, dag: Any, comms: FakeComms, filters: dict[str, Any]) -> None:
    """When it has ended, and if all of it went."""
    op = made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, prefix="logs/", **filters)
    start: Any = DefaultExtractor(op).extract()
    assert start.outputs[0].facets == {}
    (target,) = at_the_end(run_try(op)).outputs
    assert named([target]) == [(f"s3://{BUCKET}", "logs/")]
    assert ("lifecycleStateChange" in target.facets) is not bool(filters)
    if not filters:
        assert json.loads(Serde.to_json(target))["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "DROP"
    assert target.outputFacets == {}


@pytest.mark.parametrize(("failed", "dropped"), [(0, True), (1, False)])
def test_what_could_not_be_deleted_is_still_there(failed: int, dropped: bool) -> None:
    """Also when so many failures are allowed."""
    ends = BatchEnds(changed=KeyPrefix(BUCKET, "logs/"), everything=True)
    summary = {"verb": "delete", "successful": 5, "skipped": 0, "failed": failed}
    (target,) = lineage_of_batch(ends, summary).outputs
    assert ("lifecycleStateChange" in target.facets) is dropped


@pytest.mark.parametrize(("kind", "arguments"), CHANGES)
def test_a_change_in_place_has_an_output(
    run_try: RunTry, dag: Any, comms: FakeComms, kind: type, arguments: dict[str, Any]
) -> None:
    """With how many objects it has written; those that were so already are none."""
    op = made(dag, kind, bucket=BUCKET, prefix="logs/", **arguments)
    assert at_start(op) == ([], [(f"s3://{BUCKET}", "logs/")])
    first = made(dag, kind, task_id="first", bucket=BUCKET, keys=KEYS[:2], **arguments)
    assert run_try(first).state == "success"
    (target,) = at_the_end(run_try(op)).outputs
    assert target.outputFacets["outputStatistics"].fileCount == 3
    assert target.facets == {}


def test_a_manifest_is_an_input(run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer, tmp_path: Path) -> None:
    """By its own address; the keys may be anywhere in the bucket."""
    text = "".join(json.dumps({"key": key}) + "\n" for key in KEYS)
    client_of(s3).put_object(Bucket="versioned", Key="plans/m.jsonl", Body=text.encode())
    there = "s3://versioned/plans/m.jsonl"
    op = made(
        dag, OrbitS3BatchCopyOperator, source_bucket=BUCKET, manifest=there, dest_prefix="copy/",
        outlets=[AssetAlias("x")],
    )  # fmt: skip
    expected = ([(f"s3://{BUCKET}", "/"), ("s3://versioned", "plans/m.jsonl")], [(f"s3://{BUCKET}", "copy/")])
    assert at_start(op) == expected
    lineage = at_the_end(run_try(op))
    assert (named(lineage.inputs), named(lineage.outputs)) == expected
    assert told(comms)[0]["extra"]["manifest_uri"] == there
    path = str(tmp_path / "m.jsonl")
    local = made(dag, OrbitS3TagObjectsOperator, task_id="local", bucket=BUCKET, manifest=path, tags={"a": "1"})
    assert at_start(local) == ([("file", path)], [(f"s3://{BUCKET}", "/")])


def test_buckets_of_the_connections_own_are_known_at_the_end(
    run_try: RunTry, dag: Any, comms: FakeComms, s3: ModelServer
) -> None:
    """Both of them, where there are two connections."""
    for name, bucket in (("here", BUCKET), ("there", "versioned")):
        extra = connection_extra(s3)
        extra["service_config"]["s3"]["bucket_name"] = bucket
        comms.add_connection(name, s3.access_key, s3.secret_key, extra)
    op = made(
        dag, OrbitS3BatchCopyOperator, prefix="logs/", dest_prefix="copy/", source_aws_conn_id="here",
        dest_aws_conn_id="there",
    )  # fmt: skip
    assert at_start(op) == ([], [])
    lineage = at_the_end(run_try(op))
    assert named(lineage.inputs) == [(f"s3://{BUCKET}", "logs/")]
    assert named(lineage.outputs) == [("s3://versioned", "copy/")]


def test_hook_lineage_has_prefixes(
    run_try: RunTry, dag: Any, comms: FakeComms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.providers.common.compat.lineage import hook as module

    seen: list[tuple[str, str, dict[str, str]]] = []

    class Collector:
        def add_input_asset(self, *, context: Any, scheme: str, asset_kwargs: dict[str, str]) -> None:
            seen.append(("in", scheme, asset_kwargs))

        def add_output_asset(self, *, context: Any, scheme: str, asset_kwargs: dict[str, str]) -> None:
            seen.append(("out", scheme, asset_kwargs))

    monkeypatch.setattr(module, "get_hook_lineage_collector", Collector)
    assert run_try(made(dag, OrbitS3BatchCopyOperator, **COPY)).state == "success"
    manifest = tmp_path / "m.csv"
    manifest.write_text("key\nlogs/0\n")
    op = made(dag, OrbitS3BatchDeleteOperator, task_id="delete", bucket=BUCKET, manifest=str(manifest))
    assert run_try(op).state == "success"
    plan = made(dag, OrbitS3BatchDeleteOperator, task_id="plan", bucket=BUCKET, prefix="logs/", dry_run=True)
    assert run_try(plan).state == "success"
    assert seen == [
        ("in", "s3", {"bucket": BUCKET, "key": "logs/"}), ("out", "s3", {"bucket": "versioned", "key": "copy/"}),
        ("in", "file", {"path": str(manifest)}), ("out", "s3", {"bucket": BUCKET, "key": ""}),
    ]  # fmt: skip


def test_lineage_is_no_reason_to_fail(
    run_try: RunTry, dag: Any, comms: FakeComms, monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, str]]
) -> None:
    from airflow.providers.common.compat.lineage import hook as module

    def broken() -> Any:
        raise RuntimeError("no collector")

    monkeypatch.setattr(module, "get_hook_lineage_collector", broken)
    assert run_try(made(dag, OrbitS3BatchDeleteOperator, bucket=BUCKET, prefix="logs/")).state == "success"
    assert [text for level, text in lines if level == "warning"] == ["the lineage of this batch could not be recorded"]
