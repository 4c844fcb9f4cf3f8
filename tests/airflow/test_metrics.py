"""Metrics and spans: what a deployment's own tools see of transfers, and that they can do them no harm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orbit_airflow.durable import spans as spans_module
from orbit_airflow.durable.metrics import FLUSH_SECONDS, TransferMetrics
from orbit_airflow.durable.spans import EVENTS_TOLD, TransferSpan
from orbit_airflow.engine.errors import AccessDenied, Paused, RequestContext
from orbit_airflow.engine.events import (
    Progress,
    Retrying,
    TransferCompleted,
    TransferDirection,
    TransferFailed,
)
from orbit_airflow.operators.transfer import OrbitS3UploadOperator
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeClock, FakeComms
from tests.model_server import Fault, ModelServer

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]
NAMES = {"dag_id": "d", "task_id": "up", "operator_name": "OrbitS3UploadOperator", "direction": "upload"}


class Stats(NoStatsLogger):
    """A backend that remembers what is ours."""

    def __init__(self) -> None:
        self.counted: dict[str, int] = {}
        self.timed: list[tuple[str, float, dict[str, str]]] = []
        self.tags: list[dict[str, str]] = []

    def incr(self, stat: str, count: int = 1, rate: int = 1, *, tags: Any = None) -> None:  # type: ignore[override]
        if stat.startswith("orbit."):
            name = stat.removeprefix("orbit.transfer.")
            self.counted[name] = self.counted.get(name, 0) + count
            self.tags.append(tags)

    def timing(self, stat: str, dt: Any, *, tags: Any = None) -> None:  # type: ignore[override]
        if stat.startswith("orbit."):
            self.timed.append((stat, dt, tags))


@pytest.fixture
def stats() -> Iterator[Stats]:
    """A backend behind Airflow's own module of stats, which is restored."""
    from airflow.sdk._shared.observability.metrics import stats as module

    before, fake = (module._factory, module._export_legacy_names), Stats()
    module.initialize(factory=lambda: fake, export_legacy_names=True)
    yield fake
    module.initialize(factory=before[0], export_legacy_names=before[1])  # type: ignore[arg-type]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where the spans of a tracer of its own end."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", lambda name, *_, **__: provider.get_tracer(name))
    return exporter


def upload(dag: Any, path: Path, **kwargs: Any) -> OrbitS3UploadOperator:
    with dag:
        return OrbitS3UploadOperator(
            **{
                "task_id": "up",
                "filename": str(path),
                "dest_bucket": BUCKET,
                "dest_key": "metrics",
                "retries": 3,
                "replace": True,
                **kwargs,
            }
        )


