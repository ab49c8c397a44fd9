"""One child, all of its output to every one of N subscribers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable

import anyio

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.reader import BLOCK, command, rates

WINDOW_CHUNKS = 64


def trial(backend: str, spread: Callable[[list[str], int], Awaitable[int]]) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            with timed() as timing:
                delivered = await spread(command(params["mib"]), params["subscribers"])
            produced = params["mib"] << 20
            assert delivered == produced * params["subscribers"]
            return rates(produced, timing.wall_s, timing.cpu_s)

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours(argv: list[str], subscribers: int) -> int:
    delivered = 0

    async def consume(events: pf.Subscription) -> None:
        nonlocal delivered
        async with events:
            async for event in events:
                assert isinstance(event, pf.Chunk)
                delivered += len(event.data)

    policy = pf.Reliable(buffer_bytes=WINDOW_CHUNKS * BLOCK)
    async with pf.spawn(pf.Command(*argv)) as child, anyio.create_task_group() as tasks:
        assert child.stdout is not None
        for _ in range(subscribers):
            tasks.start_soon(consume, child.stdout.subscribe(policy))
    return delivered


async def queues(argv: list[str], subscribers: int) -> int:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)  # noqa: TID251  # a peer
    assert process.stdout is not None
    delivered = 0

    async def consume(queue: asyncio.Queue[bytes]) -> None:
        nonlocal delivered
        while data := await queue.get():
            delivered += len(data)

    all_queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(WINDOW_CHUNKS) for _ in range(subscribers)]
    async with asyncio.TaskGroup() as tasks:
        for queue in all_queues:
            tasks.create_task(consume(queue))
        while data := await process.stdout.read(BLOCK):
            for queue in all_queues:
                await queue.put(data)
        for queue in all_queues:
            await queue.put(b"")
    await process.wait()
    return delivered


async def memory_streams(argv: list[str], subscribers: int) -> int:
    delivered = 0
    pairs = [anyio.create_memory_object_stream[bytes](WINDOW_CHUNKS) for _ in range(subscribers)]

    async def consume(receive: anyio.abc.ObjectReceiveStream[bytes]) -> None:
        nonlocal delivered
        async with receive:
            async for data in receive:
                delivered += len(data)

    async with (
        await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        anyio.create_task_group() as tasks,
    ):
        assert process.stdout is not None
        for _, receive in pairs:
            tasks.start_soon(consume, receive)
        async for data in process.stdout:
            for send, _ in pairs:
                await send.send(data)
        for send, _ in pairs:
            await send.aclose()
    return delivered


async def stuck(argv: list[str], subscribers: int) -> int:
    """All but one subscriber take best-effort delivery and never read."""
    total = 0
    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        idle = [child.stdout.subscribe(pf.BestEffort()) for _ in range(subscribers - 1)]
        async with child.stdout.subscribe() as events:
            async for event in events:
                assert isinstance(event, pf.Chunk)
                total += len(event.data)
        for subscription in idle:
            await subscription.aclose()
    return total * subscribers


BENCHMARK = Benchmark(
    title="Fan-out: every byte to N subscribers",
    about="As above, with N subscribers that each receive everything, reliably, behind a window of 64 chunks; rates count the child's "
    "bytes once. The base line is `StreamReader` with one `asyncio.Queue` a subscriber. "
    "In the last row all subscribers but one are best effort and stuck: they cost nothing.",
    variants={
        "StreamReader + asyncio.Queue": trial("asyncio", queues),
        "anyio memory streams on asyncio": trial("asyncio", memory_streams),
        "anyio memory streams on trio": trial("trio", memory_streams),
        "procflow on asyncio": trial("asyncio", ours),
        "procflow on uvloop": trial("uvloop", ours),
        "procflow on trio": trial("trio", ours),
        "procflow on asyncio, N - 1 stuck": trial("asyncio", stuck),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
    ),
    cases={"1 subscriber": {"subscribers": 1}, "64 subscribers": {"subscribers": 64, "mib": 48}},
    params={"mib": 128},
    quick={"mib": 16},
    applies=lambda case, variant: "stuck" not in variant or case != "1 subscriber",
)
