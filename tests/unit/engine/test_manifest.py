"""Manifests: every format, in a file and in a store; bad lines are named, hostile ones are bounded."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine import ManifestKeys
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import ConfigError, ConnectionLost, PreconditionFailed, RequestContext, SourceError
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.testing import Fault, MemoryStore
from tests.unit.engine.batches import BUCKET, engine_on, faulty

CSV = 'key,version_id,size,unknown\na,v1,10,?\n"b,""c""",,,\n'
JSONL = '{"key": "a", "version_id": "v1", "size": 10}\n\n{"Key": "b,\\"c\\"", "bucket": "lake"}\n'
WANTED = [KeyEntry("a", "v1", 10), KeyEntry('b,"c"')]


def _call(memory: MemoryStore | None = None, *faults: Fault) -> Call:
    return engine_on(faulty(memory or MemoryStore(), *faults)).call()


def _file(tmp_path: Path, name: str, text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


def _entries(place: str, call: Call | None = None, **choices: Any) -> list[KeyEntry]:
    return list(ManifestKeys(bucket=BUCKET, place=place, **choices).entries(call or _call()))


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.jsonl", "m.jsonl.gz"])
@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
def test_lines(tmp_path: Path, name: str, remote: bool) -> None:
    """CSV with a header in any order and with strange columns, JSON lines; packed or not."""
    place, memory = _file(tmp_path, name, CSV if ".csv" in name else JSONL), MemoryStore()
    if remote:
        engine_on(memory).upload(place, ObjectRef("lists", name))
        place = f"s3://lists/{name}"
    assert _entries(place, _call(memory)) == WANTED


def test_the_csv_of_s3_batch_operations(tmp_path: Path) -> None:
    """Bucket, key and version, percent-encoded, without a header."""
    place = _file(tmp_path, "m.csv", "lake,a%20b%2Bc\nlake,d,v1\n")
    assert _entries(place, header=False) == [KeyEntry("a b+c"), KeyEntry("d", "v1")]


def test_a_plain_list_of_keys(tmp_path: Path) -> None:
    """One column: its keys are as they are, with a header or without. The first line tells which CSV it is."""
    place = _file(tmp_path, "m.csv", 'a%20b+c\n\n"d,e"\n')
    assert _entries(place, header=False) == [KeyEntry("a%20b+c"), KeyEntry("d,e")]
    place = _file(tmp_path, "m.csv", 'Key\na%20b+c\n"d,e"\n')
    assert _entries(place) == [KeyEntry("a%20b+c"), KeyEntry("d,e")]
    for text in ("a\nlake,b\n", "lake,b\na\n", "lake,b,v,x\n"):
        with pytest.raises(ConfigError, match="cells"):
            _entries(_file(tmp_path, "m.csv", text), header=False)


def _md5(place: str | Path) -> str:
    return hashlib.md5(Path(place).read_bytes(), usedforsecurity=False).hexdigest()


def _inventory(tmp_path: Path, schema: str, *rows: str) -> str:
    data = _file(tmp_path, "data-1.csv.gz", "".join(row + "\n" for row in rows))
    told = {
        "sourceBucket": BUCKET, "fileFormat": "CSV", "fileSchema": schema, "version": "2016-11-30",
        "files": [{"key": "inventory/lake/data/data-1.csv.gz", "size": 1, "MD5checksum": _md5(data)}],
    }  # fmt: skip
    return _file(tmp_path, "manifest.json", json.dumps(told))


def test_an_inventory(tmp_path: Path) -> None:
    """Its data files lie beside it; of all versions the present objects count, unless each one is wanted."""
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag, StorageClass"
    place = _inventory(
        tmp_path, schema,
        '"lake","a%2Bb","v2","true","false","7","etag","GLACIER"',
        '"lake","a%2Bb","v1","false","false","6","etag","STANDARD"',
        '"lake","gone","v4","true","true","","",""',
    )  # fmt: skip
    assert _entries(place) == [KeyEntry("a+b", None, 7, "etag", "GLACIER")]
    assert [(entry.key, entry.version_id) for entry in _entries(place, all_versions=True)] == [
        ("a+b", "v2"), ("a+b", "v1"), ("gone", "v4"),
    ]  # fmt: skip


def test_an_inventory_in_a_store(tmp_path: Path) -> None:
    """Its data files are where it says, in its own bucket."""
    memory = MemoryStore()
    engine, place = engine_on(memory), _inventory(tmp_path, "Bucket, Key", '"lake","a"', '"lake","b"')
    engine.upload(place, ObjectRef("lists", "day/manifest.json"))
    engine.upload(tmp_path / "data-1.csv.gz", ObjectRef("lists", "inventory/lake/data/data-1.csv.gz"))
    assert [entry.key for entry in _entries("s3://lists/day/manifest.json", _call(memory))] == ["a", "b"]


def test_an_inventory_does_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    """Whatever it names."""
    place = _inventory(tmp_path, "Bucket, Key", '"lake","a"')
    told = json.loads(Path(place).read_text())
    told["files"][0]["key"] = "../../../etc/passwd"
    Path(place).write_text(json.dumps(told))
    with pytest.raises(SourceError, match=re.escape(str(tmp_path))):
        _entries(str(place))


def _in_store(tmp_path: Path, memory: MemoryStore, *names: str) -> str:
    """Below lists/inventory/lake/, as S3 lays it out."""
    engine, root = engine_on(memory), "inventory/lake"
    engine.upload(tmp_path / "data-1.csv.gz", ObjectRef("lists", f"{root}/data/data-1.csv.gz"))
    for name in ("manifest.json", *names):
        engine.upload(tmp_path / name, ObjectRef("lists", f"{root}/2026-01-01T00-00Z/{name}"))
    return f"s3://lists/{root}/2026-01-01T00-00Z/manifest.json"


@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
def test_an_inventory_file_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path, remote: bool) -> None:
    """Before one of its rows is used. MD5s in capitals are the same; without one there is nothing to compare."""
    place, memory = _inventory(tmp_path, "Bucket, Key", '"lake","a"'), MemoryStore()
    told = json.loads(Path(place).read_text())
    for wanted, fine in ((told["files"][0]["MD5checksum"].upper(), True), (None, True), ("00" * 16, False)):
        told["files"][0]["MD5checksum"] = wanted
        Path(place).write_text(json.dumps(told))
        where = _in_store(tmp_path, memory) if remote else place
        stream = ManifestKeys(bucket=BUCKET, place=where).entries(_call(memory))
        if fine:
            assert next(stream) == KeyEntry("a")
            stream.close()  # type: ignore[attr-defined]
        else:
            with pytest.raises(ConfigError, match=r"data-1\.csv\.gz .* MD5"):
                next(stream)


