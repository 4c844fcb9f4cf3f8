"""Free ports on the loopback interface, outside the range that the kernel hands to clients."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

from tests.servers.errors import ServerError

HOST = "127.0.0.1"
# Below 32768, where Linux starts its own choice: a client's outgoing connection
# cannot take a port between our choice and the server's bind.
FIRST_PORT = 10240
LAST_PORT = 32767
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A server sets this option too; without it a port in TIME_WAIT looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_block(size: int, *, rng: random.Random | None = None, free: Callable[[int], bool] = is_free) -> range:
    """Choose `size` neighbouring ports that are all free.

    Raises ServerError when no such block was found.
    """
    choice = rng or random.SystemRandom()
    for _ in range(_ATTEMPTS):
        first = choice.randint(FIRST_PORT, LAST_PORT - size + 1)
        block = range(first, first + size)
        if all(free(port) for port in block):
            return block
    message = f"no {size} neighbouring free ports on {HOST} after {_ATTEMPTS} attempts"
    raise ServerError(message)
