"""OpenLineage's own classes, extractor and all: which datasets a transfer reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.base import OL_METHOD_NAME_START, DefaultExtractor
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.serde import Serde

from orbit_airflow.engine.events import TransferDirection
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.operators._lineage import Ends, lineage_of
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]


def upload(dag: Any, path: Path, **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{"task_id": "up", "filename": str(path), "dest_bucket": "versioned", "dest_key": "a//b#c", **kwargs}
        )


def named(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(item.namespace, item.name) for item in datasets]


def test_the_listener_finds_the_methods(dag: Any) -> None:
    """The provider looks for them by name."""
    op = upload(dag, Path("/x"))
    assert callable(getattr(op, OL_METHOD_NAME_START))
    assert DefaultExtractor(op).extract() is not None


def test_on_start_the_arguments_are_told(dag: Any) -> None:
    lineage: Any = DefaultExtractor(upload(dag, Path("/data/x"))).extract()
    assert named(lineage.inputs) == [("file", "/data/x")]
    assert named(lineage.outputs) == [("s3://versioned", "a//b#c")]
    assert isinstance(lineage.inputs[0], InputDataset)
    assert isinstance(lineage.outputs[0], OutputDataset)


def test_on_completion_size_and_version_are_told(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile
) -> None:
    ended = run_try(upload(dag, make_file(100)))
    lineage: Any = DefaultExtractor(ended.task).extract_on_complete(object())
    (target,) = lineage.outputs
    assert (target.outputFacets["outputStatistics"].size, target.outputFacets["outputStatistics"].fileCount) == (100, 1)
    assert target.facets["version"].datasetVersion == comms.xcoms[("up", -1, "return_value")]["version_id"]
    (source,) = lineage.inputs
    assert source.inputFacets["inputStatistics"].size == 100
    assert source.facets == {}
    assert '"datasetVersion"' in Serde.to_json(target)


def test_on_failure_the_intent_is_told(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    s3.inject(Fault(operation="PutObject", status=403, code="AccessDenied", times=None))
    ended = run_try(upload(dag, make_file(100)))
    lineage: Any = DefaultExtractor(ended.task).extract_on_failure(object())
    assert named(lineage.outputs) == [("s3://versioned", "a//b#c")]
    assert lineage.outputs[0].outputFacets == {}


def test_the_connections_own_bucket_is_known_at_the_end(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    from tests.airflow.conftest import connection_extra

    extra = connection_extra(s3)
    extra["service_config"]["s3"]["bucket_name"] = BUCKET
    comms.add_connection("own", s3.access_key, s3.secret_key, extra)
    op = upload(dag, make_file(100), dest_bucket=None, dest_key="k", aws_conn_id="own")
    started: Any = DefaultExtractor(op).extract()
    assert started.outputs == []
    lineage: Any = DefaultExtractor(run_try(op).task).extract_on_complete(object())
    assert named(lineage.outputs) == [(f"s3://{BUCKET}", "k")]


@pytest.mark.parametrize("size", [None, 7])
def test_a_download_goes_the_other_way(size: int | None) -> None:
    lineage = lineage_of(Ends(path="/in", ref=ObjectRef("bucket", "k", "v")), TransferDirection.DOWNLOAD, size)
    assert named(lineage.inputs) == [("s3://bucket", "k")]
    assert named(lineage.outputs) == [("file", "/in")]
    assert lineage.inputs[0].facets["version"].datasetVersion == "v"
    assert ("outputStatistics" in lineage.outputs[0].outputFacets) is (size is not None)
