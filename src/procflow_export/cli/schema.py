"""``schema``: what a program needs to know about configurations and error codes."""

from __future__ import annotations

import argparse
from typing import Final

import msgspec

from procflow_export.cli.face import Face
from procflow_export.config.structs import Config
from procflow_export.model.codes import Code

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_command(what: str) -> int:
    """Print the JSON Schema of the configuration (``config``) or the registry of error codes (``errors``)."""
    face = Face.of(argparse.Namespace(no_color=True, quiet=False, verbose=False, json=True))
    if what == "config":
        face.data({"$schema": _DIALECT, **msgspec.json.schema(Config)})
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
