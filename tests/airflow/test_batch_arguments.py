"""What the batch operators accept, when it is judged, and what a DAG parse costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.keys import KeyList, PrefixKeys
from orbit_airflow.engine.manifest import ManifestKeys
from orbit_airflow.operators._batch_keys import FILTER_NAMES, source_from
from orbit_airflow.operators.batch import (
    OrbitS3BatchCopyOperator,
    OrbitS3BatchDeleteOperator,
    OrbitS3ChangeStorageClassOperator,
    OrbitS3TagObjectsOperator,
    OrbitS3UpdateMetadataOperator,
)

NOTHING: dict[str, Any] = dict.fromkeys(("keys", "prefix", "manifest", "manifest_format", *FILTER_NAMES)) | {
    "whole_bucket": False,
    "manifest_header": True,
}


def delete(**kwargs: Any) -> OrbitS3BatchDeleteOperator:
    return OrbitS3BatchDeleteOperator(**{"task_id": "d", "bucket": "b", **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "none of them"),
        ({"keys": [], "prefix": "a"}, "keys and prefix"),
        ({"keys": ["a"], "glob": "*"}, "filters are for a prefix"),
        ({"manifest": "m.csv", "whole_bucket": True}, "whole_bucket is for"),
    ],
)
def test_one_source_is_said(kwargs: dict[str, Any], message: str) -> None:
    """When the DAG is parsed."""
    with pytest.raises(TypeError, match=message):
        delete(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"prefix": ""}, "whole bucket"),
        ({"keys": "one/key"}, "keys is a list"),
        ({"prefix": "a", "regex": "("}, "no pattern"),
        ({"prefix": "a", "modified_before": "yesterday"}, "ISO 8601"),
        ({"prefix": "a", "modified_before": "2026-01-01T00:00:00"}, "time zone"),
        ({"prefix": "a", "max_concurrent": 0}, "max_concurrent is"),
        ({"prefix": "a", "retry_delay_seconds": -1}, "retry_delay is"),
        ({"prefix": "a", "allowed_failures": -1}, "allowed_failures is"),
        ({"prefix": "a", "plan_manifest": "p.jsonl"}, "dry_run"),
    ],
)
def test_what_is_certainly_wrong_is_said_when_the_dag_is_parsed(kwargs: dict[str, Any], message: str) -> None:
    """With the task's name."""
    with pytest.raises(ValueError, match=message):
        delete(**kwargs)


@pytest.mark.parametrize(
    ("kind", "kwargs", "message"),
    [
        (OrbitS3ChangeStorageClassOperator, {"storage_class": "COLD"}, "no storage class"),
        (OrbitS3UpdateMetadataOperator, {"metadata": {}}, "no metadata to merge"),
        (OrbitS3TagObjectsOperator, {"tags": {str(number): "x" for number in range(11)}}, "10 tags"),
        (OrbitS3BatchCopyOperator, {"dest_prefix": "x", "storage_class": "COLD"}, "no storage class"),
        (OrbitS3BatchCopyOperator, {"dest_prefix": "x", "kms_key_id": "k"}, "kms_key_id needs"),
    ],
)
def test_the_verbs_options_are_judged_too(kind: type, kwargs: dict[str, Any], message: str) -> None:
    """Limits first."""
    with pytest.raises(ValueError, match=message):
        kind(task_id="x", prefix="a", **kwargs)


def test_a_copy_has_no_bucket_of_its_own() -> None:
    """It has two."""
    with pytest.raises(TypeError, match="source_bucket"):
        OrbitS3BatchCopyOperator(task_id="c", keys=[], bucket="b", dest_prefix="x")


def test_templates_are_judged_later() -> None:
    """Whatever they may become."""
    op = delete(prefix="{{ x }}", glob="{{ y }}", modified_before="{{ z }}")
    assert (op.prefix, op.glob) == ("{{ x }}", "{{ y }}")


@pytest.mark.parametrize(
    "values",
    [{}, {"prefix": ""}, {"manifest": ""}, {"keys": ""}, {"keys": "a"}, {"keys": {"a": 1}}, {"keys": 5}, {"prefix": 5}],
)
def test_nothing_is_never_everything(values: dict[str, Any]) -> None:
    """What was rendered to nothing, or to what it cannot be, is an error."""
    with pytest.raises(ConfigError):
        source_from({**NOTHING, **values}, "lake")


@pytest.mark.parametrize(
    ("keys", "count"),
    [([], 0), ("[]", 0), (["a", ("b", "v")], 2), ("['a', ('b', None)]", 2), ('["a", "b"]', 2), ({"a"}, 1), (("a",), 1)],
)
def test_lists_in_all_their_forms(keys: Any, count: int) -> None:
    """As Python, as JSON, as the text of either."""
    source = source_from({**NOTHING, "keys": keys}, "lake")
    assert isinstance(source, KeyList)
    assert source.total == count


def test_a_prefix_with_filters_and_a_manifest() -> None:
    """As the engine's own sources; numbers and times may be texts."""
    told = {
        "prefix": "a/",
        "min_size": "10",
        "storage_classes": "GLACIER",
        "modified_after": "2026-01-01T00:00:00+00:00",
    }
    source = source_from({**NOTHING, **told}, "lake")
    assert isinstance(source, PrefixKeys)
    assert (source.select.min_size, source.select.storage_classes) == (10, ("GLACIER",))
    assert source.select.modified_after == datetime(2026, 1, 1, tzinfo=UTC)
    manifest = source_from({**NOTHING, "manifest": "s3://lake/m.csv"}, "lake")
    assert isinstance(manifest, ManifestKeys)
    assert (manifest.place, manifest.format) == ("s3://lake/m.csv", "csv")


def test_default_args_reach_the_common_parameters() -> None:
    """Those of the class above, too."""
    defaults = {"aws_conn_id": "c", "max_concurrent": 3, "retries": 2}
    with DAG("d", schedule=None, default_args=defaults):
        op = delete(keys=[])
    assert (op.aws_conn_id, op.max_concurrent, op.retries) == ("c", 3, 2)


def test_an_operator_is_pickled_and_serialized() -> None:
    """With its DAG."""
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None) as dag:
        op = delete(keys=["a"], report="r.jsonl")
    assert pickle.loads(pickle.dumps(op)).report == "r.jsonl"
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert again.task_ids == ["d"]


def test_a_parse_imports_no_boto3() -> None:
    """Neither of the operators' modules does."""
    heavy = ("boto3", "botocore", "pyarrow")
    code = f"import sys, orbit_airflow.operators.batch; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.strip().splitlines()[-1] == "[]"
