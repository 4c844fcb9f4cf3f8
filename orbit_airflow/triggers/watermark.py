"""A watch's watermark in the state store of the watched asset: it outlives the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from orbit_airflow.engine.errors import ConfigError, printable
from orbit_airflow.engine.watching import MAX_CHUNKS, from_chunks, to_chunks

_SCHEMA = 1
RETRY_SECONDS = 10.0


class Watermark:
    """The remembered set of one watch, under ``name``, in chunks of which only the changed ones are written.

    ``accessors`` is the trigger's ``asset_state_store``; without one nothing is remembered. A trigger may watch for
    several assets at once: it writes to the store of each, and reads the first that has something.
    """

    def __init__(self, accessors: Any, name: str, log: Any) -> None:
        self._stores = _each(accessors)
        self._name = name
        self._log = log
        self._written: dict[tuple[int, str], str] = {}
        self._saved: frozenset[int] | None = None

    async def load(self) -> frozenset[int] | None:
        """What is remembered; None when that is certainly nothing. Waits as long as the stores cannot be asked, since
        to begin anew would lose what came meanwhile.
        """
        if not self._stores:
            self._log.warning("there is no asset state store here: this watch begins anew with every triggerer")
            return None
        while True:
            try:
                self._saved = await self._load_first()
                return self._saved
            except ConfigError as exc:
                self._log.error("%s (%s): it begins anew with what is there now", exc.message, self._name)
                return None
            except Exception as exc:  # noqa: BLE001 - what a state backend or a broken channel raises is not known
                self._log.warning("the watermark cannot be read yet: %s", printable(repr(exc), 300))
            await asyncio.sleep(RETRY_SECONDS)

    async def save(self, known: frozenset[int] | None) -> None:
        """Remember. A failure is logged, and the next call tries again: until then a restart repeats events."""
        if known is None or known is self._saved:
            return
        chunks = to_chunks(known)
        try:
            for index, store in enumerate(self._stores):
                await self._save_in(index, store, chunks)
        except Exception as exc:  # noqa: BLE001 - as in load; a watch must not end because of it
            self._log.warning("the watermark cannot be written yet: %s", printable(repr(exc), 300))
        else:
            self._saved = known

    async def _load_first(self) -> frozenset[int] | None:
        for store in self._stores:
            head = await _get(store, self._name)
            if head is None:
                continue
            count = head.get("chunks") if isinstance(head, dict) and head.get("schema") == _SCHEMA else None
            if not isinstance(count, int) or not 1 <= count <= MAX_CHUNKS:
                raise ConfigError("the remembered watermark of this watch is damaged")
            return from_chunks([await _get(store, f"{self._name}:{count}:{number}") for number in range(count)])
        return None

    async def _save_in(self, index: int, store: Any, chunks: Sequence[str]) -> None:
        """Chunks first, their number last: a half-written watermark is an older one, with some of the newer marks."""
        for number, text in enumerate(chunks):
            await self._put(index, store, f"{self._name}:{len(chunks)}:{number}", text)
        head = {"schema": _SCHEMA, "chunks": len(chunks)}
        await self._put(index, store, self._name, head)

    async def _put(self, index: int, store: Any, name: str, value: Any) -> None:
        text = str(value)
        if self._written.get((index, name)) != text:
            await _set(store, name, value)
            self._written[index, name] = text


def _each(accessors: Any) -> list[Any]:
    """The store of each watched asset. Airflow gives a trigger that watches for several no public way to name them."""
    if accessors is None:
        return []
    named = getattr(accessors, "_by_name", None)
    return [named[name] for name in sorted(named)] if named else [accessors]


async def _get(store: Any, key: str) -> Any:
    # Airflow 3.3.0 and 3.3.1 have the blocking calls only.
    return await store.aget(key) if hasattr(store, "aget") else await asyncio.to_thread(store.get, key)


async def _set(store: Any, key: str, value: Any) -> None:
    if hasattr(store, "aset"):
        await store.aset(key, value)
    else:
        await asyncio.to_thread(store.set, key, value)
