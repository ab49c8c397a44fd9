"""Foreign text made safe to print: no escape codes, no control characters, no direction tricks.

Owns the one door through which text of a database, a child process or a file reaches a terminal.  Must not know what is printed
or where.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Final

_ESCAPES: Final = re.compile(
    r"""
      (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?                # CSI: colours, cursor movement
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]) [^\x07\x1b\x9c]* (?:\x07|\x1b\\|\x9c)?   # OSC, DCS, SOS, PM, APC: titles, links
    | \x1b [ -/]* [0-~]?                                  # every other escape
    """,
    re.VERBOSE,
)
# C0, DEL, C1, and the characters that hide or reorder text: zero width, bidirectional controls, separators, surrogates.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SPACES: Final = re.compile(r"\s+")
_LINE_ENDS: Final = re.compile("\r\n|[\n\x0b\x0c\x85\u2028\u2029]")
TAB_CELLS: Final = 4
ELLIPSIS: Final = "…"


def one_line(text: str) -> str:
    """Return ``text`` as one printable line: escapes and controls removed, every run of white space one blank."""
    return _CONTROLS.sub("", _SPACES.sub(" ", _ESCAPES.sub("", text))).strip()


def many_lines(text: str) -> list[str]:
    r"""Return the printable lines of ``text``, tabs expanded, right ends trimmed, without blank lines at either end.

    A carriage return overwrites its line, as it would on a terminal: of ``10%\r20%`` only ``20%`` is kept.
    """
    lines: deque[str] = deque()
    for line in _LINE_ENDS.split(_ESCAPES.sub("", text)):
        shown = line.rstrip("\r").rpartition("\r")[2].expandtabs(TAB_CELLS)
        lines.append(_CONTROLS.sub("", shown).rstrip())
    while lines and not lines[0]:
        lines.popleft()
    while lines and not lines[-1]:
        lines.pop()
    return list(lines)


_VARIABLE: Final = re.compile(r"\S*\d\S*")


def normalised_reason(message: str) -> str:
    """Return ``message`` with every token that holds a digit masked: the key under which equal failures are grouped."""
    return _VARIABLE.sub("#", one_line(message)).casefold()


def shorten(text: str, max_chars: int) -> str:
    """Return ``text`` cut to ``max_chars`` characters, the last one an ellipsis where something was cut."""
    if len(text) <= max_chars:
        return text
    return text[: max(0, max_chars - 1)].rstrip() + ELLIPSIS if max_chars > 0 else ""


def indented(lines: Iterable[str], by: str = "  ") -> list[str]:
    """Return ``lines``, each behind ``by``."""
    return [f"{by}{line}" for line in lines]
