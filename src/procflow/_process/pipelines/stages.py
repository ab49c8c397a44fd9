"""The books of the stages of one process.  A single command is a pipeline of one stage.

Owns what is known of the exit of each stage, what serves a stage, and the outcome that they add up to.  Must not know what
follows from an exit.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeAlias

import anyio

from procflow._process.exit_watch import ExitWatch
from procflow._process.parts import Parts, StageParts, stage_outcome
from procflow._process.pipelines.pipefail import pipeline_outcome
from procflow._process.recording import RecordedCall
from procflow._streams.consumers.crew import Crew
from procflow._streams.stream import OutputStream
from procflow._streams.waking import Flag, LoopDoor
from procflow.events import OutputName
from procflow.outcome import EndedBy, Outcome, PhaseReport

Service: TypeAlias = tuple[Callable[[], Awaitable[object]], str]
"""A task of the process: its work, and its name."""

_log = logging.getLogger("procflow.process")


class StageBook:
    """The book of one stage."""

    def __init__(self, parts: StageParts) -> None:
        self.parts: Final = parts
        self.exited: Final = Flag()
        self._watch: ExitWatch | None = None
        self._call = parts.call
        self._cause = EndedBy.ITSELF
        self._ended_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<stage {self.parts.name!r}, pid {self.parts.leader.pid}, {'exited' if self.has_exited else 'running'}>"

    @property
    def has_exited(self) -> bool:
        """Whether its exit is in the book."""
        return self._ended_at is not None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while it runs."""
        return self.outcome_with()

    def outcome_with(self, *, phases: tuple[PhaseReport, ...] = (), is_output_cut: bool = False) -> Outcome | None:
        """Return how it ended, with what was done with the whole process; ``None`` while it runs."""
        if self._ended_at is None or self.parts.leader.status is None:
            return None
        return stage_outcome(
            self.parts, ended_at=self._ended_at, cause=self._cause, phases=phases, is_output_cut=is_output_cut
        )

    def note_cause(self, cause: EndedBy) -> None:
        """Remember who is ending it, if it runs; looks at the leader alone and books nothing."""
        if not self.parts.leader.observe():
            self._cause = cause

    @property
    def was_stopped(self) -> bool:
        """Whether somebody was ending it when it exited."""
        return self._cause is not EndedBy.ITSELF

    def observe(self) -> bool:
        """Look whether it has exited, and book it."""
        if not self.parts.leader.observe():
            return False
        if self._ended_at is None:
            self._ended_at = datetime.now(UTC)
            _log.debug("%s: pid %d exited", self.parts.name, self.parts.leader.pid)
            self.close()
        return True

    def close(self) -> None:
        """Wake whoever waits for its exit, also if that will not be seen any more, and let its terminal end."""
        if self.parts.ends.terminal is not None:
            self.parts.ends.terminal.release()
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
            self.exited.set()

    def services(
        self,
        crew: Crew,
        outcome_now: Callable[[], Outcome | None],
        *,
        on_exit: Callable[[], object],
        on_end: Callable[[], object],
        door: LoopDoor,
    ) -> list[Service]:
        """Connect its outputs and begin to read them; return the tasks that serve it, each with its name.

        Args:
            crew: Runs the consumers of its outputs.
            outcome_now: How it ended, as its users are told.
            on_exit: Called when its exit may be seen.
            on_end: Called when an output has ended, if there is a record.
            door: To the running event loop.
        """
        tasks: list[Service] = []
        if self._call is not None:
            self._copy_outputs(self._call, on_end)
        for stream in self.parts.ends.streams:
            stream.describe_ending = partial(self._ending, outcome_now)
            stream.wait_outputs = self.wait_outputs
            stream.crew = crew
            if not stream.pump_nowait(door):
                tasks.append((stream.pump, f"pump of {stream.name}"))
        self._watch = ExitWatch(self.parts.leader, on_exit)
        if not self._watch.start_nowait(door.loop):
            tasks.append((self._watch.run, f"exit watch of {self.parts.name}"))
        if self.parts.ends.repeat_end is not None:
            tasks.append((self.parts.ends.repeat_end, f"end of input of {self.parts.name}"))
        return tasks

    async def _ending(self, outcome_now: Callable[[], Outcome | None]) -> Outcome:
        await self.exited.wait()
        outcome = outcome_now()
        if outcome is None:  # detached, and out of sight: there will be none
            await anyio.sleep_forever()
            raise AssertionError("sleep_forever() returned")
        return outcome

    @property
    def has_ended(self) -> bool:
        """Whether its exit is in the book and its outputs were read to their ends."""
        return self.has_exited and all(stream.ending is not None for stream in self.parts.ends.streams)

    def tell_record(self, outcome: Outcome | None) -> None:
        """Tell the record, if there is one and it was not told, that this is over."""
        call, self._call = self._call, None
        if call is not None:
            call.finished(
                outcome,
                stdout_bytes=_produced(self.parts.ends.stdout.stream),
                stderr_bytes=_produced(self.parts.ends.stderr.stream),
            )

    def _copy_outputs(self, call: RecordedCall, on_end: Callable[[], object]) -> None:
        def copy(output: OutputName, data: bytes) -> None:
            call.copy(output, data)
            if not data:
                on_end()

        if self.parts.ends.stdout.stream is not None:
            self.parts.ends.stdout.stream.copy_reads(partial(copy, "stdout"))
        if self.parts.ends.stderr.stream is not None:
            self.parts.ends.stderr.stream.copy_reads(partial(copy, "stderr"))

    def stop_watching(self) -> None:
        """Look for its exit no more: its exit descriptor is about to be closed."""
        if self._watch is not None:
            self._watch.close()

    async def wait_outputs(self) -> None:
        """Wait until all of its outputs have ended."""
        for stream in self.parts.ends.streams:
            await stream.wait_ended()


def observe_all(books: tuple[StageBook, ...]) -> bool:
    """Look whether all of them have exited."""
    return all([book.observe() for book in books])  # noqa: C419 (each has its own book)


def whole_outcome(
    parts: Parts, books: tuple[StageBook, ...], *, phases: tuple[PhaseReport, ...], is_output_cut: bool
) -> Outcome | None:
    """Return how the process ended; ``None`` while a stage runs."""
    if len(books) == 1:
        return books[0].outcome_with(phases=phases, is_output_cut=is_output_cut)
    found = [book.outcome for book in books]
    stages = tuple(outcome for outcome in found if outcome is not None)
    if len(stages) < len(found):
        return None
    return pipeline_outcome(parts.name, stages, phases=phases, is_output_cut=is_output_cut)


def _produced(stream: OutputStream | None) -> int:
    return stream.produced_bytes if stream is not None else 0
