"""OrbitS3VersioningSensor in the real task runner: three modes, one behaviour."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from botocore.config import Config

from orbit_airflow.engine.errors import AccessDenied, ConfigError, Paused, StateUnavailable
from orbit_airflow.operators.retry import OrbitRetryPolicy
from orbit_airflow.sensors.versioning import OrbitS3VersioningSensor
from orbit_airflow.triggers.versioning import OrbitS3VersioningTrigger
from tests.airflow.conftest import Try
from tests.airflow.fakes import FakeComms
from tests.model_server import Fault, ModelServer

BUCKET = "versioned"
MODES = ("poke", "reschedule", "deferrable")
RunTry = Callable[..., Try]


@pytest.fixture
def client(s3: ModelServer) -> Any:
    """Somebody else's client."""
    return boto3.client(
        "s3", endpoint_url=s3.endpoint_url, aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
        region_name=s3.region, config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip


@pytest.fixture
def put(client: Any) -> Callable[..., str]:
    """``put(key)`` writes a version and gives its id."""

    def write(key: str, body: bytes = b"x") -> str:
        return str(client.put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"])

    return write


def sensor(mode: str = "poke", **kwargs: Any) -> OrbitS3VersioningSensor:
    given: dict[str, Any] = {
        "task_id": "wait", "bucket_name": BUCKET, "bucket_key": "in/data", "wait_for": "new_version", "timeout": 60,
        "poke_interval": 0.05, "deferrable": mode == "deferrable",
        "mode": "reschedule" if mode == "reschedule" else "poke", **kwargs,
    }  # fmt: skip
    with DAG("d", start_date=datetime(2025, 1, 1, tzinfo=UTC), schedule=None):
        return OrbitS3VersioningSensor(**given)


class Waiting:
    """A sensor's task, driven as scheduler and triggerer drive it: again and again until it has ended.

    ``between`` is called after each look that found nothing, and says what the world does meanwhile.
    """

    def __init__(self, run_try: RunTry, comms: FakeComms, monkeypatch: pytest.MonkeyPatch) -> None:
        self._run_try, self._comms, self._patch = run_try, comms, monkeypatch
        self.between: Iterator[Callable[[], object]] = iter(())
        self.events: list[Any] = []

    def to_the_end(self, op: OrbitS3VersioningSensor, number: int = 1) -> Try:
        clock = SimpleNamespace(sleep=lambda _: self._meanwhile(), monotonic=time.monotonic)
        self._patch.setattr("airflow.sdk.bases.sensor.time", clock)
        ended, reschedules = self._run_try(op, number), 0
        while ended.state in ("up_for_reschedule", "deferred"):
            if ended.state == "deferred":
                ended = self._run_try(op, number, resume=self._in_the_triggerer(ended.message))
            else:
                self._comms.first_reschedule = self._comms.first_reschedule or datetime.now(UTC)
                reschedules += 1
                self._meanwhile()
                ended = self._run_try(op, number, reschedules=reschedules)
        return ended

    def _meanwhile(self) -> None:
        next(self.between, lambda: None)()

    def _in_the_triggerer(self, message: Any) -> tuple[str, Any]:
        trigger = trigger_of(message)

        async def sleep(_: float) -> None:
            await asyncio.to_thread(self._meanwhile)

        self._patch.setattr(trigger, "_sleep", sleep)
        self._meanwhile()
        event = asyncio.run(first_event(trigger))
        self.events.append(event)
        from airflow.sdk.serde import deserialize, serialize

        kwargs: Any = deserialize(json.loads(json.dumps(message.next_kwargs)))
        return message.next_method, serialize({**kwargs, "event": event})


def trigger_of(message: Any) -> OrbitS3VersioningTrigger:
    """As the triggerer makes it of what the task runner sends."""
    from airflow.sdk.serde import deserialize

    assert message.classpath == "orbit_airflow.triggers.versioning.OrbitS3VersioningTrigger"
    kwargs: Any = deserialize(json.loads(json.dumps(message.trigger_kwargs)))
    return OrbitS3VersioningTrigger(**kwargs)


async def first_event(trigger: OrbitS3VersioningTrigger) -> Any:
    try:
        async for event in trigger.run():
            return event.payload
    finally:
        await trigger.cleanup()
    return None


@pytest.fixture
def waiting(run_try: RunTry, comms: FakeComms, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    return Waiting(run_try, comms, monkeypatch)


def result_of(comms: FakeComms) -> Any:
    return comms.xcoms.get(("wait", -1, "return_value"))


@pytest.mark.parametrize("mode", MODES)
def test_new_versions_since_the_beginning_are_the_result(
    mode: str, waiting: Waiting, comms: FakeComms, put: Callable[..., str]
) -> None:
    """Two that came between two looks are both there; the old one and another key's are not."""
    key = f"new/{mode}"
    put(key)
    made: list[str] = []

    def write() -> None:
        made.extend([put(key, b"one"), put(key, b"three")])

    waiting.between = iter([lambda: put(key + "2"), write])
    ended = waiting.to_the_end(sensor(mode, bucket_key=key))
    assert (ended.state, ended.error) == ("success", None)
    result = result_of(comms)
    assert [item["version_id"] for item in result["versions"]] == made[::-1]
    assert (result["uri"], result["size"], result["count"]) == (f"s3://{BUCKET}/{key}", 5, 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_version_written_before_the_first_poke_but_after_the_baseline_counts(
    mode: str, run_try: RunTry, waiting: Waiting, comms: FakeComms, put: Callable[..., str], s3: ModelServer
) -> None:
    """Try 1 takes the baseline and dies; what is written until try 2 is not lost: the baseline is taken once."""
    key = f"retry/{mode}"
    put(key)
    op = sensor(mode, bucket_key=key, retries=2)
    s3.inject(Fault(operation="ListObjectVersions", status=403, code="AccessDenied", nth=2))
    assert run_try(op, 1).state == "failed"
    assert len(comms.state) == 1
    version_id = put(key)
    assert waiting.to_the_end(op, 2).state == "success"
    assert result_of(comms)["version_id"] == version_id


@pytest.mark.parametrize("mode", MODES)
def test_markers_versions_and_the_buckets_state_are_waited_for(
    mode: str, waiting: Waiting, comms: FakeComms, put: Callable[..., str], client: Any, s3: ModelServer
) -> None:
    key = f"kinds/{mode}"
    put(key)
    waiting.between = iter([lambda: client.delete_object(Bucket=BUCKET, Key=key)])
    assert waiting.to_the_end(sensor(mode, bucket_key=key, wait_for="delete_marker")).state == "success"
    assert (result_of(comms)["delete_marker"], result_of(comms)["is_latest"]) == (True, True)

    made = put(key)
    op = sensor(mode, bucket_key=key, wait_for="version_id", version_id=made)
    assert waiting.to_the_end(op).state == "success"
    assert result_of(comms)["version_id"] == made

    s3.create_bucket(f"plain-{mode}")
    enable = {"VersioningConfiguration": {"Status": "Enabled"}, "Bucket": f"plain-{mode}"}
    waiting.between = iter([lambda: client.put_bucket_versioning(**enable)])
    op = sensor(mode, bucket_name=f"plain-{mode}", bucket_key=None, wait_for="enabled")
    assert waiting.to_the_end(op).state == "success"
    assert result_of(comms)["status"] == "Enabled"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_time_out_ends_alike(mode: str, soft_fail: bool, run_try: RunTry, comms: FakeComms, waiting: Waiting) -> None:
    """AirflowSensorTimeout, which is not retried; skipped with soft_fail."""
    comms.first_reschedule = datetime.now(UTC) - timedelta(hours=1)
    op = sensor(mode, bucket_key="never", timeout=0.001, soft_fail=soft_fail, retries=3)
    if mode == "deferrable":
        op.timeout = 60
        deferred = run_try(op, 1)
        assert deferred.message.trigger_timeout <= timedelta(seconds=60)
        ended = run_try(op, 1, resume=("__fail__", {"error": "Trigger timeout"}))
    else:
        ended = waiting.to_the_end(op)
        if mode == "reschedule":
            ended = run_try(op, 1, reschedules=1)
    if soft_fail:
        assert ended.state == "skipped"
    else:
        assert ended.state == "failed"
        assert isinstance(ended.error, AirflowSensorTimeout)


@pytest.mark.parametrize("mode", MODES)
def test_an_error_that_no_look_can_help_keeps_its_class(
    mode: str, waiting: Waiting, comms: FakeComms, s3: ModelServer
) -> None:
    """Access is taken away while it waits: the task fails at once, although it has retries."""

    def refuse() -> None:
        s3.inject(Fault(operation="ListObjectVersions", status=403, code="AccessDenied", times=None))

    waiting.between = iter([refuse])
    ended = waiting.to_the_end(sensor(mode, bucket_key="denied", retries=3))
    assert ended.state == "failed"
    assert isinstance(ended.error, AccessDenied)
    assert ended.error.context.code == "AccessDenied"
    assert ended.error.bucket == BUCKET


@pytest.mark.parametrize("mode", MODES)
def test_an_outage_from_the_first_request_on_does_not_fail_it(
    mode: str, waiting: Waiting, comms: FakeComms, put: Callable[..., str], s3: ModelServer
) -> None:
    """Not even the baseline can be taken: it is taken, and kept, as soon as the store is back."""
    key = f"outage/{mode}"
    put(key)
    for operation in ("GetBucketVersioning", "ListObjectVersions"):
        s3.inject(Fault(operation=operation, status=503, code="ServiceUnavailable", times=None))
    made: list[str] = []
    looks: list[Callable[[], object]] = [lambda: None, s3.clear_faults, lambda: None]
    waiting.between = iter([*looks, lambda: made.append(put(key)), lambda: None])
    ended = waiting.to_the_end(sensor(mode, bucket_key=key))
    assert (ended.state, ended.error) == ("success", None)
    assert len(comms.state) == 1
    assert [item["version_id"] for item in result_of(comms)["versions"]] == made
    if mode == "deferrable":
        assert [event["kind"] for event in waiting.events] == ["baseline", "seen"]


def test_a_second_deferral_has_only_what_is_left_of_the_time_out(run_try: RunTry, comms: FakeComms) -> None:
    """A baseline from the triggerer must not begin the time-out anew."""
    from airflow.sdk.serde import serialize

    op = sensor("deferrable", bucket_key="left", timeout=100)
    given = trigger_of(run_try(op, 1).message).parameters.baseline
    event = {"kind": "baseline", "baseline": given}
    began = (datetime.now(UTC) - timedelta(seconds=70)).isoformat()
    again = run_try(op, 1, resume=("resume", serialize({"event": event, "began": began})))
    assert again.state == "deferred"
    assert timedelta(seconds=20) < again.message.trigger_timeout <= timedelta(seconds=30)
    late = (datetime.now(UTC) - timedelta(seconds=101)).isoformat()
    ended = run_try(op, 1, resume=("resume", serialize({"event": event, "began": late})))
    assert isinstance(ended.error, AirflowSensorTimeout)
    op.soft_fail = True
    skipped = run_try(op, 1, resume=("resume", serialize({"event": event, "began": late})))
    assert skipped.state == "skipped"


@pytest.mark.parametrize("event", [None, {}, {"kind": "baseline", "baseline": {}}, {"kind": "failed"}])
def test_an_event_that_means_nothing_is_an_error(event: Any, run_try: RunTry) -> None:
    from airflow.sdk.serde import serialize

    ended = run_try(sensor("deferrable"), 1, resume=("resume", serialize({"event": event})))
    assert isinstance(ended.error, ConfigError)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_never_fail_skips_and_silent_fail_goes_on(
    mode: str, waiting: Waiting, comms: FakeComms, put: Callable[..., str], s3: ModelServer
) -> None:
    """Airflow's switches mean in the triggerer what they mean in a worker."""

    def refuse() -> None:
        s3.inject(Fault(operation="ListObjectVersions", status=403, code="AccessDenied", times=None))

    waiting.between = iter([refuse])
    ended = waiting.to_the_end(sensor(mode, bucket_key=f"never/{mode}", never_fail=True))
    assert ended.state == "skipped"
    s3.clear_faults()

    key = f"silent/{mode}"
    made: list[str] = []
    waiting.between = iter([refuse, lambda: None, s3.clear_faults, lambda: made.append(put(key))])
    ended = waiting.to_the_end(sensor(mode, bucket_key=key, silent_fail=True))
    assert ended.state == "success"
    assert result_of(comms)["version_id"] == made[0]


def test_the_first_look_of_a_deferrable_one_may_fail_silently(
    waiting: Waiting, run_try: RunTry, s3: ModelServer, comms: FakeComms
) -> None:
    s3.inject(Fault(operation="ListObjectVersions", status=403, code="AccessDenied"))
    assert run_try(sensor("deferrable", bucket_key="s", silent_fail=True)).state == "deferred"
    s3.inject(Fault(operation="ListObjectVersions", status=403, code="AccessDenied"))
    assert run_try(sensor("deferrable", bucket_key="n", never_fail=True)).state == "skipped"
    s3.inject(Fault(operation="ListObjectVersions", status=403, code="AccessDenied"))
    assert isinstance(run_try(sensor("deferrable", bucket_key="f")).error, AccessDenied)


def test_what_is_there_already_needs_no_triggerer(run_try: RunTry, comms: FakeComms, put: Callable[..., str]) -> None:
    first, second = put("since"), put("since")
    ended = run_try(sensor("deferrable", bucket_key="since", since_version_id=first))
    assert ended.state == "success"
    assert result_of(comms)["version_id"] == second


@pytest.mark.parametrize("message", ["GetTaskStateStore", "SetTaskStateStore"])
def test_a_baseline_that_cannot_be_kept_is_an_error_that_is_retried(
    message: str, run_try: RunTry, comms: FakeComms
) -> None:
    """Waiting without it would lose versions at the next retry or reschedule."""

    def trouble(name: str, _: Any) -> None:
        if name == message:
            raise RuntimeError("the API server is away")

    comms.trouble = trouble
    ended = run_try(sensor(bucket_key="state", retries=1))
    assert ended.state == "up_for_retry"
    assert isinstance(ended.error, StateUnavailable)


def test_a_damaged_baseline_is_taken_again(
    waiting: Waiting, run_try: RunTry, comms: FakeComms, put: Callable[..., str]
) -> None:
    """Anybody with rights in the UI can edit it."""
    put("edited")
    op = sensor("deferrable", bucket_key="edited")
    run_try(op, 1)
    (name,) = comms.state
    comms.state[name] = {"schema": 1, "known": "nonsense"}
    assert run_try(op, 2).state == "deferred"
    assert len(comms.state[name]["known"]) == 1


def test_without_a_state_store_it_waits_in_memory_but_not_over_reschedules(
    put: Callable[..., str], comms: FakeComms
) -> None:
    """As in a script: there is nothing to keep it in."""
    op = sensor(bucket_key="script")
    assert not op.poke({})
    version_id = put("script")
    assert op.poke({}).xcom_value["version_id"] == version_id  # type: ignore[index]
    with pytest.raises(StateUnavailable):
        sensor("reschedule", bucket_key="script").poke({})


def test_a_stop_ends_the_look(comms: FakeComms) -> None:
    op = sensor(bucket_key="stopped")
    op.on_kill()
    with pytest.raises(Paused):
        op.poke({})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"wait_for": "gone"}, "wait_for is one of"),
        ({"bucket_key": None}, "wait: wait_for='new_version' needs a bucket_key"),
        ({"wait_for": "version_id"}, "version_id is given with"),
        ({"botocore_config": {"aws_secret_access_key": "s"}}, "does not belong into botocore_config"),
        ({"bucket_name": "no bucket"}, "not a bucket name"),
    ],
)
def test_what_is_certainly_wrong_is_refused_when_the_dag_is_parsed(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sensor(**kwargs)


def test_templates_are_judged_when_they_are_rendered(run_try: RunTry) -> None:
    op = sensor(bucket_key="{{ '' }}")
    assert set(OrbitS3VersioningSensor.template_fields) == {
        "bucket_name", "bucket_key", "since_version_id", "version_id", "aws_conn_id", "region_name",
    }  # fmt: skip
    ended = run_try(op)
    assert (ended.state, type(ended.error)) == ("failed", ConfigError)


def test_it_pickles_serializes_and_takes_default_args() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None, default_args={"deferrable": True, "aws_conn_id": "mine"}) as dag:
        op = OrbitS3VersioningSensor(task_id="wait", bucket_name="{{ ds }}")
    assert (op.deferrable, op.aws_conn_id) == (True, "mine")
    assert isinstance(op.retry_policy, OrbitRetryPolicy)
    assert pickle.loads(pickle.dumps(op)).bucket_name == "{{ ds }}"
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert again.get_task("wait").task_type == "OrbitS3VersioningSensor"


