"""Loads each new version of an object as soon as it is there: an asset is watched, and the run gets the version's id.

Before you run it: make an ``aws`` connection (``orbit_landing`` here) and a bucket that keeps versions. Upload a file
below the prefix, overwrite it, and upload it again: each version is loaded once, by its id, so that a file that is
overwritten while it is being loaded is never half of one and half of the other.

The defaults come from the environment, so that the file can be tried without an edit.
"""

from __future__ import annotations

import logging
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from orbit_airflow.triggers.new_version import OrbitS3NewVersionTrigger

log = logging.getLogger(__name__)

BUCKET = os.environ.get("ORBIT_LANDING_BUCKET", "landing")
PREFIX = os.environ.get("ORBIT_LANDING_PREFIX", "incoming/")
CONN_ID = os.environ.get("ORBIT_LANDING_CONN_ID", "orbit_landing")

# A name and no s3:// address: Airflow would ask the amazon provider about that, and import boto3 in every parse.
landing = Asset(
    "orbit_landing",
    watchers=[
        AssetWatcher(
            name="orbit_landing_versions",
            trigger=OrbitS3NewVersionTrigger(
                bucket_name=BUCKET,
                prefix=PREFIX,
                poll_interval=float(os.environ.get("ORBIT_LANDING_POLL_SECONDS", "60")),
                aws_conn_id=CONN_ID,
            ),
        )
    ],
)

with DAG(
    dag_id="orbit_on_new_version",
    description="Loads each new version of an object below a prefix",
    schedule=[landing],
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - in the deployment's default timezone, as Airflow reads it
    catchup=False,
    tags=["orbit", "assets", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def arrived(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """The versions that this run is for: one, or all that came while the last run was queued, each once.

        The watcher tells of each at least once; a version is the same one whenever it is told of.
        """
        events = (triggering_asset_events or {}).get(landing, [])
        payloads = [event.extra["payload"] for event in events if event.extra.get("from_trigger")]
        return list({(item["key"], item["version_id"]): item for item in payloads}.values())

    @task(retries=3)
    def load(version: dict[str, Any]) -> dict[str, Any]:
        """Fetch this very version, verified, and do with it what is to be done."""
        from orbit_airflow.engine import ObjectRef
        from orbit_airflow.hooks.s3 import OrbitS3Hook

        ref = ObjectRef(version["bucket"], version["key"], version["version_id"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "object"
            result = OrbitS3Hook(CONN_ID).engine.download(ref, path)
            log.info(
                "%s, version %s: %d bytes, proved by %s", version["uri"], ref.version_id, result.size, result.integrity
            )
        return {"key": ref.key, "version_id": ref.version_id, "size": result.size}

    load.expand(version=arrived())

if __name__ == "__main__":
    dag.test()
