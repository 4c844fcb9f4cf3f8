"""kill -9 of the process that runs the task: what the next try owes."""

import signal

import pytest

from tests.e2e.conftest import LARGE_PARTS, SMALL_PARTS, StartUpload
from tests.e2e.judge import MIB
from tests.model_server import ModelProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("parts", "size", "rate"),
    [
        pytest.param(SMALL_PARTS, 64 * MIB, 8 * MIB, id="small-parts"),
        pytest.param(LARGE_PARTS, 120 * MIB, 16 * MIB, id="large-parts"),
    ],
)
def test_killed_task_continues_its_upload(
    start_upload: StartUpload, server: ModelProcess, parts: tuple[int, int], size: int, rate: int
) -> None:
    """After SIGKILL at half of the bytes, try 2 sends only what is missing, and result and log say so."""
    upload = start_upload(f"kill/task-{parts[0]}.bin", size=size, rate=rate, parts=parts)
    process = upload.process()
    upload.wait_until_received(size // 2)

    process.signal(signal.SIGKILL)
    server.set_rate_limit(None)
    border = upload.judge.border()
    result = upload.wait_for_success()

    figures = upload.judge.figures(border)
    print(figures)
    assert upload.judge.faults(figures) == []
    assert upload.judge.equals(upload.path)
    assert upload.task.view().try_number == 2
    assert result["resumed"] is True
    assert result["try_number"] == 2
    assert result["size"] == size
    assert result["bytes_saved"] == figures.kept
    assert result["bytes_sent"] == figures.second == size - figures.kept
    assert f"found {figures.kept // parts[0]} of " in upload.task.log_text(2)
