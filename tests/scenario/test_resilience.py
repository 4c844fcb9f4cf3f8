"""Retries, breaker, budget and patience over real HTTP; minutes pass on a clock of our own."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orbit_airflow.engine import EngineConfig, RetryPolicy, UploadOptions, UploadResult, engine_over
from orbit_airflow.engine.errors import (
    AccessDenied,
    CircuitOpen,
    ClockSkewed,
    ConnectionLost,
    CredentialsExpired,
    Disposition,
    KmsDenied,
    Network,
    OrbitError,
    StoreError,
    Throttled,
    Unavailable,
    WrongEndpoint,
)
from orbit_airflow.engine.events import Notice, Retrying
from orbit_airflow.engine.model import Integrity
from orbit_airflow.engine.resilience.breaker import State, forget_breakers, shared_breaker
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.stores.client import make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from tests.model_server import Fault
from tests.scenario.conftest import BUCKET, PART, Stage

PATIENT = {"outage_patience": 600.0, "retry": RetryPolicy()}


class Weather(Cancellation):
    """A stop order whose waits move a clock and take no time; at ``until`` the server's faults are over."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        super().__init__()
        self.now = 0.0
        self._stage = stage
        self._until = seconds
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.check()
        self.slept.append(seconds)
        self.now += seconds
        if self.now >= self._until:
            self._stage.server.clear_faults()


@pytest.fixture(autouse=True)
def _no_breaker_of_another_test() -> Iterator[None]:
    forget_breakers()
    yield
    forget_breakers()


def _config(stage: Stage, **settings: Any) -> EngineConfig:
    return stage.engine(**{**PATIENT, "parallel_operations": 2, **settings}).config


def _upload(stage: Stage, weather: Weather, **settings: Any) -> UploadResult:
    config = _config(stage, **settings)
    store = S3Store(prepare_client(make_client(config), config), config)
    engine = engine_over(store, config, rng=random.Random(1), endpoint=config.endpoint, clock=weather.clock)
    return engine.upload(
        stage.path, stage.ref, UploadOptions(), tokens=stage.tokens, reporter=stage.events.append, cancel=weather
    )


def _assert_right(stage: Stage, result: UploadResult) -> None:
    assert stage.versions() == [stage.path.read_bytes()]
    assert stage.open_uploads() == 0
    assert result.integrity is Integrity.FULL_CRC


OUTAGES = {
    "unavailable": Fault(action="error", status=500, code="InternalError", times=None, nth=4),
    "storm": Fault(action="error", status=503, code="SlowDown", times=None, nth=4),
    "reset": Fault(action="reset", times=None, nth=4),
    "fin": Fault(action="fin", times=None, nth=4),
}


@pytest.mark.parametrize("kind", OUTAGES)
def test_minutes_of_outage_in_the_middle_of_an_upload_cost_nothing(stage: Stage, kind: str) -> None:
    """Four minutes, then recovery: one upload id, no part sent twice beyond those that were on their way."""
    stage.server.inject(OUTAGES[kind])
    weather = Weather(stage, 240.0)
    _assert_right(stage, _upload(stage, weather))
    assert weather.now >= 240.0
    creates = [record for record in stage.server.records("CreateMultipartUpload") if record.status == 200]
    assert len(creates) == 1
    assert stage.server.bytes_received("UploadPart") <= stage.path.stat().st_size + 10 * PART
    told = [event.message for event in stage.events if isinstance(event, Notice)]
    assert sum("not well" in line for line in told) == 1
    assert sum("answers again" in line for line in told) == 1


