"""A hook's upload in a ``@task`` that says nothing of state or signals: killed, and told to stop."""

import signal
import time

import pytest

from tests.e2e.conftest import BUCKET, TASKFLOW_ID, StartUpload
from tests.e2e.judge import MIB
from tests.e2e.waiting import wait_for
from tests.model_server import ModelProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
SIZE, RATE = 48 * MIB, 8 * MIB
STOP_SECONDS = 3.0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["sigkill", "sigterm"])
def test_the_next_try_continues(start_upload: StartUpload, server: ModelProcess, number: signal.Signals) -> None:
    """SIGKILL of the task, or SIGTERM as its supervisor forwards it: try 2 sends only what is missing."""
    upload = start_upload(f"kill/flow-{number.name}.bin", size=SIZE, rate=RATE, dag_id=TASKFLOW_ID)
    process = upload.process()
    upload.wait_until_received(SIZE // 2)

    victim = process if number is signal.SIGKILL else upload.airflow.supervisor_of(process)
    victim.signal(number)
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
    assert upload.task.view().try_number == 2
    assert result["resumed"] is True
    assert (result["bytes_saved"], result["bytes_sent"]) == (figures.kept, figures.second)
    assert f"found {figures.kept // (5 * MIB)} of " in upload.task.log_text(2)
