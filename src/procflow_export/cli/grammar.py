"""What may be typed: commands, options, help.

Owns the words only, and imports nothing heavy, so that ``--help`` and ``--version`` answer at once.  Which function a command calls
is in ``main``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

PROGRAM: Final = "procflow-export"
USAGE_STATUS: Final = 64
DEFAULT_MEMORY_MB: Final = 256
MIN_MEMORY_MB: Final = 128
"""Both are those of ``model.settings``, which is too heavy to be imported here."""
DEFAULT_CONFIGS: Final = ("procflow.yaml", "procflow.yml", "procflow.json", "procflow.toml")

EXIT_STATUSES: Final = (
    (0, "everything was published, or nothing was new"),
    (1, "fix it: configuration, permissions, environment; running again cannot help"),
    (2, "run it again: it may work later as it is"),
    (3, "data integrity: what was written is not what was read"),
    (4, "schema drift: the source no longer has the shape that was agreed on"),
    (5, "refused on purpose: a human must decide"),
    (6, "a bug of ours: please report it"),
    (64, "the command line is wrong"),
    (130, "interrupted (SIGINT)"),
    (143, "terminated (SIGTERM)"),
)
"""Of several failed exports, the first present of 6, 3, 4, 5, 1, 2 is the exit status."""

DEPTHS: Final = ("light", "sample", "full")

_STATE_ACTIONS: Final = (
    ("show", "show cursors, and what was edited since they were stored"),
    ("runs", "list the newest runs, what became of their exports, and which one is going on"),
    ("files", "list the parts that were recorded"),
    ("chunks", "list the chunks of the newest run of an export"),
    ("accept", "keep cursor and parts of an export that was edited: its rows are the same as before"),
    ("reset", "forget the cursor: the next run exports everything anew and replaces the set"),
    ("gc", "list what lies at the destination beside the published set; with --remove, remove what is of no use"),
)
_NEED_NAMES: Final = ("accept", "reset")

_EPILOG: Final = "exit status:\n" + "\n".join(f"  {status:>3}  {meaning}" for status, meaning in EXIT_STATUSES)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors exit with 64: 2 means "run it again"."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE_STATUS, f"{self.prog}: error: {message}\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # argparse swallows every error here: help that met a full disk would end with 0.
        is_answer = file is sys.stdout
        if not is_answer:
            super()._print_message(message, file)
        elif message:
            sys.stdout.write(message)
            sys.stdout.flush()


def _format(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, 100) - 2
    )


def build_parser(version: str, *, program: str = PROGRAM) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the parsed ``command`` names the command."""
    parser = _Parser(
        prog=program,
        description="Export database tables to Parquet and CSV files.",
        epilog=_EPILOG,
        formatter_class=_format,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"procflow {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")

    def command(
        name: str, summary: str, description: str = "", parents: Sequence[argparse.ArgumentParser] = ()
    ) -> _Parser:
        return commands.add_parser(
            name,
            help=summary,
            description=description or f"{summary[0].upper()}{summary[1:]}.",
            parents=parents,  # type: ignore[arg-type]  # typeshed wants the parser's own class
            formatter_class=_format,
            allow_abbrev=False,
        )

    show, select, work = _show_options(), _select_options(), _work_options()
    published = _published_options()

    demo = command(
        "demo",
        "export a small sample shop and read it back; needs no server",
        "Make a small SQLite shop, export it to Parquet through child processes, and check the files with independent readers.",
        [work, show],
    )
    demo.add_argument(
        "--output", metavar="DIR", default="demo-output", help="folder of the demo's own (default: %(default)s)"
    )
    demo.add_argument("--rows", metavar="N", type=_at_least(1000), default=None, help="rows of the largest table")

    run = command("run", "export what a configuration names", parents=[select, work, _state_options(), show])
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with what the last run left: exports that it published are left out, finished chunks are kept where"
        " chunks may differ in time",
    )
    run.add_argument(
        "--drain",
        metavar="S",
        type=_at_least(0),
        default=0,
        help="when stopped, let chunks that `--resume` can use go on for S seconds (default: %(default)s)",
    )
    run.add_argument("--record", metavar="DIR", help="record the run below this folder, in a folder named by the run")
    check = command(
        "check",
        "connect, resolve types, plan; read and write no rows",
        "Say everything that is wrong with a configuration, its sources and its destinations, all at once.",
        [select, show],
    )
    check.add_argument("--type-report", action="store_true", help="show every column with its types")

    validate = command(
        "validate",
        "check that what is published is whole; reads the destination only",
        "Check published sets against their manifests, without asking a source.",
        [select, published, show],
    )
    validate.add_argument(
        "--depth",
        choices=DEPTHS,
        default="sample",
        help="light: manifest and marker; sample: also that every part is there; full: also read every part (default: %(default)s)",
    )

    command(
        "reconcile",
        "compare what is published with its source, chunk by chunk",
        "Read every chunk again, from its source in one new snapshot and from its files, and say whether a difference is wrong,"
        " has come since, or cannot be decided.",
        [select, published, show],
    )

    repair = command(
        "repair",
        "export anew what is damaged or wrong; without --execute, only say so",
        "Validate and reconcile, and say which sets would be replaced by a new run from one new snapshot, and why.",
        [select, work, _state_options(), show],
    )
    repair.add_argument("--execute", action="store_true", help="do it")
    repair.add_argument(
        "--undecided",
        action="store_true",
        help="also export anew what differs from its source where nothing tells whether it is wrong",
    )
    repair.add_argument("--depth", choices=DEPTHS, default="full", help="how deep to validate (default: %(default)s)")
    repair.add_argument(
        "--record", metavar="DIR", help="record the run below this folder, in a folder named by the run"
    )
    repair.set_defaults(resume=False, drain=0)

    record = command(
        "record",
        "show a recorded run: its summary, or what was running when it died",
        "Show the run in a record that `run --record` has made, also while it goes on and after it died.",
        [show],
    )
    record.add_argument("record", metavar="RECORD", help="the directory of the run, or its events.jsonl")

    state = command(
        "state",
        "show what is remembered of runs; decide about an export that was edited; remove what is of no use",
        "Show runs, their parts and chunks, and how far exports that go on from run to run have come; after an edit, accept"
        " the stored cursor or reset it; remove superseded parts.",
    )
    actions = state.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    for name, summary in _STATE_ACTIONS:
        action = actions.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            parents=[_param_options(), _state_options(), _show_options()],  # type: ignore[list-item]  # typeshed wants the parser's own class
            formatter_class=_format,
            allow_abbrev=False,
        )
        action.add_argument("config", metavar="CONFIG", help="YAML, JSON or TOML file")
        action.add_argument(
            "exports", metavar="EXPORT", nargs="+" if name in _NEED_NAMES else "*", help="name of an export"
        )
        if name == "runs":
            action.add_argument("--limit", metavar="N", type=_at_least(1), default=20, help="(default: %(default)s)")
        if name == "gc":
            action.add_argument(
                "--remove", action="store_true", help="remove what is removable; without it, only list it"
            )
            action.add_argument(
                "--older-than",
                metavar="AGE",
                default="1d",
                help="leave what was superseded less than this ago, since somebody may read it (default: %(default)s)",
            )

    schema = command("schema", "print the JSON Schema of the configuration, or the error codes", parents=[])
    schema.add_argument(
        "what", nargs="?", choices=("config", "errors"), default="config", help="(default: %(default)s)"
    )
    schema.set_defaults(json=True, quiet=False, verbose=False, no_color=False)

    # Without `help=` it stays out of the list: started by the engine only.
    worker = commands.add_parser("worker", add_help=False)
    worker.add_argument("--memory", metavar="MB", type=_at_least(1), default=DEFAULT_MEMORY_MB)
    return parser