def test_a_dag_that_uses_it_is_parsed_without_boto3() -> None:
    code = (
        "import sys, orbit_airflow.sensors.versioning, orbit_airflow.triggers.new_version as t;"
        "t.OrbitS3NewVersionTrigger(bucket_name='bucket').serialize();"
        "print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().splitlines()[-1] == "[]"


FULL = OrbitS3VersioningTrigger(
    bucket_name="b", wait_for="new_version", bucket_key="k", since_version_id="v", baseline={"known": ["a"]},
    poke_interval=3.5, exponential_backoff=True, max_wait=60.0, silent_fail=True, aws_conn_id=None, region_name="r",
    verify="/ca.pem", botocore_config={"read_timeout": 3},
)  # fmt: skip


@pytest.mark.parametrize("trigger", [FULL, OrbitS3VersioningTrigger(bucket_name="b", wait_for="enabled")])
def test_the_trigger_survives_its_way_to_the_triggerer(trigger: OrbitS3VersioningTrigger) -> None:
    path, kwargs = trigger.serialize()
    assert path == f"{OrbitS3VersioningTrigger.__module__}.{OrbitS3VersioningTrigger.__qualname__}"
    twin = OrbitS3VersioningTrigger(**json.loads(json.dumps(kwargs)))
    assert twin.serialize() == trigger.serialize()
    assert twin.parameters == trigger.parameters


def test_the_trigger_never_looks_in_a_tight_loop() -> None:
    """At least a second between two looks, whatever the sensor says; longer with back-off and after failures."""
    import random

    from orbit_airflow.triggers.pace import Pace

    rng = random.Random(1)
    fast = Pace(interval=0.0)
    assert all(0.9 <= fast.after(looks, rng) <= 1.1 for looks in range(1, 50))
    slower = Pace(interval=10.0, backoff=True, max_wait=60.0)
    means = [slower.after(looks, rng) for looks in (1, 2, 3, 10)]
    assert [round(mean, -1) for mean in means] == [10, 20, 40, 60]
    assert max(fast.after_failures(failures, rng) for failures in range(1, 60)) <= 330
    assert replace(slower, interval=900.0).after_failures(5, rng) >= 810


def test_one_trigger_opens_one_engine(
    put: Callable[..., str], comms: FakeComms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one for each look."""
    from orbit_airflow.hooks.access import Access

    opened: list[Access] = []
    original = Access.open_engine

    def counted(self: Access) -> Any:
        opened.append(self)
        return original(self)

    monkeypatch.setattr(Access, "open_engine", counted)
    looks: list[float] = []
    trigger = OrbitS3VersioningTrigger(
        bucket_name=BUCKET, wait_for="new_version", bucket_key="one", since_version_id=put("one")
    )
    event = asyncio.run(first_event(trigger))
    assert event["kind"] == "baseline"
    trigger = OrbitS3VersioningTrigger(**{**trigger.serialize()[1], "baseline": event["baseline"]})
    opened.clear()

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            await asyncio.to_thread(put, "one")

    monkeypatch.setattr(trigger, "_sleep", sleep)
    assert asyncio.run(first_event(trigger))["kind"] == "seen"
    assert (len(looks), len(opened)) == (3, 1)


def test_skip_exceptions_are_what_airflow_skips_by() -> None:
    """The sensor's own skip is Airflow's."""
    op = sensor("deferrable", never_fail=True)
    event = {"kind": "failed", "error": {"class": "AccessDenied", "message": "no"}}
    with pytest.raises(AirflowSkipException) as raised:
        op.resume({}, event=event)
    assert isinstance(raised.value.__cause__, AccessDenied)
