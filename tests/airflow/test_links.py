"""The buttons of a task instance: there from the first second, right for every partition, still right at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.hooks.console import console_url
from orbit_airflow.hooks.s3 import OrbitS3Hook
from orbit_airflow.operators.links import S3ObjectLink, TransferLink, xcom_page
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
REF = ObjectRef("my-bucket", "a b/ü#?&=%.tar")
AWS, GOV, CHINA = (
    "https://console.aws.amazon.com",
    "https://console.amazonaws-us-gov.com",
    "https://console.amazonaws.cn",
)
PAGE = "/dags/d/runs/r1/tasks/up"


def upload(dag: Any, path: Path, **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{"task_id": "up", "filename": str(path), "dest_bucket": BUCKET, "dest_key": "k", "retries": 3, **kwargs}
        )


def finalize(ended: Try) -> None:
    """What the task runner does with a task's links when it has ended."""
    from airflow.sdk.execution_time.task_runner import _xcom_push_to_db

    key = SimpleNamespace(dag_id="d", run_id="r1", task_id="up", map_index=-1)
    ti: Any = SimpleNamespace(dag_id="d", run_id="r1", task_id="up", map_index=-1)
    for link in ended.task.operator_extra_links:
        _xcom_push_to_db(ti, key=link.xcom_key, value=link.get_link(operator=ended.task, ti_key=key))


@pytest.mark.parametrize(
    ("endpoint", "region", "console"),
    [
        ("https://s3.amazonaws.com", "us-east-1", AWS),
        ("https://s3.eu-west-1.amazonaws.com", "eu-west-1", AWS),
        ("https://s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1", AWS),
        ("https://s3-us-west-2.amazonaws.com", "us-west-2", AWS),
        ("https://bucket.vpce-1a2b-x.s3.us-east-2.vpce.amazonaws.com", "us-east-2", AWS),
        ("https://s3.us-gov-west-1.amazonaws.com", "us-gov-west-1", GOV),
        ("https://s3-fips.us-gov-east-1.amazonaws.com", "us-gov-east-1", GOV),
        ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1", CHINA),
        ("https://s3.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1", CHINA),
    ],
)
def test_each_partition_has_its_console(endpoint: str, region: str, console: str) -> None:
    """Also when only the endpoint says which region it is."""
    for said in {region, "us-east-1"}:
        url = console_url(REF, endpoint, said)
        assert url is not None
        assert url.startswith(f"{console}/s3/object/my-bucket?region={region}&prefix=")
        assert parse_qs(urlsplit(url).query)["prefix"] == [REF.key]


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("http://127.0.0.1:9000", "us-east-1"),
        ("https://minio.example:9000", "us-gov-west-1"),
        ("https://s3.us-east-1.amazonaws.com.evil.example", "us-east-1"),
        ("https://notamazonaws.com", "us-east-1"),
        ("https://s3.eu-central-1.wasabisys.com", "eu-central-1"),
        ("https://abc.r2.cloudflarestorage.com", "auto"),
        ("https://s3.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
        ("https://s3.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("https://s3.amazonaws.com", "cn-north-1"),
        ("", None),
    ],
)
def test_other_stores_have_none(endpoint: str, region: str | None) -> None:
    assert console_url(REF, endpoint, region) is None


@pytest.mark.parametrize("bucket", ["arn:aws:s3:us-east-1:123456789012:accesspoint/mine", "fast--use1-az5--x-s3"])
def test_what_is_no_ordinary_bucket_has_none(bucket: str) -> None:
    assert console_url(ObjectRef(bucket, "k"), "https://s3.amazonaws.com", "us-east-1") is None


@pytest.mark.parametrize(("version", "shown"), [("a/b+c==", ["a/b+c=="]), ("null", None), (None, None)])
def test_a_version_is_named(version: str | None, shown: list[str] | None) -> None:
    """And "null", which buckets without versioning say, is none."""
    url = console_url(ObjectRef("bucket", "k", version), "https://s3.amazonaws.com", "us-east-1")
    assert parse_qs(urlsplit(url or "").query).get("versionId") == shown


@pytest.mark.parametrize("key", ["a&prefix=b", "a b", "#", "a%2Fb", "?x=1", "<script>", "ü\n"])
def test_a_key_cannot_leave_its_place(key: str) -> None:
    url = console_url(ObjectRef("bucket", key), "https://s3.amazonaws.com", "us-east-1") or ""
    assert parse_qs(urlsplit(url).query, strict_parsing=True) == {"region": ["us-east-1"], "prefix": [key]}
    assert url.isascii()
    assert "<" not in url


