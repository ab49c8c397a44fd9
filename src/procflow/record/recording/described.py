"""How a command stands in a record before it is redacted.

Owns the choice of what is said of it.  Must not know what is secret, nor when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias

from procflow.command import Command, revealed_arguments, revealed_variables
from procflow.record.events import ShStarted
from procflow.record.fold.rows import CallKey

ArgvChoice: TypeAlias = Literal["redacted", "program", "none"]
"""How much of a command is recorded: all of its words without secrets, only the first one, or none."""

ARGV_CHOICES: Final = ("redacted", "program", "none")

_SHELL_WORDS: Final = 3


def call_started(
    key: CallKey,
    command: Command,
    *,
    argv: ArgvChoice,
    env_values: Collection[str],
    additions: Collection[str],
    host: Mapping[str, str],
    cwd: str,
    timeout_s: float | None,
    log: str | None,
    pipe: str | None,
) -> ShStarted:
    """Return the event of a call that begins.

    Args:
        key: What names the call.
        command: What is called.
        argv: How much of it is said.
        env_values: Variables whose values are said, if the child has them.
        additions: Variables that the child gets besides.
        host: The variables of this process, which the child may inherit.
        cwd: Where this process is.
        timeout_s: What the call may take.
        log: Where its output is logged.
        pipe: The pipeline that it belongs to.
    """
    words = tuple(os.fsdecode(word) for word in (command.program, *revealed_arguments(command)))
    script = _script_of(words) if argv == "redacted" else None
    shown = _values(command, env_values, host) if env_values else None
    return ShStarted(
        job_id=key.job_id,
        attempt=key.attempt,
        sh=key.sh,
        argv={"redacted": words, "program": words[:1], "none": ()}[argv],
        cmd=script or "",
        shell=script is not None,
        cwd=os.fsdecode(command.cwd) if command.cwd is not None else cwd,
        env_set=(*(name for name, text in command.env.items() if text is not None), *additions),
        env_unset=tuple(name for name, text in command.env.items() if text is None),
        env=shown or None,
        timeout_ms=round(timeout_s * 1000) if timeout_s is not None else None,
        log=log,
        pipe=pipe,
    )


def _values(command: Command, names: Collection[str], host: Mapping[str, str]) -> dict[str, str]:
    """Return what the child has in the variables ``names``, as far as it has them."""
    own = revealed_variables(command)
    inherited = host if command.inherit_env else {}
    found = {name: own[name] if name in own else inherited.get(name) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _script_of(words: tuple[str, ...]) -> str | None:
    """Return the script of what ``shell()`` has made."""
    return words[2] if len(words) == _SHELL_WORDS and words[:2] == ("/bin/sh", "-c") else None
