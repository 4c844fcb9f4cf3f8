"""What keys show now: by a few listings for a page of them, by a HEAD for what these do not reach.

A listing is a thousandth of the requests, and says the same as 1,000 HEADs a moment later: S3 and the stores that
follow it list what was written last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from orbit_airflow.engine.batch.judge import about_all
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import NotFound
from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.engine.store import ListRequest

# A page's keys may lie far apart in the bucket: behind so many listings only those are worth it that pass several keys.
MAX_LISTINGS = 3
WORTH_A_LISTING = 8


class Shown:
    """Of one bucket. Raises what the store says, AccessDenied where one may not look."""

    def __init__(self, call: Call, bucket: str) -> None:
        self._call = call
        self._bucket = bucket

    def listed(self, keys: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """The ETags of those that a few listings show, and the keys that these did not reach."""
        names = sorted(keys, key=str.encode)
        if len(names) < 2:
            return {}, names
        found, left, wanted = dict[str, str](), names, frozenset(names)
        where = KeyPrefix(self._bucket, _common(names[0], names[-1]))
        request, count, passed = ListRequest(where=where, start_after=_before(names[0])), 0, 0
        while count < MAX_LISTINGS or passed >= WORTH_A_LISTING:
            self._call.cancel.check()
            page = self._call.store.list_objects(request)
            found |= {item.key: item.etag for item in page.objects if item.key in wanted}
            if page.continuation_token is None:
                return found, []
            before, count = len(left), count + 1
            if page.objects:
                last = page.objects[-1].key.encode()
                left = [name for name in left if name.encode() > last]
            if not left:
                return found, []
            passed = before - len(left)
            request = replace(request, token=page.continuation_token, start_after=None)
        return found, left

    def etag(self, key: str, version_id: str | None = None) -> str | None:
        """By a HEAD; None when it shows no object. No bucket is no answer: that is raised."""
        try:
            return self._call.store.head(ObjectRef(self._bucket, key, version_id)).etag
        except NotFound as exc:
            if about_all(exc):
                raise
            return None


def _common(first: str, last: str) -> str:
    """What both begin with, and so every name that sorts between them."""
    pairs = zip(first, last, strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _before(key: str) -> str:
    """A text that sorts before ``key``, and behind most keys before it."""
    last = ord(key[-1])
    if 0x21 < last < 0x7F:
        return key[:-1] + chr(last - 1) + ("~" if len(key.encode()) < 1024 else "")
    return key[:-1]