def test_an_outage_beyond_the_patience_keeps_the_parts(stage: Stage) -> None:
    """The error is the store's own, says what was waited and kept, and the next try sends only what is missing."""
    stage.server.inject(Fault(action="error", status=500, times=None, nth=4))
    weather = Weather(stage, 10_000.0)
    with pytest.raises(Unavailable, match=r"Waited 30 s for the store.*keeps") as caught:
        _upload(stage, weather, outage_patience=30.0, parallel_operations=1)
    assert caught.value.is_retryable
    assert stage.open_uploads() == 1
    stage.server.clear_faults()
    result = _upload(stage, Weather(stage, 0.0))
    _assert_right(stage, result)
    assert result.resumed
    assert result.bytes_saved == 2 * PART


def test_a_storm_with_retry_after_is_obeyed(stage: Stage) -> None:
    """No wait is shorter than the seven seconds that the store asked for, and the upload succeeds."""
    storm = Fault(
        operation="UploadPart", action="error", status=503, code="SlowDown", headers={"Retry-After": "7"}, times=3
    )
    stage.server.inject(storm)
    weather = Weather(stage, 10_000.0)
    _assert_right(stage, _upload(stage, weather, outage_patience=0))
    retried = [event.delay for event in stage.events if isinstance(event, Retrying)]
    assert len(retried) == 3
    assert min(retried) >= 7.0
    assert min(weather.slept) >= 7.0


def test_the_breaker_of_a_bucket_opens_and_closes(stage: Stage) -> None:
    """Five failures open it, and it is the process's: another engine is refused at once. A minute later it closes."""
    now = [0.0]
    config = _config(stage, outage_patience=0, max_retries=9)
    breaker = shared_breaker(str(config.endpoint), BUCKET)
    breaker._clock = lambda: now[0]
    stage.server.inject(Fault(action="error", status=500, times=None))
    with pytest.raises(CircuitOpen):
        _upload(stage, Weather(stage, 10_000.0), outage_patience=0, max_retries=9)
    assert breaker.is_open
    asked = len(stage.server.records())
    assert asked <= 6
    with pytest.raises(CircuitOpen) as caught:
        _upload(stage, Weather(stage, 10_000.0), outage_patience=0)
    assert caught.value.disposition is Disposition.RESUME
    assert len(stage.server.records()) == asked
    stage.server.clear_faults()
    now[0] = 61.0
    _assert_right(stage, _upload(stage, Weather(stage, 0.0), outage_patience=0, parallel_operations=1))
    assert breaker.state is State.CLOSED


def test_refusals_never_open_the_breaker(stage: Stage) -> None:
    """4xx and throttling, as often as they come."""
    config = _config(stage)
    for code, status in (("AccessDenied", 403), ("SlowDown", 503), ("NoSuchBucket", 404)):
        stage.server.inject(Fault(action="error", status=status, code=code, times=None))
        with pytest.raises(StoreError):
            _upload(stage, Weather(stage, 10_000.0), outage_patience=0, max_retries=9)
        stage.server.clear_faults()
    assert shared_breaker(str(config.endpoint), BUCKET).state is State.CLOSED


def test_an_empty_budget_ends_the_repetition(stage: Stage) -> None:
    """35 repetitions of the engine's 500 tokens; then the error is raised and says why."""
    stage.server.inject(Fault(operation="UploadPart", action="error", status=500, times=None))
    with pytest.raises(Network, match="retry budget is used up"):
        _upload(
            stage,
            Weather(stage, 10_000.0),
            outage_patience=0,
            max_retries=100,
            retry=RetryPolicy(use_circuit_breaker=False),
        )
    assert len([event for event in stage.events if isinstance(event, Retrying)]) == 35


