"""Every store and wrapper, one after the other, for one suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.benches import Bench, opened
from tests.contract.quirks import QUIRKS

S3_NAMES = [name for name in QUIRKS if "-" in name or name == "moto"]


@pytest.fixture(scope="module", params=list(QUIRKS))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each store in turn."""
    with opened(request.param) as found:
        yield found


@pytest.fixture(scope="module", params=S3_NAMES)
def reached(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each store that a client reaches."""
    with opened(request.param) as found:
        yield found
