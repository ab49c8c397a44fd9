"""Bulk reading: one child that writes 64 KiB blocks, one reader."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed

BLOCK = 64 * 1024


def command(mib: int) -> list[str]:
    return ["dd", "if=/dev/zero", "bs=64k", f"count={mib * 16}", "status=none"]


def rates(total: int, wall_s: float, cpu_s: float) -> Numbers:
    return {"gb_s": total / wall_s / 1e9, "cpu_s_gb": cpu_s / (total / 1e9)}


def trial(backend: str, read: Callable[[list[str]], Awaitable[int]]) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            with timed() as timing:
                total = await read(command(params["mib"]))
            assert total == params["mib"] << 20
            return rates(total, timing.wall_s, timing.cpu_s)

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours(argv: list[str]) -> int:
    total = 0
    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async with child.stdout.subscribe() as events:
            async for event in events:
                assert isinstance(event, pf.Chunk)
                total += len(event.data)
        await child.wait()
    return total


async def ours_batches(argv: list[str]) -> int:
    total = 0
    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async with child.stdout.subscribe() as events:
            try:
                while True:
                    for event in await events.receive_batch():
                        assert isinstance(event, pf.Chunk)
                        total += len(event.data)
            except anyio.EndOfStream:
                pass
        await child.wait()
    return total


async def stream_reader(argv: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)  # noqa: TID251  # a peer
    assert process.stdout is not None
    total = 0
    while data := await process.stdout.read(BLOCK):
        total += len(data)
    await process.wait()
    return total


async def anyio_process(argv: list[str]) -> int:
    total = 0
    async with await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        async for data in process.stdout:
            total += len(data)
    return total


async def trio_process(argv: list[str]) -> int:
    process: Any = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE)
    total = 0
    while data := await process.stdout.receive_some(BLOCK):
        total += len(data)
    await process.wait()
    return total


def blocking(params: Params) -> Numbers:
    total = 0
    with timed() as timing, subprocess.Popen(command(params["mib"]), stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), BLOCK):
            total += len(data)
    return rates(total, timing.wall_s, timing.cpu_s)


BENCHMARK = Benchmark(
    title="Reading one child",
    about="`dd` writes zeros in blocks of 64 KiB; the whole output is read, counted and thrown away. The time includes starting the "
    "child. The base line is asyncio's `StreamReader.read(65536)`.",
    variants={
        "asyncio StreamReader": trial("asyncio", stream_reader),
        "uvloop StreamReader": trial("uvloop", stream_reader),
        "anyio on asyncio": trial("asyncio", anyio_process),
        "anyio on trio": trial("trio", anyio_process),
        "trio": trial("trio", trio_process),
        "blocking os.read": blocking,
        "procflow on asyncio": trial("asyncio", ours),
        "procflow on uvloop": trial("uvloop", ours),
        "procflow on trio": trial("trio", ours),
        "procflow on asyncio, receive_batch()": trial("asyncio", ours_batches),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
    ),
    cases={"": {}},
    params={"mib": 256},
    quick={"mib": 32},
)
