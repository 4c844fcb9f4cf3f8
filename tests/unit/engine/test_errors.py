"""The error tree: as drawn, picklable, and quiet about what it must not say."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from orbit_airflow.engine import errors
from orbit_airflow.engine.errors import (
    CircuitOpen,
    Disposition,
    NotFound,
    OrbitError,
    RequestContext,
    StoreError,
    printable,
)
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.token import ResumeState

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, OrbitError)] + [
    TokenRejected
]
CONTEXT = RequestContext("PutObject", "bucket", "key", "upload", 7, 503, "SlowDown", "REQ", 1.5, sent=False)
_LINE = re.compile(r"^ {4}(?P<branch>[ │├└]*)(?P<name>[A-Z]\w+).*?(?P<word>FAIL|RETRY|RESUME|disposition)?$")


def _drawn() -> dict[str, tuple[str, str | None]]:
    """Class -> (parent, disposition) as the docstring's tree has them."""
    tree: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        depth = len(match["branch"]) // 3
        path[depth:] = [match["name"]]
        tree[match["name"]] = (path[depth - 1] if depth else "RuntimeError", match["word"])
    return tree


def test_the_tree_is_as_drawn() -> None:
    """Every class is in the docstring, under its parent, and nothing else is."""
    actual = {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES if kind is not TokenRejected}
    assert {name: parent for name, (parent, _) in _drawn().items()} == actual


def test_the_dispositions_are_as_drawn() -> None:
    """FAIL, RETRY or RESUME for each class that can be raised."""
    drawn = {name: word.lower() for name, (_, word) in _drawn().items() if word not in (None, "disposition")}
    assert drawn.keys() == {kind.__name__ for kind in CLASSES} - {"OrbitError", "TokenRejected"}
    assert {name: getattr(errors, name).disposition.value for name in drawn} == drawn


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_pickles(kind: type[OrbitError]) -> None:
    """With context, notes and state: errors cross process borders."""
    error = kind("message", CONTEXT).with_note("kept")
    error.resume_state = ResumeState("key", "{}")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (str(twin), twin.context, twin.resume_state) == (str(error), error.context, error.resume_state)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_note_keeps_the_class_and_the_state(kind: type[OrbitError]) -> None:
    """A twin that says more; the original is as it was."""
    error = kind("message", CONTEXT)
    error.resume_state = ResumeState("key", "{}")
    noted = error.with_note("one").with_note("two")
    assert type(noted) is kind
    assert noted.resume_state is error.resume_state
    assert str(noted).endswith("one two")
    assert "one" not in str(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_only_fail_is_not_retryable(kind: type[OrbitError]) -> None:
    """Waiting helps for all the others."""
    assert kind("x").is_retryable is (kind.disposition is not Disposition.FAIL)


def test_a_missing_object_is_named() -> None:
    """NotFound{bucket, key}, as the guide has it."""
    missing = NotFound("no such key", RequestContext("HeadObject", "bucket", "folder/key"))
    assert (missing.bucket, missing.key) == ("bucket", "folder/key")


def test_an_open_breaker_says_when_to_come_back() -> None:
    """Nothing was sent, a new try continues, and the time is the error's retry_after."""
    error = CircuitOpen.after(59.6)
    assert "in 60 s" in str(error)
    assert (error.context.retry_after, error.context.sent) == (59.6, False)
    assert error.disposition is Disposition.RESUME


def test_an_error_says_where() -> None:
    """Operation, part, address, answer and request id in one line."""
    text = str(StoreError("failed", CONTEXT))
    assert text == "failed [PutObject of part 7 on s3://bucket/key answered 503 SlowDown (request id REQ)]"


def test_an_error_without_context_says_its_message() -> None:
    """And nothing else."""
    assert str(OrbitError("failed")) == "failed"


def test_a_key_cannot_write_log_lines() -> None:
    """Line ends, escapes and direction marks in a key come out escaped."""
    text = str(
        StoreError("failed", RequestContext("PutObject", "bucket", "a\nERROR b\r\x1b[31m\u202egnp.exe\x85\u2028"))
    )
    assert text.isprintable()
    assert "a\\nERROR b\\r\\x1b[31m\\u202egnp.exe" in text


def test_printable_keeps_what_can_be_read() -> None:
    """Letters of all scripts stay; length is cut with a sign."""
    assert printable("größe/文件 x") == "größe/文件 x"
    assert printable("x" * 300) == "x" * 255 + "…"
    assert len(printable("\n" * 300, 10)) == 10
    assert printable("\ud800") == "\\ud800"
