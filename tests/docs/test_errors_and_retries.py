"""Every Python block of docs/errors-and-retries.md runs and prints what it promises; its table has every error."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from orbit_airflow.engine import EngineConfig, ObjectRef, engine_over, errors
from orbit_airflow.engine.errors import AccessDenied, NotFound, OrbitError, RequestContext, Unavailable
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "errors-and-retries.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
CLASSIFICATION, HANDLING, PRESETS, CUSTOM, WITH_RETRY, BREAKER = range(6)
REF = ObjectRef("bucket", "file.txt")


def _engine(*faults: Fault) -> TransferEngine:
    memory = MemoryStore(buckets=["bucket"])
    return engine_over(FaultyStore(memory, faults), EngineConfig(max_retries=0, outage_patience=0))


def _printed(
    block: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: TransferEngine | None = None
) -> list[str]:
    path = tmp_path / "file.txt"
    path.write_bytes(b"important")
    exec(compile(BLOCKS[block], f"block {block}", "exec"), {"engine": engine or _engine(), "path": path, "ref": REF})
    return capsys.readouterr().out.splitlines()


def test_there_are_the_blocks_that_are_tested() -> None:
    """A new block wants a new test."""
    assert len(BLOCKS) == 6


def test_classification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(CLASSIFICATION, tmp_path, capsys) == ["Success!"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotFound("no", RequestContext("PutObject", "b", "k")), "Fatal error: not found: b/k"),
        (AccessDenied("no"), "Fatal error: access denied: no"),
        (
            Unavailable("down", RequestContext(status=503, code="ServiceUnavailable")),
            "Retryable error: down [answered 503 ServiceUnavailable]",
        ),
    ],
)
def test_classification_of_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: OrbitError, line: str
) -> None:
    engine = _engine(Fault("put", times=None, error=error))
    assert _printed(CLASSIFICATION, tmp_path, capsys, engine) == [line]


def test_handling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(HANDLING, tmp_path, capsys) == ["File not found: no-such-bucket/missing-file.txt"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AccessDenied("no"), "Access denied: no"),
        (Unavailable("down", RequestContext(status=503, code="ServiceUnavailable")), "Network error (retryable): down"),
        (errors.StoreFull("full"), "Other error: full"),
    ],
)
def test_handling_of_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str], error: OrbitError, line: str) -> None:
    assert _printed(HANDLING, tmp_path, capsys, _engine(Fault("put", times=None, error=error))) == [line]


def test_presets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(PRESETS, tmp_path, capsys) == ["3 0.05 1.0", "5 0.2 10.0", "5 0.1 5.0", "True"]


def test_a_policy_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(CUSTOM, tmp_path, capsys) == ["True"]


def test_with_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = Fault("put", error=Unavailable("down", RequestContext(status=503, code="ServiceUnavailable")))
    assert _printed(WITH_RETRY, tmp_path, capsys, _engine(once)) == ["9"]


def test_the_breaker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(BREAKER, tmp_path, capsys) == ["Upload successful"]
    refused = _engine(Fault("put", times=None, error=AccessDenied("no")))
    assert _printed(BREAKER, tmp_path, capsys, refused) == ["Upload failed: no"]


def test_the_breaker_when_it_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snippet's own branch: with a threshold of one, the first failure opens it."""
    hasty = BLOCKS[BREAKER].replace("failure_threshold=5", "failure_threshold=1")
    monkeypatch.setattr("tests.docs.test_errors_and_retries.BLOCKS", [*BLOCKS[:BREAKER], hasty])
    down = _engine(
        Fault("put", times=None, error=Unavailable("down", RequestContext(status=503, code="ServiceUnavailable")))
    )
    assert _printed(BREAKER, tmp_path, capsys, down) == ["Circuit breaker open, skipping request"]


def test_the_table_has_every_error() -> None:
    """And no other."""
    kinds = {kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, OrbitError)}
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row)}
    assert named == {kind.__name__ for kind in kinds} - {"OrbitError", "StoreError"}


def test_the_table_of_presets_is_true() -> None:
    """Attempts, delays and breaker of each."""
    from orbit_airflow.engine import RetryPolicy

    rows = re.findall(r"^\| `(fast|slow|network)`.*?\| (\d) \| (\d+) ms to (\d+) s \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for name, attempts, first, longest, breaker in rows:
        policy = RetryPolicy.named(name)
        assert (policy.max_attempts, policy.use_circuit_breaker) == (int(attempts), breaker == "yes")
        assert (policy.initial_delay * 1000, policy.max_delay) == pytest.approx((int(first), int(longest)))
