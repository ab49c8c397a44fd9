"""Destinations: where parts are kept, and how a finished run becomes the published set."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import assert_never

import anyio.to_thread

from procflow_export.destinations.commit import (
    Depth,
    Inventory,
    Marker,
    Publication,
    Published,
    finish_publication,
    marker_of,
    previous_manifest,
    publish,
    read_published,
    replace_cursor,
    run_manifest,
    run_manifests,
    take_inventory,
)
from procflow_export.destinations.local import LocalDestination
from procflow_export.destinations.port import (
    Destination,
    ObjectInfo,
    Owner,
    PartSink,
    StoredObject,
    StoredPart,
    Version,
)
from procflow_export.destinations.stdout import StandardOutput
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.errors import DestinationError

__all__ = (
    "Depth",
    "Destination",
    "Inventory",
    "Marker",
    "ObjectInfo",
    "Owner",
    "PartSink",
    "Publication",
    "Published",
    "StoredObject",
    "StoredPart",
    "Version",
    "finish_publication",
    "marker_of",
    "open_destination",
    "previous_manifest",
    "publish",
    "read_published",
    "replace_cursor",
    "run_manifest",
    "run_manifests",
    "take_inventory",
)


@asynccontextmanager
async def open_destination(
    config: DestinationConfig, *, owner: Owner | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Destination]:
    """Open the destination of one export; its methods block, so call them in threads.

    Args:
        config: With placeholders filled in and the path absolute.
        owner: The export and run that write; a reader has none.  Clean-up (``remove_stale()``) needs it.
        environ: Environment for credentials; this process's by default.

    Raises:
        ExportError: When the configuration names no usable place.
    """
    match config.type:
        case DestinationType.LOCAL:
            yield LocalDestination(_local_root(config), owner=owner)
        case DestinationType.S3 | DestinationType.GCS | DestinationType.AZURE:
            from procflow_export.destinations.stores.opening import open_store_destination

            environ = os.environ if environ is None else environ
            yield await anyio.to_thread.run_sync(open_store_destination, config, owner, environ)
        case DestinationType.STDOUT:
            yield StandardOutput()
        case _:
            assert_never(config.type)


def _local_root(config: DestinationConfig) -> Path:
    path = Path(config.path or "")
    if not path.is_absolute() or ".." in path.parts:
        raise DestinationError(
            Code.DESTINATION_NOT_USABLE, f"the destination's path must be absolute and without '..': {config.path!r}"
        )
    return path
