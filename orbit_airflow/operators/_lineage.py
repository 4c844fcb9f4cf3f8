"""OpenLineage's view of a transfer. Imported, and importing OpenLineage, only when its listener asks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.events import TransferDirection
from orbit_airflow.engine.model import ObjectRef

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A transfer's two ends, as far as they are known; None for one that only the connection can complete."""

    path: str | None = None
    ref: ObjectRef | None = None


def ends_of(summary: Mapping[str, Any], path: str | None) -> Ends:
    """The ends of a finished transfer. ``path`` is the file that was asked for; a download's own result wins."""
    return Ends(
        path=summary.get("path") or path,
        ref=ObjectRef(summary["bucket"], summary["key"], summary.get("version_id")),
    )


def lineage_of(ends: Ends, direction: TransferDirection, size: int | None = None) -> OperatorLineage[Any, Any]:
    """Inputs and outputs: namespace ``s3://bucket`` and the key, ``file`` and the absolute path.

    A finished transfer's ``size`` (bytes) becomes statistics of both, and the object's version a facet of its own.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    places = [_file(ends.path), _object(ends.ref)]
    if direction is TransferDirection.DOWNLOAD:
        places.reverse()
    source, target = places
    return OperatorLineage(
        inputs=[] if source is None else [_input(source, size)],
        outputs=[] if target is None else [_output(target, size)],
    )


Place = tuple[str, str, str | None]


def _file(path: str | None) -> Place | None:
    return ("file", os.path.abspath(path), None) if path else None


def _object(ref: ObjectRef | None) -> Place | None:
    return (f"s3://{ref.bucket}", ref.key, ref.version_id) if ref is not None else None


def _input(place: Place, size: int | None) -> Any:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset

    namespace, name, _ = place
    known: dict[str, Any] = {}
    if size is not None:
        known["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            size=size, fileCount=1
        )
    return InputDataset(namespace=namespace, name=name, facets=_version(place), inputFacets=known)


def _output(place: Place, size: int | None) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    namespace, name, _ = place
    known: dict[str, Any] = {}
    if size is not None:
        known["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            size=size, fileCount=1
        )
    return OutputDataset(namespace=namespace, name=name, facets=_version(place), outputFacets=known)


def _version(place: Place) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    if place[2] is None:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=place[2])}
