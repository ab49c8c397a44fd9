"""A flood of small writes: 80 bytes each, unbuffered, as fast as the child can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks import fanout, peers
from benchmarks.children import STAMP_BYTES, small_writes, stamped_lines
from benchmarks.delays import Delays
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.reader import Total
from benchmarks.targets import Target

ONE = "1 subscriber"
MANY = "64 subscribers"


def trial(backend: str, read: Callable[[list[str], int, Delays | None], Awaitable[int]]) -> Trial:
    """Two children one after the other: `dd`, for rate and CPU, then one that stamps its lines, for the delays."""

    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            count, subscribers = params["writes"], params["subscribers"]
            with timed() as timing:
                delivered = await read(small_writes(count), subscribers, None)
            assert delivered == count * STAMP_BYTES * subscribers
            delays = Delays()
            await read(stamped_lines(params["stamped"]), subscribers, delays)
            assert delays.total == params["stamped"] * STAMP_BYTES
            return {
                "m_lines_s": count / timing.wall_s / 1e6,
                "cpu_us_line": timing.cpu_s / count * 1e6,
                **{key.replace("_us", "_ms"): value / 1e3 for key, value in delays.numbers().items()},
            }

        found: Numbers = run_async(backend, main)
        return found

    return measured


def alone(read: peers.Reader) -> Callable[[list[str], int, Delays | None], Awaitable[int]]:
    """Return a reader for one subscriber as one for N."""

    async def reading(argv: list[str], subscribers: int, delays: Delays | None) -> int:
        assert subscribers == 1
        found = delays if delays is not None else Total()
        await read(argv, found.take)
        return found.total

    return reading


def spread(function: fanout.Spread) -> Callable[[list[str], int, Delays | None], Awaitable[int]]:
    async def reading(argv: list[str], subscribers: int, delays: Delays | None) -> int:
        return await function(argv, subscribers, delays.take if delays is not None else None)

    return reading


async def ours(argv: list[str], subscribers: int, delays: Delays | None) -> int:
    if subscribers == 1:
        return await alone(peers.ours)(argv, subscribers, delays)
    return await spread(fanout.ours)(argv, subscribers, delays)


VARIANTS: dict[str, Trial] = {
    "asyncio StreamReader": trial("asyncio", alone(peers.stream_reader)),
    "StreamReader + asyncio.Queue": trial("asyncio", spread(fanout.queues)),
    "uvloop StreamReader": trial("uvloop", alone(peers.stream_reader)),
    "anyio on asyncio": trial("asyncio", alone(peers.anyio_process)),
    "trio": trial("trio", alone(peers.trio_process)),
    "procflow on asyncio": trial("asyncio", ours),
    "procflow on uvloop": trial("uvloop", ours),
    "procflow on trio": trial("trio", ours),
}


def target(promise: str, metric: str, over: str, bound: float, case: str, over_case: str, *, is_added: bool) -> Target:
    return Target(
        promise=f"flood of 80-byte writes, {promise}",
        metric=metric,
        of="procflow on asyncio",
        over=over,
        case=case,
        over_case=over_case,
        at_most=bound,
        is_difference=is_added,
        unit="ms" if is_added else "",
    )


BENCHMARK = Benchmark(
    title="A flood of small writes",
    about="A child writes 80 bytes with every call, as fast as it can. Rate and CPU are those of reading `dd bs=80`; "
    "delays, from just before the write to the receipt, those of reading a second child, a Python program that puts the time into each line. "
    "That one is slower than `dd`: what it waits for a full pipe counts as delay, too. "
    "With 64 subscribers, each receives everything, and the delay is the last one's. "
    "The base line is `StreamReader.read()`, with 64 subscribers and one `asyncio.Queue` each.",
    variants=VARIANTS,
    metrics=(
        Metric(key="m_lines_s", title="M writes/s", has_ratio=True),
        Metric(key="cpu_us_line", title="CPU µs/write", has_ratio=True),
        Metric(key="p50_ms", title="delay p50 ms"),
        Metric(key="p99_ms", title="p99 ms"),
    ),
    cases={ONE: {"subscribers": 1}, MANY: {"subscribers": 64}},
    params={"writes": 200_000, "stamped": 100_000},
    quick={"writes": 5000, "stamped": 5000},
    applies=lambda case, variant: (
        variant != "StreamReader + asyncio.Queue"
        if case == ONE
        else variant in {"StreamReader + asyncio.Queue", "procflow on asyncio"}
    ),
    targets=(
        target("one subscriber: CPU against StreamReader", "cpu_us_line", "asyncio StreamReader", 0.2, ONE, ONE, is_added=False),
        target("64 subscribers: CPU against StreamReader with one", "cpu_us_line", "asyncio StreamReader", 0.3, MANY, ONE, is_added=False),
        target("64 subscribers: CPU against StreamReader and 64 queues", "cpu_us_line", "StreamReader + asyncio.Queue", 0.3, MANY, MANY, is_added=False),
        target("one subscriber: delay added to StreamReader's, p50", "p50_ms", "asyncio StreamReader", 2, ONE, ONE, is_added=True),
        target("one subscriber: delay added to StreamReader's, p99", "p99_ms", "asyncio StreamReader", 2, ONE, ONE, is_added=True),
    ),
)  # fmt: skip
