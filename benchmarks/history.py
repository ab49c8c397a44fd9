"""What history costs while a child is read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import procflow as pf
from benchmarks.children import zeros
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.reader import rates

MIB = 1 << 20


def trial(make_replay: Callable[[], pf.Replay]) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            total = 0
            config = pf.StreamConfig(replay=make_replay())
            with timed() as timing:
                async with pf.spawn(pf.Command(*zeros(params["mib"])), stdout=config) as child:
                    assert child.stdout is not None
                    async with child.stdout.subscribe() as events:
                        async for event in events:
                            assert isinstance(event, pf.Chunk)
                            total += len(event.data)
                    await child.wait()
            assert total == params["mib"] << 20
            return rates(total, timing)

        found: Numbers = run_async("asyncio", main)
        return found

    return measured


BENCHMARK = Benchmark(
    title="What history costs",
    about="One child, one reliable subscriber as above, and a stream that keeps history for others. The base line keeps none. "
    "The file is an unnamed one in the directory for temporary files.",
    variants={
        "procflow, Replay.none()": trial(pf.Replay.none),
        "procflow, the default": trial(lambda: pf.Replay.while_unsubscribed(MIB)),
        "procflow, last 1 MiB": trial(lambda: pf.Replay.last_bytes(MIB)),
        "procflow, last 64 MiB": trial(lambda: pf.Replay.last_bytes(64 * MIB)),
        "procflow, last 100 chunks": trial(lambda: pf.Replay.last_chunks(100)),
        "procflow, everything": trial(pf.Replay.all),
        "procflow, everything in a file": trial(lambda: pf.Replay.all(spill=tempfile.gettempdir())),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
    ),
    cases={"": {}},
    params={"mib": 256},
    quick={"mib": 8},
)
