"""``tail`` and ``replay``: the events of a record, as they come or as they came."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from procflow.record.cli.face import Face
from procflow.record.cli.runs import find_run, root_of
from procflow.record.cli.statuses import CommandError, Status
from procflow.record.codec import RecordCodec
from procflow.record.envelope import Event, Unknown
from procflow.record.events import RunEvent
from procflow.record.loading import read_events
from procflow.record.reading.states import RecordState
from procflow.record.replaying import replay
from procflow.record.sinks.port import Dropped, Sink
from procflow.record.sinks.targets import parse_target
from procflow.record.tailing import tail
from procflow.record.views.event_lines import event_line
from procflow.record.views.looks import Look
from procflow.record.views.words import fitted

_WHO_COLUMNS: Final = 16
_TIME_COLUMNS: Final = 7
_LOOK_AFTER_S: Final = 0.5
_QUIET: Final = (Look.OPEN, Look.WAITING)


def tail_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Show the events of a record and go on until the run is over, or until nobody reads any more."""
    path = find_run(parsed.run, root_of(parsed.root))
    if parsed.no_follow:
        for line in read_events(path):
            if face.is_reader_gone:
                break
            if line.head.seq >= parsed.from_seq:
                _show(line.raw + b"\n", line.event, face, is_raw=parsed.json)
        return Status.DONE
    state = anyio.run(_follow, path, parsed, face)
    if state is RecordState.CRASHED and not face.is_reader_gone:
        face.say("the record has no end: its writer is gone")
    return Status.DONE


def replay_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Tell a record once more, as fast as it happened or in another time."""
    path = find_run(parsed.run, root_of(parsed.root))
    sink: Sink | None = _FaceSink(face, is_raw=parsed.json)
    if parsed.to is not None:
        try:
            target = parse_target(parsed.to)
        except ValueError as exc:
            raise CommandError(
                Status.USAGE, str(exc), "name a file that is not there yet, or one of the words"
            ) from exc
        if not target.is_stdout:
            try:
                sink = target.open(when_full="block")
            except OSError as exc:
                raise CommandError(
                    Status.ENVIRONMENT,
                    f"{parsed.to} cannot be opened: {exc.strerror}",
                    "name a file that is not there yet",
                ) from exc
        else:
            sink = _FaceSink(face, is_raw=True)
    if sink is not None:  # null
        anyio.run(_replay, path, parsed, face, sink)
        if sink.failure:
            raise CommandError(
                Status.ENVIRONMENT, f"not everything was told: {sink.failure}", "mend that, and replay it again"
            )
    return Status.DONE


class _FaceSink:
    """Shows the events of a replay on standard output."""

    def __init__(self, face: Face, *, is_raw: bool) -> None:
        self._face = face
        self._is_raw = is_raw
        self._codec = RecordCodec()
        self.lost_count = 0
        self.failure = ""

    def emit(self, line: bytes, event: Event) -> None:  # noqa: ARG002 (of an unknown type it knows too little)
        """Show a line."""
        _show(line, self._codec.decode(line), self._face, is_raw=self._is_raw)
        self._face.flush()

    def recover(self) -> Dropped | None:
        """Nothing gets lost here: what cannot be written ends the command."""
        return None

    async def aclose(self) -> None:
        """There is nothing to release."""
        await checkpoint()


def _show(raw: bytes, event: RunEvent | Unknown, face: Face, *, is_raw: bool) -> None:
    """Write an event as its bytes, or as one line for people."""
    if is_raw:
        face.hold(raw)
        return
    time, who, what, look = event_line(event)
    columns = _WHO_COLUMNS if face.width is None or face.width >= 70 else 10
    shown = face.cut(what, used=_TIME_COLUMNS + columns + 2)
    colour = None if look in _QUIET else look
    face.lines(
        [f"{face.paint(f'{time:>{_TIME_COLUMNS}}', is_dim=True)} {fitted(who, columns)} {face.paint(shown, colour)}"]
    )


async def _follow(path: Path, parsed: argparse.Namespace, face: Face) -> RecordState:
    async with tail(path, parsed.from_seq) as lines:

        async def show() -> None:
            async for line in lines:
                _show(line.raw + b"\n", line.event, face, is_raw=parsed.json)
                face.flush()
                if face.is_reader_gone:
                    break

        await _while_somebody_reads(face, show)
    return lines.state


async def _replay(path: Path, parsed: argparse.Namespace, face: Face, sink: Sink) -> None:
    async def tell() -> None:
        await replay(path, sink, speed=parsed.speed, seek_s=parsed.seek)

    try:
        if isinstance(sink, _FaceSink):
            await _while_somebody_reads(face, tell)
        else:
            await tell()
    finally:
        with anyio.CancelScope(shield=True):  # a sink has a deadline of its own
            await sink.aclose()


async def _while_somebody_reads(face: Face, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` until it is done, or until nobody reads standard output any more; what it raises comes out as it is."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_watch_reader, face, group.cancel_scope, name="watch the reader of standard output")
        try:
            await work()
        except Exception as exc:  # noqa: BLE001 (raised below, where the group cannot wrap it)
            failure = exc
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _watch_reader(face: Face, scope: anyio.CancelScope) -> None:
    """End ``scope`` when nobody reads any more: a quiet run would hold up the whole pipeline."""
    while not face.is_reader_gone:
        await anyio.sleep(_LOOK_AFTER_S)
        face.look_after_reader()
    scope.cancel()
