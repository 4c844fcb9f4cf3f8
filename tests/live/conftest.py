"""Live tests are skipped, with the way to run them, unless somebody asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orbit_airflow.engine import ObjectRef, TransferEngine, engine_over, open_engine
from orbit_airflow.engine.stores.client import make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from orbit_airflow.testing import Fault, FaultyStore
from tests.live.ground import HOW, LiveGround, LiveSettings, enabled

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One reason for all of them. The tests of the suite itself need no store and always run."""
    if enabled(os.environ):
        return
    for item in items:
        if item.path.parent == HERE and item.path.name != "test_suite_itself.py":
            item.add_marker(pytest.mark.skip(reason=HOW))


@pytest.fixture(scope="session")
def ground() -> Iterator[LiveGround]:
    """A prefix of this run's own; cleared in the end, whatever the tests did."""
    live = LiveGround(LiveSettings.read(os.environ))
    live.client.head_bucket(Bucket=live.settings.bucket)
    try:
        yield live
    finally:
        live.clear()


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """Every test says where and when it ran: a green line without that proves nothing later."""
    if "ground" not in request.fixturenames:
        return
    live: LiveGround = request.getfixturevalue("ground")
    with capsys.disabled():
        print(f"\n{request.node.name}: {live.where} {live.settings.bucket} {datetime.now(UTC).isoformat()}")


@pytest.fixture
def ref(ground: LiveGround, request: pytest.FixtureRequest) -> ObjectRef:
    """An address of this test's own."""
    return ground.ref(f"{request.node.name}/object")


@pytest.fixture
def engine(ground: LiveGround) -> TransferEngine:
    """As ``open_engine`` makes it."""
    return open_engine(ground.settings.config)


@pytest.fixture
def faulty_engine(ground: LiveGround) -> Callable[..., TransferEngine]:
    """``faulty_engine(fault, ...)``: the same engine, with faults between it and the store."""

    def make(*faults: Fault) -> TransferEngine:
        config = ground.settings.config
        store = S3Store(prepare_client(make_client(config), config), config)
        return engine_over(FaultyStore(store, list(faults)), config)

    return make
