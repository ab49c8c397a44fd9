"""Subscribers that never read, under best effort: what they cost the producer, and what memory they hold."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat

import procflow as pf
from benchmarks.children import BLOCK, zeros
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.sources import Chunks
from benchmarks.targets import Target

CHUNK = b"x" * 4096
WINDOW_BYTES = 2 << 20
WINDOW_CHUNKS = WINDOW_BYTES // BLOCK


def fresh() -> bytes:
    """A chunk with memory of its own."""
    return b"x" * BLOCK


@contextlib.contextmanager
def traced() -> Iterator[Callable[[], float]]:
    """Give a function that says how many MiB of Python objects have come since, and still live."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield lambda: (tracemalloc.get_traced_memory()[0] - before) / 2**20
    finally:
        tracemalloc.stop()


def in_memory(params: Params) -> Numbers:
    """One stream in memory with stuck subscribers; then another whose subscribers got stuck at different times."""
    subscribers = params["subscribers"]

    async def main() -> Numbers:
        source = Chunks(repeat(CHUNK, params["chunks"]))
        async with pf.open_stream(source) as stream:
            stuck = [stream.subscribe(pf.BestEffort()) for _ in range(subscribers)]
            before = time.process_time()
            await stream.wait_ended()
            elapsed_s = time.process_time() - before
            for subscription in stuck:
                subscription.close()
        assert stream.produced_bytes == params["chunks"] * len(CHUNK)

        stuck = []
        policy = pf.BestEffort(buffer_bytes=WINDOW_BYTES)

        def staggered() -> Iterator[bytes]:
            for _ in range(subscribers):
                # Live: history that a subscriber attaches with is promised to it, and so would be held for it.
                stuck.append(holding.subscribe(policy, start="live"))
                for _ in range(WINDOW_CHUNKS):
                    yield fresh()

        async with pf.open_stream(Chunks(staggered())) as holding:
            with traced() as mib_held:
                await holding.wait_ended()
                held_mib = mib_held()
            assert len(stuck) == subscribers
        return {"ns_chunk": elapsed_s / params["chunks"] * 1e9, "held_mib": held_mib}

    found: Numbers = run_async("asyncio", main)
    return found


def queues(params: Params) -> Numbers:
    """The same with a bounded queue each that drops what is new when it is full."""
    subscribers = params["subscribers"]

    def offer(queue: asyncio.Queue[bytes], chunk: bytes) -> None:
        if not queue.full():
            queue.put_nowait(chunk)

    async def main() -> Numbers:
        stuck: list[asyncio.Queue[bytes]] = [asyncio.Queue(WINDOW_CHUNKS) for _ in range(subscribers)]
        chunks = params["chunks"] // 10
        before = time.process_time()
        for _ in range(chunks):
            for queue in stuck:
                offer(queue, CHUNK)
        elapsed_s = time.process_time() - before

        stuck = []
        with traced() as mib_held:
            for _ in range(subscribers):
                stuck.append(asyncio.Queue(WINDOW_CHUNKS))
                for _ in range(WINDOW_CHUNKS):
                    chunk = fresh()
                    for queue in stuck:
                        offer(queue, chunk)
            held_mib = mib_held()
        return {"ns_chunk": elapsed_s / chunks * 1e9, "held_mib": held_mib}

    found: Numbers = run_async("asyncio", main)
    return found


def deques(params: Params) -> Numbers:
    """The same with the cheapest bounded thing there is, which drops what is old."""
    subscribers = params["subscribers"]
    stuck: list[deque[bytes]] = [deque(maxlen=WINDOW_CHUNKS) for _ in range(subscribers)]
    before = time.process_time()
    for _ in range(params["chunks"]):
        for held in stuck:
            held.append(CHUNK)
    elapsed_s = time.process_time() - before
    return {"ns_chunk": elapsed_s / params["chunks"] * 1e9}


def of_child(backend: str) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            with timed() as timing:
                async with pf.spawn(pf.Command(*zeros(params["mib"]))) as child:
                    assert child.stdout is not None
                    stuck = [child.stdout.subscribe(pf.BestEffort()) for _ in range(params["subscribers"])]
                    await child.stdout.wait_ended()
                    await child.wait()
                    for subscription in stuck:
                        subscription.close()
            assert child.stdout.produced_bytes == params["mib"] << 20
            return {"ns_chunk": timing.cpu_s / (params["mib"] * 16) * 1e9}

        found: Numbers = run_async(backend, main)
        return found

    return measured


def target(promise: str, metric: str, of: str, bound: float) -> Target:
    return Target(promise=promise, metric=metric, of=of, over=of, case="64 stuck", over_case="1 stuck", at_most=bound)


BENCHMARK = Benchmark(
    title="Stuck subscribers",
    about="Subscribers that take best-effort delivery and never read. In memory: a stream of 4 KiB chunks, CPU time a chunk; "
    "then one of 64 KiB chunks whose subscribers attach one after the other, each 2 MiB later than the one before and with a window of 2 MiB: "
    "what Python objects take while all of them are there. "
    "From a child: 64 KiB blocks of `dd`, CPU time a chunk, its reading included. "
    "The base line is a bounded `asyncio.Queue` each that is offered every chunk; a `deque(maxlen=)` is the cheapest thing that loses anything.",
    variants={
        "asyncio.Queue each": queues,
        "deque each": deques,
        "procflow, in memory": in_memory,
        "procflow, from a child": of_child("asyncio"),
    },
    metrics=(
        Metric(key="ns_chunk", title="ns a chunk", format=".0f", has_ratio=True),
        Metric(key="held_mib", title="MiB held", format=".1f", has_ratio=True),
    ),
    cases={"1 stuck": {"subscribers": 1}, "64 stuck": {"subscribers": 64}},
    params={"chunks": 100_000, "mib": 512},
    quick={"chunks": 2000, "mib": 8},
    targets=(
        target("64 stuck subscribers, in memory: producer's cost a chunk against one", "ns_chunk", "procflow, in memory", 1.1),
        target("64 stuck subscribers, from a child: CPU a chunk against one", "ns_chunk", "procflow, from a child", 1.1),
        target("64 stuck subscribers: memory against one (one window, not 64)", "held_mib", "procflow, in memory", 1.25),
    ),
)  # fmt: skip
