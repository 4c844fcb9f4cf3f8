"""Every snippet of docs/batch.md runs against the strict server, and says what the guide's says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orbit_airflow.engine import Credentials, EngineConfig, TransferEngine, open_engine
from tests.docs.blocks import Block, blocks_of, excused, runnable
from tests.model_server import ModelServer

PAGE = "docs/batch.md"
OBJECTS = [
    *(f"logs/2023/{month}.log" for month in ("jan", "feb", "mar")),
    *(f"temp/cache{number}.tmp" for number in (1, 2)),
    *(f"data/2024/report{number}.pdf" for number in (1, 2, 3)),
    *(f"archive/2022/data{number}.bin" for number in (1, 2, 3)),
    *(f"data/file{number}.json" for number in (1, 2)),
    *(f"images/photo{number}.jpg" for number in (1, 2)),
]
SAID = {
    "Batch delete": ["Deleted: 5, Failed: 0", "✓ Deleted: logs/2023/jan.log"],
    "Batch copy": ["Copied: 3/3"],
    "Batch storage class changes": ["Transitioned 3 objects to Glacier"],
    "Batch metadata updates": [],
    "Batch tagging": [],
    "Custom batch configuration": [],
    "Monitoring batch progress": ["Batch Statistics:", "  Total items: 2", "  Successful: 2", "  Failed: 0"],
    "A plan first": ["2 objects, 22 bytes, {'DeleteObjects': 1, 'ListObjectsV2': 1}"],
    "The report": ["images/photo1.jpg done", "missing.jpg failed NoSuchKey"],
    "After a kill": [],
    "Error recovery": ["no/such.pdf: 404"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        running.create_bucket("my-bucket")
        yield running


@pytest.fixture
def engine(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TransferEngine:
    """Over the page's bucket with its objects, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    keys = Credentials(access_key=server.access_key, secret_key=server.secret_key)
    made = open_engine(
        EngineConfig(
            bucket="my-bucket", region=server.region, endpoint=server.endpoint_url, credentials=keys,
            force_path_style=True, verify=server.ca_file,
        )
    )  # fmt: skip
    for key in OBJECTS:
        made.upload_bytes(b"some bytes!", key)
    return made


@pytest.mark.parametrize("block", runnable(PAGE), ids=str)
def test_a_snippet_runs(block: Block, engine: TransferEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing but an engine and the objects."""
    block.run({"engine": engine})
    said = capsys.readouterr().out
    for line in SAID.get(block.heading, []):
        assert line in said


def test_every_snippet_of_the_page_is_run() -> None:
    """None is excused, and the guide's seven are there."""
    assert excused(PAGE) == {}
    assert {block.heading for block in blocks_of(PAGE)} >= SAID.keys()
