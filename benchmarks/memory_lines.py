"""Lines out of memory, on the workloads of the Rust library that this one is compared with: no child, no pipe."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from itertools import repeat
from typing import Any, cast

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.sources import Chunks
from benchmarks.targets import Target

CHUNK_BYTES = 16 * 1024
REFERENCE_M_LINES_S = 3.2
REFERENCE_GB_S = 0.25


def chunks(params: Params) -> Iterator[bytes]:
    """The same chunk over and over; it holds whole lines only."""
    line = b"x" * (params["line_bytes"] - 1) + b"\n"
    return repeat(line * (CHUNK_BYTES // len(line)), params["mib"] * (2**20 // CHUNK_BYTES))


def trial(backend: str, read: Callable[[Iterator[bytes]], Awaitable[int]]) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            with timed() as timing:
                count = await read(chunks(params))
            assert count == (params["mib"] << 20) // params["line_bytes"]
            return {"m_lines_s": count / timing.cpu_s / 1e6, "gb_s": (params["mib"] << 20) / timing.cpu_s / 1e9}

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours_lines(data: Iterator[bytes]) -> int:
    import procflow as pf

    count = 0
    async with pf.open_stream(Chunks(data)) as stream:
        async for _line in stream.lines():
            count += 1
    return count


async def ours_batches(data: Iterator[bytes]) -> int:
    import procflow as pf

    count = 0
    async with pf.open_stream(Chunks(data)) as stream:
        async for lines in stream.line_batches():
            for _line in lines:
                count += 1
    return count


async def stream_reader(data: Iterator[bytes]) -> int:
    reader = asyncio.StreamReader()
    count = 0

    async def feed() -> None:
        for chunk in data:
            reader.feed_data(chunk)
            await asyncio.sleep(0)
        reader.feed_eof()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        async for line in reader:
            line.decode()
            count += 1
    return count


class _Bytes:
    """All that anyio's buffered stream asks of a byte stream."""

    def __init__(self, data: Iterator[bytes]) -> None:
        self._data = data

    async def receive(self, _max_bytes: int = 65536) -> bytes:
        import anyio

        for chunk in self._data:
            return chunk
        raise anyio.EndOfStream

    async def aclose(self) -> None:
        return


async def anyio_lines(data: Iterator[bytes]) -> int:
    import anyio.streams.buffered

    stream = anyio.streams.buffered.BufferedByteReceiveStream(cast(Any, _Bytes(data)))
    count = 0
    try:
        while True:
            line = await stream.receive_until(b"\n", 1 << 20)
            line.decode()
            count += 1
    except anyio.EndOfStream:
        return count
    except anyio.IncompleteRead:
        return count


def blocking_text(params: Params) -> Numbers:
    """What Python's own text layer does with the same bytes in one buffer."""
    buffer = io.BytesIO(b"".join(chunks(params)))
    count = 0
    with timed() as timing:
        for _line in io.TextIOWrapper(buffer, encoding="utf-8"):
            count += 1
    return {"m_lines_s": count / timing.cpu_s / 1e6, "gb_s": (params["mib"] << 20) / timing.cpu_s / 1e9}


BENCHMARK = Benchmark(
    title="Lines out of memory",
    about="Lines from a source in memory, in chunks of 16 KiB: the workloads of the Rust library tokio-process-tools. "
    f"Its own figures, on the machine of the study and for orientation only: {REFERENCE_M_LINES_S} million lines of 64 bytes a second, "
    f"{REFERENCE_GB_S} GB/s of lines of 4 KiB. The base line is `async for line in StreamReader` with `line.decode()`, fed chunk by chunk. "
    "Nothing waits for anything here, so rates are by CPU time: that is time on a quiet machine, and does not suffer on another.",
    variants={
        "asyncio StreamReader": trial("asyncio", stream_reader),
        "anyio receive_until on asyncio": trial("asyncio", anyio_lines),
        "blocking text": blocking_text,
        "procflow lines() on asyncio": trial("asyncio", ours_lines),
        "procflow line_batches() on asyncio": trial("asyncio", ours_batches),
        "procflow line_batches() on trio": trial("trio", ours_batches),
    },
    metrics=(
        Metric(key="m_lines_s", title="M lines/CPU s", has_ratio=True),
        Metric(key="gb_s", title="GB/CPU s"),
    ),
    cases={"64 B lines": {"line_bytes": 64, "mib": 24}, "4 KiB lines": {"line_bytes": 4096}},
    params={"mib": 128},
    quick={"mib": 1},
    targets=(
        Target(promise="64 B lines in memory: `line_batches()`, the Rust reference's figure", metric="m_lines_s", of="procflow line_batches() on asyncio", case="64 B lines", at_least=REFERENCE_M_LINES_S, unit="M lines/s"),
        Target(promise="4 KiB lines in memory: `line_batches()`, the Rust reference's figure", metric="gb_s", of="procflow line_batches() on asyncio", case="4 KiB lines", at_least=REFERENCE_GB_S, unit="GB/s"),
    ),
)  # fmt: skip
