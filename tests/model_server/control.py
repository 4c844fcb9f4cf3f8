"""The control API under /_model/: the log, the stored state and the faults, for tests in other processes."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.model_server.errors import S3Error
from tests.model_server.exchange import World
from tests.model_server.faults import Fault
from tests.model_server.operations import OPERATION_NAMES
from tests.model_server.seeds import Seed, plant
from tests.model_server.views import OpenUpload, VersionState, VersionView
from tests.model_server.wire import RequestHead, Response

ROOT = "/_model/"


def serve(world: World, head: RequestHead, data: bytes) -> Response:
    """Answer one control request; a wrong one is answered 4xx with its reason as JSON."""
    handler = _HANDLERS.get((head.method, head.raw_path[len(ROOT) :]))
    if handler is None:
        return _json({"error": "unknown control request"}, 404)
    try:
        return handler(world, head, json.loads(data) if data else {})
    except S3Error as exc:
        return _json({"error": exc.code}, exc.status)
    except (ValueError, TypeError, KeyError) as exc:
        return _json({"error": str(exc)}, 400)


def put_in_force(world: World, fault: Fault) -> None:
    """Add a rule; raises ValueError for one that could never act, since a silent fault proves nothing."""
    if fault.operation is not None and fault.operation not in OPERATION_NAMES:
        raise ValueError(f"unknown operation: {fault.operation}")
    if fault.action == "flip" and world.blobs.discards:
        raise ValueError("a server that discards bytes has none to flip")
    world.faults.add(fault)


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _log(world: World, head: RequestHead, _: Any) -> Response:
    found = world.log.records(head.parameter("operation") or None, head.parameter("key") or None)
    return _json([item.as_dict() for item in found])


def _bytes(world: World, head: RequestHead, _: Any) -> Response:
    total = world.log.bytes_received(head.parameter("operation") or None, head.parameter("key") or None)
    return _json({"bytes_received": total})


def _uploads(world: World, head: RequestHead, _: Any) -> Response:
    with world.store.lock:
        found = list(world.store.bucket(head.parameter("bucket")).uploads.values())
    return _json([OpenUpload.of(item).to_json() for item in found])


def _versions(world: World, head: RequestHead, _: Any) -> Response:
    found = world.store.versions(head.parameter("bucket"), head.parameter("key"))
    return _json([VersionView.of(item).to_json() for item in found])


def _object(world: World, head: RequestHead, _: Any) -> Response:
    wanted = head.parameter("version_id")
    for version in world.store.versions(head.parameter("bucket"), head.parameter("key")):
        if not version.delete_marker and wanted in ("", version.version_id):
            return Response(stream=version.content.blocks(0, version.size), stream_length=version.size)
    raise S3Error("NoSuchKey")


def _add_fault(world: World, _: RequestHead, values: Any) -> Response:
    put_in_force(world, Fault.from_json(values))
    return _json({})


def _clear_faults(world: World, head: RequestHead, _: Any) -> Response:
    world.faults.clear(head.parameter("key") or None)
    return _json({})


def _reset(world: World, _: RequestHead, __: Any) -> Response:
    world.faults.clear()
    world.log.clear()
    return _json({})


def _rate(world: World, _: RequestHead, values: Any) -> Response:
    world.pacer.set_rate(values["rate_limit"])
    return _json({})


def _bucket(world: World, _: RequestHead, values: Any) -> Response:
    world.store.create_bucket(values["name"], values.get("versioning", ""))
    return _json({})


def _seed(world: World, _: RequestHead, values: Any) -> Response:
    plant(Seed.from_json(values), world.store, world.blobs, world.owner)
    return _json({})


def _seed_many(world: World, _: RequestHead, values: Any) -> Response:
    seed = Seed.from_json(values["seed"])
    for key in values["keys"]:
        plant(replace(seed, key=key), world.store, world.blobs, world.owner)
    return _json({})


def _census(world: World, head: RequestHead, _: Any) -> Response:
    with world.store.lock:
        held = {key: list(found) for key, found in world.store.bucket(head.parameter("bucket")).objects.items()}
    return _json({key: [list(VersionState.of(version)) for version in found] for key, found in held.items()})


def _empty(world: World, _: RequestHead, __: Any) -> Response:
    for bucket in world.store.buckets():
        with world.store.lock:
            bucket.objects.clear()
            bucket.uploads.clear()
    return _json({})


_HANDLERS: dict[tuple[str, str], Callable[[World, RequestHead, Any], Response]] = {
    ("GET", "log"): _log,
    ("GET", "bytes"): _bytes,
    ("GET", "uploads"): _uploads,
    ("GET", "versions"): _versions,
    ("GET", "object"): _object,
    ("GET", "census"): _census,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "reset"): _reset,
    ("POST", "rate"): _rate,
    ("POST", "bucket"): _bucket,
    ("POST", "seed"): _seed,
    ("POST", "seeds"): _seed_many,
    ("POST", "empty"): _empty,
}
