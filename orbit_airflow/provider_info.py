"""What Airflow's provider manager is told about this package. A literal: it is read in every Airflow process."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, as ``provider_info.schema.json`` wants it."""
    return {
        "package-name": "orbit-airflow",
        "name": "Orbit",
        "description": "S3 transfers that continue after a kill and prove what they stored.",
        "versions": ["0.1.0"],
        "integrations": [
            {
                "integration-name": "Orbit S3",
                "external-doc-url": "https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html",
                "tags": ["aws"],
            }
        ],
        "hooks": [{"integration-name": "Orbit S3", "python-modules": ["orbit_airflow.hooks.s3"]}],
        "operators": [
            {
                "integration-name": "Orbit S3",
                "python-modules": [
                    "orbit_airflow.operators.transfer",
                    "orbit_airflow.operators.download",
                    "orbit_airflow.operators.versions",
                    "orbit_airflow.operators.restore",
                    "orbit_airflow.operators.prune",
                    "orbit_airflow.operators.batch",
                ],
            }
        ],
        "extra-links": [
            "orbit_airflow.operators.links.TransferLink",
            "orbit_airflow.operators.links.S3ObjectLink",
        ],
        "task-decorators": [
            {"name": "orbit_upload", "class-name": "orbit_airflow.operators.taskflow.orbit_upload_task"},
            {"name": "orbit_download", "class-name": "orbit_airflow.operators.taskflow.orbit_download_task"},
        ],
        "sensors": [{"integration-name": "Orbit S3", "python-modules": ["orbit_airflow.sensors.versioning"]}],
        "triggers": [
            {
                "integration-name": "Orbit S3",
                "python-modules": ["orbit_airflow.triggers.versioning", "orbit_airflow.triggers.new_version"],
            }
        ],
        # No connection type of our own: the connections are the amazon provider's ``aws``.
        "connection-types": [],
        "config": {
            "orbit": {
                "description": (
                    "Tuning of orbit_airflow's transfers. A connection's ``extra.service_config.s3.orbit`` and an "
                    "operator's own arguments win over this section. Endpoint, bucket and credentials come from the "
                    "connection alone. An option without a value is the engine's own default."
                ),
                "options": {
                    "chunk_size": {
                        "description": (
                            "Size of a part in bytes, and the size from which a file is uploaded in parts. "
                            "At least 5242880. Grows by itself for files of more than 10,000 parts."
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "16777216",
                        "default": None,
                    },
                    "parallel_operations": {
                        "description": "Worker threads, and connections to the store, of one transfer.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "8",
                        "default": None,
                    },
                    "max_retries": {
                        "description": "How often one failed request is sent again within a try of the task.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "5",
                        "default": None,
                    },
                    "timeout_seconds": {
                        "description": "How long the answer to CompleteMultipartUpload is waited for, in seconds.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "600",
                        "default": None,
                    },
                    "stall_timeout": {
                        "description": "Seconds without a single byte in either direction after which a request fails.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "60",
                        "default": None,
                    },
                    "connect_timeout": {
                        "description": "Seconds that a connection to the store may take to open.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "10",
                        "default": None,
                    },
                    "outage_patience": {
                        "description": (
                            "Seconds that a transfer waits for a store that is not well, once a request's attempts are "
                            "spent, before the try fails. 0 fails at once."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "1800",
                        "default": None,
                    },
                    "minimum_rate": {
                        "description": (
                            "Bytes per second of one connection, averaged over the stall time, below which a line "
                            "counts as dead."
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "1024",
                        "default": None,
                    },
                    "lean": {
                        "description": (
                            "Whether plain requests for objects and parts go past botocore's serialiser and hooks."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": None,
                    },
                    "max_bandwidth": {
                        "description": "Bytes per second that all transfers of one engine may send together.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "52428800",
                        "default": None,
                    },
                    "retry": {
                        "description": (
                            "How single requests are repeated: fast, slow or network. A preset chosen without "
                            "max_retries brings its own count."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "network",
                        "default": None,
                    },
                    "settle_seconds": {
                        "description": (
                            "How long the object of a Complete whose answer was lost is looked for, in seconds, before "
                            "the upload starts again."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "120",
                        "default": None,
                    },
                    "storage_class": {
                        "description": (
                            "Storage class of uploads that name none, by AWS's name or the guide's. "
                            "Without a value none is sent, and the bucket decides."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "STANDARD_IA",
                        "default": None,
                    },
                    "server_side_encryption": {
                        "description": (
                            "Encryption of uploads that name none: none, AES256, aws:kms or aws:kms:dsse, or JSON with "
                            "algorithm, key_id and bucket_key. Without a value nothing is sent, and the bucket decides."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "aws:kms",
                        "default": None,
                    },
                    "expected_bucket_owner": {
                        "description": "Account id that every request demands of its bucket; another owner is refused.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "123456789012",
                        "default": None,
                    },
                    "request_payer": {
                        "description": "requester, when this account pays for its requests to requester-pays buckets.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "requester",
                        "default": None,
                    },
                    "verify_checksums": {
                        "description": "Whether checksums travel with the bytes, so that the store verifies them.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": None,
                    },
                },
            }
        },
    }
