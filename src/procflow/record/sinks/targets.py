"""Where events are to go, as a text says it: ``stdout``, ``fd:3``, ``file:run.jsonl``, ``run.jsonl``.

Owns the spelling.  Must not know recorders.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import Final

from procflow.record.sinks.files import Durability, FileSink
from procflow.record.sinks.pipes import PipeSink, WhenFull
from procflow.record.sinks.port import Sink

SPELLINGS: Final = "null, stdout, stderr, fd:NUMBER, file:PATH or a path"

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_FD: Final = re.compile(r"\d{1,9}")
_STANDARD: Final = {"stdout": 1, "stderr": 2}


@dataclass(frozen=True, slots=True)
class Target:
    """One destination: nothing, a descriptor, or a file."""

    text: str
    fd: int | None = None
    path: str | None = None

    @property
    def is_stdout(self) -> bool:
        """Whether nobody else may write to standard output meanwhile."""
        return self.fd == 1

    def open(self, *, durability: Durability = "process", when_full: WhenFull = "drop") -> Sink | None:
        """Return the sink, or nothing for ``null``.

        Raises:
            OSError: If the descriptor is not open, or the file cannot be created.
        """
        if self.path is not None:
            return FileSink(self.path, durability=durability)
        if self.fd is None:
            return None
        os.fstat(self.fd)
        stream = {1: sys.stdout, 2: sys.stderr}.get(self.fd)
        if stream is not None:  # what was printed before comes before
            stream.flush()
        return PipeSink(self.fd, name=self.text, when_full=when_full)


def parse_target(text: str | os.PathLike[str]) -> Target:
    """Return what ``text`` means; a path object is always a file.

    Raises:
        ValueError: If it begins with a word and a colon that mean nothing, or names no descriptor; ``./`` before it makes it a path.
    """
    if not isinstance(text, str):
        return Target(os.fspath(text), path=os.fspath(text))
    if not text:
        raise ValueError(f"a target for events must not be empty: it is {SPELLINGS}")
    if text == "null":
        return Target(text)
    if text in _STANDARD:
        return Target(text, fd=_STANDARD[text])
    match = _SCHEME.fullmatch(text)
    if match is None:
        return Target(text, path=text)
    scheme, rest = match.groups()
    if scheme == "file" and rest:
        return Target(text, path=rest)
    if scheme == "fd" and _FD.fullmatch(rest):
        return Target(text, fd=int(rest))
    raise ValueError(f"{text!r} is no target for events: it is {SPELLINGS} (./{text} is a path)")
