"""Which machine this is, for telling whether a file that an earlier try left can be here."""

from __future__ import annotations

import hashlib
import socket
from functools import cache


@cache
def host_id() -> str:
    """The host name and a hash of the machine's id: containers of one image share the latter, some hosts the former.

    The machine's id is meant to stay secret, so that only its hash leaves the process (man 5 machine-id).
    """
    try:
        with open("/etc/machine-id", "rb") as file:
            machine = file.read(64).strip()
    except OSError:
        machine = b""
    return f"{socket.gethostname()[:64]}/{hashlib.sha256(b'orbit' + machine).hexdigest()[:12]}"
