"""What `make up` says."""

from __future__ import annotations

import sys

from tests.local import examples
from tests.local.record import Places, Record


def say(text: str) -> None:
    """One line or some, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def summary(record: Record, places: Places) -> str:
    """Where everything is, and what to do now."""
    return f"""
  Airflow   {record.url}   user {record.username}   password {record.password}
  S3        {record.endpoint_url}   key {record.access_key}   secret {record.secret_key}
            buckets: {", ".join(examples.BUCKETS)}; connection {examples.CONNECTION_ID}
  files     {places.state} (Airflow's database and logs, the objects, the example backup)

  Trigger the DAG orbit_nightly_backup: it uploads {examples.backup_file(places)}. Every other example runs here, too;
  orbit_nightly_retention waits for your approval (Browse, Required Actions).
  make kill-task   kills the task that runs (SIGKILL): its next try continues, five seconds later
  make down        stops all of this and removes what it wrote, the objects, too; logs stay in {places.logs}
"""
