"""Asset events of a finished transfer: what a DAG that is scheduled on an outlet learns about the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.errors import printable

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

# Of a result, what an event's extra has; the uri is the asset's own.
_PROOF = ("size", "checksum", "version_id", "integrity", "etag")


def emit_assets(context: Context, summary: Mapping[str, Any], log: Any) -> None:
    """Give the running task's outlets what ``summary`` (an operator's result) says.

    The asset is what the transfer has made: the object (``s3://bucket/key``) of an upload; of a download, whose summary
    has ``path``, the local file (``file:///path``), with the object as ``source_uri``. Each outlet Asset with that very
    URI gets the extra; each AssetAlias gets an event on such an asset. Other outlets are left alone.

    Airflow sends the events when, and only when, the task succeeds. Never raises, and asks the supervisor for nothing.
    A URI that an asset cannot have (see ``as_asset``) is skipped, with one warning if an outlet waits for it.
    """
    try:
        _emit(context, summary, log)
    except Exception:
        log.warning("the asset events of this transfer could not be made; the transfer itself is done", exc_info=True)


def emit_batch(context: Context, extra: Mapping[str, Any], log: Any) -> None:
    """Give the running task's outlets what a batch has done: ``extra``, whose ``uri`` is the prefix that was changed.

    A batch has no object whose address an outlet could have, and which asset stands for its keys is known to the DAG's
    author alone: each outlet Asset gets the extra. Each AssetAlias gets an event on the asset that ``Asset(uri)`` is in
    a DAG: Airflow drops slashes at the end of its URI, and keeps them in its name. Otherwise as ``emit_assets``.
    """
    try:
        _emit_batch(context, extra, log)
    except Exception:
        log.warning("the asset events of this batch could not be made; the batch itself is done", exc_info=True)


def _emit_batch(context: Context, extra: Mapping[str, Any], log: Any) -> None:
    from airflow.sdk import Asset, AssetAlias

    outlets, events = context["task"].outlets, context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, Asset):
            events[outlet].extra.update(extra)
    aliases = [item for item in outlets if isinstance(item, AssetAlias)]
    if not aliases:
        return
    asset = _asset(extra["uri"])
    if asset is None or asset.uri.rstrip("/") != extra["uri"].rstrip("/"):
        _warn(extra["uri"], "aliases", log)
        return
    for alias in aliases:
        events[alias].add(asset, extra=dict(extra))


def _warn(uri: str, whose: str, log: Any) -> None:
    text = f"{printable(uri)} cannot be the URI of an Airflow asset; this task's {whose} learn nothing of it"
    log.warning(text)


def _emit(context: Context, summary: Mapping[str, Any], log: Any) -> None:
    from airflow.sdk import Asset, AssetAlias

    outlets = [item for item in context["task"].outlets if isinstance(item, Asset | AssetAlias)]
    if not outlets:
        return
    uri = result_uri(summary)
    asset = as_asset(uri)
    if asset is None:
        _warn(uri, "outlets", log)
        return
    extra = _extra(uri, summary)
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(asset, extra=dict(extra))
        elif outlet.uri == asset.uri:
            context["outlet_events"][outlet].extra.update(extra)


def result_uri(summary: Mapping[str, Any]) -> str:
    """The address of what a transfer has made."""
    return f"file://{summary['path']}" if summary.get("path") else str(summary["uri"])


def as_asset(uri: str) -> Asset | None:
    """The asset of exactly this address; None when Airflow would refuse it or make another address of it.

    It drops what follows a ``#``, slashes at the end and control characters, orders what follows a ``?``, and allows
    1,500 characters (on MySQL: ASCII). An asset that stands for another key than the one that was written is worse than
    none.
    """
    asset = _asset(uri)
    return asset if asset is not None and asset.uri == uri else None


def _asset(uri: str) -> Asset | None:
    from airflow.sdk import Asset

    try:
        return Asset(uri=uri)
    except ValueError:
        return None


def _extra(uri: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    extra = {"uri": uri, **{name: summary.get(name) for name in _PROOF}}
    return extra if uri == summary["uri"] else {**extra, "source_uri": summary["uri"]}
