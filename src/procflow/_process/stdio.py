"""Where the three standard descriptors of a child lead.

Owns the choices and the pipes behind them.  Must not know processes.
"""

from __future__ import annotations

import os
import subprocess
from enum import Enum
from typing import Final, TypeAlias

from procflow.policies import StreamConfig


class Stdio(Enum):
    """Where a standard descriptor leads, if not to a stream."""

    NULL = "null"
    """``/dev/null``: reads give end of file, writes vanish."""

    INHERIT = "inherit"
    """Where the host's own descriptor leads."""

    PIPE = "pipe"
    """Standard input only: a pipe that ``child.stdin`` writes to."""


NULL: Final = Stdio.NULL
INHERIT: Final = Stdio.INHERIT
PIPE: Final = Stdio.PIPE

StdinChoice: TypeAlias = Stdio | bytes | bytearray | memoryview
"""Bytes are fed; what can change is copied when the block is made."""

OutputChoice: TypeAlias = Stdio | StreamConfig
"""``PIPE`` is refused.  Not said by the type, or ``NULL if quiet else StreamConfig()`` would need an annotation."""


def require_stdin_choice(choice: StdinChoice) -> None:
    """Raise ``TypeError`` unless ``choice`` is one."""
    if not isinstance(choice, (Stdio, bytes, bytearray, memoryview)):
        raise TypeError(f"stdin must be NULL, INHERIT, PIPE or bytes, not {type(choice).__name__}")


def require_output_choice(what: str, choice: OutputChoice) -> None:
    """Raise ``TypeError`` unless ``choice`` is one."""
    if not isinstance(choice, StreamConfig) and choice not in (NULL, INHERIT):
        raise TypeError(f"{what} must be a StreamConfig, NULL or INHERIT, not {choice!r}")


def child_fd(choice: Stdio) -> int | None:
    """Return what ``Popen`` takes for ``choice``."""
    return subprocess.DEVNULL if choice is NULL else None


def open_output_pipe() -> tuple[int, int]:
    """Return our end (not blocking) and the child's end of a pipe that the child writes to."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs


def open_input_pipe() -> tuple[int, int]:
    """Return our end (not blocking) and the child's end of a pipe that the child reads from."""
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs
