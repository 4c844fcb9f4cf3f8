"""LocalStack's community core, S3 only, in an environment of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers.certificate import make_certificate
from tests.servers.errors import CannotInstallError, ServerError
from tests.servers.launch import Launch
from tests.servers.ports import HOST, free_block
from tests.servers.record import STATE, RunningServer

VERSION = "4.14.0"
_CONSTRAINTS = Path(__file__).with_name("localstack-constraints.txt")
# LocalStack 4.14.0 says 3.10, but its S3 imports `warnings.deprecated`, which came with 3.13.
_OLDEST_PYTHON = (3, 13)
_PYTHON_NAMES = ("python3.13", "python3.14")


class LocalStackServer:
    """Follows AWS in checksums and conditional writes; http and https share one port."""

    name = "localstack"

    def __init__(self, state: Path = STATE) -> None:
        self._venv = state / "localstack-venv"
        # Written last, so that an install that was cut short does not count.
        self._stamp = self._venv / "complete"

    @property
    def _python(self) -> Path:
        return self._venv / "bin" / "python"

    def gap(self) -> str | None:
        """Say whether the environment is missing or made from other pins."""
        try:
            made_from = self._stamp.read_text(encoding="utf-8")
        except OSError:
            return f"LocalStack {VERSION} is not installed"
        if made_from != _pins():
            return "LocalStack was installed from other pins"
        return None if _is_usable(str(self._python)) else "LocalStack's Python is gone or too old"

    def install(self) -> None:
        """Make the environment anew, with the pinned packages.

        Raises CannotInstallError without uv or a Python >= 3.13, ServerError when uv fails.
        """
        uv = find_uv()
        python = find_python(uv)
        self._stamp.unlink(missing_ok=True)
        _run([uv, "venv", "--clear", "--no-python-downloads", "--python", python, str(self._venv)])
        wanted = f"localstack-core[base-runtime]=={VERSION}"
        command = [uv, "pip", "install", "--python", str(self._python)]
        _run([*command, "--constraints", str(_CONSTRAINTS), wanted])
        self._stamp.write_text(_pins(), encoding="utf-8")

    def launch(self, launch: Launch) -> None:
        """Start it on one free port with a certificate of our own."""
        (port,) = free_block(1)
        data = launch.places.data
        made = make_certificate(data)
        launch.announce(
            RunningServer(
                name=self.name,
                http=f"http://{HOST}:{port}",
                https=f"https://{HOST}:{port}",
                ca_file=str(made.cert),
                access_key="test",
                secret_key="test",
                region="us-east-1",
                version=VERSION,
            )
        )
        command = [str(self._python), "-m", "localstack.runtime.main"]
        launch.spawn("server", command, _environment(data, port, made.both))


def find_uv() -> str:
    """Find uv beside this interpreter or on the PATH.

    Raises CannotInstallError when it is nowhere.
    """
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if found is None:
        message = "LocalStack's environment is made with uv, which is missing: pip install uv"
        raise CannotInstallError(message)
    return found


def find_python(uv: str) -> str:
    """Find a Python that is new enough and really runs; none is downloaded.

    Raises CannotInstallError when there is none.
    """
    for candidate in _candidates(uv):
        if _is_usable(candidate):
            return candidate
    message = "LocalStack needs a Python >= 3.13 and none was found: install one beside this one"
    raise CannotInstallError(message)


def _candidates(uv: str) -> Iterator[str]:
    for name in _PYTHON_NAMES:
        yield from filter(None, [shutil.which(name)])
    yield sys.executable
    command = [uv, "python", "find", "--system", "--no-python-downloads", ">=3.13"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    yield from answer.stdout.split("\n")[:1]
    versions = Path.home() / ".pyenv" / "versions"
    yield from (str(python) for python in sorted(versions.glob("3.1[3-9]*/bin/python")))


def _is_usable(python: str) -> bool:
    # A pyenv shim exists for every version that it knows and fails for most.
    command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        major, minor = map(int, answer.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return (major, minor) >= _OLDEST_PYTHON


def _pins() -> str:
    return f"{VERSION} {hashlib.sha256(_CONSTRAINTS.read_bytes()).hexdigest()}\n"


def _run(command: list[str]) -> None:
    answer = subprocess.run(command, stdout=sys.stderr, check=False)
    if answer.returncode:
        message = f"{' '.join(command)}: exit {answer.returncode}"
        raise ServerError(message)


def _environment(data: Path, port: int, certificate: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    scratch = data / "tmp"
    scratch.mkdir()
    return inherited | {
        "SERVICES": "s3",
        "EAGER_SERVICE_LOADING": "1",
        "STRICT_SERVICE_LOADING": "1",
        "GATEWAY_LISTEN": f"{HOST}:{port}",
        # The default, twisted, listens on every address.
        "GATEWAY_SERVER": "hypercorn",
        "CUSTOM_SSL_CERT_PATH": str(certificate),
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1",
        "DNS_ADDRESS": "0",
        "LS_LOG": "warning",
        "LOCALSTACK_VOLUME_DIR": str(data),
        "FILESYSTEM_ROOT": str(data),
        "OVERRIDE_IN_DOCKER": "0",
        # The objects live in the temporary folder: below `data` they go when the server goes.
        "TMPDIR": str(scratch),
    }
