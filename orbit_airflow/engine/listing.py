"""A whole listing, page by page, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import RequestContext, Unavailable
from orbit_airflow.engine.model import ListedObject
from orbit_airflow.engine.store import ListRequest


def every_object(call: Call, request: ListRequest) -> Iterator[ListedObject]:
    """The objects of all pages from ``request`` on. Unavailable when the store shows a page a second time.

    Keys that others write or delete meanwhile may be there or not: a listing is no snapshot.
    """
    first: str | None = None
    while True:
        call.cancel.check()
        page = call.store.list_objects(request)
        if page.objects:
            if page.objects[0].key == first:
                where = request.where
                raise Unavailable(
                    "the store's list of objects goes round in circles",
                    RequestContext("ListObjectsV2", where.bucket, where.prefix),
                )
            first = page.objects[0].key
        yield from page.objects
        if page.continuation_token is None:
            return
        request = replace(request, token=page.continuation_token, start_after=None)
