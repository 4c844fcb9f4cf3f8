"""How an engine is put together: the wrappers, in their order, in one place.

``PatientStore(RetryingStore(LimitedStore(S3Store(client))))``: who waits out an outage stands above who repeats a
request, and who repeats stands above the limits, so that nobody sleeps with a permit in hand.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orbit_airflow.engine.events import Reporter
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.resilience.breaker import CircuitBreaker, shared_breaker
from orbit_airflow.engine.resilience.budget import RetryBudget
from orbit_airflow.engine.resilience.limits import BandwidthLimiter, Permits
from orbit_airflow.engine.resilience.pace import Pace
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.stores.limited import LimitedStore
from orbit_airflow.engine.stores.patient import Patience, PatientStore
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
    store = S3Store(prepared, settings)
    return engine_over(store, settings, endpoint=prepared.meta.endpoint_url, on_close=lambda: close_client(prepared))


def engine_over(
    store: TransferStore,
    config: EngineConfig,
    *,
    rng: random.Random | None = None,
    endpoint: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    on_close: Callable[[], None] | None = None,
) -> TransferEngine:
    """An engine over any store. All its transfers share the limits, the retry budget and the circuit breakers; each has
    its own view of the store, so that a stop order ends its waits and its retries are told to its own reporter.

    ``endpoint``: breakers are then shared with the other engines of this process that work with it.
    """
    limiter = BandwidthLimiter(config.max_bandwidth) if config.max_bandwidth else None
    permits = Permits(config.parallel_operations)
    dice = rng or random.Random()  # noqa: S311 - jitter
    budget, breaker_for = RetryBudget(), _breakers(config, endpoint, clock)

    def probe(ref: ObjectRef) -> None:
        breaker = breaker_for(ref.bucket)
        if breaker is None:
            store.head(ref)
        else:
            breaker.attend(lambda: store.head(ref))

    def store_for(cancel: Cancellation, reporter: Reporter) -> TransferStore:
        limited = LimitedStore(store, permits, limiter, cancel=cancel)

        def repeating(policy: RetryPolicy) -> RetryingStore:
            return RetryingStore(
                limited, policy, sleep=cancel.sleep, rng=dice, reporter=reporter, budget=budget, breaker_for=breaker_for
            )

        if not config.outage_patience:
            return repeating(config.policy)
        patience = Patience(seconds=config.outage_patience, probe=probe, rng=dice, clock=clock)
        once = repeating(config.policy.with_max_retries(0))
        return PatientStore(repeating(config.policy), once, patience, cancel=cancel, reporter=reporter)

    def paced_store_for(cancel: Cancellation, reporter: Reporter, pace: Pace, policy: RetryPolicy) -> TransferStore:
        # Neither breaker nor patience: a batch tells a bad key from a bad store by itself.
        limited = LimitedStore(store, permits, limiter, cancel=cancel)
        return RetryingStore(
            limited, policy, sleep=cancel.sleep, rng=dice, reporter=reporter, budget=RetryBudget(),
            breaker_for=lambda _: pace,
        )  # fmt: skip

    return TransferEngine(
        config, store_for, paced_store_for=paced_store_for, monotonic=clock, rng=dice, on_close=on_close
    )


def _breakers(
    config: EngineConfig, endpoint: str | None, clock: Callable[[], float]
) -> Callable[[str], CircuitBreaker | None]:
    """A breaker per bucket: of the process for an endpoint that is known, else of this engine alone."""
    wanted = config.policy.breaker_config
    if wanted is None:
        return lambda _: None
    if endpoint is not None:
        return lambda bucket: shared_breaker(endpoint, bucket, wanted)
    own: dict[str, CircuitBreaker] = {}
    return lambda bucket: own.setdefault(bucket, CircuitBreaker(wanted, clock=clock))
