"""From an argument list to an exit status.

Owns the dispatch to one function per command, what an unexpected error looks like, and how this process ends.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from procflow_export.cli.grammar import build_parser
from procflow_export.cli.interrupts import HEEDED, Interrupts

if TYPE_CHECKING:
    from procflow_export.cli.face import Face

_FIX: Final = 1
_INTERNAL: Final = 6


def main(interrupts: Interrupts) -> NoReturn:
    """Do what the command line says and end this process.

    The process ends by ``os._exit`` once everything is flushed: threads of native libraries (obstore's) that meet a dying interpreter
    abort it now and then, and a successful export would exit with 134.
    """
    status = _INTERNAL
    try:
        status = run(sys.argv[1:], interrupts)
    except SystemExit as exc:  # --help, --version, and a wrong command line
        status = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except OSError as exc:  # of --help and --version: a command tells its own
        status = _status_of_lost_output(exc)
    finally:
        end_process(status)


def run(arguments: Sequence[str], interrupts: Interrupts) -> int:
    """Do what ``arguments`` say and return the exit status.

    Raises:
        SystemExit: For ``--help``, ``--version`` and a wrong command line.
    """
    program = _program()
    parsed = build_parser(_version(), program=program).parse_args(list(arguments), argparse.Namespace(program=program))
    if parsed.command == "worker":
        from procflow_export.engines.worker import main as be_a_worker

        be_a_worker(parsed.memory)
    return _with_face(parsed, interrupts)


def _with_face(parsed: argparse.Namespace, interrupts: Interrupts) -> int:
    from procflow_export.cli.face import Face
    from procflow_export.model.errors import ExportError

    face = Face.of(parsed)
    try:
        status = _dispatch(parsed, face, interrupts)
    except ExportError as exc:
        interrupts.hold()  # a document that was begun is written whole
        face.fail(exc)
        status = int(exc.code.exit_status)
    except Exception as exc:  # noqa: BLE001 (the top of the program: told, and answered with the status of a bug)
        interrupts.hold()
        face.say("".join(traceback.format_exception(exc)))
        face.say(f"this is a bug of procflow: {type(exc).__name__}; please report it with the lines above")
        status = _INTERNAL
    return status or (_FIX if face.has_lost_data else 0)


def _dispatch(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    match parsed.command:
        case "run":
            from procflow_export.cli.run import run_command

            return run_command(parsed, face, interrupts)
        case "check":
            from procflow_export.cli.check import check_command

            return check_command(parsed, face, interrupts)
        case "validate":
            from procflow_export.cli.validate import validate_command

            return validate_command(parsed, face, interrupts)
        case "reconcile":
            from procflow_export.cli.reconcile import reconcile_command

            return reconcile_command(parsed, face, interrupts)
        case "repair":
            from procflow_export.cli.repair import repair_command

            return repair_command(parsed, face, interrupts)
        case "demo":
            from procflow_export.cli.demo import demo_command

            return demo_command(parsed, face, interrupts)
        case "record":
            from procflow_export.cli.record import record_command

            return record_command(parsed, face, interrupts)
        case "state":
            from procflow_export.cli.state import state_command

            return state_command(parsed, face, interrupts)
        case "schema":
            from procflow_export.cli.schema import schema_command

            return schema_command(parsed, face, interrupts)
        case unknown:
            raise AssertionError(f"no function for the command {unknown!r}")


def end_process(status: int) -> NoReturn:
    """Flush everything and end this process now; nothing breaks into that."""
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)
    logging.shutdown()
    try:
        sys.stdout.flush()
    except ValueError:
        pass  # somebody closed it
    except OSError as exc:
        status = status or _status_of_lost_output(exc)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)


def _status_of_lost_output(exc: OSError) -> int:
    """Say that standard output took less than it was given, and return the status of that."""
    if isinstance(exc, BrokenPipeError):
        return 0  # a reader that went away (`| head`) is no error of ours
    with suppress(OSError, ValueError):
        sys.stderr.write(f"ENVIRONMENT: standard output could not be written: {exc.strerror or exc}\n")
    return _FIX


def _program() -> str:
    """How this program was called, so that messages can be typed as they stand."""
    called_as = Path(sys.argv[0]).name
    if called_as in ("__main__.py", "-m", "-c"):
        return "python -m procflow_export"
    return called_as or "procflow-export"


def _version() -> str:
    # Not procflow.record's: importing that would load what a simple question does not need.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("procflow")
    except PackageNotFoundError:
        return "(not installed)"
