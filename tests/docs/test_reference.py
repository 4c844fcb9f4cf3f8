"""docs/reference.md is what the docstrings say, and they say something about every parameter."""

from __future__ import annotations

import inspect

import pytest

from tests.docs.reference import PAGE, page, parameters_of, public_classes, split_docstring


def test_the_page_is_current() -> None:
    """Whoever changes a docstring or a signature runs the generator."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.docs.reference"


@pytest.mark.parametrize("item", public_classes(), ids=lambda item: item.__name__)
def test_every_parameter_is_described(item: type) -> None:
    """And nothing is described that is not there. An abstract base leaves it to its operators."""
    described = split_docstring(inspect.getdoc(item) or "")[1]
    assert described.keys() == parameters_of(item).keys()


def test_the_operators_are_found() -> None:
    """By themselves."""
    assert {"OrbitS3UploadOperator", "OrbitRetryPolicy"} <= {item.__name__ for item in public_classes()}


def test_a_docstring_is_taken_apart() -> None:
    """Descriptions may have more lines; prose stays prose."""
    prose, parameters = split_docstring("First.\n\nMore.\n\n:param a: one\n    and two.\n:param b: three")
    assert prose == "First.\n\nMore."
    assert parameters == {"a": "one and two.", "b": "three"}
