"""Where output goes: data to standard output, words about the command to standard error, with or without colour.

Owns both streams for the length of a command.  A reader that has gone (``| head``) is no error: from then on nothing is written, and
commands that go on for long ask ``is_reader_gone``.  Data that is lost for any other reason, a full disk say, is a failure of the command.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping
from typing import Final, Self

import msgspec

from procflow.record.cli.statuses import CommandError, Status
from procflow.record.text import readable
from procflow.record.views.looks import Look
from procflow.record.views.words import printable

_STDOUT: Final = 1
_HELD_AT_MOST: Final = 1000
_SGR: Final = {
    Look.FINE: "32",
    Look.BAD: "1;31",
    Look.STOPPED: "33",
    Look.OPEN: "36",
    Look.LOST: "1;35",
    Look.SKIPPED: "2",
    Look.WAITING: "2",
}
"""Colours of terminals (ECMA-48, SGR)."""


class Face:
    """How one command talks.

    Attributes:
        is_json: Whether data is wanted as JSON.
        has_color: Whether standard output is to have colours.
        width: Columns of the terminal; ``None`` if there is none: then nothing is cut.
        is_reader_gone: Whether whoever read standard output has gone.
    """

    def __init__(self, *, is_json: bool, has_color: bool, width: int | None, encoding: str) -> None:
        self.is_json = is_json
        self.has_color = has_color
        self.width = width
        self.is_reader_gone = False
        self._encoding = encoding
        self._held: list[bytes] = []

    @classmethod
    def of(cls, *, is_json: bool, no_color: bool, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the face that options, environment and streams ask for."""
        is_terminal = os.isatty(_STDOUT)
        is_dumb = environ.get("TERM", "") in ("", "dumb")
        is_colorless = no_color or bool(environ.get("NO_COLOR"))
        return cls(
            is_json=is_json,
            has_color=not is_colorless
            and not is_json
            and (bool(environ.get("FORCE_COLOR")) or (is_terminal and not is_dumb)),
            width=max(shutil.get_terminal_size().columns, 1) if is_terminal else None,
            encoding=getattr(sys.stdout, "encoding", None) or "utf-8",
        )

    def paint(self, text: str, look: Look | None = None, *, is_bold: bool = False, is_dim: bool = False) -> str:
        """Return ``text`` in the colour of ``look``, where there are colours."""
        code = _SGR[look] if look is not None else "1" if is_bold else "2" if is_dim else ""
        return f"\x1b[{code}m{text}\x1b[0m" if code and text and self.has_color else text

    def cut(self, text: str, *, used: int = 0) -> str:
        """Return ``text`` made harmless, and cut to what is left of the line behind ``used`` columns."""
        return printable(text, columns=max(self.width - used, 1) if self.width is not None else None)

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines, whose foreign parts were made harmless."""
        for line in lines:
            self.hold(f"{line}\n".encode(self._encoding, "replace"))

    def data(self, value: object) -> None:
        """Write one JSON document."""
        try:
            text = msgspec.json.encode(value)
        except UnicodeEncodeError:  # a path that is no UTF-8
            text = msgspec.json.encode(_all_readable(msgspec.to_builtins(value)))
        self.raw(msgspec.json.format(text, indent=2) + b"\n")

    def raw(self, data: bytes) -> None:
        """Write bytes as they are, and what was held back before them."""
        self._held.append(data)
        self.flush()

    def hold(self, data: bytes) -> None:
        """Write bytes as they are, now or with what comes next."""
        self._held.append(data)
        if len(self._held) >= _HELD_AT_MOST:
            self.flush()

    def flush(self) -> None:
        """Write what is held back.

        Raises:
            CommandError: If it cannot be written although somebody reads.
        """
        data, self._held = memoryview(b"".join(self._held)), []
        while data and not self.is_reader_gone:
            try:
                data = data[os.write(_STDOUT, data) :]
            except BrokenPipeError:
                self.is_reader_gone = True
            except BlockingIOError:  # whoever gave us the descriptor set it so
                select.select([], [_STDOUT], [])
            except OSError as exc:
                self.is_reader_gone = True
                raise CommandError(
                    Status.ENVIRONMENT,
                    f"standard output cannot be written: {exc.strerror or exc}",
                    "make room, or send the output elsewhere",
                ) from exc

    def look_after_reader(self) -> None:
        """Notice that the reader of a pipe has gone, also while there is nothing to write."""
        if not stat.S_ISFIFO(os.fstat(_STDOUT).st_mode) and not stat.S_ISSOCK(os.fstat(_STDOUT).st_mode):
            return
        poll = select.poll()
        poll.register(_STDOUT, 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            self.is_reader_gone = True

    def say(self, text: str) -> None:
        """Write one line about the command itself to standard error."""
        say(text)

    def fail(self, error: CommandError) -> None:
        """Say what is wrong and what to do; as JSON too, if that is what the command writes."""
        with contextlib.suppress(CommandError):  # standard output may be what cannot be written
            self.flush()
        say(f"procflow record: {error.message}")
        say(f"  what to do: {error.advice}")
        if self.is_json and not self.is_reader_gone:
            told = {"message": error.message, "what_to_do": error.advice}
            self.data({"exit_status": int(error.status), "error": told})


def _all_readable(value: object) -> object:
    match value:
        case str():
            return readable(value)
        case dict():
            return {_all_readable(key): _all_readable(item) for key, item in value.items()}
        case list() | tuple():
            return [_all_readable(item) for item in value]
        case _:
            return value


def say(text: str) -> None:
    """Write lines for people to standard error; if nobody takes them, nothing happens."""
    lines = "".join(f"{printable(line)}\n" for line in text.split("\n"))
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError):
        os.write(2, lines.encode(encoding, "backslashreplace"))