def ours(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = [item for item in exporter.get_finished_spans() if item.name == "orbit.transfer"]
    return span


def test_a_success_is_counted(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, stats: Stats
) -> None:
    assert run_try(upload(dag, make_file(6 * MIB))).state == "success"
    assert stats.counted == {"started": 1, "completed": 1, "bytes_sent": 6 * MIB}
    assert all(tags == NAMES for tags in stats.tags)
    ((name, milliseconds, tags),) = stats.timed
    assert (name, tags) == ("orbit.transfer.duration", {**NAMES, "outcome": "completed"})
    assert 0 < milliseconds < 60_000


def test_a_failure_and_what_the_next_try_saves_are_counted(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, stats: Stats
) -> None:
    """Bytes that are sent twice count twice: they have travelled."""
    s3.inject(Fault(operation="UploadPart", part_number=3, status=500, times=None))
    op = upload(dag, make_file(11 * MIB), parallel_operations=1)
    assert run_try(op, 1).state == "up_for_retry"
    assert {name: stats.counted.get(name) for name in ("started", "failed", "completed")} == {
        "started": 1,
        "failed": 1,
        "completed": None,
    }
    assert stats.counted["retries"] == 2
    sent = stats.counted["bytes_sent"]
    assert sent >= 10 * MIB
    s3.reset()
    assert run_try(op, 2).state == "success"
    assert stats.counted["bytes_saved"] == 10 * MIB
    assert stats.counted["bytes_sent"] == sent + MIB
    assert [tags["outcome"] for _, _, tags in stats.timed] == ["failed", "completed"]


def test_a_try_that_fails_before_its_transfer_is_counted_too(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile, stats: Stats
) -> None:
    comms.conns.clear()
    assert run_try(upload(dag, make_file(100), aws_conn_id="nowhere")).state == "up_for_retry"
    assert stats.counted == {"started": 1, "failed": 1}
    assert comms.xcoms[("up", -1, "orbit_progress")]["phase"] == "failed"


def test_a_broken_backend_harms_nothing(
    dag: Any, run_try: RunTry, comms: FakeComms, make_file: MakeFile, stats: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, *args: Any, **kwargs: Any) -> None:
        if name.startswith("orbit."):
            raise OSError("no such host")

    monkeypatch.setattr(stats, "incr", broken)
    monkeypatch.setattr(stats, "timing", broken)
    assert run_try(upload(dag, make_file(6 * MIB))).state == "success"


def metrics(direction: TransferDirection = TransferDirection.DOWNLOAD) -> tuple[TransferMetrics, Stats, FakeClock]:
    fake, clock = Stats(), FakeClock()
    counted = TransferMetrics(
        {},
        direction,
        count=lambda name, value, tags: fake.incr(name, value, tags=tags),
        time_of=lambda name, value, tags: fake.timing(name, value, tags=tags),
        clock=clock,
    )
    return counted, fake, clock


def moved(sent: int) -> Progress:
    return Progress(total_bytes=100, bytes_done=sent, bytes_sent=sent)


def test_a_downloads_bytes_were_received() -> None:
    counted, fake, _ = metrics()
    counted.begin()
    counted(TransferCompleted(key="k", total_bytes=100, duration=1.0, bytes_sent=60, bytes_saved=40))
    counted.end("completed")
    assert fake.counted == {"started": 1, "completed": 1, "bytes_received": 60, "bytes_saved": 40}


def test_bytes_are_counted_while_they_travel() -> None:
    """A killed try has counted them but for the last seconds; nothing is counted twice."""
    counted, fake, clock = metrics()
    counted.begin()
    for step in range(1, 5):
        counted(moved(step))
    assert "bytes_received" not in fake.counted
    clock.advance(FLUSH_SECONDS)
    counted(moved(10))
    assert fake.counted["bytes_received"] == 10
    counted(moved(12))
    counted(TransferFailed(key="k", error="e", bytes_sent=15))
    counted.end("paused")
    assert fake.counted == {"started": 1, "paused": 1, "bytes_received": 15}
    assert fake.timed == [
        ("orbit.transfer.duration", FLUSH_SECONDS * 1000, {"direction": "download", "outcome": "paused"})
    ]


def test_a_failing_backend_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no such host")

    counted = TransferMetrics({}, TransferDirection.UPLOAD, count=broken, time_of=broken)
    with caplog.at_level(logging.WARNING):
        counted.begin()
        counted(moved(1))
        counted.end("completed")
    assert len([record for record in caplog.records if "metrics" in record.message]) == 1


def test_a_transfer_is_a_span_below_the_tasks(
    dag: Any,
    run_try: RunTry,
    comms: FakeComms,
    s3: ModelServer,
    make_file: MakeFile,
    exported: InMemorySpanExporter,
) -> None:
    s3.inject(Fault(operation="UploadPart", part_number=1, status=500))
    with trace.get_tracer("airflow").start_as_current_span("worker.up") as parent:
        assert run_try(upload(dag, make_file(6 * MIB))).state == "success"
    span = ours(exported)
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    found = dict(span.attributes or {})
    assert found.pop("aws.s3.upload_id")
    assert found == {
        "orbit.direction": "upload",
        "orbit.uri": f"s3://{BUCKET}/metrics",
        "orbit.try_number": 1,
        "orbit.bytes_total": 6 * MIB,
        "orbit.parts": 2,
        "orbit.bytes_found": 0,
        "orbit.bytes_moved": found["orbit.bytes_moved"],
        "orbit.bytes_saved": 0,
        "orbit.resumed": False,
        "orbit.integrity": "full-crc",
        "orbit.outcome": "completed",
    }
    (retry,) = [event for event in span.events if event.name == "retry"]
    assert dict(retry.attributes or {}) == {"operation": "UploadPart", "attempt": 1, "part_number": 1}
    assert span.status.is_unset


def test_worker_threads_are_inside_the_span(
    dag: Any,
    run_try: RunTry,
    comms: FakeComms,
    make_file: MakeFile,
    exported: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that an instrumented HTTP client's spans belong to the transfer."""
    from orbit_airflow.engine.stores.s3 import S3Store

    seen: set[int] = set()
    send = S3Store.upload_part

    def looking(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.add(trace.get_current_span().get_span_context().span_id)
        return send(self, *args, **kwargs)

    monkeypatch.setattr(S3Store, "upload_part", looking)
    assert run_try(upload(dag, make_file(6 * MIB), parallel_operations=2)).state == "success"
    context = ours(exported).context
    assert context is not None
    assert seen == {context.span_id}
    assert trace.get_current_span().get_span_context().span_id == 0


def test_a_failed_span_says_what_the_store_answered_and_no_more(
    dag: Any, run_try: RunTry, comms: FakeComms, s3: ModelServer, make_file: MakeFile, exported: InMemorySpanExporter
) -> None:
    s3.inject(Fault(operation="PutObject", status=403, code="AccessDenied", times=None))
    assert run_try(upload(dag, make_file(100))).state == "failed"
    span = ours(exported)
    found = dict(span.attributes or {})
    assert (found["error.type"], found["orbit.status"], found["orbit.code"]) == ("AccessDenied", 403, "AccessDenied")
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "AccessDenied")
    assert s3.secret_key not in span.to_json()


def test_a_pause_is_no_error(exported: InMemorySpanExporter) -> None:
    span = TransferSpan({})
    span.begin()
    span.end("paused", Paused("stopped"))
    assert ours(exported).status.is_unset


def test_a_strangers_words_stay_out_of_it(exported: InMemorySpanExporter) -> None:
    span = TransferSpan({})
    span.begin()
    span.end("failed", ValueError("password=hunter2"))
    assert "hunter2" not in ours(exported).to_json()


def test_a_bad_line_does_not_fill_the_memory(exported: InMemorySpanExporter) -> None:
    span = TransferSpan({})
    span.begin()
    for number in range(1000):
        span(Retrying("UploadPart", number, 0.1, "reset"))
    span.end("completed")
    assert len(ours(exported).events) == EVENTS_TOLD


def test_without_opentelemetry_there_is_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert spans_module._tracer() is None
    span = TransferSpan({})
    span.begin()
    span(Retrying("UploadPart", 1, 0.1, "reset"))
    span.end("failed", AccessDenied("no", RequestContext(status=403)))


def test_a_broken_tracer_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise RuntimeError("no exporter")

    span = TransferSpan({}, tracer=broken)
    with caplog.at_level(logging.WARNING):
        span.begin()
        span.end("completed")
    assert len([record for record in caplog.records if "span" in record.message]) == 1
