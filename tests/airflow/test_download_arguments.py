"""What OrbitS3DownloadOperator accepts, when it is judged, and what a DAG makes of it."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from typing import Any

import pytest
from airflow.sdk import DAG
from boto3.s3.transfer import S3Transfer

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.hooks.attributes import CUSTOMER_KEY_ARGS, REQUEST_ARGS, read_download_args
from orbit_airflow.operators.download import OrbitS3DownloadOperator
from orbit_airflow.operators.retry import OrbitRetryPolicy


def operator(**kwargs: Any) -> OrbitS3DownloadOperator:
    return OrbitS3DownloadOperator(**{"task_id": "down", "source_key": "s3://b/k", "local_path": "/f", **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"extra_args": {"SSECustomerKey": "k"}}, "belongs to the connection"),
        ({"extra_args": {"VersionId": "v"}}, "the argument version_id"),
        ({"extra_args": {"ChecksumMode": "ENABLED"}}, "always asks for the checksum"),
        ({"extra_args": {"RequestPayr": "requester"}}, "did you mean 'RequestPayer'"),
        ({"extra_args": {"IfMatch": "e"}}, "unknown download argument 'IfMatch'"),
        ({"extra_args": ["RequestPayer"]}, "extra_args is a mapping"),
        ({"extra_args": {"ExpectedBucketOwner": 1}}, "is a text"),
        ({"transfer_retry": "eager"}, "no retry preset"),
        ({"on_object_change": "ignore"}, "on_object_change is"),
        ({"require_integrity": "certain"}, "require_integrity is one of 'full-crc'"),
        ({"require_integrity": "md5", "verify_checksums": False}, "needs verify_checksums"),
        ({"file_mode": "0640"}, "file_mode is a whole number"),
        ({"file_mode": 0o4755}, "file_mode is a whole number"),
        ({"chunk_size": 0}, "chunk_size is a whole number"),
        ({"parallel_operations": 0}, "parallel_operations is a whole number"),
        ({"botocore_config": {"aws_secret_access_key": "k"}}, "does not belong into botocore_config"),
    ],
)
def test_what_is_certainly_wrong_is_refused_when_the_dag_is_parsed(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator(**kwargs)


def test_bucket_and_address_together_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="source_bucket is given, so source_key must be a key"):
        operator(source_bucket="b")
    with pytest.raises(TypeError, match="on_progress is a function"):
        operator(on_progress="print")


def test_an_unknown_parameter_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="Invalid arguments"):
        operator(overwrite=True)


def test_the_download_args_are_boto3s() -> None:
    """Each of boto3's names is taken, or refused with its own reason."""
    reasons = set()
    for name in S3Transfer.ALLOWED_DOWNLOAD_ARGS:
        if name in REQUEST_ARGS:
            assert read_download_args({name: "x"}) == {REQUEST_ARGS[name]: "x"}
            continue
        with pytest.raises(ConfigError) as raised:
            read_download_args({name: "x"})
        assert "unknown" not in raised.value.message
        reasons.add(name)
    assert reasons >= CUSTOMER_KEY_ARGS


def test_what_is_templated() -> None:
    assert OrbitS3DownloadOperator.template_fields == (
        "source_key", "source_bucket", "version_id", "local_path", "aws_conn_id", "region_name",
    )  # fmt: skip
    with DAG("d", schedule=None):
        first = operator(task_id="first")
        second = operator(task_id="second", source_key="k", source_bucket=first.output, version_id="{{ params.v }}")
    assert second.upstream_task_ids == {"first"}


def test_default_args_win_over_our_defaults() -> None:
    defaults = {"durable": False, "aws_conn_id": "mine", "require_integrity": "md5", "shared_storage": True}
    with DAG("d", schedule=None, default_args=defaults):
        op = operator()
    assert (op.durable, op.aws_conn_id, op.require_integrity, op.shared_storage) == (False, "mine", "md5", True)
    assert isinstance(op.retry_policy, OrbitRetryPolicy)


def test_every_parameter_is_documented() -> None:
    names = set(inspect.signature(OrbitS3DownloadOperator).parameters) - {"self", "kwargs"}
    documented = re.findall(r":param (\w+):", inspect.getdoc(OrbitS3DownloadOperator) or "")
    assert set(documented) == names


def test_it_pickles_and_survives_dag_serialization() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None) as dag:
        op = operator(local_path="/data/{{ ds }}", extra_args={"RequestPayer": "requester"})
        OrbitS3DownloadOperator.partial(task_id="mapped", source_bucket="b").expand(
            source_key=["a", "b"], local_path=["/a", "/b"]
        )
    twin = pickle.loads(pickle.dumps(operator(file_mode=0o640)))
    assert (twin.source_key, twin.file_mode) == ("s3://b/k", 0o640)
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    task: Any = again.get_task(op.task_id)
    assert (task.local_path, task.task_type) == ("/data/{{ ds }}", "OrbitS3DownloadOperator")
    assert again.get_task("mapped").is_mapped


def test_a_dag_file_that_imports_the_operator_does_not_import_boto3() -> None:
    code = (
        "import sys, airflow.sdk, orbit_airflow.operators.download as d; d.OrbitS3DownloadOperator(task_id='x', "
        "source_key='s3://b/k', local_path='f', extra_args={'RequestPayer': 'requester'}); "
        "print([m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore', 's3transfer')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().endswith("[]")
