"""Where the exports of the soak go, how readers find what is published there, and how a store is hurt.

Readers get a copy of every object in a directory, so that one reader reads all places.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol, Self

from obstore.store import AzureStore, GCSStore, S3Store

from tools.servers import Server, new_bucket, own_server
from tools.servers.buckets import ObjectStore, StoreKind
from tools.servers.faults import Break, Fault, FaultProxy, fault_proxy
from tools.soak.crashes.findings import PublishedFolder

KEEPS_OBJECTS: Final = frozenset({"azure", "rclone"})
"""Servers that have their objects on disk; the others have them in memory, and are only cut off."""
_TYPES: Final[dict[StoreKind, str]] = {"s3": "s3", "rclone": "s3", "gcs": "gcs", "azure": "azure"}


class Place(Protocol):
    """The destination of one export."""

    config: dict[str, Any]
    environ: Mapping[str, str]

    def folder(self) -> PublishedFolder:
        """Return what is there now."""
        ...

    def kill(self) -> None:
        """End the store by SIGKILL and start it again on what it left; or cut it off, if it would leave nothing."""
        ...


class LocalPlace:
    """A directory."""

    def __init__(self, directory: Path, export: str) -> None:
        self.config: dict[str, Any] = {"type": "local", "path": "out"}
        self.environ: Mapping[str, str] = {}
        self._root = directory / "out" / export

    def folder(self) -> PublishedFolder:
        return PublishedFolder(self._root)

    def kill(self) -> None:
        raise NotImplementedError("a directory has no server")


class StorePlace:
    """A bucket of a server of this process."""

    def __init__(
        self, bucket: ObjectStore, server: Server, proxy: FaultProxy | None, directory: Path, export: str
    ) -> None:
        endpoint = bucket.endpoint if proxy is None else bucket.through(proxy.url).endpoint
        self.config: dict[str, Any] = {
            "type": _TYPES[bucket.kind],
            "bucket": bucket.bucket,
            "prefix": "exports/{export}",
            "endpoint": endpoint,
        }
        self.environ = bucket.environ if proxy is None else bucket.through(proxy.url).environ
        self._bucket = bucket
        self._server = server
        self._proxy = proxy
        self._copy = directory / "copy"
        self._prefix = f"exports/{export}"

    def folder(self) -> PublishedFolder:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        store = _opened(self._bucket)
        for batch in store.list(self._prefix):
            for found in batch:
                path = self._copy / found["path"].removeprefix(f"{self._prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(store.get(found["path"]).bytes())
        return PublishedFolder(self._copy)

    def kill(self) -> None:
        if self._proxy is None:
            self._server.kill()
            self._server.start()
            return
        self._proxy.inject(
            *(
                Fault(what=what, method=method)
                for what in (Break.CUT_REQUEST, Break.LOSE_ANSWER)
                for method in ("PUT", "GET")
            )
        )


class Stores:
    """The object stores of this process, which nobody else uses; each is started when it is wanted."""

    def __init__(self) -> None:
        self._blocks = ExitStack()
        self._running: dict[StoreKind, tuple[Server, FaultProxy | None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks.close()

    def place(self, kind: StoreKind, name: str, directory: Path, export: str) -> StorePlace:
        """Return an empty bucket.

        Raises:
            ServerUnavailableError: If the server is not installed.
        """
        if kind not in self._running:
            server = self._blocks.enter_context(own_server(kind))
            proxy = None if kind in KEEPS_OBJECTS else self._blocks.enter_context(fault_proxy(server.url))
            self._running[kind] = (server, proxy)
        server, proxy = self._running[kind]
        if proxy is not None:
            proxy.clear()
        return StorePlace(new_bucket(kind, server.url, name), server, proxy, directory, export)


def _opened(bucket: ObjectStore) -> S3Store | GCSStore | AzureStore:
    """Return a client that has nothing to do with the export's own."""
    options: dict[str, Any] = dict(bucket.credentials) | {"client_options": {"allow_http": True}}
    match bucket.kind:
        case "gcs":
            return GCSStore(bucket.bucket, **options)
        case "azure":
            return AzureStore(bucket.bucket, endpoint=bucket.endpoint, **options)
        case _:
            return S3Store(bucket.bucket, endpoint=bucket.endpoint, **options)
