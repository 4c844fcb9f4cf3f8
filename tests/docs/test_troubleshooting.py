"""docs/troubleshooting.md: every problem says how to know it, why it is so, and what to do; in words that we print."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.blocks import REPOSITORY

PAGE = "docs/troubleshooting.md"
MARKS = ("**Symptom.**", "**Cause.**", "**What to do.**")
GUIDES = ("Connection issues", "Authentication failures", "Slow performance", "Multipart upload failures")
# Words of botocore, of S3 and of the shell in what we print.
THEIRS = (
    "EndpointConnectionError: Could not connect to the endpoint URL", "ConnectTimeoutError", "ReadTimeoutError",
    "SSLError:", "CERTIFICATE_VERIFY_FAILED", "Unable to locate credentials", "AuthorizationHeaderMalformed",
    "RequestTimeTooSkewed", "MissingContentLength", "PermanentRedirect", "EntityTooSmall", "kms:Decrypt",
    "AccessDenied", "Unauthorized", "ExpiredToken", "SlowDown",
)  # fmt: skip
_VALUES = re.compile(r"<[^>]*>|\.\.\.|'\w+'|s3://|\d[\d.]*|UploadPart|PutObject|GiB|MiB")


def problems() -> dict[str, str]:
    """Heading to text, for all headings that have any."""
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    parts = re.split(r"^###? (.+)$", text, flags=re.MULTILINE)[1:]
    return {heading: body for heading, body in zip(parts[::2], parts[1::2], strict=True) if body.strip()}


def symptoms() -> list[str]:
    """The longer pieces of what the symptoms quote, without the values in them."""
    quoted = [
        quote
        for body in problems().values()
        for quote in re.findall(r"`([^`]+)`", " ".join(body.split(MARKS[1])[0].split()))
    ]
    pieces = []
    for quote in quoted:
        for word in THEIRS:
            quote = quote.replace(word, "<>")
        pieces += [piece.strip(" :;,()[]") for piece in _VALUES.split(quote)]
    return sorted({piece for piece in pieces if len(piece) >= 12})


@cache
def printed() -> str:
    """All texts of the package, those of f-strings without their values."""
    texts: list[str] = []
    for path in sorted((REPOSITORY / "orbit_airflow").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_every_problem_has_symptom_cause_and_remedy() -> None:
    """In this order; and the guide's four are among them."""
    found = problems()
    assert found.keys() >= set(GUIDES)
    for heading, body in found.items():
        if heading == "The task and Airflow":
            continue
        places = [body.find(mark) for mark in MARKS]
        assert -1 < places[0] < places[1] < places[2], heading


@pytest.mark.parametrize("words", symptoms())
def test_a_symptom_is_in_our_words(words: str) -> None:
    """Whoever searches for what the log says must find it."""
    assert words in printed()


def test_there_are_symptoms() -> None:
    """The quotes are found at all."""
    assert len(symptoms()) >= 20
