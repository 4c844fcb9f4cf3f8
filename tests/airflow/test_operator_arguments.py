"""What OrbitS3UploadOperator accepts, when it is judged, and what a DAG makes of it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, RetryPolicy
from botocore.loaders import Loader

from orbit_airflow.engine.errors import (
    AccessDenied,
    CircuitOpen,
    ConfigError,
    CredentialsExpired,
    KmsDenied,
    NotFound,
    OrbitError,
    Paused,
    RequestContext,
    SourceChanged,
    Throttled,
    Unavailable,
)
from orbit_airflow.engine.resilience.policy import RetryPolicy as TransferRetryPolicy
from orbit_airflow.engine.storage_class import StorageClass
from orbit_airflow.operators._arguments import object_attributes
from orbit_airflow.operators.retry import OrbitRetryPolicy
from orbit_airflow.operators.transfer import OrbitS3UploadOperator

MIB = 1024 * 1024


def operator(**kwargs: Any) -> OrbitS3UploadOperator:
    return OrbitS3UploadOperator(**{"task_id": "up", "filename": "/f", "dest_key": "s3://b/k", **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"storage_class": "COLD"}, "no storage class"),
        ({"server_side_encryption": "rot13"}, "no encryption 'rot13'"),
        ({"encrypt": True, "server_side_encryption": "aws:kms"}, "contradicts"),
        ({"encrypt": False, "kms_key_id": "k"}, "contradicts"),
        ({"encrypt": True, "kms_key_id": "k"}, "takes no kms_key_id"),
        ({"encrypt": "yes"}, "encrypt is True, False or None"),
        ({"extra_args": {"SSECustomerKey": "k"}}, "belongs to the connection"),
        ({"extra_args": {"Bucket": "b"}}, "unknown upload argument"),
        ({"extra_args": {"ContentType": "a"}, "content_type": "b"}, "twice"),
        ({"extra_args": {"Metadata": {}}, "metadata": {"a": "b"}}, "twice"),
        ({"extra_args": ["ACL"]}, "extra_args is a mapping"),
        ({"transfer_retry": "eager"}, "no retry preset"),
        ({"transfer_retry": 5}, "transfer_retry is"),
        ({"on_source_change": "ignore"}, "on_source_change is"),
        ({"chunk_size": 1}, "chunk_size is a whole number"),
        ({"parallel_operations": 0}, "parallel_operations is a whole number"),
    ],
)
def test_what_is_certainly_wrong_is_refused_when_the_dag_is_parsed(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator(**kwargs)


def test_bucket_and_address_together_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="dest_key must be a key"):
        operator(dest_bucket="b")


def test_an_unknown_parameter_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="Invalid arguments"):
        operator(chunksize=1)


def test_templates_and_other_tasks_outputs_are_judged_later() -> None:
    with DAG("d", schedule=None):
        first = operator(task_id="first")
        op = operator(
            task_id="second",
            dest_key="{{ params.key }}",
            dest_bucket=first.output,
            storage_class="{{ params.cls }}",
            server_side_encryption="{{ params.sse }}",
            encrypt=True,
            metadata={"k": "{{ params.k }}"},
        )
    assert op.upstream_task_ids == {"first"}


def test_every_templated_field_is_an_attribute_with_the_given_value() -> None:
    op = operator(filename="{{ a }}", metadata={"a": "{{ b }}"})
    assert set(OrbitS3UploadOperator.template_fields) == {
        "filename", "dest_key", "dest_bucket", "storage_class", "server_side_encryption", "kms_key_id", "metadata",
        "tags", "content_type", "aws_conn_id", "region_name",
    }  # fmt: skip
    assert (op.filename, op.metadata) == ("{{ a }}", {"a": "{{ b }}"})
    assert OrbitS3UploadOperator.template_fields_renderers == {"metadata": "json", "tags": "json"}


VALUES: dict[str, Any] = dict.fromkeys(
    ("storage_class", "server_side_encryption", "encrypt", "kms_key_id", "metadata", "tags", "content_type",
     "acl_policy", "extra_args")
)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (None, None)),
        ({"encrypt": True}, ("AES256", None)),
        ({"encrypt": True, "server_side_encryption": "AES256"}, ("AES256", None)),
        ({"kms_key_id": "K"}, ("aws:kms", "K")),
        ({"server_side_encryption": "aws:kms"}, ("aws:kms", None)),
        ({"server_side_encryption": "aws:kms:dsse", "kms_key_id": "K"}, ("aws:kms:dsse", "K")),
        ({"server_side_encryption": "", "kms_key_id": ""}, (None, None)),
    ],
)
def test_encryption(values: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    attributes = object_attributes({**VALUES, **values})
    assert (attributes.server_side_encryption, attributes.kms_key_id) == expected


def test_attributes_come_from_parameters_and_extra_args() -> None:
    attributes = object_attributes(
        {**VALUES, "metadata": {"a": "1"}, "tags": {"t": "2"}, "acl_policy": "no-acl", "content_type": "x/y",
         "extra_args": {"CacheControl": "no-store"}}
    )  # fmt: skip
    assert attributes.metadata == (("a", "1"),)
    assert attributes.tags == (("t", "2"),)
    assert attributes.acl is None
    assert attributes.content_type == "x/y"
    assert attributes.extra_args == (("CacheControl", "no-store"),)


@pytest.mark.parametrize("values", [{"metadata": {"a": 1}}, {"tags": ["a"]}, {"metadata": "{'a': 'b'}"}])
def test_rendered_metadata_and_tags_must_be_texts(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        object_attributes({**VALUES, **values})


def test_the_storage_classes_are_those_that_botocore_knows() -> None:
    """But for AWS Backup's, which only that service may write."""
    model = Loader().load_service_model("s3", "service-2")
    names = {name for name in model["shapes"]["StorageClass"]["enum"] if not name.startswith("AWS_BACKUP_")}
    assert names == {item.value for item in StorageClass}


