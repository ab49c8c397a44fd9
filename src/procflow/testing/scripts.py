"""What a fake process does: a list of steps, and answers to signals.

Owns the values and their building.  Must not know how a step is carried out.
"""

from __future__ import annotations

import os
import signal as _signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from procflow.events import OutputName

IGNORED_BY_DEFAULT: Final[frozenset[int]] = frozenset(
    {_signal.SIGCHLD, _signal.SIGCONT, _signal.SIGURG, _signal.SIGWINCH}
)
STOPPING: Final[frozenset[int]] = frozenset({_signal.SIGSTOP, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU})
UNCATCHABLE: Final[frozenset[int]] = frozenset({_signal.SIGKILL, _signal.SIGSTOP})


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Print:
    """Write to an output."""

    data: bytes
    to: OutputName


@dataclass(frozen=True, slots=True)
class CloseOutputs:
    """Close stdout and stderr."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read stdin to its end, and write it to stdout if ``is_echo``."""

    is_echo: bool


@dataclass(frozen=True, slots=True)
class Expect:
    """Read as many bytes of stdin as there are here; they must be these.

    If no later step reads, there must be no more, unless ``allows_more``.
    """

    data: bytes
    allows_more: bool


@dataclass(frozen=True, slots=True)
class LeaveBehind:
    """Start a member of the group that holds the outputs, until ``for_s`` passed or a signal ends it."""

    for_s: float | None
    ignored: frozenset[int]


@dataclass(frozen=True, slots=True)
class Stay:
    """Go on until a signal comes."""


@dataclass(frozen=True, slots=True)
class End:
    """Exit, or be ended by a signal."""

    exit_code: int | None = None
    signal: int | None = None


Step: TypeAlias = Pause | Print | CloseOutputs | Read | Expect | LeaveBehind | Stay | End


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a signal leads to, other than its default; without an end it is ignored."""

    end: End | None = None
    printed: bytes = b""
    after_s: float = 0.0


class Script:
    """What a fake process does, step by step; each method adds something and returns the script.

    ``after_s`` counts from the end of the step before, in seconds of the event loop's clock.  After its last step the process
    exits with 0, unless it ``stays()``.  A text is written as UTF-8.  A signal that nothing is said about has its default effect.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.reactions: dict[int, Reaction] = {}
        self.spawn_errno: int | None = None
        self.is_unkillable = False

    def __repr__(self) -> str:
        return f"<Script of {len(self.steps)} steps>"

    @property
    def last_reading(self) -> Step | None:
        """The last step that reads stdin."""
        return next((step for step in reversed(self.steps) if isinstance(step, Read | Expect)), None)

    def prints(self, data: str | bytes, *, after_s: float = 0.0) -> Self:
        """Write ``data`` to stdout."""
        return self._add(Print(_as_bytes(data), "stdout"), after_s)

    def prints_error(self, data: str | bytes, *, after_s: float = 0.0) -> Self:
        """Write ``data`` to stderr."""
        return self._add(Print(_as_bytes(data), "stderr"), after_s)

    def closes_outputs(self, *, after_s: float = 0.0) -> Self:
        """Close stdout and stderr, and go on."""
        return self._add(CloseOutputs(), after_s)

    def reads(self) -> Self:
        """Read stdin to its end."""
        return self._add(Read(is_echo=False))

    def echoes(self) -> Self:
        """Write to stdout what is read from stdin, to its end."""
        return self._add(Read(is_echo=True))

    def expects(self, data: str | bytes, *, allows_more: bool = False) -> Self:
        """Read exactly ``data`` from stdin.

        If something else comes, or the end, the process exits with 1 and leaving ``FakeSpawner.installed()`` raises ``ScriptError``.
        It raises as well if no later step reads and the input goes on: if the pipe holds more when the process ends.

        Args:
            data: What is to come.
            allows_more: What follows may stay unread, as ``head`` leaves it.
        """
        return self._add(Expect(_as_bytes(data), allows_more))

    def waits(self, seconds: float) -> Self:
        """Do nothing for a while."""
        return self._add(Pause(seconds))

    def leaves_behind(self, *, for_s: float | None = None, ignores: Iterable[int] = ()) -> Self:
        """Start another member of its group, which holds the outputs open: for ``for_s``, or until a signal ends it."""
        return self._add(LeaveBehind(for_s, frozenset(ignores)))

    def stays(self) -> Self:
        """Go on until a signal comes."""
        return self._add(Stay())

    def exits(self, code: int = 0, *, after_s: float = 0.0) -> Self:
        """Exit with ``code``."""
        return self._add(End(exit_code=code), after_s)

    def dies_by(self, signal: int, *, after_s: float = 0.0) -> Self:
        """End as ``signal`` ends a process."""
        return self._add(End(signal=signal), after_s)

    def ignores(self, *signals: int) -> Self:
        """Let ``signals`` have no effect.

        Raises:
            ValueError: For SIGKILL and SIGSTOP, which no process can ignore: see ``survives_everything()``.
        """
        for number in signals:
            self._react(number, Reaction())
        return self

    def on_signal(self, signal: int, *, exits: int = 0, prints: str | bytes = b"", after_s: float = 0.0) -> Self:
        """Answer ``signal``: leave the steps, wait ``after_s``, write ``prints`` to stdout, and exit.

        Raises:
            ValueError: For SIGKILL and SIGSTOP.
        """
        self._react(signal, Reaction(End(exit_code=exits), _as_bytes(prints), after_s))
        return self

    def survives_everything(self) -> Self:
        """Take every signal, SIGKILL among them, without an effect, as a process does that hangs in the kernel."""
        self.is_unkillable = True
        return self._add(Stay())

    def fails(self, errno: int) -> Self:
        """Let the start fail with ``SpawnError``, as the operating system does with ``errno``."""
        self.spawn_errno = errno
        return self

    def _add(self, step: Step, after_s: float = 0.0) -> Self:
        if after_s:
            self.steps.append(Pause(after_s))
        self.steps.append(step)
        return self

    def _react(self, number: int, reaction: Reaction) -> None:
        if number in UNCATCHABLE:
            raise ValueError(f"{_signal.Signals(number).name} can neither be ignored nor answered")
        self.reactions[number] = reaction


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def matches(program: str, arguments: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether a command is meant by ``wanted``: its program, by path or last part, and the beginning of its arguments."""
    return wanted[0] in (program, os.path.basename(program)) and arguments[: len(wanted) - 1] == wanted[1:]
