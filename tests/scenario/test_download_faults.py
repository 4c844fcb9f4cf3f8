"""Wrong answers to a ranged download, for each kind of object: right bytes, or an error, or no claim about the bytes.

The same rows as the fault table's, which shows them beside other tools; see docs/trust.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, FileTokenStore, ObjectRef, RetryPolicy, open_engine
from orbit_airflow.engine.errors import OrbitError
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.stores.client import make_client
from tests.faults.cell import judged_download, set_up
from tests.faults.clients import Outcome
from tests.faults.objects import KINDS, Bodies
from tests.faults.rows import BUCKET, DOWNLOADS, KEY, Row
from tests.model_server import ModelServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART = 256 * 1024
BODIES = Bodies(seed=7, size=5 * PART + 1000, part_size=PART)
ANSWERS = [row for row in DOWNLOADS if row.group == "bytes"]
PROOFS = {
    "none": "size+etag",
    "crc64nvme": "full-crc",
    "crc32c": "full-crc",
    "crc32-parts": "part-crc",
    "md5": "md5",
}
# What no repetition mends, and what nobody but the caller can decide.
ERRORS = {"flip-always", "ignored-always", "overwritten", "overwritten-unseen"}


@dataclass(frozen=True)
class Ground:
    """A server and a client of it; making a client takes longer than most of these downloads."""

    server: ModelServer
    config: EngineConfig
    client: S3Client

    def download(self, target: Path, tokens: Path) -> Outcome:
        """What a new engine says of the object."""
        engine = open_engine(self.config, client=self.client)
        try:
            result = engine.download(ObjectRef(BUCKET, KEY), target, tokens=FileTokenStore(tokens))
        except OrbitError as exc:
            return Outcome(ok=False, error=f"{type(exc).__name__}: {exc}")
        return Outcome(ok=True, integrity=result.integrity.value)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """One for all; each test finds it without faults, and puts its own object there."""
    with ModelServer() as server:
        server.create_bucket(BUCKET)
        config = EngineConfig(
            region=server.region,
            endpoint=server.endpoint_url,
            credentials=Credentials(access_key=server.access_key, secret_key=server.secret_key),
            force_path_style=True,
            chunk_size=PART,
            stall_timeout=1.0,
            retry=RetryPolicy(initial_delay=0.01, max_delay=0.05, use_circuit_breaker=False),
            outage_patience=0,
            limits=StoreLimits(min_part_size=1),
        )
        yield Ground(server, config, make_client(config))


def expected(row: Row, kind: str) -> tuple[str, str]:
    """Verdict and proof."""
    if kind == "none" and row.same_length:
        # Nobody could know; the result does not say that anybody did.
        return "WRONG", "size+etag"
    return ("error", "") if row.name in ERRORS else ("ok", PROOFS[kind])


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row.name)
def test_a_wrong_answer_is_never_called_right(ground: Ground, row: Row, kind: str, tmp_path: Path) -> None:
    """Success means right bytes, proved as far as the store allows; an error leaves nothing under the final name."""
    ground.server.reset()
    ground.server.set_profile(row.profile)
    target = tmp_path / "target.bin"
    scene = set_up(row, kind, BODIES, ground.server, target)
    said = ground.download(target, tmp_path / "tokens")
    verdict, notes = judged_download(scene, said)
    assert any(record.fault for record in ground.server.records())
    assert (verdict, said.integrity, notes) == (*expected(row, kind), ()), said.error
    assert target.exists() is (verdict != "error")


def test_there_are_twelve_and_two_more() -> None:
    """The twelve that other tools were judged by; a flip that repeats; a store that does not look at If-Match."""
    others = {row.name for row in ANSWERS if not row.twelve}
    assert (len(ANSWERS), others) == (14, {"flip-always", "overwritten-unseen"})
