"""Many runs of the machine on one store, with a seed of their own."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model_check.machine import VersionsMachine
from tests.model_check.places import Place


def check(place: Place, *, runs: int, steps: int, number: int, shrink: bool = True) -> Counter[str]:
    """How often each verb was played. AssertionError (or what the engine raised) with the shortest story that shows a
    difference; the same number plays the same stories again.
    """
    machine = type("Machine", (VersionsMachine,), {"place": place, "done": Counter()})
    chosen = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        derandomize=False,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(machine), settings=chosen)
    done: Counter[str] = machine.done  # type: ignore[attr-defined]
    return done
