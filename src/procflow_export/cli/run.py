"""``run``: export what a configuration names."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from procflow_export.cli.exporting import RunOnce, retry_command, shown_program
from procflow_export.cli.face import Face
from procflow_export.cli.grammar import DEFAULT_CONFIGS
from procflow_export.cli.interrupts import Interrupts
from procflow_export.config.loading import load_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.errors import MisuseError


def run_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Run the exports and return the exit status."""
    loaded = loaded_config(parsed, face)
    report = run_once(parsed, loaded, face, interrupts, exports=parsed.exports).execute()
    if face.is_json:
        face.data(report.as_data())
    return int(report.exit_status)


def run_once(
    parsed: argparse.Namespace, loaded: LoadedConfig, face: Face, interrupts: Interrupts, *, exports: Sequence[str]
) -> RunOnce:
    """Return the run that the command line asks for, of some exports."""
    options = ["--resume"]
    options += [f"--engine {parsed.engine}"] if parsed.engine else []
    options += [f"--memory {parsed.memory}"] if parsed.memory else []
    options += [f"--record {shlex.quote(parsed.record)}"] if parsed.record else []
    options += [f"--state {shlex.quote(parsed.state)}"] if parsed.state else []
    return RunOnce(
        loaded=loaded,
        face=face,
        interrupts=interrupts,
        exports=exports,
        engine=parsed.engine,
        max_units=parsed.processes,
        memory_mb=parsed.memory,
        record=None if parsed.record is None else Path(parsed.record),
        state=None if parsed.state is None else Path(parsed.state),
        resume=parsed.resume,
        drain_s=parsed.drain,
        retry_command=retry_command(
            shown_program(parsed.program), loaded, params=[key for key, _ in parsed.params], options=options
        ),
    )


def loaded_config(parsed: argparse.Namespace, face: Face) -> LoadedConfig:
    """Return the configuration that the command line names; its warnings are told.

    Raises:
        ConfigError: With everything that is wrong with it.
        MisuseError: If none is named and none lies here.
    """
    path = parsed.config
    if path is None:
        path = next((name for name in DEFAULT_CONFIGS if Path(name).is_file()), None)
    if path is None:
        raise MisuseError(f"no configuration was named and there is no {DEFAULT_CONFIGS[0]} in this folder")
    loaded = load_config(path, params=dict(parsed.params), environ=os.environ)
    for warning in loaded.warnings:
        face.tell(f"warning: {warning}")
    return loaded
