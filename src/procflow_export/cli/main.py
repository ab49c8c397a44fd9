"""From an argument list to an exit status.

Owns the dispatch to one function per command, what an unexpected error looks like, and how this process ends.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from procflow_export.cli.grammar import build_parser

if TYPE_CHECKING:
    from procflow_export.cli.face import Face

_INTERNAL: Final = 6
_INTERRUPTED: Final = 130


def main() -> NoReturn:
    """Do what the command line says and end this process.

    The process ends by ``os._exit`` once everything is flushed: threads of native libraries (obstore's) that meet a dying interpreter
    abort it now and then, and a successful export would exit with 134.
    """
    status = _INTERNAL
    try:
        status = run(sys.argv[1:])
    except SystemExit as exc:  # --help, --version, and a wrong command line
        status = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except KeyboardInterrupt:  # before a command took charge of signals
        status = _INTERRUPTED
    finally:
        end_process(status)


def run(arguments: Sequence[str]) -> int:
    """Do what ``arguments`` say and return the exit status; for ``main`` and tests.

    Raises:
        SystemExit: For ``--help``, ``--version`` and a wrong command line.
    """
    program = _program()
    parsed = build_parser(_version(), program=program).parse_args(list(arguments), argparse.Namespace(program=program))
    if parsed.command == "worker":
        from procflow_export.engines.worker import main as be_a_worker

        be_a_worker()
    if parsed.command == "schema":
        from procflow_export.cli.schema import schema_command

        return schema_command(parsed.what)
    return _with_face(parsed)


def _with_face(parsed: argparse.Namespace) -> int:
    from procflow_export.cli.face import Face
    from procflow_export.model.errors import ExportError

    face = Face.of(parsed)
    try:
        return _dispatch(parsed, face)
    except ExportError as exc:
        face.fail(exc)
        return int(exc.code.exit_status)
    except Exception as exc:  # noqa: BLE001 (the top of the program: told, and answered with the status of a bug)
        face.say("".join(traceback.format_exception(exc)))
        face.say(f"this is a bug of procflow: {type(exc).__name__}; please report it with the lines above")
        return _INTERNAL


def _dispatch(parsed: argparse.Namespace, face: Face) -> int:
    match parsed.command:
        case "run":
            from procflow_export.cli.run import run_command

            return run_command(parsed, face)
        case "check":
            from procflow_export.cli.check import check_command

            return check_command(parsed, face)
        case "demo":
            from procflow_export.cli.demo import demo_command

            return demo_command(parsed, face)
        case unknown:
            raise AssertionError(f"no function for the command {unknown!r}")


def end_process(status: int) -> NoReturn:
    """Flush everything and end this process now."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # A reader that went away (`| head`) is no error of ours.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _program() -> str:
    """How this program was called, so that messages can be typed as they stand."""
    called_as = Path(sys.argv[0]).name
    if called_as in ("__main__.py", "-m", "-c"):
        return "python -m procflow_export"
    return called_as or "procflow-export"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("procflow")
    except PackageNotFoundError:
        return "(not installed)"
