"""`python -m tests.local up|down|kill-task`: exit code 0 when it is as wanted, 1 with a message when not."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.e2e.judge import MIB
from tests.local import start, stop
from tests.local.record import STATE, Places
from tests.local.telling import say
from tests.servers.errors import ServerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of the three."""
    given = _parser().parse_args(arguments)
    places = Places(given.state.absolute())
    if not Path("/proc/self/stat").exists():
        return _refuse("Linux is needed: processes are found in /proc")
    try:
        return _act(given, places)
    except (start.CannotStart, ServerError, RuntimeError, ValueError, OSError) as exc:
        return _refuse(str(exc))
    except KeyboardInterrupt:
        return _refuse("interrupted; what was started is stopped")


def _act(given: argparse.Namespace, places: Places) -> int:
    if given.action == "up":
        # SIGTERM must not leave a half-started Airflow.
        signal.signal(signal.SIGTERM, _interrupt)
        start.up(
            start.Choice(port=given.port, s3_port=given.s3_port, size=given.size * MIB, rate=given.rate * MIB), places
        )
    elif given.action == "down":
        say("stopped, and removed" if stop.down(places) else "nothing runs")
    else:
        killed = stop.kill_task(places)
        if killed is None:
            return _refuse("no task runs now")
        say(f"killed the task's process {killed}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.local", description=sys.modules["tests.local"].__doc__)
    parser.add_argument("action", choices=("up", "down", "kill-task"))
    parser.add_argument("--state", type=Path, default=STATE, help="where everything is written")
    parser.add_argument("--port", type=_port, default=8080, help="Airflow's (default 8080)")
    parser.add_argument("--s3-port", type=_port, default=9000, help="the S3 endpoint's (default 9000)")
    parser.add_argument("--size", type=_positive, default=256, metavar="MIB", help="the example backup (default 256)")
    parser.add_argument("--rate", type=_positive, default=16, metavar="MIB", help="uploads, per second (default 16)")
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 1024 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"a port is 1024 to 65535, got {text}")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {text}")
    return number


def _refuse(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
