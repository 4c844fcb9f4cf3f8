"""A prefix of many keys put back as it was, killed once on the way: what is written, and how many requests it takes.

``python -m benchmarks.restore_prefix [--keys 10000] [--changed 100]``: the strict S3 server on loopback, in a process
of this one. The keys are written ten minutes "ago" by the server's clock, then some are changed (four of five
overwritten, the rest deleted, and a twentieth as many born). The restore is stopped in the middle of its copies as a
kill would (nothing more leaves), and a second try continues it with the first one's state. Then the plan is undone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orbit_airflow.engine import BatchConfig, Credentials, EngineConfig, FileTokenStore, KeyPrefix, open_engine
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.errors import Paused
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.point_in_time import Moment, RestoredPrefix
from orbit_airflow.engine.runner import Cancellation
from tests.model_server import ModelServer
from tests.model_server.conftest import client_of
from tests.model_server.seeds import Seed

BUCKET, PREFIX = "lake", "tables/orders/"
AGO = 600
CONFIG = BatchConfig(max_concurrent=8, page_keys=100)


def engine_on(server: ModelServer) -> TransferEngine:
    """As a script has one."""
    return open_engine(
        EngineConfig(
            bucket=BUCKET, endpoint=server.endpoint_url, region=server.region, credentials=Credentials(
                access_key=server.access_key, secret_key=server.secret_key
            ),
        )
    )  # fmt: skip


def filled(server: ModelServer, keys: int, changed: int) -> datetime:
    """The bucket with its history; the moment between what was and what is."""
    server.create_bucket(BUCKET, "Enabled")
    client: Any = client_of(server)
    server.clock_offset = -float(AGO)
    for number in range(keys):
        server.seed(Seed(BUCKET, f"{PREFIX}{number:06d}", b"old %d" % number))
    server.clock_offset = 0.0
    moment = datetime.now(UTC) - timedelta(seconds=AGO / 2)
    step = max(1, keys // max(1, changed))
    for at, number in enumerate(range(0, keys, step)):
        key = f"{PREFIX}{number:06d}"
        if at % 5 == 4:
            client.delete_object(Bucket=BUCKET, Key=key)
        else:
            client.put_object(Bucket=BUCKET, Key=key, Body=b"newer %d" % number)
        if at % 20 == 0:
            client.put_object(Bucket=BUCKET, Key=f"{PREFIX}born-{number}", Body=b"born")
    server.reset()
    return moment


def timed(server: ModelServer, name: str, act: Callable[[], RestoredPrefix | None]) -> RestoredPrefix | None:
    """Run it, and print its time and the requests that the server saw."""
    server.reset()
    began = time.monotonic()
    done = act()
    seconds = time.monotonic() - began
    seen = Counter(record.operation for record in server.records())
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(seen.items(), key=lambda item: str(item[0])))
    sys.stdout.write(f"{name}: {seconds:.1f} s; {sum(seen.values())} requests: {told}\n")
    return done


def killed(server: ModelServer, engine: TransferEngine, moment: Moment, tokens: FileTokenStore, changes: int) -> None:
    """A try that is stopped behind the middle of its changes."""
    cancel, over = Cancellation(), threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            if len(server.records("CopyObject")) >= changes // 2:
                cancel.cancel("killed in the middle", orphaned=True)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        engine.point_in_time.restore(moment, CONFIG, BatchRun(tokens=tokens, cancel=cancel))
    except Paused as exc:
        sys.stdout.write(f"  stopped: {exc.message}\n")
    finally:
        over.set()
        watcher.join()


def main() -> int:
    """Measure, and check that it is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, ModelServer() as server:
        as_of = filled(server, chosen.keys, chosen.changed)
        engine, tokens = engine_on(server), FileTokenStore(Path(home) / "state")
        manifest = str(Path(home) / "plan.jsonl")
        moment = Moment(where=KeyPrefix(BUCKET, PREFIX), as_of=as_of, manifest=manifest)
        timed(server, "first try, stopped", lambda: killed(server, engine, moment, tokens, chosen.changed))
        how = BatchRun(tokens=tokens)
        done = timed(server, "second try", lambda: engine.point_in_time.restore(moment, CONFIG, how))
        if done is None:
            return 1
        sys.stdout.write(f"  {done.plan.summary()}\n  {dict(done.batch.summary())}\n")
        undone = timed(server, "undo", lambda: engine.point_in_time.undo(BUCKET, manifest, CONFIG))
        return 0 if undone is not None and not undone.batch.failed and not done.batch.failed else 1


if __name__ == "__main__":
    sys.exit(main())
