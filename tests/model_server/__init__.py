"""A strict model of S3 on loopback: the judge of integrity and continuity in tests.

Objects come by requests, or are put there by `ModelServer.seed(Seed(...))` (and `ModelClient.seed`) with chosen bytes,
part layout, ETag and checksum: FULL_OBJECT or COMPOSITE of any of its algorithms, or none (see `seeds`).
"""

from tests.model_server.client import ModelClient, ModelProcess
from tests.model_server.config import Credentials, ServerProfile
from tests.model_server.faults import Fault
from tests.model_server.records import RequestRecord
from tests.model_server.seeds import Seed
from tests.model_server.server import ModelServer
from tests.model_server.views import OpenUpload, VersionView

__all__ = [
    "Credentials",
    "Fault",
    "ModelClient",
    "ModelProcess",
    "ModelServer",
    "OpenUpload",
    "RequestRecord",
    "Seed",
    "ServerProfile",
    "VersionView",
]
