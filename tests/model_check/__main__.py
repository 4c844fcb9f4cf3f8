"""``python -m tests.model_check``: the engine against a dict. Exit code 1 for a difference, 2 without the store."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

from tests.model_check.campaign import check
from tests.model_check.places import NAMES, opened


def main(words: Sequence[str] | None = None) -> int:
    """Play the runs and print what was played."""
    chosen = _arguments(words)
    print(f"{chosen.store}: {chosen.runs} runs of {chosen.steps} steps, seed {chosen.seed}", flush=True)
    began = time.monotonic()
    try:
        with opened(chosen.store) as place:
            done = check(place, runs=chosen.runs, steps=chosen.steps, number=chosen.seed, shrink=not chosen.no_shrink)
    except LookupError as exc:
        print(exc)
        return 2
    except Exception:
        traceback.print_exc()
        again = f"--store {chosen.store} --runs {chosen.runs} --steps {chosen.steps} --seed {chosen.seed}"
        print(f"a difference; to see it again: python -m tests.model_check {again}")
        return 1
    verbs = ", ".join(f"{name} {count}" for name, count in sorted(done.items()) if name != "runs")
    print(f"{done['runs']} runs in {time.monotonic() - began:.0f} s, 0 differences ({verbs})")
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.model_check", description=__doc__)
    parser.add_argument("--store", choices=NAMES, default="model")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=20260917)
    parser.add_argument(
        "--no-shrink", action="store_true", help="show the first story with a difference, not the shortest"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
