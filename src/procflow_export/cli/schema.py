"""``schema``: what a program needs to know about configurations and error codes."""

from __future__ import annotations

import argparse

from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import Interrupts
from procflow_export.config.reference import json_schema
from procflow_export.model.codes import Code


def schema_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Print the JSON Schema of the configuration (``config``) or the registry of error codes (``errors``)."""
    value: object = json_schema() if parsed.what == "config" else _codes()
    interrupts.hold()
    face.data(value)
    return 0


def _codes() -> list[dict[str, object]]:
    return [
        {
            "code": code.value,
            "kind": code.kind.value,
            "exit_status": int(code.exit_status),
            "action": code.action,
        }
        for code in Code
    ]