def test_an_inventory_file_in_a_store_is_read_as_it_was_compared(tmp_path: Path) -> None:
    """Another object in its place is not read on."""
    memory = MemoryStore()
    rows = [f'"lake","{random.Random(number).random()}"' for number in range(200_000)]
    _inventory(tmp_path, "Bucket, Key", *rows)
    place = _in_store(tmp_path, memory)
    ref = ObjectRef("lists", "inventory/lake/data/data-1.csv.gz")

    def replace_it() -> None:
        engine_on(memory).upload_bytes(b"other", ref)

    # The manifest, its checksum, the file to compare it, and the file to use it.
    with pytest.raises(PreconditionFailed):
        _entries(place, _call(memory, Fault("get", nth=4, call=replace_it)))


@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
@pytest.mark.parametrize("fine", [True, False])
def test_an_inventorys_own_checksum_is_compared(tmp_path: Path, remote: bool, fine: bool) -> None:
    """Where it lies beside the manifest, as S3 writes it."""
    place, memory = _inventory(tmp_path, "Bucket, Key", '"lake","a"'), MemoryStore()
    (tmp_path / "manifest.checksum").write_text((_md5(place) if fine else "0" * 32) + "\n")
    where = _in_store(tmp_path, memory, "manifest.checksum") if remote else place
    if fine:
        assert _entries(where, _call(memory)) == [KeyEntry("a")]
    else:
        with pytest.raises(ConfigError, match=r"manifest\.checksum"):
            _entries(where, _call(memory))


