"""What the guide's pages speak of and this tree does not have yet: expected to fail, and an error when it does not."""

from __future__ import annotations

from typing import Any

import pytest

# By heading of docs/guide.md, option, or name of the map. Empty when all parts are together.
PENDING: frozenset[str] = frozenset()

# Names of docs/guide-map.md that cannot be imported yet. Empty when all parts are together.
UNRESOLVED: frozenset[str] = frozenset()


def needing(what: str) -> pytest.MarkDecorator:
    """For a test: a failure is expected while ``what`` is pending."""
    return pytest.mark.xfail(what in PENDING, reason=f"{what} is not here yet", strict=True)


def case(what: str, value: object) -> Any:
    """For one parameter of a test: the same."""
    return pytest.param(value, marks=needing(what))
