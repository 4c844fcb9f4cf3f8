"""moto's server: S3 in memory, from the tests' own environment, http only."""

from __future__ import annotations

import sys
from importlib import metadata

from tests.servers.errors import CannotInstallError
from tests.servers.launch import Launch
from tests.servers.ports import HOST, free_block
from tests.servers.record import RunningServer


class MotoServer:
    """Starts in a second; believes every checksum and signature."""

    name = "moto"

    def gap(self) -> str | None:
        """Say whether this interpreter lacks moto."""
        return None if _version() else f"moto is not installed for {sys.executable}"

    def install(self) -> None:
        """Raise CannotInstallError when moto is missing: it is one of the tests' requirements."""
        gap = self.gap()
        if gap:
            message = f"{gap}: install the tests' requirements, or moto[server]"
            raise CannotInstallError(message)

    def launch(self, launch: Launch) -> None:
        """Start it on one free port."""
        (port,) = free_block(1)
        launch.announce(
            RunningServer(
                name=self.name,
                http=f"http://{HOST}:{port}",
                https=None,
                ca_file=None,
                access_key="testing",
                secret_key="testing",
                region="us-east-1",
                version=_version() or "",
            )
        )
        launch.spawn("server", [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)])


def _version() -> str | None:
    try:
        return metadata.version("moto")
    except metadata.PackageNotFoundError:
        return None