def test_an_inventory_that_was_synced_to_a_disk(tmp_path: Path) -> None:
    """Its data lie in the directory beside that of the day, under the name that S3 gave them."""
    (tmp_path / "2026-01-01T00-00Z").mkdir()
    (tmp_path / "data").mkdir()
    made = Path(_inventory(tmp_path, "Bucket, Key", '"lake","a"'))
    (tmp_path / "data-1.csv.gz").rename(tmp_path / "data" / "data-1.csv.gz")
    place = made.rename(tmp_path / "2026-01-01T00-00Z" / "manifest.json")
    assert _entries(str(place)) == [KeyEntry("a")]
    told = json.loads(place.read_text())
    for key in ("../../x", "..", "data/..", "/", ""):
        told["files"][0]["key"] = key
        place.write_text(json.dumps(told))
        with pytest.raises(SourceError, match=re.escape(str(tmp_path))):
            _entries(str(place))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "name\na\n", "line 1 .* no column 'key'"),
        ("m.csv", "key\na\n,\n", "line 3"),
        ("m.csv", "key\na\nb,c\n", "line 3 .* has 2 cells"),
        ("m.csv", 'key\n"a\n', "line 2"),
        ("m.csv", b"key\n\xff\xfe\n", "line 2 .* UTF-8"),
        ("m.csv", "key\n" + "x" * 70_000, "line 2 .* longer than"),
        ("m.csv", "key\n" + "x" * 1025 + "\n", "line 2 .* 1 to 1024 bytes"),
        ("m.csv", "bucket,key\nother,a\n", "line 2 .* bucket 'other'"),
        ("m.csv", "key,size\na,many\n", "line 2"),
        ("m.jsonl", '{"key": "a"}\n{"key": 3}\n', "line 2"),
        ("m.jsonl", '{"key": "a"}\n["b"]\n', "line 2 .* no JSON object"),
        ("m.jsonl", "{\n", "line 1 .* no JSON"),
        ("m.jsonl", "[" * 60_000 + "\n", "line 1 .* no JSON"),
        ("manifest.json", "{}", "no manifest.json"),
        ("manifest.json", '{"fileFormat": "ORC", "files": []}', "CSV or Parquet"),
        (
            "manifest.json",
            '{"fileFormat": "CSV", "files": [], "fileSchema": "Bucket, Key", "sourceBucket": "x"}',
            "inventory of 'x'",
        ),
    ],
    ids=range(16),
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(ConfigError, match=said):
        _entries(_file(tmp_path, name, text))


def test_a_packed_manifest_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    """Not a shorter list."""
    whole = gzip.compress(("key\n" + "".join(f"key-{n}\n" for n in range(50_000))).encode())
    path = tmp_path / "m.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        _entries(str(path))


@pytest.mark.parametrize("remote", [False, True], ids=["file", "object"])
def test_a_packed_manifest_that_was_damaged_is_a_configerror(tmp_path: Path, remote: bool) -> None:
    """Wherever the damage is; the library's own errors do not come through."""
    rng, memory, seen = random.Random(7), MemoryStore(), list[str]()
    whole = gzip.compress(("key\n" + "".join(f"key-{rng.random()}\n" for _ in range(3000))).encode(), mtime=0)
    for at in range(0, len(whole), 997):
        damaged = bytearray(whole)
        damaged[at : at + 8] = bytes(255 - byte for byte in damaged[at : at + 8])
        place = str(tmp_path / "m.csv.gz")
        Path(place).write_bytes(damaged)
        if remote:
            place = "s3://lists/m.csv.gz"
            engine_on(memory).upload_bytes(bytes(damaged), ObjectRef.parse(place))
        with pytest.raises(ConfigError, match=r"m\.csv\.gz") as caught:
            _entries(place, _call(memory))
        seen.append(type(caught.value.__cause__).__name__)
    assert "error" in seen  # zlib's own


