"""The proof of a downloaded file, asking the store how an object's parts lie where only that can tell."""

from __future__ import annotations

from orbit_airflow.engine.download_job import DownloadJob
from orbit_airflow.engine.model import Integrity, ObjectInfo
from orbit_airflow.engine.verify import LocalBytes, prove_md5, prove_whole


def prove(job: DownloadJob, info: ObjectInfo, local: LocalBytes) -> Integrity:
    """How strongly the store's own words prove the file. IntegrityError when they are those of other bytes."""
    if not job.checksums:
        return Integrity.SIZE_ETAG
    return prove_whole(info, local) or prove_md5(info, local) or Integrity.SIZE_ETAG
