"""How a sensor or a trigger comes to its engine: four parameters, checked and compared without boto3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orbit_airflow.hooks.secrets import refuse_secrets

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine

# Whoever looks again by itself does not wait inside a look: each request is repeated a few times, and that is all.
_LOOKING = {"outage_patience": 0, "parallel_operations": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The connection parameters of all operators here. ConfigError for a secret in ``botocore_config``."""

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        refuse_secrets("botocore_config", self.botocore_config)

    @property
    def identity(self) -> str:
        """Equal for equal parameters, in every process."""
        words = [self.aws_conn_id, self.region_name, self.verify, self.botocore_config]
        return json.dumps(words, sort_keys=True, default=str)

    def open_engine(self) -> TransferEngine:
        """An engine that does not wait for a store that is not well. Blocks: it looks the connection up, and asks for
        credentials; in a triggerer call it on a thread.
        """
        from orbit_airflow.hooks.s3 import OrbitS3Hook

        config = dict(self.botocore_config) if self.botocore_config else None
        return OrbitS3Hook(
            aws_conn_id=self.aws_conn_id or None,
            region_name=self.region_name or None,
            verify=self.verify,
            config=config,
            orbit_options=_LOOKING,
        ).engine
