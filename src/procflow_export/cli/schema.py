"""``schema``: what a program needs to know about configurations and error codes."""

from __future__ import annotations

import argparse

from procflow_export.cli.face import Face
from procflow_export.config.reference import json_schema
from procflow_export.model.codes import Code


def schema_command(what: str) -> int:
    """Print the JSON Schema of the configuration (``config``) or the registry of error codes (``errors``)."""
    face = Face.of(argparse.Namespace(no_color=True, quiet=False, verbose=False, json=True))
    if what == "config":
        face.data(json_schema())
    else:
        face.data(
            [
                {
                    "code": code.value,
                    "kind": code.kind.value,
                    "exit_status": int(code.exit_status),
                    "action": code.action,
                }
                for code in Code
            ]
        )
    return 0
