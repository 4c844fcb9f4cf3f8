"""The lean path's signatures are botocore's, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import botocore.auth
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine.stores.sigv4 import CLOCK, UNSIGNED, ClockedSigV4Auth, HeaderSigner, encoded, query_string

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
NAME = st.from_regex(r"x-amz-[a-z][a-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token")
)
QUERY = st.lists(
    st.tuples(st.from_regex(r"[a-zA-Z-]{1,12}", fullmatch=True), KEY), max_size=4, unique_by=lambda i: i[0]
)
HOST = st.sampled_from(["127.0.0.1:9000", "bucket.s3.eu-central-1.amazonaws.com", "[::1]:8080"])


class _Clock:
    def now(self) -> datetime:
        return NOW


def _botocore(kind: type[S3SigV4Auth], method: str, url: str, headers: dict[str, str], keys: Any) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context.update({"payload_signing_enabled": False, CLOCK: _Clock()})
    request.context["client_config"] = mock.Mock(s3={"payload_signing_enabled": False})
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        kind(keys, "s3", "eu-central-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    method=st.sampled_from(["PUT", "GET", "HEAD"]), host=HOST, key=KEY, query=QUERY,
    headers=st.dictionaries(NAME, PLAIN, max_size=5), access=st.from_regex(r"[A-Z0-9]{4,20}", fullmatch=True),
    secret=PLAIN, token=st.none() | st.from_regex(r"[A-Za-z0-9/+=]{1,40}", fullmatch=True),
)  # fmt: skip
def test_a_signature_is_botocore_s(
    method: str, host: str, key: str, query: list[tuple[str, str]], headers: dict[str, str], access: str, secret: str,
    token: str | None,
) -> None:  # fmt: skip
    """For any key, query, headers and credentials; the headers that are not covered included."""
    keys = ReadOnlyCredentials(access, secret, token)
    path, line = f"/bucket/{encoded(key, '/')}", query_string(query)
    sent = {**headers, "User-Agent": "x", "Content-Length": "5"}
    ours = HeaderSigner("eu-central-1").sign(method, host, path, line, sent, UNSIGNED, keys, NOW)
    url = f"https://{host}{path}" + (f"?{line}" if line else "")
    theirs = _botocore(S3SigV4Auth, method, url, sent, keys)
    for name, value in ours.items():
        assert theirs[name.lower()] == value
    assert urlsplit(url).netloc == host
    assert _botocore(ClockedSigV4Auth, method, url, sent, keys) == theirs


def test_another_day_and_another_secret_have_another_key() -> None:
    """The kept key is used for what it was made for alone."""
    signer = HeaderSigner("eu-central-1")

    def signed(secret: str, now: datetime) -> str:
        keys = ReadOnlyCredentials("A", secret, None)
        return signer.sign("GET", "h", "/b/k", "", {}, UNSIGNED, keys, now)["Authorization"]

    first = signed("one", NOW)
    assert signed("two", NOW) != first
    assert signed("one", NOW.replace(day=5)) != first
    assert signed("one", NOW) == first
