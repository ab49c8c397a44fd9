"""Feeding a child: bytes into its standard input."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable

from benchmarks.children import BLOCK, sink
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.reader import rates

PIECE = b"x" * BLOCK
Feed = Callable[[list[bytes]], Awaitable[None]]
"""Starts a child, writes these pieces to it and waits for its end."""


def trial(backend: str, feed: Feed, *, pieces: int | None = None) -> Trial:
    def measured(params: Params) -> Numbers:
        blocks = params["mib"] * 16
        data = [PIECE] * blocks if pieces is None else [PIECE * (blocks // pieces)] * pieces

        async def main() -> Numbers:
            with timed() as timing:
                await feed(data)
            return rates(params["mib"] << 20, timing)

        found: Numbers = run_async(backend, main)
        return found

    return measured


def blocking(params: Params) -> Numbers:
    with timed() as timing, subprocess.Popen(sink(), stdin=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        for _ in range(params["mib"] * 16):
            assert process.stdin.write(PIECE) == BLOCK
        process.stdin.close()
        assert process.wait() == 0
    return rates(params["mib"] << 20, timing)


async def stream_writer(pieces: list[bytes]) -> None:
    process = await asyncio.create_subprocess_exec(*sink(), stdin=subprocess.PIPE)  # noqa: TID251  # a peer
    assert process.stdin is not None
    for piece in pieces:
        process.stdin.write(piece)
        await process.stdin.drain()
    process.stdin.close()
    assert await process.wait() == 0


async def anyio_process(pieces: list[bytes]) -> None:
    import anyio

    async with await anyio.open_process(sink(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        for piece in pieces:
            await process.stdin.send(piece)
        await process.stdin.aclose()
        assert await process.wait() == 0


async def ours_send(pieces: list[bytes]) -> None:
    import procflow as pf

    async with pf.spawn(pf.Command(*sink()), stdin=pf.PIPE) as child:
        assert child.stdin is not None
        for piece in pieces:
            await child.stdin.send(piece)
        await child.stdin.aclose()
        assert (await child.wait()).exit_code == 0


async def ours_bytes(pieces: list[bytes]) -> None:
    import procflow as pf

    (data,) = pieces
    done = await pf.run(pf.Command(*sink()), stdin=data)
    assert done.outcome.exit_code == 0


async def ours_iterator(pieces: list[bytes]) -> None:
    import procflow as pf

    done = await pf.run(pf.Command(*sink()), stdin=iter(pieces))
    assert done.outcome.exit_code == 0


BENCHMARK = Benchmark(
    title="Feeding a child",
    about="A `dd` throws away what it reads from its standard input: 256 MiB in pieces of 64 KiB, its start and end included. "
    "`run(stdin=bytes)` has all of them in one `bytes`. The base line is a blocking write.",
    variants={
        "blocking write": blocking,
        "asyncio write() and drain()": trial("asyncio", stream_writer),
        "uvloop write() and drain()": trial("uvloop", stream_writer),
        "anyio send() on asyncio": trial("asyncio", anyio_process),
        "procflow send() on asyncio": trial("asyncio", ours_send),
        "procflow send() on uvloop": trial("uvloop", ours_send),
        "procflow send() on trio": trial("trio", ours_send),
        "procflow run(stdin=iterator) on asyncio": trial("asyncio", ours_iterator),
        "procflow run(stdin=bytes) on asyncio": trial("asyncio", ours_bytes, pieces=1),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
    ),
    cases={"": {}},
    params={"mib": 256},
    quick={"mib": 8},
)
