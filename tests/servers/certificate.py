"""A self-signed certificate for the loopback interface."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import ServerError


@dataclass(frozen=True)
class Certificate:
    """The files of one certificate: itself, its key, and both in one file."""

    cert: Path
    key: Path
    both: Path


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate for 127.0.0.1 and localhost that is its own authority.

    Raises ServerError when openssl is missing or refuses.
    """
    made = Certificate(folder / "cert.pem", folder / "key.pem", folder / "server.pem")
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-subj", "/CN=localhost", "-addext", names]
    command += ["-keyout", str(made.key), "-out", str(made.cert)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        message = f"cannot run openssl: {exc}"
        raise ServerError(message) from exc
    if answer.returncode:
        message = f"openssl: {answer.stderr.strip()}"
        raise ServerError(message)
    made.both.touch(mode=0o600)
    made.both.write_bytes(made.key.read_bytes() + made.cert.read_bytes())
    return made
