"""How an engine is put together: the wrappers, in their order, in one place."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from orbit_airflow.engine.events import Reporter
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.resilience.limits import BandwidthLimiter, Permits
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.stores.limited import LimitedStore
from orbit_airflow.engine.stores.retrying import RetryingStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def open_engine(config: EngineConfig | None = None, *, client: S3Client | None = None) -> TransferEngine:
    """An engine over ``client``, or over a client made from ``config`` alone (credentials: as given, else boto3's
    chain). A given client is fitted with the engine's connections and keeps its own settings otherwise; make it with
    ``stores.client.client_config`` so that botocore's retries do not multiply with the engine's.
    """
    from orbit_airflow.engine.stores.client import close_client, make_client, prepare_client
    from orbit_airflow.engine.stores.s3 import S3Store

    settings = config or EngineConfig()
    prepared = prepare_client(client if client is not None else make_client(settings), settings)
    return engine_over(S3Store(prepared, settings), settings, on_close=lambda: close_client(prepared))


def engine_over(
    store: TransferStore,
    config: EngineConfig,
    *,
    rng: random.Random | None = None,
    on_close: Callable[[], None] | None = None,
) -> TransferEngine:
    """An engine over any store: RetryingStore(LimitedStore(store)), the retries seen by each transfer on its own."""
    limiter = BandwidthLimiter(config.max_bandwidth) if config.max_bandwidth else None
    limited = LimitedStore(store, Permits(config.parallel_operations), limiter)
    dice = rng or random.Random()  # noqa: S311 - jitter

    def store_for(cancel: Cancellation, reporter: Reporter) -> TransferStore:
        return RetryingStore(limited, config.policy, sleep=cancel.sleep, rng=dice, reporter=reporter)

    return TransferEngine(config, store_for, rng=dice, on_close=on_close)
