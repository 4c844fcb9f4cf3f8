"""A worker whose clock is wrong by more than the store allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from orbit_airflow.engine import UploadResult
from orbit_airflow.engine.errors import AccessDenied, NotFound
from orbit_airflow.engine.stores.client import make_client, prepare_client
from orbit_airflow.engine.stores.s3 import S3Store
from tests.model_server import Fault
from tests.scenario.conftest import Stage

Upload = Callable[..., UploadResult]


@pytest.fixture
def skewed(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage.server.clock_offset = float(request.param)
    yield stage
    stage.server.clock_offset = 0.0


@pytest.mark.parametrize("skewed", [1200, -1200], indirect=True)
def test_the_store_s_time_is_learnt_once(skewed: Stage, upload: Upload, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty minutes either way: the first refused answer tells the time, each request is signed with it, and one
    line says so.
    """
    with caplog.at_level(logging.WARNING):
        upload()
    assert skewed.versions() == [skewed.path.read_bytes()]
    assert len([record for record in caplog.records if "clock" in record.getMessage()]) == 1
    refused = [record for record in skewed.server.records() if record.status == 403]
    assert len(refused) == 1


@pytest.mark.parametrize("skewed", [1200], indirect=True)
def test_a_refused_head_tells_the_time_as_well(skewed: Stage) -> None:
    """It has no body and so no code: a 403 with a Date far away."""
    engine = skewed.engine()
    engine.close()
    store = S3Store(prepare_client(make_client(engine.config), engine.config), engine.config)
    with pytest.raises(NotFound):
        store.head(skewed.ref)


def test_a_skew_that_remains_names_both_times(stage: Stage, upload: Upload) -> None:
    """The store calls everything skewed: the error says what both clocks show, and the parts are kept."""
    stage.server.inject(Fault(operation="UploadPart", action="skew", times=None))
    with pytest.raises(AccessDenied, match=r"this worker's clock says \d{4}-.* UTC, the store's \d{4}-.* UTC"):
        upload()
    assert stage.open_uploads() == 1
