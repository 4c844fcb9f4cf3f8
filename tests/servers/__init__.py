"""The real S3 servers of the tests: `python -m tests.servers install|start|stop|status`."""

from tests.servers.lifecycle import KINDS, missing_reason, running_servers
from tests.servers.record import RunningServer

__all__ = ["KINDS", "RunningServer", "missing_reason", "running_servers"]
