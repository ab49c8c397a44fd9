"""The handle of one stage of a pipeline.

Owns its public face.  Must not know how anything is done.
"""

from __future__ import annotations

from procflow._process.core import ProcessCore
from procflow._process.pipelines.stages import StageBook
from procflow._process.stdio.ends import OutputEnd
from procflow._streams.stream import OutputStream
from procflow.errors import UsageError
from procflow.outcome import Outcome


class Stage:
    """One command of a running pipeline.  It is started and stopped with the whole."""

    def __init__(self, core: ProcessCore, book: StageBook) -> None:
        self._core = core
        self._book = book

    def __repr__(self) -> str:
        return f"<Stage {self.name!r}, pid {self.pid}, {'exited' if self._book.has_exited else 'running'}>"

    @property
    def name(self) -> str:
        """What errors and logs call it."""
        return self._book.parts.name

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._book.parts.leader.pid

    @property
    def stderr(self) -> OutputStream:
        """Its standard error.

        Raises:
            UsageError: If that is no stream of its own: see ``Process.stderr``.
        """
        return require_stream(self.name, self._book.parts.ends.stderr, "stderr")

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while it runs."""
        return self._core.outcome_of(self._book)

    async def wait(self) -> Outcome:
        """Return the outcome once it has exited, while other stages may still run; otherwise as ``Process.wait()``.

        It closes no standard input.

        Raises:
            UsageError: If the pipeline was detached and its scope was left.
            TerminationError: If it outlived every attempt to end it and the scope was left.
        """
        await self._book.exited.wait()
        return self.outcome or self._core.ending()


def require_stream(name: str, end: OutputEnd, what: str) -> OutputStream:
    """Return the stream of an output.

    Raises:
        UsageError: If it has none.
    """
    if end.stream is None:
        remedy = end.remedy or f"it is a stream if it is started with {what}=procflow.StreamConfig()"
        raise UsageError(f"{name}: {what} {end.elsewhere}; {remedy}")
    return end.stream
