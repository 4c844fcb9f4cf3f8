"""The engine's public verbs. Each makes a job and runs its flow; none knows a store's name."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from orbit_airflow.engine.defaults import with_engine_defaults
from orbit_airflow.engine.errors import ConfigError, OrbitError
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.model import ObjectRef, UploadResult
from orbit_airflow.engine.options import EngineConfig, UploadOptions
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import TransferStore
from orbit_airflow.engine.token import (
    FileTokenStore,
    Ledger,
    NoTokens,
    ResumeState,
    TokenStore,
    state_key,
    target_hash,
)
from orbit_airflow.engine.upload import UploadFlow

StoreFor = Callable[[Cancellation, Reporter], TransferStore]


class TransferEngine:
    """Transfers between files and an S3 store. Made by ``open_engine``; may be shared by threads.

    ``store_for`` gives each transfer its own retrying view of the one store, so that a stop order ends its waits.
    """

    def __init__(
        self,
        config: EngineConfig,
        store_for: StoreFor,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.config = config
        self._on_close = on_close
        self._store_for = store_for
        self._clock = clock
        self._monotonic = monotonic
        self._rng = rng or random.Random()  # noqa: S311 - jitter

    def close(self) -> None:
        """End the engine's background thread now; without it, it ends by itself soon after the last transfer."""
        if self._on_close is not None:
            self._on_close()

    def upload(
        self,
        path: str | os.PathLike[str],
        ref: ObjectRef,
        options: UploadOptions | None = None,
        *,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> UploadResult:
        """Upload the file at ``path`` to ``ref``, continuing what an earlier try left in ``tokens``.

        Success means that the object is complete, equals one snapshot of the file, and is proved as
        ``result.integrity`` says. Raises OrbitError: see ``errors`` for what each class asks of you; after every
        failure but SourceChanged and TargetExists the parts are kept for the next call with the same arguments.
        ``cancel`` may be set from any thread or signal handler; the call then raises Paused between two blocks, waits
        or requests; a request that hangs ends by its own time limits first (parts are left behind after half a second).
        """
        stop, guarded = cancel or Cancellation(), OperationReporter(reporter)
        local_path, chosen = os.fspath(path), options or UploadOptions()
        kept = tokens if tokens is not None and chosen.resume else NoTokens()
        target = target_hash("upload", ref, local_path)
        job = UploadJob(
            path=local_path,
            ref=ref,
            options=with_engine_defaults(chosen, self.config),
            config=self.config,
            store=self._store_for(stop, guarded),
            ledger=Ledger(kept, target),
            target=target,
            reporter=guarded,
            cancel=stop,
            clock=self._clock,
            monotonic=self._monotonic,
            rng=self._rng,
        )
        with guarded:
            return UploadFlow(job).run()

    def upload_file_multipart(
        self,
        path: str | os.PathLike[str],
        key: str,
        resume_state: ResumeState | None = None,
        *,
        options: UploadOptions | None = None,
        tokens: TokenStore | None = None,
        reporter: Reporter = no_reporter,
        cancel: Cancellation | None = None,
    ) -> ResumeState:
        """The guide's resumable upload for scripts: into the configured bucket, returning a state that says how far
        it came.

        The state is kept in files as well (``tokens``, by default a FileTokenStore in the user's state directory), so
        that a script that was killed continues when it is run again with the same arguments. An error carries the
        state as ``resume_state``; pass it back, or nothing, to continue.
        """
        if self.config.bucket is None:
            raise ConfigError("upload_file_multipart needs EngineConfig(bucket=...)")
        ref = ObjectRef(self.config.bucket, key)
        kept = tokens or FileTokenStore(default_state_directory())
        name = state_key(target_hash("upload", ref, os.fspath(path)))
        if resume_state is not None:
            kept.save(name, _state_mapping(resume_state))
        try:
            self.upload(path, ref, options, tokens=kept, reporter=reporter, cancel=cancel)
        except OrbitError as exc:
            exc.resume_state = _state_of(key, kept.load(name))
            raise
        return _state_of(key, kept.load(name)) or ResumeState(key, "{}")


def default_state_directory() -> Path:
    """``$XDG_STATE_HOME/orbit``, else ``~/.local/state/orbit``."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "orbit"


def _state_of(key: str, token: object) -> ResumeState | None:
    return ResumeState(key, json.dumps(token)) if token is not None else None


def _state_mapping(state: ResumeState) -> dict[str, object]:
    try:
        data = json.loads(state.token)
    except ValueError as exc:
        raise ConfigError("this resume_state is no JSON") from exc
    if not isinstance(data, dict):
        raise ConfigError("this resume_state is no token")
    return data