def _show_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = options.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but failures")
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="also say every part, chunk and remark of a worker"
    )
    group.add_argument("--no-color", action="store_true", help="no colours; so does the variable NO_COLOR")
    return options


def _select_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=[_param_options()])
    options.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help=f"YAML, JSON or TOML file (default: {DEFAULT_CONFIGS[0]} in this folder)",
    )
    options.add_argument(
        "-e",
        "--export",
        dest="exports",
        metavar="NAME",
        action="append",
        default=[],
        help="only this export; may be repeated",
    )
    return options


def _published_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument(
        "--run",
        dest="run_id",
        metavar="ID",
        default=None,
        help="look where this run published, if the destination has {date}, {hour} or {run_id}",
    )
    return options


def _state_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--state", metavar="DIR", help="directory of the state (default: shop.state beside shop.yaml)")
    return options


def _param_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument(
        "-p", "--param", dest="params", metavar="K=V", action="append", default=[], type=_param,
        help="value of ${K} in the configuration; may be repeated",
    )  # fmt: skip
    return options


def _work_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = options.add_argument_group("work")
    group.add_argument(
        "--engine",
        choices=("processes", "in-process"),
        default=None,
        help="child processes (default), or tasks of this one",
    )
    group.add_argument(
        "--processes",
        metavar="N",
        type=_at_least(1),
        default=None,
        help="chunks at once (default: one for each processor)",
    )
    group.add_argument(
        "--memory",
        metavar="MB",
        type=_at_least(MIN_MEMORY_MB),
        default=None,
        help="memory of each process (default: memory_mb of the configuration)",
    )
    return options


class _at_least:  # noqa: N801 (argparse shows the name of a type in its messages)
    """An argument type: a whole number with a lower bound."""

    __name__ = "number"

    def __init__(self, low: int) -> None:
        self._low = low

    def __call__(self, text: str) -> int:
        try:
            number = int(text.replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < self._low:
            raise argparse.ArgumentTypeError(f"{number} is below {self._low}")
        return number


def _param(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(
            "a parameter is written NAME=VALUE"
        )  # the text may hold a secret: not repeated
    return key, value
