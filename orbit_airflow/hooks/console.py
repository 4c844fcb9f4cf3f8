"""Where a person can look at an object: its page in the AWS console, if its store is AWS. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode, urlsplit

from orbit_airflow.engine.model import ObjectRef

# The regions' first letters, the domain of their endpoints and that of their console. Other partitions (the isolated
# and the sovereign ones) have consoles that are not reached from elsewhere, or whose addresses we could not check.
_PARTITIONS = (
    ("cn-", ("amazonaws.com.cn", "api.amazonwebservices.com.cn"), "amazonaws.cn"),
    ("us-gov-", ("amazonaws.com", "api.aws"), "amazonaws-us-gov.com"),
    (("us-iso", "eu-iso", "eusc-"), (), ""),
    ("", ("amazonaws.com", "api.aws"), "aws.amazon.com"),
)
_REGION = re.compile(r"(?:^|[.-])((?:[a-z]{2,4}-)(?:[a-z]+-){1,2}\d+)(?=\.)")


def console_url(ref: ObjectRef, endpoint: str, region: str | None) -> str | None:
    """The page of the object (of its version, when ``ref`` names one), or None when there is none that we know.

    ``endpoint`` is the client's, ``region`` too; a region that stands in the endpoint wins. None for every host that is
    not AWS's own, for access points and for directory buckets, whose objects have no such page.
    """
    host = (urlsplit(endpoint).hostname or "").lower()
    named = _REGION.search(host)
    place = named.group(1) if named else (region or "")
    domain = _console_of(host, place)
    if domain is None or ":" in ref.bucket or ref.bucket.endswith("--x-s3"):
        return None
    query = {"prefix": ref.key}
    if place and place != "aws-global":
        query = {"region": place, **query}
    if ref.version_id and ref.version_id != "null":
        query["versionId"] = ref.version_id
    return f"https://console.{domain}/s3/object/{quote(ref.bucket, safe='')}?{urlencode(query, quote_via=quote)}"


def _console_of(host: str, region: str) -> str | None:
    for beginning, suffixes, domain in _PARTITIONS:
        if region.startswith(beginning):
            known = any(host == suffix or host.endswith(f".{suffix}") for suffix in suffixes)
            return domain if known else None
    return None
