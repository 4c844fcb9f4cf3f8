"""Ceph's RADOS Gateway from the system's packages: one monitor, one OSD, one gateway."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from string import Template
from typing import Any

from tests.servers.certificate import make_certificate
from tests.servers.errors import CannotInstallError, ServerError
from tests.servers.launch import Launch
from tests.servers.ports import HOST, free_block
from tests.servers.record import RunningServer

_PACKAGES = (
    "radosgw",
    "ceph-mon",
    "ceph-osd",
    "ceph-mgr",
    "ceph-common",
    "ceph-mgr-modules-core",
)
_PROGRAMS = (
    "radosgw",
    "radosgw-admin",
    "ceph-mon",
    "ceph-osd",
    "ceph",
    "ceph-authtool",
    "monmaptool",
    "openssl",
)
_TEMPLATE = Path(__file__).with_name("ceph.conf.in")
# Room for a 6 GiB object, its copy, and the parts of both; a sparse file.
_BLOCK_BYTES = 20 << 30
_PORTS = 16
_STORAGE_CLASSES = (
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
)
_KEYS = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"),
    "client.rgw": ("mon", "allow rw", "osd", "allow rwx", "mgr", "allow rw"),
}


class CephServer:
    """A production server; no manager, one copy of everything, seconds of patience."""

    name = "ceph"

    def gap(self) -> str | None:
        """Say which programs are not on the PATH."""
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        return f"not on the PATH: {', '.join(missing)}" if missing else None

    def install(self) -> None:
        """Install the distribution's packages.

        Raises CannotInstallError without apt-get or root, ServerError when apt-get fails.
        """
        apt = shutil.which("apt-get")
        packages = " ".join(_PACKAGES)
        if apt is None:
            message = f"no apt-get here; install what provides these by hand: {packages}"
            raise CannotInstallError(message)
        if os.geteuid() != 0:
            message = f"needs root: sudo apt-get install --no-install-recommends {packages} openssl"
            raise CannotInstallError(message)
        _apt(apt, "update")
        options = ("-y", "--no-install-recommends", "--no-upgrade")
        _apt(apt, "install", *options, *_PACKAGES, "openssl")

    def launch(self, launch: Launch) -> None:
        """Make a cluster and start monitor, OSD and gateway, in that order."""
        cluster = _Cluster(launch)
        cluster.configure()
        cluster.start_monitor()
        cluster.start_osd()
        cluster.create_user()
        cluster.add_storage_classes()
        cluster.start_gateway()


class _Cluster:
    """The steps of one new cluster; each needs the ones before."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._data = launch.places.data
        self._ports = free_block(_PORTS)
        self._fsid = str(uuid.uuid4())
        self._conf = ["-c", str(self._data / "ceph.conf")]
        self._keyring = str(self._data / "keyring")

    def configure(self) -> None:
        for folder in ("mon", "osd", "run", "log"):
            (self._data / folder).mkdir()
        made = make_certificate(self._data)
        mon, http, https, *osd = self._ports
        text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
            fsid=self._fsid,
            data=self._data,
            hostname=socket.gethostname(),
            mon_port=mon,
            http_port=http,
            https_port=https,
            osd_port_first=osd[0],
            osd_port_last=osd[-1],
            block_bytes=_BLOCK_BYTES,
            cert_file=made.cert,
            key_file=made.key,
        )
        (self._data / "ceph.conf").write_text(text, encoding="utf-8")
        self._announce(http, https, made.cert)

    def start_monitor(self) -> None:
        self._make_keyring()
        monmap = str(self._data / "monmap")
        address = f"[v2:{HOST}:{self._ports[0]}]"
        run = self._launch.run
        run(["monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, monmap])
        files = ["--monmap", monmap, "--keyring", self._keyring]
        run(["ceph-mon", *self._conf, "-i", "a", "--mkfs", *files])
        self._launch.spawn("mon", ["ceph-mon", *self._conf, "-i", "a", "-f"])
        self._launch.wait_for("monitor", lambda: self._ceph("-s") is not None)

    def start_osd(self) -> None:
        osd = str(uuid.uuid4())
        self._launch.run(["ceph", *self._conf, "osd", "new", osd])
        # Without -f a second process does the work, and outlives an interrupted start.
        mkfs = ["ceph-osd", *self._conf, "-i", "0", "-f", "--mkfs", "--osd-uuid", osd]
        self._launch.run(mkfs)
        self._launch.spawn("osd", ["ceph-osd", *self._conf, "-i", "0", "-f"])
        self._launch.wait_for("OSD", lambda: "1 up" in (self._ceph("osd", "stat") or ""))

    def create_user(self) -> None:
        server = self._launch.server
        keys = ["--access-key", server.access_key, "--secret-key", server.secret_key]
        self._admin("user", "create", "--uid=tests", "--display-name=tests", *keys)

    def add_storage_classes(self) -> None:
        """Name the region as AWS does and let every AWS storage class share one pool."""
        group = json.loads(self._admin("zonegroup", "get", "--rgw-zonegroup", "default"))
        group["api_name"] = self._launch.server.region
        for target in group["placement_targets"]:
            target["storage_classes"] = list(_STORAGE_CLASSES)
        self._set("zonegroup", group)
        zone = json.loads(self._admin("zone", "get", "--rgw-zone", "default"))
        for pool in zone["placement_pools"]:
            classes = pool["val"]["storage_classes"]
            for name in _STORAGE_CLASSES:
                classes.setdefault(name, {"data_pool": classes["STANDARD"]["data_pool"]})
        self._set("zone", zone)

    def start_gateway(self) -> None:
        self._launch.spawn("rgw", ["radosgw", *self._conf, "-n", "client.rgw", "-f"])

    def _announce(self, http: int, https: int, ca_file: Path) -> None:
        self._launch.announce(
            RunningServer(
                name=self._launch.places.name,
                http=f"http://{HOST}:{http}",
                https=f"https://{HOST}:{https}",
                ca_file=str(ca_file),
                access_key=f"TESTS{secrets.token_hex(8).upper()}",
                secret_key=secrets.token_urlsafe(30),
                region="us-east-1",
                version=_version(),
            )
        )

    def _make_keyring(self) -> None:
        self._launch.run(["ceph-authtool", "--create-keyring", self._keyring])
        for name, caps in _KEYS.items():
            pairs = zip(caps[::2], caps[1::2], strict=True)
            options = [word for pair in pairs for word in ("--cap", *pair)]
            self._launch.run(["ceph-authtool", self._keyring, "--gen-key", "-n", name, *options])

    def _ceph(self, *words: str) -> str | None:
        try:
            return self._launch.run(["ceph", *self._conf, "--connect-timeout", "10", *words])
        except ServerError:
            return None

    def _admin(self, *words: str) -> str:
        return self._launch.run(["radosgw-admin", *self._conf, "-n", "client.rgw", *words])

    def _set(self, what: str, value: dict[str, Any]) -> None:
        file = self._data / f"{what}.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        self._admin(what, "set", f"--rgw-{what}", "default", "--infile", str(file))


def _version() -> str:
    answer = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    return words[2] if answer.returncode == 0 and words[:2] == ["ceph", "version"] else "unknown"


def _apt(apt: str, *words: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    answer = subprocess.run([apt, *words], stdout=sys.stderr, env=environment, check=False)
    if answer.returncode:
        message = f"apt-get {' '.join(words)}: exit {answer.returncode}"
        raise ServerError(message)
