"""Command line: install, start, stop and list the servers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from tests.servers import lifecycle
from tests.servers.errors import ServerError
from tests.servers.lifecycle import KINDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action for each name and return the exit code of the last failure, or 0.

    `status` fails with 1 when a server does not answer.
    """
    parser = argparse.ArgumentParser(prog=lifecycle.COMMAND, description=__doc__)
    parser.add_argument("action", choices=sorted(_ACTIONS))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(KINDS)} (all)")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(KINDS))
    if unknown:
        parser.error(f"unknown server: {', '.join(unknown)}")
    code = 0
    for name in chosen.names or KINDS:
        code = _attempt(name, _ACTIONS[chosen.action]) or code
    return code


def _attempt(name: str, action: Callable[[str], tuple[str, int]]) -> int:
    began = time.monotonic()
    try:
        text, code = action(name)
    except ServerError as exc:
        sys.stderr.write(f"{name}: {exc}\n")
        return exc.exit_code
    except OSError as exc:
        sys.stderr.write(f"{name}: {exc}\n")
        return ServerError.exit_code
    sys.stdout.write(f"{name:10} {text} ({time.monotonic() - began:.1f} s)\n")
    sys.stdout.flush()
    return code


def _install(name: str) -> tuple[str, int]:
    return ("installed" if lifecycle.install(KINDS[name]) else "already installed"), 0


def _start(name: str) -> tuple[str, int]:
    server, is_new = lifecycle.start(KINDS[name])
    word = "started" if is_new else "already running"
    return f"{word}: {server.version} {' '.join(server.endpoints)}", 0


def _stop(name: str) -> tuple[str, int]:
    return ("stopped" if lifecycle.stop(name) else "was not running"), 0


def _status(name: str) -> tuple[str, int]:
    server = lifecycle.running_servers().get(name)
    if server:
        return f"{server.version} {' '.join(server.endpoints)}", 0
    return f"missing: {lifecycle.missing_reason(name)}", 1


_ACTIONS = {"install": _install, "start": _start, "stop": _stop, "status": _status}

if __name__ == "__main__":
    sys.exit(main())