class OtherPolicy(OrbitRetryPolicy):
    """Somebody else's."""


def test_default_args_win_over_our_defaults() -> None:
    defaults = {"retry_policy": OtherPolicy(), "durable": False, "aws_conn_id": "mine", "chunk_size": 8 * MIB}
    with DAG("d", schedule=None, default_args=defaults):
        op = operator()
    assert isinstance(op.retry_policy, OtherPolicy)
    assert (op.durable, op.aws_conn_id, op.chunk_size) == (False, "mine", 8 * MIB)
    assert isinstance(operator().retry_policy, OrbitRetryPolicy)
    assert isinstance(operator().retry_policy, RetryPolicy)


def test_it_pickles_and_copies() -> None:
    op = operator(metadata={"a": "b"}, transfer_retry=TransferRetryPolicy.slow())
    twin = pickle.loads(pickle.dumps(op))
    assert (twin.dest_key, twin.metadata, twin.transfer_retry) == ("s3://b/k", {"a": "b"}, TransferRetryPolicy.slow())
    twin.on_kill()


def test_on_kill_before_execute_does_nothing_but_remember() -> None:
    op = operator()
    op.on_kill()
    assert op._stop_wanted is True
    assert operator()._stop_wanted is False


def test_it_survives_dag_serialization() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None) as dag:
        operator(dest_key="{{ ds }}", metadata={"a": "{{ ds }}"}, execution_timeout=timedelta(hours=1))
        OrbitS3UploadOperator.partial(task_id="mapped", dest_bucket="b", transfer_retry="slow").expand(
            filename=["/a", "/b"], dest_key=["a", "b"]
        )
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    task: Any = again.get_task("up")
    assert task.dest_key == "{{ ds }}"
    assert task.metadata == {"a": "{{ ds }}"}
    assert task.task_type == "OrbitS3UploadOperator"
    assert again.get_task("mapped").is_mapped


def test_a_dag_file_that_imports_the_operator_does_not_import_boto3() -> None:
    code = (
        "import sys, airflow.sdk, orbit_airflow.operators.transfer as t; t.OrbitS3UploadOperator(task_id='x', "
        "filename='f', dest_key='s3://b/k'); print([m for m in sys.modules if m.split('.')[0] in "
        "('boto3', 'botocore', 's3transfer')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (AccessDenied("no", RequestContext(code="AccessDenied")), "fail", None),
        (AccessDenied("old", RequestContext(code="ExpiredToken")), "retry", None),
        (AccessDenied("no usable credentials", RequestContext(sent=False)), "retry", None),
        (NotFound("no bucket"), "fail", None),
        (SourceChanged("changed"), "fail", None),
        (ConfigError("wrong"), "fail", None),
        (Paused("stopped"), "retry", None),
        (Unavailable("500"), "retry", None),
        (Throttled("slow down", RequestContext(retry_after=30.0)), "retry", timedelta(seconds=30)),
        (CredentialsExpired("old", RequestContext(code="ExpiredToken")), "retry", None),
        (KmsDenied("no key"), "fail", None),
        (CircuitOpen.after(42.0), "retry", timedelta(seconds=42)),
        (ValueError("not ours"), "default", None),
    ],
)
def test_the_retry_policy_asks_the_error(error: BaseException, action: str, delay: timedelta | None) -> None:
    decision = OrbitRetryPolicy().evaluate(error, 1, 3)
    assert (decision.action.value, decision.retry_delay) == (action, delay)
    assert not isinstance(error, OrbitError) or type(error).__name__ in (decision.reason or "")


def test_the_retry_policy_serializes() -> None:
    policy = OrbitRetryPolicy()
    assert isinstance(OrbitRetryPolicy.deserialize(policy.serialize()), OrbitRetryPolicy)
