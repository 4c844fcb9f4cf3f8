"""What operators return: small JSON, the same names for the same things."""

from __future__ import annotations

from typing import Any

from orbit_airflow.engine.model import DownloadResult, UploadResult


def upload_summary(result: UploadResult, try_number: int) -> dict[str, Any]:
    """The result of OrbitS3UploadOperator."""
    moved = {"bytes_sent": result.bytes_sent, "bytes_saved": result.bytes_saved}
    return {**_object(result), **_proof(result), **moved, "try_number": try_number}


def download_summary(result: DownloadResult, try_number: int) -> dict[str, Any]:
    """The result of OrbitS3DownloadOperator."""
    moved = {"bytes_received": result.bytes_received, "bytes_saved": result.bytes_saved}
    return {**_object(result), "path": result.path, **_proof(result), **moved, "try_number": try_number}


def _object(result: UploadResult | DownloadResult) -> dict[str, Any]:
    ref = result.ref
    return {"uri": ref.uri, "bucket": ref.bucket, "key": ref.key, "version_id": result.version_id}


def _proof(result: UploadResult | DownloadResult) -> dict[str, Any]:
    checksum = result.checksum
    return {
        "etag": result.etag,
        "size": result.size,
        "checksum": f"{checksum.algorithm}:{checksum.value}" if checksum else None,
        "integrity": result.integrity.value,
        "duration": round(result.duration, 3),
        "resumed": result.resumed,
    }
