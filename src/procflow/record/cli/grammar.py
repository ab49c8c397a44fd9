"""What may be typed: commands, options, help.

Owns the words only.  Which function a command calls is in ``main``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from procflow.record.cli.runs import DEFAULT_ROOT, ROOT_VARIABLE
from procflow.record.cli.sources import DATABASE
from procflow.record.cli.statuses import MEANINGS, Status
from procflow.record.cli.values import at_least, duration_s, size_bytes, speed
from procflow.record.sinks.targets import SPELLINGS
from procflow.record.views.gantt import MIN_WIDTH

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

PROGRAM: Final = "python -m procflow"

_EPILOG: Final = (
    "RUN is the directory of a run or its file of events, or below --root:\n"
    "an id or the beginning of one, a name that only one run has, or `latest`.\n\nexit status:\n"
    + "\n".join(
        fill(meaning, 78, initial_indent=f"  {status:>3}  ", subsequent_indent=" " * 7)
        for status, meaning in MEANINGS.items()
    )
)


class _AddCommand(Protocol):
    """Adds one command and returns its parser."""

    def __call__(
        self, name: str, summary: str, *, runs: str | None = "one", more: str = ""
    ) -> argparse.ArgumentParser: ...


class _Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors do not look like a state of a record."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Status.USAGE, f"{self.prog}: error: {message}\n")

    def parse_known_args(  # type: ignore[override]  # typeshed has one overload for each kind of namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said here, the usage is that of the command and not of the whole program
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # argparse swallows every error here: help that met a full disk would end with 0.
        is_answer = file is sys.stdout
        if not is_answer:
            super()._print_message(message, file)
        elif message:
            sys.stdout.write(message)
            sys.stdout.flush()


def build_parser(version: str, *, program: str = PROGRAM) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the parsed ``command`` names the command."""
    parser = _Parser(
        prog=program, description="What procflow can do from a shell.", formatter_class=_Help, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"procflow {version}")
    areas = parser.add_subparsers(dest="area", metavar="AREA", required=True, title="areas")
    record = areas.add_parser(
        "record", help="read, follow, draw, export and keep the records of runs", formatter_class=_Help,
        description="Read, follow, draw, export and keep the records of runs.", epilog=_EPILOG, allow_abbrev=False,
    )  # fmt: skip
    _add_commands(record)
    return parser


def _add_commands(record: argparse.ArgumentParser) -> None:
    commands = record.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    common = _common_options()

    def command(name: str, summary: str, *, runs: str | None = "one", more: str = "") -> argparse.ArgumentParser:
        found = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.{more}", parents=[common],
            formatter_class=_Help, allow_abbrev=False,
        )  # fmt: skip
        if runs == "one":
            found.add_argument("run", metavar="RUN", help="path, id, beginning of an id, name, or latest")
        elif runs == "any":
            found.add_argument("runs", metavar="RUN", nargs="*", help="path, id, beginning of an id, name, or latest")
        return found

    _add_reading(command)
    _add_drawing(command)
    _add_following(command)
    _add_storing(command)
    _add_keeping(command)


def _add_reading(command: _AddCommand) -> None:
    listing = command("list", "list the runs of a directory, the latest first", runs=None)
    listing.add_argument("-n", "--number", metavar="N", type=at_least(1), help="only the latest N")
    listing.add_argument("--state", choices=("running", "finished", "crashed", "unreadable"), help="only these")

    show = command("show", "show what a run was: figures, jobs, and the calls that did not end well")
    show.add_argument("--calls", action="store_true", help="every call")
    _may_use_database(listing, show)

    check = command(
        "check", "say whether a record is whole",
        more="  The exit status says it too: 0 clean, 1 defects, 2 crashed, 3 unreadable, 4 running.",
    )  # fmt: skip
    check.add_argument("-q", "--quiet", action="store_true", help="only the exit status")

    command(
        "what-up", "show what is open, and for how long, in runs that go on or have crashed", runs="any",
        more="  Without RUN: of every run below --root that goes on.",
    )  # fmt: skip


