"""Keys from a manifest: CSV, JSON lines, Parquet, or an S3 Inventory; in a file or in a store; read as a stream.

A manifest is hostile input: lines have a longest length, every bad line is an error that names it, and nothing of a
manifest says where the batch works: a row of another bucket is refused.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal, cast
from urllib.parse import unquote_plus

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import AccessDenied, ConfigError, NotFound, SourceError
from orbit_airflow.engine.keys import MAX_PAGE_KEYS, KeyEntry, KeyPage, digest_of, position_of
from orbit_airflow.engine.manifest_lines import UNREADABLE, ObjectReader, bounded_lines, check_md5, unreadable
from orbit_airflow.engine.model import MIB, KeyPrefix, ObjectRef
from orbit_airflow.engine.read import read_whole
from orbit_airflow.engine.repeated import once

ManifestFormat = Literal["csv", "jsonl", "inventory", "parquet"]
_ENDINGS: tuple[tuple[str, ManifestFormat], ...] = (
    ("manifest.json", "inventory"), (".csv", "csv"), (".jsonl", "jsonl"), (".ndjson", "jsonl"), (".parquet", "parquet"),
)  # fmt: skip
_COLUMNS = {
    "bucket": "bucket", "key": "key", "versionid": "version_id", "version_id": "version_id", "size": "size",
    "etag": "etag", "storageclass": "storage_class", "storage_class": "storage_class",
    "isdeletemarker": "marker", "is_delete_marker": "marker", "islatest": "latest", "is_latest": "latest",
}  # fmt: skip
_ONE_COLUMN = ("key",)
_PLAIN_CSV = ("bucket", "key", "version_id")
MAX_INVENTORY_MANIFEST = 16 * MIB
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ManifestKeys:
    """The keys that a manifest names, for a batch on ``bucket``. ``place`` is a path or ``s3://bucket/key``.

    ``format``: None goes by the name's ending (``.gz`` is unpacked). CSV has a header line with ``key`` (and, if it
    likes, ``bucket``, ``version_id``, ``size``, ``etag``, ``storage_class``), or, with ``header=False``, is S3 Batch
    Operations' own (bucket, key and perhaps version id, percent-encoded) or a plain list: one column, keys as they
    are. JSON lines are objects with these names. Of an Inventory of all versions the present ones count
    (``all_versions``: each one, markers included). Parquet needs the extra ``parquet``.

    An Inventory's files are compared with the MD5s of its manifest.json before they are used, and that with the
    manifest.checksum beside it, if there is one. On a disk they lie beside manifest.json, or as a copy of the whole
    tree has them (``<day>/manifest.json`` and ``data/``).

    ConfigError names the line of what cannot be read; SourceError when the file cannot be opened or the disk fails.
    """

    bucket: str
    place: str
    format: ManifestFormat | None = None
    header: bool = True
    all_versions: bool = False

    def __post_init__(self) -> None:
        KeyPrefix(self.bucket)
        if self.format is None:
            object.__setattr__(self, "format", _format_of(self.place))
        if self.format not in ("csv", "jsonl", "inventory", "parquet"):
            raise ConfigError(f"a manifest is 'csv', 'jsonl', 'inventory' or 'parquet', got {self.format!r}")

    @property
    def stable(self) -> bool:
        """Its identity is compared: a manifest that changed is another one."""
        return True

    @property
    def total(self) -> int | None:
        """Only reading tells."""
        return None

    def identity(self, call: Call) -> str:
        """Of the manifest's bytes: a file's SHA-256; an object's ETag, version and size."""
        words: list[object] = [self.bucket, self.format, self.header, self.all_versions]
        if self._remote:
            info = call.store.head(ObjectRef.parse(self.place))
            return digest_of("manifest", *words, info.etag, info.version_id, info.size)
        try:
            with open(self.place, "rb") as file:
                return digest_of("manifest", *words, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as exc:
            raise SourceError(f"the manifest {self.place} cannot be read: {exc.strerror}") from exc

    def pages(self, call: Call, *, after: str | None = None, most: int = MAX_PAGE_KEYS) -> Iterator[KeyPage]:
        """From the numbered record on; the records before it are read over. A key (with its version id) that is named
        twice counts once, at its first record; see ``repeated``. DiskFull when the temporary directory has no room.
        """
        return once(call, self.entries(call), position_of(after), most)

    def within(self, position: str | None, last: str) -> bool:
        """By number."""
        return position_of(position) < position_of(last)

    def check(self, call: Call) -> None:
        """Read all of it for the errors of ``entries``, which are better known before the first key is worked on."""
        for number, _ in enumerate(self.entries(call)):
            if number % MAX_PAGE_KEYS == 0:
                call.cancel.check()

    def entries(self, call: Call) -> Iterator[KeyEntry]:
        """Every entry, in the manifest's order, repetitions included."""
        if self.format == "inventory":
            yield from self._inventory(call)
        elif self.format == "parquet":
            with self._opened(call, self.place) as file:
                rows = enumerate(_parquet(file, self.place), 1)
                yield from (self._entry(row, f"row {n} of {self.place}") for n, row in rows)
        else:
            yield from self._lines(call)

    @property
    def _remote(self) -> bool:
        return self.place[:5].lower() == "s3://"

    @contextmanager
    def _opened(self, call: Call, place: str, md5: str | None = None) -> Iterator[IO[bytes]]:
        """The bytes, unpacked; with ``md5`` all of them are compared first, and then read from the same file or version
        of the object.
        """
        with ExitStack() as stack:
            if place[:5].lower() == "s3://":
                raw: IO[bytes] = stack.enter_context(io.BufferedReader(ObjectReader(call, ObjectRef.parse(place)), MIB))
            else:
                try:
                    raw = stack.enter_context(open(place, "rb"))
                except OSError as exc:
                    raise SourceError(f"the manifest {place} cannot be read: {exc.strerror}") from exc
            if md5:
                try:
                    check_md5(call, raw, place, md5)
                except OSError as exc:
                    raise unreadable(place, exc) from exc
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb")) if place.endswith(".gz") else raw

    def _lines(self, call: Call) -> Iterator[KeyEntry]:
        with self._opened(call, self.place) as file:
            lines = bounded_lines(file, self.place)
            rows = _json_rows(lines, self.place) if self.format == "jsonl" else self._csv_rows(lines)
            for number, row in rows:
                yield self._entry(row, f"line {number} of {self.place}")

    def _csv_rows(self, lines: Iterator[str]) -> Iterator[tuple[int, Row]]:
        names: tuple[str, ...] = ()
        for number, cells in _cells(lines, self.place):
            if self.header and not names:
                names = tuple(_COLUMNS.get(name.strip().lower(), "") for name in cells)
                if "key" not in names:
                    raise ConfigError(
                        f"line {number} of {self.place} names no column 'key' (header=False: there is no header)"
                    )
                continue
            names = names or (_ONE_COLUMN if len(cells) == 1 else _PLAIN_CSV)
            row = _row(names, cells, f"line {number} of {self.place}")
            encoded = names is _PLAIN_CSV
            yield number, {**row, "key": unquote_plus(row["key"])} if encoded else row

    def _inventory(self, call: Call) -> Iterator[KeyEntry]:
        """The data files that the manifest names, in its order; none of them is used before its MD5 was compared."""
        told = self._inventory_manifest(call)
        schema, kind = str(told.get("fileSchema", "")), told.get("fileFormat")
        names = tuple(_COLUMNS.get(name.strip().lower(), "") for name in schema.split(","))
        for item in told["files"]:
            place = self._data_file(str(item["key"]))
            with self._opened(call, place, item.get("MD5checksum")) as file:
                if kind == "Parquet":
                    rows: Iterator[tuple[int, Row]] = enumerate(_parquet(file, place), 1)
                else:
                    cells = _cells(bounded_lines(file, place), place)
                    rows = ((number, _row(names, line, f"line {number} of {place}")) for number, line in cells)
                yield from self._inventory_entries(rows, place, encoded=kind == "CSV")

    def _inventory_entries(self, rows: Iterator[tuple[int, Row]], place: str, *, encoded: bool) -> Iterator[KeyEntry]:
        for number, row in rows:
            current = _truth(row.get("latest"), unless_said=True) and not _truth(row.get("marker"), unless_said=False)
            if current or self.all_versions:
                key = unquote_plus(str(row.get("key", ""))) if encoded else row.get("key")
                kept = row if self.all_versions else {**row, "version_id": None}
                yield self._entry({**kept, "key": key}, f"line {number} of {place}")

    def _inventory_manifest(self, call: Call) -> dict[str, Any]:
        data = self._small(call, self.place, MAX_INVENTORY_MANIFEST)
        if self.place.endswith("manifest.json"):
            self._check_manifest(call, data)
        try:
            told = json.loads(data)
            fine = isinstance(told, dict) and told["fileFormat"] in ("CSV", "Parquet")
            fine = fine and all(
                isinstance(item["key"], str) and isinstance(item.get("MD5checksum") or "", str)
                for item in told["files"]
            )
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise ConfigError(f"{self.place} is no manifest.json of an S3 Inventory ({exc!r})") from exc
        if not fine or (told["fileFormat"] == "CSV" and "key" not in str(told.get("fileSchema", "")).lower()):
            raise ConfigError(f"{self.place} is no manifest.json of an S3 Inventory in CSV or Parquet")
        if str(told.get("sourceBucket", self.bucket)) != self.bucket:
            raise ConfigError(
                f"{self.place} is the inventory of {told['sourceBucket']!r}, the batch works on {self.bucket!r}"
            )
        return cast("dict[str, Any]", told)

    def _check_manifest(self, call: Call, data: bytes) -> None:
        """Its own MD5 lies beside it, as S3 writes it; a copy may lack that, and these credentials may not see it."""
        place = self.place.removesuffix("json") + "checksum"
        try:
            wanted = self._small(call, place, MIB)
        except (NotFound, AccessDenied):
            return
        except SourceError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                return
            raise
        check_md5(call, io.BytesIO(data), f"{self.place} (see manifest.checksum)", wanted.decode(errors="replace"))

    def _small(self, call: Call, place: str, most: int) -> bytes:
        if self._remote:
            return read_whole(call, ObjectRef.parse(place), most, verify=True).data
        with self._opened(call, place) as file:
            try:
                return file.read(most)
            except UNREADABLE as exc:
                raise unreadable(place, exc) from exc

    def _data_file(self, key: str) -> str:
        """In the inventory's bucket; or beside the manifest, or in the directory ``data`` beside the manifest's, where
        a copy of the whole tree has it. Nowhere else, whatever the manifest says.
        """
        if self._remote:
            return f"s3://{ObjectRef.parse(self.place).bucket}/{key}"
        here, name = os.path.dirname(os.path.abspath(self.place)), os.path.basename(key)
        synced = os.path.join(os.path.dirname(here), "data", name)
        beside = os.path.join(here, name)
        return synced if os.path.isfile(synced) and not os.path.exists(beside) else beside

    def _entry(self, row: Row, where: str) -> KeyEntry:
        if row.get("bucket") not in (None, "", self.bucket):
            raise ConfigError(f"{where}: this row is of bucket {row['bucket']!r}, the batch works on {self.bucket!r}")
        key, version, size = row.get("key"), row.get("version_id") or None, row.get("size")
        try:
            if not isinstance(key, str) or not (version is None or isinstance(version, str)):
                raise ConfigError("key and version_id are texts")
            ObjectRef(self.bucket, key, version)
            number = None if size in (None, "") else int(cast("Any", size))
        except (ConfigError, ValueError, TypeError, OverflowError) as exc:
            raise ConfigError(f"{where}: {exc.message if isinstance(exc, ConfigError) else exc}") from exc
        etag = str(row["etag"]).strip('"') if row.get("etag") else None
        return KeyEntry(key, version, number, etag, str(row["storage_class"]) if row.get("storage_class") else None)


def _parquet(file: IO[bytes], place: str) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise ConfigError("a Parquet manifest needs pyarrow: install orbit-airflow[parquet]") from exc
    try:
        found = pq.ParquetFile(file)
        names = {name: _COLUMNS[name.lower()] for name in found.schema_arrow.names if name.lower() in _COLUMNS}
        if "key" not in names.values():
            raise ConfigError(f"{place} has no column 'key'")
        for batch in found.iter_batches(MAX_PAGE_KEYS, columns=list(names)):
            for row in batch.to_pylist():
                yield {names[name]: value for name, value in row.items()}
    except pa.ArrowException as exc:
        raise ConfigError(f"{place} is no Parquet file: {exc}") from exc
    except UNREADABLE as exc:
        raise unreadable(place, exc) from exc


def _format_of(place: str) -> ManifestFormat:
    name = place.lower().removesuffix(".gz")
    for ending, kind in _ENDINGS:
        if name.endswith(ending):
            return kind
    raise ConfigError(
        f"the name {place!r} does not tell its format; say format='csv', 'jsonl', 'inventory' or 'parquet'"
    )


def _truth(value: object, *, unless_said: bool) -> bool:
    return unless_said if value in (None, "") else str(value).lower() == "true"


def _cells(lines: Iterator[str], place: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with cells. A quoted cell may hold line breaks; the csv module bounds it (128 KiB)."""
    reader = csv.reader(lines, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as exc:
        raise ConfigError(f"line {reader.line_num} of {place}: {exc}") from exc


def _row(names: tuple[str, ...], cells: list[str], where: str) -> Row:
    row = {name: cell for name, cell in zip(names, cells, strict=False) if name}
    if len(cells) > len(names) or "key" not in row:
        raise ConfigError(f"{where} has {len(cells)} cells, expected {', '.join(name or '...' for name in names)}")
    return row


def _json_rows(lines: Iterator[str], place: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"line {number} of {place} is no JSON: {exc}") from exc
        if not isinstance(row, dict):
            raise ConfigError(f"line {number} of {place} is no JSON object")
        yield number, {_COLUMNS.get(str(name).lower(), str(name)): value for name, value in row.items()}
