"""Servers and plain boto3 clients for the model server's own tests."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.model_server import Credentials, ModelProcess, ModelServer, ServerProfile

MakeServer = Callable[..., ModelServer]
SMALL = ServerProfile(min_part_size=1024)


def client_of(
    server: ModelServer | ModelProcess, credentials: Credentials | None = None, signed: bool | None = None
) -> Any:
    """A boto3 client that tries once and never waits long; `signed` forces or forbids a payload hash."""
    style: Any = {"addressing_style": "path"}
    if signed is not None:
        style["payload_signing_enabled"] = signed
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=credentials.access_key if credentials else server.access_key,
        aws_secret_access_key=credentials.secret_key if credentials else server.secret_key,
        aws_session_token=credentials.session_token if credentials else None,
        region_name=server.region,
        verify=server.ca_file,
        config=Config(
            s3=style,
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=10,
        ),
    )


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Makes servers with a bucket "plain" and a versioned bucket "kept", and closes them."""
    made: list[ModelServer] = []

    def make(**options: Any) -> ModelServer:
        server = ModelServer(**{"profile": SMALL, **options})
        made.append(server)
        server.create_bucket("plain")
        server.create_bucket("kept", versioning="Enabled")
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make_server: MakeServer) -> ModelServer:
    """A server with small parts."""
    return make_server()


@pytest.fixture
def s3(server: ModelServer) -> Any:
    """A client of `server`."""
    return client_of(server)