@pytest.mark.parametrize(
    ("code", "status", "kind", "retryable", "words"),
    [
        ("ExpiredToken", 400, CredentialsExpired, True, "new session"),
        ("RequestTimeTooSkewed", 403, ClockSkewed, True, "clocks"),
        ("KMS.DisabledException", 400, KmsDenied, False, "kms:Decrypt"),
        ("Unauthorized", 401, AccessDenied, False, "verify_checksums"),
        ("InvalidAccessKeyId", 403, AccessDenied, False, "login"),
    ],
)
def test_a_refusal_has_its_class_and_its_advice(
    stage: Stage, code: str, status: int, kind: type[OrbitError], retryable: bool, words: str
) -> None:
    """In the middle of an upload: never waited for, the parts kept, and what to do next in the message."""
    stage.server.inject(Fault(operation="UploadPart", nth=3, status=status, code=code, times=None))
    with pytest.raises(kind, match="keeps") as caught:
        _upload(stage, Weather(stage, 10_000.0), parallel_operations=1)
    assert type(caught.value) is kind
    assert caught.value.is_retryable is retryable
    assert words in str(caught.value)
    assert f"s3://{BUCKET}/{stage.ref.key}" in str(caught.value)
    assert caught.value.context.request_id
    assert stage.open_uploads() == 1
    assert "not well" not in stage.notices()


@pytest.mark.parametrize("offset", [20 * 60, -3 * 3600, 400 * 86400])
@pytest.mark.parametrize("size", [10, 3 * PART])
def test_a_wrong_clock_is_corrected_once(stage: Stage, offset: int, size: int) -> None:
    """The store's Date corrects the signatures: one refusal, then a success, and no refusal for the next transfer."""
    stage.path.write_bytes(stage.path.read_bytes()[:size])
    engine = stage.engine(parallel_operations=1, settle_seconds=0.1)
    stage.server.clock_offset = offset
    try:
        result = engine.upload(stage.path, stage.ref, tokens=stage.tokens, reporter=stage.events.append)
        assert result.integrity is Integrity.FULL_CRC
        refused = [record for record in stage.server.records() if record.status == 403]
        assert len(refused) == 1
        engine.upload(stage.path, stage.ref)
        assert [record for record in stage.server.records() if record.status == 403] == refused
    finally:
        stage.server.clock_offset = 0


def test_a_redirect_says_where_it_wanted_to_lead(stage: Stage) -> None:
    """And is not followed."""
    stage.server.inject(Fault(operation="UploadPart", action="redirect", location="http://127.0.0.1:9/x", times=None))
    with pytest.raises(WrongEndpoint, match=r"127\.0\.0\.1.*not followed"):
        _upload(stage, Weather(stage, 10_000.0))


def test_a_stop_order_in_an_outage_is_obeyed_at_once(stage: Stage) -> None:
    """On the real clock: the pause of a second ends within a fraction of it."""
    stage.server.inject(Fault(action="reset", times=None, nth=4))
    cancel = Cancellation()
    engine = stage.engine(**{**PATIENT, "retry": RetryPolicy(initial_delay=0.01, max_delay=0.02)})
    stopped: list[float] = []

    def reporter(event: object) -> None:
        if isinstance(event, Notice) and "not well" in event.message and not stopped:
            stopped.append(time.monotonic())
            cancel.cancel()

    with pytest.raises(OrbitError, match="stopped on request"):
        engine.upload(stage.path, stage.ref, tokens=stage.tokens, reporter=reporter, cancel=cancel)
    assert time.monotonic() - stopped[0] < 0.9
    assert stage.open_uploads() == 1


def test_nobody_there_is_a_lost_connection_that_says_so(stage: Stage) -> None:
    """A port without a server: certain that nothing was sent, waited for, and said with its reason."""
    with pytest.raises(ConnectionLost, match="Waited 20 s") as caught:
        _upload(stage, Weather(stage, 10_000.0), endpoint="http://127.0.0.1:9", outage_patience=20.0)
    assert caught.value.context.sent is False
    assert "no answer from the store" in stage.notices()


def test_throttling_is_its_own_class_to_the_end(stage: Stage) -> None:
    """``except Throttled`` keeps its meaning when the attempts and the patience are spent."""
    stage.server.inject(Fault(operation="UploadPart", action="error", status=503, code="SlowDown", times=None))
    with pytest.raises(Throttled, match="Waited"):
        _upload(stage, Weather(stage, 10_000.0), outage_patience=60.0)
