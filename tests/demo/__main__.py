"""`python -m tests.demo`: exit code 0 when all is as promised, 1 when not, 130 after Ctrl-C."""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from tests.demo.story import Story
from tests.e2e.judge import MIB

_LEAST_MIB = 64
# The file, its parts at the server, and room for Airflow's own files.
_COPIES = 3
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=sys.modules["tests.demo"].__doc__)
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="the file's size (default 256)")
    parser.add_argument("--rate", type=int, default=16, metavar="MIB", help="the server's MiB per second (default 16)")
    parser.add_argument("--keep", action="store_true", help="leave Airflow running at the end, until Ctrl-C")
    found = parser.parse_args()
    if found.size < _LEAST_MIB or found.rate < 1:
        parser.error(f"--size is at least {_LEAST_MIB}, --rate at least 1")
    if not Path("/proc/self/stat").exists():
        parser.error("Linux is needed: the process to be killed is found in /proc")
    if shutil.disk_usage(tempfile.gettempdir()).free < _COPIES * found.size * MIB:
        parser.error(f"{tempfile.gettempdir()} has no room for {_COPIES} x {found.size} MiB; set TMPDIR")
    return found


def _leave(_number: int, _frame: FrameType | None) -> None:
    # A second Ctrl-C must not stop us from ending what we started.
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo; everything that it started or wrote is gone afterwards."""
    arguments = _arguments()
    for number in _ENDINGS:
        signal.signal(number, _leave)
    place = Path(tempfile.mkdtemp(prefix="orbit-demo-"))
    try:
        return Story(place, arguments.size * MIB, arguments.rate * MIB, keep=arguments.keep).run()
    except KeyboardInterrupt:
        sys.stdout.write("\nstopped\n")
        return 130
    except (AssertionError, RuntimeError, OSError) as exc:
        sys.stdout.write(f"\nThe demo failed: {exc}\n")
        return 1
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
