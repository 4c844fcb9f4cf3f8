"""The task's state is gone, or cannot be read: what the next try makes of it, in the real task runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.durable.tokens import TaskStateTokenStore
from orbit_airflow.engine import adopt
from orbit_airflow.engine.errors import StateUnavailable, Unavailable
from orbit_airflow.engine.runner import Cancellation
from tests.airflow.conftest import BUCKET, MIB, Try
from tests.airflow.fakes import FakeComms, RecordingLog
from tests.airflow.test_upload_runs import PART, brief_waits, result_of, stored, upload
from tests.model_server import Fault, ModelServer
from tests.model_server.conftest import client_of

__all__ = ["brief_waits"]

RunTry = Callable[..., Try]
MakeFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def brief_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches an upload for ten seconds."""
    monkeypatch.setattr(adopt, "QUIET_SECONDS", 0.2)


class _Store:
    """A task state store that may be down."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"orbit:x": {"phase": "started"}}
        self.down = True

    def get(self, key: str) -> Any:
        if self.down:
            raise RuntimeError("API server 503")
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


def test_a_state_store_that_does_not_answer_is_not_an_empty_one() -> None:
    """StateUnavailable once the wait is over; nothing is written."""
    store, checkpoint = _Store(), Checkpoint(Cancellation(), RecordingLog(), retry_after=0.05)
    tokens = TaskStateTokenStore(store, checkpoint, load_wait=0.3)
    checkpoint.start()
    try:
        with pytest.raises(StateUnavailable, match="could not be read"):
            tokens.load("orbit:x")
        assert store.values == {"orbit:x": {"phase": "started"}}
    finally:
        checkpoint.close()


def test_a_state_store_that_answers_late_is_waited_for() -> None:
    """It is asked again until the wait is over."""
    store, checkpoint = _Store(), Checkpoint(Cancellation(), RecordingLog(), retry_after=0.05)
    tokens = TaskStateTokenStore(store, checkpoint, load_wait=10.0)
    real, asked = store.get, [0]

    def late(key: str) -> Any:
        asked[0] += 1
        store.down = asked[0] < 3
        return real(key)

    store.get = late  # type: ignore[method-assign]  # a store that recovers
    checkpoint.start()
    try:
        assert tokens.load("orbit:x") == {"phase": "started"}
        assert tokens.load("orbit:y") is None
    finally:
        checkpoint.close()


@pytest.fixture(autouse=True)
def no_leftovers(s3: ModelServer) -> None:
    """The server is the session's: what other tests left open is not this one's."""
    client = client_of(s3)
    for item in s3.open_uploads(BUCKET):
        client.abort_multipart_upload(Bucket=BUCKET, Key=item.key, UploadId=item.upload_id)
    s3.reset()


def _interrupted(op: Any, s3: ModelServer, run_try: RunTry) -> int:
    """Part 4 of 6 fails for good; how many bytes of the others are kept."""
    s3.inject(Fault(operation="UploadPart", part_number=4, action="error", status=500, times=None))
    first = run_try(op, 1)
    assert (first.state, type(first.error)) == ("up_for_retry", Unavailable)
    (kept,) = [sum(item.parts.values()) for item in s3.open_uploads(BUCKET)]
    s3.reset()
    return kept


def test_an_unreadable_state_is_another_try_and_loses_nothing(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """The API server cannot be asked: up for retry, not a byte is sent, and the third try continues."""
    path = make_file(6 * PART)
    op = upload(dag, path, "unreadable.tar")
    kept = _interrupted(op, s3, run_try)
    before = dict(comms.state)

    def trouble(name: str, message: Any) -> None:
        if name == "GetTaskStateStore":
            raise TimeoutError("the API server does not answer")

    comms.trouble = trouble
    second = run_try(op, 2)
    assert (second.state, type(second.error)) == ("up_for_retry", StateUnavailable)
    assert comms.state == before
    assert s3.records() == []
    comms.trouble = lambda name, message: None
    third = run_try(op, 3)
    assert third.state == "success", third.error
    assert result_of(comms)["bytes_saved"] == kept
    assert stored(s3, "unreadable.tar") == path.read_bytes()


def test_a_state_that_was_emptied_is_made_up_for_by_the_store(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """Somebody cleared the task's state: the second try knows since when its run is on, and finds the parts."""
    path = make_file(6 * PART)
    op = upload(dag, path, "emptied.tar")
    kept = _interrupted(op, s3, run_try)
    comms.state.clear()
    second = run_try(op, 2)
    assert second.state == "success", second.error
    result = result_of(comms)
    assert (result["resumed"], result["bytes_saved"]) == (True, kept)
    assert s3.bytes_received("UploadPart") == 6 * PART - kept
    assert s3.open_uploads(BUCKET) == []
    assert stored(s3, "emptied.tar") == path.read_bytes()


def test_a_first_try_asks_the_store_for_nothing(
    dag: Any, comms: FakeComms, s3: ModelServer, run_try: RunTry, make_file: MakeFile
) -> None:
    """There is no earlier one."""
    assert run_try(upload(dag, make_file(6 * MIB), "first.tar"), 1).state == "success"
    assert s3.records("ListMultipartUploads") == []
