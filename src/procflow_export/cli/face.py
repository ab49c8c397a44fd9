"""Where output goes: data to standard output, words to standard error, with or without colour, moving or not.

Owns both streams for the length of a command.  A stream whose reader has gone is written to no more, and nothing else happens; data
that is lost for any other reason, a full disk say, is a failure of the command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TextIO

import msgspec
from rich.console import Console
from rich.text import Text

from procflow_export.model.codes import Code
from procflow_export.model.errors import ConfigError, ExportError, Finding, Severity
from procflow_export.ui.clean import many_lines, one_line
from procflow_export.ui.layout import ASCII, UNICODE, Glyphs
from procflow_export.ui.painter import terminal_size

PLAIN_WIDTH: Final = 120


@dataclass(slots=True, eq=False, kw_only=True)
class Face:
    """How one command talks."""

    out: TextIO
    err: TextIO
    is_quiet: bool = False
    is_verbose: bool = False
    is_json: bool = False
    has_color: bool = False
    is_live: bool = False
    """Whether standard error is a terminal on which a picture can stay in place."""
    has_lost_data: bool = False
    """Whether standard output took less than it was given although somebody reads it."""
    _console: Console | None = field(default=None, repr=False)

    @classmethod
    def of(cls, parsed: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the face that options, environment and streams ask for."""
        err = sys.stderr
        is_terminal = _is_terminal(err)
        is_dumb = environ.get("TERM", "") in ("", "dumb")
        no_color = parsed.no_color or bool(environ.get("NO_COLOR"))
        forced = bool(environ.get("FORCE_COLOR"))
        return cls(
            out=sys.stdout,
            err=err,
            is_quiet=parsed.quiet,
            is_verbose=parsed.verbose,
            is_json=parsed.json,
            has_color=not no_color and (forced or (is_terminal and not is_dumb)),
            is_live=is_terminal and not is_dumb and not parsed.quiet,
        )

    @property
    def width(self) -> int:
        """Cells of a line: the terminal's, or what suits a log."""
        if _is_terminal(self.err):
            return terminal_size(self.err).columns
        return shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns if "COLUMNS" in os.environ else PLAIN_WIDTH

    @property
    def glyphs(self) -> Glyphs:
        """The characters that standard error can carry."""
        encoding = (getattr(self.err, "encoding", None) or "ascii").lower().replace("-", "")
        return UNICODE if encoding.startswith("utf") else ASCII

    def say(self, text: str) -> None:
        """Write lines for people, quiet or not; escape codes and control characters are removed."""
        self._write(self.err, "".join(f"{line}\n" for line in many_lines(text)))

    def tell(self, text: str) -> None:
        """Like ``say``, but not when ``--quiet``."""
        if not self.is_quiet:
            self.say(text)

    def show(self, rows: Iterable[Text]) -> None:
        """Write styled rows for people."""
        if self._console is None:
            self._console = Console(
                file=io.StringIO(),
                force_terminal=self.has_color,
                color_system="auto" if self.has_color else None,
                no_color=not self.has_color,
                width=10_000,
                highlight=False,
                legacy_windows=False,
            )
        with self._console.capture() as capture:
            for row in rows:
                self._console.print(row, soft_wrap=True)
        self._write(self.err, capture.get())

    def data(self, value: object) -> None:
        """Write one JSON document to standard output; what cannot be written is said, and noted in ``has_lost_data``."""
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        self._write(self.out, f"{text}\n")

    def fail(self, error: ExportError) -> None:
        """Say what stopped the command before any export ran, and what to do; as JSON too, when that is wanted."""
        if isinstance(error, ConfigError):
            self.show_findings(error.findings)
        glyphs = self.glyphs
        title = Text.assemble(
            (glyphs.failed, "bold red"), " ", (error.code.value, "bold red"), f": {one_line(error.message)}"
        )
        rows = [title]
        if not isinstance(error, ConfigError):
            rows += [Text(f"  {line}", style="dim") for note in _notes(error) for line in many_lines(note)]
        rows.append(Text.assemble("  ", ("what to do  ", "dim"), error.code.action))
        self.show(rows)
        if self.is_json:
            findings = error.findings if isinstance(error, ConfigError) else ()
            self.data(
                {
                    "status": "failed",
                    "exit_status": int(error.code.exit_status),
                    "failure": error.failure(),
                    "findings": findings,
                }
            )

    def show_findings(self, findings: Sequence[Finding]) -> None:
        """Say everything that is wrong with a configuration, each as ``file:line: key: message``."""
        glyphs = self.glyphs
        for finding in findings:
            is_error = finding.severity is Severity.ERROR
            mark = (glyphs.failed, "bold red") if is_error else ("!", "bold yellow")
            place = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
            head = Text.assemble(mark, " ", (one_line(place), "bold"), ": " if place else "")
            if finding.key:
                head.append(f"{one_line(finding.key)}: ", style="cyan")
            head.append(one_line(finding.message))
            rows = [head]
            if finding.found is not None:
                rows.append(Text.assemble("    ", ("found    ", "dim"), one_line(finding.found)))
            if finding.allowed is not None:
                rows.append(Text.assemble("    ", ("allowed  ", "dim"), one_line(finding.allowed)))
            if finding.nearest is not None:
                rows.append(Text.assemble("    ", ("meant    ", "dim"), one_line(finding.nearest), "?"))
            self.show(rows)

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            self._write(stream, text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError) as exc:
            _silence(stream)
            if stream is self.out and isinstance(exc, OSError) and not isinstance(exc, BrokenPipeError):
                self.has_lost_data = True
                self._say_lost(exc)

    def _say_lost(self, exc: OSError) -> None:
        code = Code.ENVIRONMENT
        reason = f": standard output could not be written: {exc.strerror or exc}"
        self.show([Text.assemble((self.glyphs.failed, "bold red"), " ", (code.value, "bold red"), reason)])


def _notes(error: ExportError) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _silence(stream: TextIO) -> None:
    """Point a stream whose reader has gone at the null device, so that no later flush fails either."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
