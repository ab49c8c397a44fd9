"""The plan for a child on a pseudo-terminal of its own.

Owns the two sides of the terminal while they are opened.  Must not know how a process is started on it.

Reading our side fails with EIO when nobody has the child's side open any more, after everything that was written was
read: Linux keeps it, also over the exit of the leader, which hangs the terminal up.  But that is not the end yet.  A child
may close its descriptors before it exits (``cat`` does), and may open ``/dev/tty`` later; and if the host took EIO for
the end and closed its side, the hang-up would kill the child on its last steps.  So the host keeps a copy of the child's
side until the leader has exited: then EIO means that everything was read, and that no more can come.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from procflow._process.stdio.ends import Ends, Opening, OutputEnd, StdinEnd
from procflow._process.stdio.feeder import Feeder
from procflow._process.stdio.pieces import Pieces
from procflow._process.stdio.plans import NULL, Fed, OutputChoice, StdinChoice, Written, plan_stdin
from procflow._process.terminals.terminal import Terminal, TerminalInput, set_modes, set_window
from procflow._streams.reading.source import FdSource
from procflow._streams.stream import OutputStream
from procflow.policies import Pty, StreamConfig


@dataclass(frozen=True, slots=True, repr=False)
class OnPty:
    """The plan for all three: a new terminal.  ``data`` is fed; ``None`` leaves the input to ``child.stdin``."""

    pty: Pty
    config: StreamConfig
    data: bytes | Pieces | None = None
    is_streamed = True

    def open(self, opening: Opening) -> Ends:
        """Open both sides of the terminal."""
        ours, theirs = os.openpty()
        source = FdSource(ours, read_bytes=self.config.read_bytes, eio_is_eof=True)
        terminal = Terminal(source, theirs)
        opening.ours(terminal.release)
        stream = OutputStream(source, self.config, name=f"{opening.process_name} stdout")
        opening.ours(stream.close)
        set_window(theirs, self.pty.rows, self.pty.cols)
        set_modes(theirs, self.pty)
        # A copy, so that each has a number of its own: the event loop tells its waiters by that.
        pipe = TerminalInput(os.dup(ours), is_raw=self.pty.raw)
        opening.ours(pipe.close)
        feeder = None if self.data is None else Feeder(pipe, self.data)
        elsewhere = "goes where stdout goes, to the terminal (pty=)"
        return Ends(
            StdinEnd(theirs, pipe, feeder),
            OutputEnd(theirs, stream),
            OutputEnd(theirs, elsewhere=elsewhere, remedy="read stdout, or start it without pty="),
            terminal=terminal,
            repeat_end=partial(terminal.repeat_end, pipe),
        )


def plan_pty(
    pty: Pty,
    stdin: StdinChoice,
    stdout: OutputChoice | None,
    stderr: OutputChoice | None,
    *,
    merge_stderr: bool,
    default: StreamConfig,
) -> OnPty:
    """Return the plan for what ``spawn()`` and ``run()`` are asked for; ``NULL`` and ``None`` mean what a terminal gives.

    Raises:
        TypeError: If a choice is none.
        ValueError: If a choice is not possible on a terminal.
    """
    if not isinstance(pty, Pty):
        raise TypeError(f"pty must be a Pty, not {type(pty).__name__}")
    if stderr is not None or merge_stderr:
        raise ValueError(
            "a terminal has one output, so with pty= everything is in stdout: leave out stderr and merge_stderr"
        )
    if stdout is not None and not isinstance(stdout, StreamConfig):
        raise ValueError("with pty= stdout is a stream: give a StreamConfig or nothing")
    plan = Written() if stdin is NULL else plan_stdin(stdin)
    if not isinstance(plan, (Written, Fed)):
        text = "with pty= stdin is the terminal: give nothing, PIPE, or what is to be fed into it"
        raise ValueError(text)  # noqa: TRY004 (the type is right, the combination is not)
    return OnPty(pty, stdout if stdout is not None else default, plan.data if isinstance(plan, Fed) else None)
