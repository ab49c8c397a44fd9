"""Cases of cancellation of what reads records."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from anyio.lowlevel import checkpoint

from procflow import record
from procflow.record.sinks.files import FileSink
from tests.core.record.sample import EVENTS, LINES, RECORD

from .cancelling import Attempt, cancels


@cancels(
    "record.Tail.receive",
    "record.Tail.__anext__",
    "record.Tail.aclose",
    "record.Tail.__aenter__",
    "record.Tail.__aexit__",
)
async def tail(attempt: Attempt) -> None:
    """No event is lost to who goes on with the same tail."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "events.jsonl"
        file.write_bytes(b"".join(LINES[:3]))
        got: list[object] = []
        lines = record.tail(file)

        async def call() -> None:
            for _ in range(3):
                got.append((await lines.receive()).event)
                await checkpoint()
            with file.open("ab") as more:
                more.write(b"".join(LINES[3:]))
            async for line in lines:
                got.append(line.event)
            async with record.tail(file) as others:
                async for line in others:
                    assert line.event == EVENTS[0]
                    break
            await others.aclose()

        await attempt(call)
        file.write_bytes(RECORD)
        got += [line.event async for line in lines]
        assert got == EVENTS


@cancels("record.replay")
async def replay(attempt: Attempt) -> None:
    """What the sink was given until then is the beginning of the record."""
    with tempfile.TemporaryDirectory() as directory:
        file, copy = Path(directory) / "events.jsonl", Path(directory) / "copy.jsonl"
        file.write_bytes(RECORD)
        sink = FileSink(copy)

        async def call() -> None:
            assert await record.replay(file, sink, speed=100) == len(LINES)
            assert await record.replay(file, sink, speed=math.inf) == len(LINES)

        await attempt(call)
        await sink.aclose()
        assert (RECORD + RECORD).startswith(copy.read_bytes())