@pytest.mark.parametrize(
    ("connection", "place"),
    [
        ({"region_name": "us-gov-west-1"}, ("https://s3.us-gov-west-1.amazonaws.com", "us-gov-west-1")),
        ({"region_name": "cn-north-1"}, ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1")),
        (
            {"region_name": "eu-west-1", "endpoint_url": "http://127.0.0.1:1"},
            ("http://127.0.0.1:1", "eu-west-1"),
        ),
    ],
)
def test_the_hook_knows_where_its_store_is(
    comms: FakeComms, connection: dict[str, Any], place: tuple[str, str]
) -> None:
    comms.add_connection("there", "key", "secret", connection)
    assert OrbitS3Hook("there").place == place


def test_the_transfer_link_is_live_before_the_first_request(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    order: list[str] = []

    def note(name: str, message: Any) -> None:
        if name in ("SetXCom", "GetConnection"):
            order.append(getattr(message, "key", name))

    comms.trouble = note
    assert run_try(upload(dag, make_file(100))).state == "success"
    assert comms.xcoms[("up", -1, TransferLink().xcom_key)] == f"{PAGE}/xcom"
    assert order.index(TransferLink().xcom_key) < order.index("orbit_progress")
    assert S3ObjectLink().xcom_key not in order


def test_both_are_right_when_the_task_has_ended(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the model server were AWS; the version is known at the end only."""
    there = ("https://s3.us-gov-west-1.amazonaws.com", "us-gov-west-1")
    monkeypatch.setattr(OrbitS3Hook, "place", property(lambda self: there))
    ended = run_try(upload(dag, make_file(100), dest_bucket="versioned", dest_key="a b"))
    early = f"{GOV}/s3/object/versioned?region=us-gov-west-1&prefix=a%20b"
    assert comms.xcoms[("up", -1, S3ObjectLink().xcom_key)] == early
    finalize(ended)
    version = comms.xcoms[("up", -1, "return_value")]["version_id"]
    assert comms.xcoms[("up", -1, S3ObjectLink().xcom_key)] == f"{early}&versionId={version}"
    assert comms.xcoms[("up", -1, TransferLink().xcom_key)] == f"{PAGE}/xcom"


def test_a_failed_try_keeps_its_links(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile
) -> None:
    """And for a store that is not AWS's the object's is empty, which the UI does not show."""
    s3.inject(Fault(operation="PutObject", status=403, code="AccessDenied", times=None))
    finalize(run_try(upload(dag, make_file(100))))
    assert comms.xcoms[("up", -1, TransferLink().xcom_key)] == f"{PAGE}/xcom"
    assert comms.xcoms[("up", -1, S3ObjectLink().xcom_key)] == ""


def test_the_page_is_below_the_configured_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a person may have named is quoted."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow/")
    url = xcom_page("d", "manual__2026-01-01T00:00:00+00:00", "group.up", 3)
    run = "manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    assert url == f"https://example.org/airflow/dags/d/runs/{run}/tasks/group.up/mapped/3/xcom"


def test_airflows_ui_has_that_page() -> None:
    """The routes are in the shipped bundle; should one be renamed, this tells it."""
    import airflow

    assets = Path(airflow.__file__).parent / "ui" / "dist" / "assets"
    bundle = "".join(path.read_text(encoding="utf-8") for path in assets.glob("index-*.js"))
    for route in ("dags/:dagId/runs/:runId/tasks/:taskId", "dags/:dagId/runs/:runId/tasks/:taskId/mapped/:mapIndex"):
        assert f"path:`{route}`" in bundle
    assert "path:`xcom`" in bundle


def test_a_serialized_dag_has_both(dag: Any) -> None:
    """By name and XCom key alone: what the API server reads has no code of ours."""
    from airflow.serialization.serialized_objects import DagSerialization

    upload(dag, Path("/x"))
    with dag:
        OrbitS3UploadOperator.partial(task_id="m", dest_bucket=BUCKET).expand(filename=["/a"], dest_key=["a"])
    data = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    for task in DagSerialization.from_dict(data).tasks:
        found = {link.name: link.xcom_key for link in task.operator_extra_links}
        assert found == {"Transfer": "_link_TransferLink", "S3 object": "_link_S3ObjectLink"}


def test_the_provider_names_the_classes() -> None:
    from airflow.sdk._shared.module_loading import import_string

    from orbit_airflow.provider_info import get_provider_info

    assert [import_string(name) for name in get_provider_info()["extra-links"]] == [TransferLink, S3ObjectLink]