def _add_drawing(command: _AddCommand) -> None:
    timeline = command("timeline", "draw a run: as text, as a picture, as a trace")
    width = "columns of the text (default: the terminal, or 80)"
    timeline.add_argument("--width", metavar="N", type=at_least(MIN_WIDTH), help=width)
    timeline.add_argument("--jobs", action="store_true", help="text without the calls")
    for option, what in (
        ("--svg", "a picture"),
        ("--html", "a page with picture and tables"),
        ("--chrome", "a trace for Perfetto"),
    ):
        timeline.add_argument(option, metavar="FILE", help=f"write {what}; - is standard output")

    export = command(
        "export", "write a run for OpenTelemetry or OpenLineage", more="  Nothing is sent anywhere without --send."
    )
    for option, what in (
        ("--otlp", "spans, as a line of OTLP JSON"),
        ("--openlineage", "events of OpenLineage, one a line"),
    ):
        export.add_argument(option, metavar="FILE", help=f"write {what}; - is standard output")
    export.add_argument("--send", metavar="URL", help="send spans by OTLP over HTTP; needs the extra procflow[otlp]")
    export.add_argument("--service-name", metavar="NAME", help="service.name of the spans (default: procflow)")
    export.add_argument("--namespace", metavar="NAME", help="namespace of the jobs of OpenLineage (default: procflow)")
    _may_use_database(timeline, export)


def _add_following(command: _AddCommand) -> None:
    raw = "the lines of the record, as they are"
    tail = command("tail", "follow the events of a run until it is over", more=f"  With --json: {raw}.")
    tail.add_argument("--from-seq", metavar="N", type=at_least(0), default=0, help="begin with event N")
    tail.add_argument("--no-follow", action="store_true", help="end behind what is there now")

    replay = command(
        "replay",
        "tell a run once more, as fast as it happened or in another time",
        more=f"  With --json or --to: {raw}.",
    )
    speed_help = "how many seconds pass in one; inf: all at once (default: 1)"
    replay.add_argument("--speed", metavar="S", type=speed, default=1.0, help=speed_help)
    seek_help = "what was before T comes at once: 90, 1.5s, 10m"
    replay.add_argument("--seek", metavar="T", type=duration_s, default=0.0, help=seek_help)
    replay.add_argument("--to", metavar="TARGET", help=f"where the lines go: {SPELLINGS}")


def _add_storing(command: _AddCommand) -> None:
    for name, what, more in (
        ("ingest", "put records into a SQLite database", "  Without RUN: every run below --root."),
        ("reproject", "make the rows of a database anew from the lines in it", "  Without RUN: of every run in it."),
    ):
        found = command(name, what, runs="any", more=more)
        found.add_argument("--database", metavar="FILE", help=f"the database (default: {DATABASE} in --root)")


def _add_keeping(command: _AddCommand) -> None:
    command(
        "orphans", "list the processes of a crashed run that are still there",
        more="  Nothing is ended.  The exit status is 1 if there are some.",
    )  # fmt: skip

    scrub = command(
        "scrub", "take a secret out of a record that is over, and out of its logs",
        more="  The secret comes from standard input, whole, without its last newline.",
    )  # fmt: skip
    stdin_help = "say that the secret comes from standard input: arguments are seen by others"
    scrub.add_argument("--secret-from-stdin", action="store_true", required=True, help=stdin_help)
    scrub.add_argument(
        "--name", metavar="NAME", default="secret", help="what stands in its place: <redacted:NAME> (default: secret)"
    )

    prune = command(
        "prune", "remove runs beyond a bound, the least recently used first", runs=None,
        more="  Runs that go on, that are in use, or that cannot be read stay.",
    )  # fmt: skip
    prune.add_argument("--keep", metavar="N", type=at_least(0), help="at most N runs stay")
    prune.add_argument("--max-age", metavar="AGE", type=duration_s, help="only runs used within AGE stay: 90, 12h, 30d")
    prune.add_argument("--max-bytes", metavar="SIZE", type=size_bytes, help="at most SIZE bytes stay: 500M, 10G")
    prune.add_argument("--dry-run", action="store_true", help="remove nothing, and print the same list")


def _may_use_database(*parsers: argparse.ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument(
            "--database", metavar="FILE", help="take runs out of this database; RUN is an id or name in it"
        )


def _common_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = options.add_argument_group("common options")
    group.add_argument(
        "--root", metavar="DIR", help=f"where runs are (default: the variable {ROOT_VARIABLE}, or {DEFAULT_ROOT})"
    )
    group.add_argument("--json", action="store_true", help="print the result as JSON")
    group.add_argument("--no-color", action="store_true", help="no colours; so does the variable NO_COLOR")
    return options


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, as wide as the terminal, with room for the longest command in the first one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=max(min(shutil.get_terminal_size().columns, 100) - 2, 38))
        # argparse measures the names of commands without their indentation, and then has no room for the longest.
        self._action_max_length = 14
