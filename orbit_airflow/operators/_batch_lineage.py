"""What a batch reads and changes, told of prefixes and buckets and never key by key: OpenLineage, hooks, outlets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import KeyPrefix

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from orbit_airflow.hooks.s3 import OrbitS3Hook


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnds:
    """Where a batch works. ``changed``: where it changes objects, or puts copies; ``read``: where copies come from.

    None is what is not known yet (a bucket of the connection's own) or not there. Keys of a list or of a manifest may
    be anywhere in their bucket, which stands for them. ``everything``: all that is below ``changed`` is meant, no part.
    """

    changed: KeyPrefix | None = None
    read: KeyPrefix | None = None
    manifest: str | None = None
    everything: bool = False


def below(bucket: object, prefix: object) -> KeyPrefix | None:
    """The prefix, or the bucket when there is none; None for what cannot be one, of which the batch itself speaks."""
    if not isinstance(bucket, str):
        return None
    try:
        return KeyPrefix(bucket, prefix if isinstance(prefix, str) else "")
    except ConfigError:
        return None


def uri_of(where: KeyPrefix) -> str:
    """Its address, to the letter."""
    return f"s3://{where.bucket}/{where.prefix}"


def extra_of(ends: BatchEnds, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What an asset's event says of a batch that has ended."""
    counted = {name: summary[name] for name in ("verb", "total", "successful", "skipped", "failed")}
    extra = {"uri": uri_of(ends.changed) if ends.changed else None, **counted, "report_uri": _uri(summary["report"])}
    if ends.read is not None:
        extra |= {"source_uri": uri_of(ends.read), "dest_uri": extra["uri"]}
    if ends.manifest is not None:
        extra["manifest_uri"] = _uri(ends.manifest)
    return extra


def lineage_of_batch(ends: BatchEnds, summary: Mapping[str, Any] | None = None) -> OperatorLineage[Any, Any]:
    """Inputs and outputs: namespace ``s3://bucket`` and the prefix, ``/`` for the bucket; a manifest is an input, too.

    With the ``summary`` of a batch that has ended: how many objects were copied or changed; and, of a delete of all
    that is below the prefix, that the dataset was dropped.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    inputs = [] if ends.read is None else [_input(ends.read, summary)]
    if ends.manifest:
        inputs.append(_manifest(ends.manifest))
    outputs = [] if ends.changed is None else [_output(ends.changed, summary, everything=ends.everything)]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def tell_collector(hook: OrbitS3Hook, ends: BatchEnds, log: Any) -> None:
    """Airflow's hook lineage. Never raises."""
    from airflow.providers.common.compat.lineage import hook as lineage

    try:
        collector = lineage.get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        if ends.manifest:
            scheme, named = _kwargs(ends.manifest)
            collector.add_input_asset(context=hook, scheme=scheme, asset_kwargs=named)
        if ends.read is not None:
            collector.add_input_asset(context=hook, scheme="s3", asset_kwargs=_named(ends.read))
        if ends.changed is not None:
            collector.add_output_asset(context=hook, scheme="s3", asset_kwargs=_named(ends.changed))
    except Exception:
        log.warning("the lineage of this batch could not be recorded", exc_info=True)


def _named(where: KeyPrefix) -> dict[str, str]:
    return {"bucket": where.bucket, "key": where.prefix}


def _kwargs(manifest: str) -> tuple[str, dict[str, str]]:
    if not manifest.startswith("s3://"):
        return "file", {"path": os.path.abspath(manifest)}
    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    return "s3", {"bucket": bucket, "key": key}


def _uri(place: str | None) -> str | None:
    """A path as an address; None stays None."""
    return f"file://{os.path.abspath(place)}" if place and "://" not in place else place


def _input(where: KeyPrefix, summary: Mapping[str, Any] | None) -> Any:
    from openlineage.client.event_v2 import InputDataset

    facets = {} if summary is None else _taken(summary)
    return InputDataset(namespace=f"s3://{where.bucket}", name=where.prefix or "/", inputFacets=facets)


def _taken(summary: Mapping[str, Any]) -> dict[str, Any]:
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    return {"inputStatistics": statistics.InputStatisticsInputDatasetFacet(fileCount=_changes(summary))}


def _manifest(place: str) -> Any:
    from openlineage.client.event_v2 import InputDataset

    scheme, named = _kwargs(place)
    if scheme == "file":
        return InputDataset(namespace="file", name=named["path"])
    return InputDataset(namespace=f"s3://{named['bucket']}", name=named["key"])


def _output(where: KeyPrefix, summary: Mapping[str, Any] | None, *, everything: bool) -> Any:
    from openlineage.client.event_v2 import OutputDataset

    deleted = summary is not None and summary["verb"] == "delete"
    # A part of a prefix, or of a bucket, leaves the dataset as it is.
    gone = deleted and everything and summary is not None and not summary["failed"]
    return OutputDataset(
        namespace=f"s3://{where.bucket}",
        name=where.prefix or "/",
        facets=_dropped() if gone else {},
        outputFacets={} if deleted or summary is None else _written(summary),
    )


def _dropped() -> dict[str, Any]:
    from openlineage.client.facet_v2 import lifecycle_state_change_dataset as lifecycle

    drop = lifecycle.LifecycleStateChange.DROP
    return {"lifecycleStateChange": lifecycle.LifecycleStateChangeDatasetFacet(lifecycleStateChange=drop)}


def _written(summary: Mapping[str, Any]) -> dict[str, Any]:
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    return {"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(fileCount=_changes(summary))}


def _changes(summary: Mapping[str, Any]) -> int:
    """What was skipped was there already."""
    return int(summary["successful"]) - int(summary["skipped"])
