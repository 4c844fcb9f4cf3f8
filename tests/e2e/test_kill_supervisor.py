"""The supervisor is killed, or told to stop, above a running upload."""

import signal
import time

import pytest

from tests.e2e.conftest import BUCKET, StartUpload
from tests.e2e.judge import MIB
from tests.e2e.waiting import wait_for
from tests.model_server import ModelProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
SIZE, RATE = 48 * MIB, 8 * MIB
# At this rate the rest of the file would take longer than an orphan may live.
SLOW_RATE = MIB // 2
ORPHAN_SECONDS = 15.0
STOP_SECONDS = 3.0


def test_orphan_stops_and_next_try_continues(start_upload: StartUpload, server: ModelProcess) -> None:
    """A task whose supervisor was killed stops by itself and aborts nothing; the scheduler's next try continues."""
    upload = start_upload("kill/supervisor.bin", size=SIZE, rate=RATE)
    process = upload.process()
    supervisor = upload.airflow.supervisor_of(process)
    upload.wait_until_received(SIZE // 2)

    server.set_rate_limit(SLOW_RATE)
    supervisor.signal(signal.SIGKILL)
    killed = time.monotonic()
    wait_for("the orphan's end", lambda: not process.is_alive(), patience=ORPHAN_SECONDS, explain=upload.history)
    print(f"the orphan lived {time.monotonic() - killed:.1f} s")
    server.set_rate_limit(None)
    border = upload.judge.border()
    result = upload.wait_for_success()

    figures = upload.judge.figures(border)
    print(figures)
    assert upload.judge.faults(figures) == []
    assert upload.judge.equals(upload.path)
    assert upload.task.view().try_number == 2
    assert result["resumed"] is True
    assert result["bytes_sent"] == figures.second


def test_stopped_task_keeps_its_parts(start_upload: StartUpload, server: ModelProcess) -> None:
    """SIGTERM to the supervisor, as a pod's stop sends it: the try ends soon, its state kept, and try 2 continues."""
    upload = start_upload("kill/stopped.bin", size=SIZE, rate=RATE)
    process = upload.process()
    upload.wait_until_received(SIZE // 2)

    upload.airflow.supervisor_of(process).signal(signal.SIGTERM)
    stopped = time.monotonic()
    wait_for("the try's end", lambda: not process.is_alive(), patience=STOP_SECONDS, every=0.05)
    print(f"the try ended after {time.monotonic() - stopped:.1f} s")
    server.set_rate_limit(None)
    border = upload.judge.border()
    (left,) = (item for item in server.open_uploads(BUCKET) if item.key == upload.judge.place.key)
    assert left.upload_id in str(upload.task.stored_state())
    result = upload.wait_for_success()

    figures = upload.judge.figures(border)
    print(figures)
    assert upload.judge.faults(figures) == []
    assert upload.judge.equals(upload.path)
    assert result["resumed"] is True
    assert result["bytes_sent"] == figures.second