def test_a_disk_that_fails_is_no_fault_of_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SourceError, as for a file that is not there."""

    class Failing(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            raise OSError(errno.EIO, "made up")

        readline = read

    monkeypatch.setattr("builtins.open", lambda *_, **__: Failing(b"x" * 100))
    for name in ("m.csv", "m.jsonl", "m.csv.gz", "m.parquet", "manifest.json"):
        with pytest.raises(SourceError, match="made up"):
            _entries(str(tmp_path / name))


@pytest.mark.parametrize("size", ["1e999", "NaN", '"1.5"', "[1]", '{"a": 1}'])
def test_a_size_that_is_none_is_a_configerror(tmp_path: Path, size: str) -> None:
    """Whatever JSON calls a number."""
    with pytest.raises(ConfigError, match="line 1"):
        _entries(_file(tmp_path, "m.jsonl", f'{{"key": "a", "size": {size}}}\n'))


def test_a_line_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    """A gibibyte of nothing, packed."""
    path = tmp_path / "m.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b" " * 2**20)
    with pytest.raises(ConfigError, match=r"line 1 .* longer than"):
        _entries(str(path))


def test_what_is_not_there(tmp_path: Path) -> None:
    """A SourceError for a file; a name without an ending wants a format; a row without one is a position."""
    with pytest.raises(SourceError):
        ManifestKeys(bucket=BUCKET, place=str(tmp_path / "none.csv")).identity(_call())
    with pytest.raises(ConfigError, match="format"):
        ManifestKeys(bucket=BUCKET, place="keys")
    with pytest.raises(ConfigError, match="'csv'"):
        ManifestKeys(bucket=BUCKET, place="keys", format="xml")  # type: ignore[arg-type]


def test_a_manifest_is_continued_and_known_by_its_bytes(tmp_path: Path) -> None:
    """A position counts records; another content is another manifest."""
    place = _file(tmp_path, "m.jsonl", "".join(json.dumps({"key": f"k{n}"}) + "\n" for n in range(25)))
    source = ManifestKeys(bucket=BUCKET, place=place)
    pages = list(source.pages(_call(), most=10))
    assert [page.cursor for page in pages] == ["10", "20", "25"]
    rest = [entry.key for page in source.pages(_call(), after="20") for entry in page.entries]
    assert rest == [f"k{n}" for n in range(20, 25)]
    before = source.identity(_call())
    assert before == source.identity(_call())
    Path(place).write_text('{"key": "k0"}\n')
    assert source.identity(_call()) != before


def test_an_object_is_read_on_behind_a_broken_line(tmp_path: Path) -> None:
    """From where it broke; and never from another object."""
    memory = MemoryStore()
    text = "".join(json.dumps({"key": f"k{n}"}) + "\n" for n in range(200_000))
    place = _file(tmp_path, "m.jsonl", text)
    ref = ObjectRef("lists", "m.jsonl")
    engine_on(memory).upload(place, ref)
    lost = ConnectionLost("made up", RequestContext("GetObject", "lists"))
    broken = Fault("get", when="during", blocks=2, error=lost)
    call = _call(memory, broken)
    assert [entry.key for entry in _entries(ref.uri, call)] == [f"k{n}" for n in range(200_000)]

    def replace_it() -> None:
        engine_on(memory).upload_bytes(b"other", ref)
        raise lost

    call = _call(memory, Fault("get", when="during", blocks=2, call=replace_it))
    with pytest.raises(PreconditionFailed):
        _entries(ref.uri, call)


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"orbit-airflow\[parquet\]"):
        _entries(_file(tmp_path, "m.parquet", b"PAR1"))


def _parquet(path: Path, **columns: list[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


def test_a_parquet_manifest(tmp_path: Path) -> None:
    """Its columns by name, row groups and batches crossed; what it does not tell is None."""
    keys = [f"k/{number} +%" for number in range(2500)]
    place = _parquet(tmp_path / "m.parquet", key=keys, size=list(range(2500)), other=["x"] * 2500)
    entries = _entries(str(place))
    assert [entry.key for entry in entries] == keys
    assert (entries[7].size, entries[7].version_id, entries[7].etag) == (7, None, None)


def test_a_parquet_manifest_without_keys_is_refused(tmp_path: Path) -> None:
    """As is what is none, and a row of another bucket; with its number."""
    with pytest.raises(ConfigError, match="no column 'key'"):
        _entries(str(_parquet(tmp_path / "m.parquet", name=["a"])))
    with pytest.raises(ConfigError, match="no Parquet file"):
        _entries(_file(tmp_path, "n.parquet", b"PAR1 and nothing else"))
    with pytest.raises(ConfigError, match=r"row 2 of .* bucket 'other'"):
        _entries(str(_parquet(tmp_path / "o.parquet", bucket=[BUCKET, "other"], key=["a", "b"])))


def test_a_damaged_parquet_manifest_is_a_configerror(tmp_path: Path) -> None:
    """Wherever the damage is, if it can be seen: whichever of Arrow's and Python's errors it makes."""
    place = _parquet(tmp_path / "m.parquet", key=[f"some/key/{number}" for number in range(300)])
    whole, kinds = place.read_bytes(), set[str]()
    for at in range(0, len(whole), 61):
        for damage in (b"\xff" * 16, b"\x00" * 16):
            place.write_bytes(whole[:at] + damage + whole[at + 16 :])
            try:
                _entries(str(place))
            except ConfigError as exc:
                kinds.add(type(exc.__cause__).__name__)
    assert {"OSError", "ArrowInvalid"} <= kinds


def test_what_the_store_says_comes_through_parquet(tmp_path: Path) -> None:
    """A reset connection is no bad manifest."""
    memory = MemoryStore()
    place = _parquet(tmp_path / "m.parquet", key=["a"])
    engine_on(memory).upload(place, ObjectRef("lists", "m.parquet"))
    lost = ConnectionLost("made up", RequestContext("GetObject", "lists"))
    with pytest.raises(ConnectionLost):
        _entries("s3://lists/m.parquet", _call(memory, Fault("get", times=None, error=lost)))


def test_an_inventory_in_parquet(tmp_path: Path) -> None:
    """The present versions of it; its keys are not encoded."""
    _parquet(
        tmp_path / "data.parquet",
        bucket=[BUCKET] * 3,
        key=["a+b", "gone", "old"],
        version_id=["1", "2", "3"],
        is_latest=[True, True, False],
        is_delete_marker=[False, True, False],
    )
    told = {"sourceBucket": BUCKET, "fileFormat": "Parquet", "files": [{"key": "x/data.parquet"}]}
    entries = _entries(_file(tmp_path, "manifest.json", json.dumps(told)))
    assert [(entry.key, entry.version_id) for entry in entries] == [("a+b", None)]
