"""From an argument list to an exit status.

Owns the dispatch to one function per command, what an error looks like, and how this process ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, TypeAlias

from procflow.record.cli.drawing import timeline_command
from procflow.record.cli.exporting import export_command
from procflow.record.cli.face import Face, say
from procflow.record.cli.following import replay_command, tail_command
from procflow.record.cli.grammar import build_parser
from procflow.record.cli.keeping import orphans_command, prune_command, scrub_command
from procflow.record.cli.listing import list_command
from procflow.record.cli.showing import check_command, show_command, what_up_command
from procflow.record.cli.statuses import CommandError, Status
from procflow.record.cli.storing import ingest_command, reproject_command
from procflow.record.errors import RecordBusyError, UnreadableRecordError, UnusableDatabaseError

Command: TypeAlias = Callable[[argparse.Namespace, Face], Status]

COMMANDS: Final[dict[str, Command]] = {
    "list": list_command,
    "show": show_command,
    "check": check_command,
    "what-up": what_up_command,
    "tail": tail_command,
    "replay": replay_command,
    "timeline": timeline_command,
    "ingest": ingest_command,
    "reproject": reproject_command,
    "export": export_command,
    "orphans": orphans_command,
    "scrub": scrub_command,
    "prune": prune_command,
}

_STREAMS: Final = frozenset({"tail", "replay"})
"""Commands whose output is lines of a record: an error is no line of one, so it is said on standard error only."""


def main(arguments: Sequence[str]) -> NoReturn:
    """Do what the command line says and end this process."""
    try:
        status: int = run(arguments)
    except SystemExit as exc:  # --help, --version, and a wrong command line
        status = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else int(Status.USAGE)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    except BrokenPipeError:
        status = Status.DONE  # of --help
    except OSError as exc:
        say(f"procflow: standard output cannot be written: {exc.strerror or exc}")
        status = Status.ENVIRONMENT
    _end(int(status))


def run(arguments: Sequence[str]) -> Status:
    """Do what ``arguments`` say and return the exit status.

    Raises:
        SystemExit: For ``--help``, ``--version`` and a wrong command line.
        KeyboardInterrupt: If that is what happened.
    """
    parsed = build_parser(_version()).parse_args(list(arguments))
    face = Face.of(is_json=parsed.json and parsed.command not in _STREAMS, no_color=parsed.no_color)
    try:
        status = COMMANDS[parsed.command](parsed, face)
        face.flush()
    except CommandError as exc:
        return _failed(face, exc)
    except UnreadableRecordError as exc:
        return _failed(face, CommandError(Status.UNREADABLE, str(exc), _unreadable_advice(exc)))
    except RecordBusyError as exc:
        return _failed(
            face, CommandError(Status.REFUSED, str(exc), "wait until the run is over, or stop it, and try again")
        )
    except UnusableDatabaseError as exc:
        return _failed(face, _unusable(exc))
    except OSError as exc:
        name = f"{exc.filename}: " if exc.filename else ""
        advice = "mend that, and try again"
        return _failed(face, CommandError(Status.ENVIRONMENT, f"{name}{exc.strerror or exc}", advice))
    except Exception as exc:  # noqa: BLE001 (the top of the program: told, and answered with the status of a bug)
        say("".join(traceback.format_exception(exc)).rstrip())
        advice = "report this with the lines above"
        return _failed(face, CommandError(Status.BUG, f"this is a bug of procflow: {type(exc).__name__}", advice))
    return status


def _failed(face: Face, error: CommandError) -> Status:
    with suppress(CommandError):  # standard output may be what cannot be written
        face.fail(error)
    return error.status


def _unreadable_advice(error: UnreadableRecordError) -> str:
    if error.theirs is not None or error.feature is not None:
        return "read it with the release of procflow that wrote it, or a later one"
    return "give the directory of a run, or its file of events, that you may read"


def _unusable(error: UnusableDatabaseError) -> CommandError:
    status, advice = (
        Status.UNREADABLE,
        "name another one with --database; it can be made again from the records at any time",
    )
    if error.theirs is not None:
        advice = "use the release of procflow that wrote it, or ingest into another database"
    match error.sqlite_code:
        case sqlite3.SQLITE_BUSY:
            status, advice = Status.REFUSED, "wait until whoever writes to it is done, and try again"
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_PERM:
            status, advice = Status.ENVIRONMENT, "mend that and try again, or name another one with --database"
    return CommandError(status, str(error), advice)


def _end(status: int) -> NoReturn:
    """End this process now; a second Ctrl-C does not break into that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def _version() -> str:
    from procflow.record.release import release  # looks at the disk

    return release() or "(not installed)"
