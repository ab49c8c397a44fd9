"""One child, all of its output to every one of N subscribers."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from benchmarks.children import BLOCK, zeros
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.peers import LARGE_BYTES
from benchmarks.reader import rates
from benchmarks.targets import Target

WINDOW_CHUNKS = 64
TURN_CHUNKS = WINDOW_CHUNKS // 3
Probe = Callable[[bytes], object]
"""Sees every chunk of the last subscriber, as soon as that has it."""
Spread = Callable[[list[str], int, "Probe | None"], Awaitable[int]]
"""Gives the output of a command to so many subscribers, and returns how many bytes all of them had together."""


def trial(backend: str, spread: Spread) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            with timed() as timing:
                delivered = await spread(zeros(params["mib"]), params["subscribers"], None)
            produced = params["mib"] << 20
            assert delivered == produced * params["subscribers"]
            return rates(produced, timing)

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours(argv: list[str], subscribers: int, probe: Probe | None) -> int:
    import anyio

    import procflow as pf

    delivered = 0

    async def consume(events: pf.Subscription) -> None:
        nonlocal delivered
        async with events:
            async for event in events:
                assert isinstance(event, pf.Chunk)
                delivered += len(event.data)

    async def consume_probed(events: pf.Subscription, probe: Probe) -> None:
        nonlocal delivered
        async with events:
            async for event in events:
                assert isinstance(event, pf.Chunk)
                probe(event.data)
                delivered += len(event.data)

    policy = pf.Reliable(buffer_bytes=WINDOW_CHUNKS * BLOCK)
    async with pf.spawn(pf.Command(*argv)) as child, anyio.create_task_group() as tasks:
        assert child.stdout is not None
        for _ in range(subscribers - (probe is not None)):
            tasks.start_soon(consume, child.stdout.subscribe(policy))
        if probe is not None:
            tasks.start_soon(consume_probed, child.stdout.subscribe(policy), probe)
    return delivered


async def ours_batches(argv: list[str], subscribers: int, _probe: Probe | None) -> int:
    import anyio

    import procflow as pf

    delivered = 0

    async def consume(events: pf.Subscription) -> None:
        nonlocal delivered
        async with events:
            try:
                while True:
                    for event in await events.receive_batch():
                        assert isinstance(event, pf.Chunk)
                        delivered += len(event.data)
            except anyio.EndOfStream:
                pass

    policy = pf.Reliable(buffer_bytes=WINDOW_CHUNKS * BLOCK)
    async with pf.spawn(pf.Command(*argv)) as child, anyio.create_task_group() as tasks:
        assert child.stdout is not None
        for _ in range(subscribers):
            tasks.start_soon(consume, child.stdout.subscribe(policy))
    return delivered


async def queues(argv: list[str], subscribers: int, probe: Probe | None) -> int:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)  # noqa: TID251  # a peer
    assert process.stdout is not None
    delivered = 0

    async def consume(queue: asyncio.Queue[bytes]) -> None:
        nonlocal delivered
        while data := await queue.get():
            delivered += len(data)

    async def consume_probed(queue: asyncio.Queue[bytes], probe: Probe) -> None:
        nonlocal delivered
        while data := await queue.get():
            probe(data)
            delivered += len(data)

    all_queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(WINDOW_CHUNKS) for _ in range(subscribers)]
    async with asyncio.TaskGroup() as tasks:
        for queue in all_queues[: subscribers - (probe is not None)]:
            tasks.create_task(consume(queue))
        if probe is not None:
            tasks.create_task(consume_probed(all_queues[-1], probe))
        while data := await process.stdout.read(BLOCK):
            for queue in all_queues:
                await queue.put(data)
        for queue in all_queues:
            await queue.put(b"")
    await process.wait()
    return delivered


async def memory_streams(argv: list[str], subscribers: int, _probe: Probe | None) -> int:
    import anyio

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


async def lockstep(argv: list[str], subscribers: int, _probe: Probe | None, *, by_batch: bool = False) -> int:
    """The least that gives chunks to tasks: a third of a window for all of them, and the next when the last one is done."""
    bytes(LARGE_BYTES)  # a warm heap: what is let go of costs no page faults
    loop = asyncio.get_running_loop()
    delivered = left = 0
    turn: asyncio.Future[list[bytes]] = loop.create_future()
    all_done = asyncio.Event()

    async def batches() -> AsyncIterator[list[bytes]]:
        nonlocal left
        while batch := await turn:
            yield batch
            left -= 1
            if left == 0:
                all_done.set()

    async def steps() -> AsyncIterator[bytes]:
        async for batch in batches():
            for data in batch:
                yield data

    async def consume() -> None:
        nonlocal delivered
        if by_batch:
            async for batch in batches():
                for data in batch:
                    delivered += len(data)
        else:
            async for data in steps():
                delivered += len(data)

    async def give(batch: list[bytes]) -> None:
        nonlocal turn, left
        given, turn, left = turn, loop.create_future(), subscribers
        all_done.clear()
        given.set_result(batch)
        if batch:
            await all_done.wait()

    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0, pipesize=256 * 1024) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        os.set_blocking(fd, False)
        is_readable = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(subscribers):
                tasks.create_task(consume())
            await asyncio.sleep(0)
            batch: list[bytes] = []
            loop.add_reader(fd, is_readable.set)
            while True:
                try:
                    data = os.read(fd, BLOCK)
                except BlockingIOError:
                    is_readable.clear()
                    await is_readable.wait()
                    continue
                if not data:
                    break
                batch.append(data)
                if len(batch) == TURN_CHUNKS:
                    await give(batch)
                    batch = []
            if batch:
                await give(batch)
            await give([])
        loop.remove_reader(fd)
    return delivered


ONE = "1 subscriber"
MANY = "64 subscribers"
QUEUES = "StreamReader + asyncio.Queue"
MEMORY_STREAMS = "anyio memory streams on asyncio"


LOCKSTEP = "bare lockstep, async for"
LOCKSTEP_BATCHES = "bare lockstep, batches"


def targets_of(variant: str, how: str, limit: str) -> tuple[Target, ...]:
    about = f"64 subscribers, {how}"
    return (
        Target(promise=f"{about}: CPU per GB against one", metric="cpu_s_gb", of=variant, over=variant, limit=limit, case=MANY, over_case=ONE, at_most=2),
        Target(promise=f"{about}: throughput against one", metric="gb_s", of=variant, over=variant, limit=limit, case=MANY, over_case=ONE, at_least=0.5),
        Target(promise=f"{about}: throughput over `asyncio.Queue` each", metric="gb_s", of=variant, over=QUEUES, limit=limit, case=MANY, at_least=8),
        Target(promise=f"{about}: throughput over anyio memory streams each", metric="gb_s", of=variant, over=MEMORY_STREAMS, limit=limit, case=MANY, at_least=20),
    )  # fmt: skip


BENCHMARK = Benchmark(
    title="Fan-out: every byte to N subscribers",
    about="`dd` writes zeros in blocks of 64 KiB, and N subscribers receive everything, reliably, behind a window of 64 chunks; "
    "rates count the child's bytes once. The base line is `StreamReader` with one `asyncio.Queue` a subscriber. "
    "Two rows in lockstep show the least that tasks cost: a third of a window at a time, every task waits for the slowest, and nothing is promised. "
    "Our rows take chunks with `async for`, the last one all that is there with `receive_batch()`.",
    variants={
        QUEUES: trial("asyncio", queues),
        MEMORY_STREAMS: trial("asyncio", memory_streams),
        LOCKSTEP: trial("asyncio", lockstep),
        LOCKSTEP_BATCHES: trial("asyncio", partial(lockstep, by_batch=True)),
        "procflow on asyncio": trial("asyncio", ours),
        "procflow on uvloop": trial("uvloop", ours),
        "procflow on trio": trial("trio", ours),
        "procflow on asyncio, receive_batch()": trial("asyncio", ours_batches),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
    ),
    cases={ONE: {"subscribers": 1}, MANY: {"subscribers": 64}},
    params={"mib": 128},
    quick={"mib": 8},
    targets=(
        *targets_of("procflow on asyncio", "`async for`", LOCKSTEP),
        *targets_of("procflow on asyncio, receive_batch()", "`receive_batch()`", LOCKSTEP_BATCHES),
    ),
)
