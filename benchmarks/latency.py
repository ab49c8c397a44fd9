"""A single line on an idle stream: how long from its write to its receipt."""

from __future__ import annotations

import asyncio
import subprocess

from benchmarks import peers
from benchmarks.children import stamped_lines
from benchmarks.delays import Delays
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.targets import Target

PAUSE_S = 0.002


def command(params: Params) -> list[str]:
    return stamped_lines(params["lines"], pause_s=PAUSE_S)


def trial(backend: str, read: peers.Reader) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            delays = Delays()
            await read(command(params), delays.take)
            return delays.numbers()

        found: Numbers = run_async(backend, main)
        return found

    return measured


def blocking(params: Params) -> Numbers:
    delays = Delays()
    peers.blocking(command(params), delays.take)
    return delays.numbers()


async def ours_lines(argv: list[str], take: peers.Take) -> None:
    import procflow as pf

    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async for line in child.stdout.lines():
            take(f"{line}\n".encode())


async def stream_reader_lines(argv: list[str], take: peers.Take) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)  # noqa: TID251  # a peer
    assert process.stdout is not None
    async for line in process.stdout:
        take(f"{line.decode()}".encode())
    await process.wait()


BENCHMARK = Benchmark(
    title="A single line on an idle stream",
    about="A child writes a line of 80 bytes with the time in it every 2 ms; from just before the write to the receipt. "
    "The base line is `StreamReader.read()`. Two rows with `add_reader` have nothing built on them: no design on asyncio is faster.",
    variants={
        "asyncio StreamReader": trial("asyncio", peers.stream_reader),
        "asyncio StreamReader, warm heap": trial("asyncio", peers.stream_reader_warm_heap),
        "asyncio StreamReader, lines": trial("asyncio", stream_reader_lines),
        "uvloop StreamReader": trial("uvloop", peers.stream_reader),
        "anyio on asyncio": trial("asyncio", peers.anyio_process),
        "trio": trial("trio", peers.trio_process),
        "blocking os.read": blocking,
        "asyncio add_reader, in the callback": trial("asyncio", peers.bare_callback),
        "asyncio add_reader, into a task": trial("asyncio", peers.bare_task),
        "procflow on asyncio": trial("asyncio", peers.ours),
        "procflow lines() on asyncio": trial("asyncio", ours_lines),
        "procflow on uvloop": trial("uvloop", peers.ours),
        "procflow on trio": trial("trio", peers.ours),
    },
    metrics=(
        Metric(key="p50_us", title="p50 µs", format=".0f", has_ratio=True),
        Metric(key="p90_us", title="p90 µs", format=".0f", has_ratio=True),
    ),
    cases={"": {}},
    params={"lines": 250},
    quick={"lines": 20},
    targets=(
        Target(promise="single line on an idle stream: p50 against StreamReader", metric="p50_us", of="procflow on asyncio", over="asyncio StreamReader", limit="asyncio add_reader, into a task", at_most=0.6),
    ),
)  # fmt: skip
