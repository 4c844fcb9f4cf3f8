"""What the batch operators accept, when it is judged, and what a DAG parse costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
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
        ({"keys": ["a"], "max_delete_percent": 5}, "max_delete_percent needs a prefix"),
        ({"manifest": "m.csv", "max_delete_percent": 5}, "max_delete_percent needs a prefix"),
        ({"prefix": "a", "min_size": "many"}, "min_size"),
        ({"prefix": "a", "storage_classes": ["COLD"]}, "no storage class"),
        ({"prefix": "a", "storage_classes": 5}, "storage_classes"),
        ({"prefix": "a", "storage_classes": [5]}, "storage_classes"),
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


@pytest.mark.parametrize("text", ["{{ x }}", "{% if x %}a{% endif %}", "{# x #}"])
def test_every_kind_of_template_is_judged_later(text: str) -> None:
    """Also one that has no expression of its own, and one inside of a list; in every filter, and in other operators."""
    assert delete(keys=text).keys == text
    for name in FILTER_NAMES:
        assert getattr(delete(prefix="a", **{name: text}), name) == text
    assert delete(prefix="a", storage_classes=[text]).storage_classes == [text]
    assert set(FILTER_NAMES) <= set(OrbitS3BatchDeleteOperator.template_fields)
    assert OrbitS3ChangeStorageClassOperator(task_id="x", prefix="a", storage_class=text).storage_class == text


def test_what_another_task_will_give_is_judged_later() -> None:
    """As filters, too."""
    with DAG("d", schedule=None):
        given = EmptyOperator(task_id="e").output
        op = delete(prefix="a", exclude=given, storage_classes=given, min_size=given)
    assert {id(getattr(op, name)) for name in ("exclude", "storage_classes", "min_size")} == {id(given)}


@pytest.mark.parametrize("nothing", [None, "None", ""])
@pytest.mark.parametrize("name", [*FILTER_NAMES, "report", "bucket"])
def test_what_is_given_and_rendered_to_nothing_is_an_error(name: str, nothing: str | None) -> None:
    """A filter that is not there would take more; a report, nothing; a bucket, the connection's."""
    op = delete(**{"prefix": "a", name: "{{ x }}"})
    setattr(op, name, nothing)
    with pytest.raises(ConfigError, match=f"{name} is rendered to"):
        op.check_rendered()


@pytest.mark.parametrize("name", ["prefix", "manifest", "keys"])
def test_a_source_that_is_rendered_to_none_is_an_error(name: str) -> None:
    """None as a text is no prefix. A plan's manifest and a copy's places likewise."""
    op = delete(**{name: "{{ x }}"})
    setattr(op, name, "None")
    with pytest.raises(ConfigError, match=f"{name} is rendered to"):
        op.check_rendered()
    plan = delete(prefix="a", dry_run=True, plan_manifest="{{ x }}")
    plan.plan_manifest = ""
    with pytest.raises(ConfigError, match="plan_manifest is rendered to"):
        plan.check_rendered()
    copy = OrbitS3BatchCopyOperator(task_id="c", prefix="a", dest_prefix="x", dest_bucket="{{ x }}")
    copy.dest_bucket = ""
    with pytest.raises(ConfigError, match="dest_bucket is rendered to"):
        copy.check_rendered()
    copy = OrbitS3BatchCopyOperator(task_id="c", prefix="a", dest_prefix="{{ x }}", strip_prefix="{{ y }}")
    copy.dest_prefix = copy.strip_prefix = ""
    copy.check_rendered()
    copy.dest_prefix = "None"
    with pytest.raises(ConfigError, match="dest_prefix is rendered to"):
        copy.check_rendered()


def test_what_is_there_or_was_never_given_is_fine() -> None:
    """An empty list, a whole bucket on request, no filter."""
    delete(keys=[]).check_rendered()
    delete(prefix="", whole_bucket=True, bucket=None).check_rendered()
    delete(prefix="Nonesuch/", glob="**", min_size=0, report="r.jsonl").check_rendered()
    OrbitS3BatchCopyOperator(task_id="c", prefix="a", dest_prefix="").check_rendered()


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
    classes = source_from({**NOTHING, "prefix": "a/", "storage_classes": "['GLACIER', 'STANDARD']"}, "lake")
    assert isinstance(classes, PrefixKeys)
    assert classes.select.storage_classes == ("GLACIER", "STANDARD")
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
