"""``validate`` for a configuration: every published set, each in a thread of its own.

Owns the threads and that a check can be stopped; what is checked is in ``checks.validation``.  Opens no source and no state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import anyio
import anyio.from_thread
import anyio.to_thread

from procflow_export.checks.validation import Validation, ValidationDepth, validate_set
from procflow_export.config.choice import chosen_config
from procflow_export.config.structs import Config, LoadedConfig
from procflow_export.destinations import open_destination
from procflow_export.model.destination import DestinationType
from procflow_export.model.errors import ExportError, MisuseError, failure_from
from procflow_export.pipeline.machine import new_run_id, time_of_run, utc_now
from procflow_export.planning.plan import Target, targets_of

MAX_AT_ONCE: Final = 2

Watch = Callable[[str, int], object]
"""Is told the name of an export and the bytes that were read of it now."""


async def validate(
    config: LoadedConfig | Config | str | Path,
    *,
    depth: ValidationDepth = ValidationDepth.SAMPLE,
    exports: Sequence[str] | None = None,
    params: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    run_id: str | None = None,
    watch: Watch = lambda _export, _size_bytes: None,
) -> tuple[Validation, ...]:
    """Return whether the published set of each export is what its manifest says; reads the destinations only.

    Args:
        config: A file, the structs, or a configuration that was loaded before.
        depth: How much to look at.
        exports: Names of exports; all by default.
        params: Values for ``${NAME}`` in a file.
        environ: Environment for references in the configuration; this process's by default.
        run_id: The run whose time and id stand for the placeholders of a destination; now by default.
        watch: Is told, in a worker thread, how far it is.

    Raises:
        ConfigError: If the configuration is wrong.
        MisuseError: If there is no such export, or ``run_id`` is none.
    """
    environ = os.environ if environ is None else environ
    targets = await chosen_targets(config, exports=exports, params=params, environ=environ, run_id=run_id)
    limiter = anyio.CapacityLimiter(MAX_AT_ONCE)
    results: dict[str, Validation] = {}

    async def check(target: Target) -> None:
        results[target.export.name] = await validated(target, depth, limiter, watch)

    async with anyio.create_task_group() as group:
        for target in targets:
            group.start_soon(check, target, name=f"validate {target.export.name}")
    return tuple(results[target.export.name] for target in targets)


async def validated(target: Target, depth: ValidationDepth, limiter: anyio.CapacityLimiter, watch: Watch) -> Validation:
    """Return whether the published set of one export is what its manifest says; what stops the check is in the result."""
    export = target.export.name

    def heed(size_bytes: int) -> None:
        anyio.from_thread.check_cancelled()
        watch(export, size_bytes)

    location = ""
    try:
        async with open_destination(target.destination, environ=target.environ) as destination:
            location = destination.location
            has_header = target.format.csv.header
            check = partial(validate_set, destination, export, depth=depth, has_csv_header=has_header, heed=heed)
            return await anyio.to_thread.run_sync(check, limiter=limiter)
    except ExportError as exc:
        return Validation(export=export, location=location, depth=depth, failure=failure_from(exc))


async def chosen_targets(
    config: LoadedConfig | Config | str | Path,
    *,
    exports: Sequence[str] | None,
    params: Mapping[str, str] | None,
    environ: Mapping[str, str],
    run_id: str | None,
) -> list[Target]:
    """Return the exports that are to be checked, with the places that ``run_id`` published to.

    Raises:
        ConfigError: If the configuration is wrong.
        MisuseError: If there is no such export, all of them go to standard output, or ``run_id`` is none.
    """
    load = partial(chosen_config, config, exports=exports or (), params=params or {}, environ=environ)
    loaded = await anyio.to_thread.run_sync(load)
    moment = utc_now() if run_id is None else _moment_of(run_id)
    targets = targets_of(loaded, exports, run_id=run_id or new_run_id(), started_at=moment, environ=environ)
    kept = [target for target in targets if target.destination.type is not DestinationType.STDOUT]
    if targets and not kept:
        raise MisuseError("standard output keeps nothing that could be checked")
    return kept


def _moment_of(run_id: str) -> datetime:
    try:
        return time_of_run(UUID(run_id))
    except ValueError:
        raise MisuseError(f"{run_id!r} is no id of a run") from None
