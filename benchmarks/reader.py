"""Bulk reading: one child that writes as fast as it can, one reader."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import children, peers
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Timing, Trial, run_async, timed
from benchmarks.targets import Target

CHILDREN: dict[str, Callable[[int], list[str]]] = {"dd": children.zeros, "splice": children.spliced}
DD = "dd, 64 KiB writes"
SPLICE = "spliced pages"


class Total:
    """Counts bytes."""

    def __init__(self) -> None:
        self.total = 0

    def take(self, data: bytes) -> None:
        self.total += len(data)


def command(params: Params) -> list[str]:
    return CHILDREN[params["child"]](params["mib"])


def rates(total: int, timing: Timing) -> Numbers:
    gigabytes = total / 1e9
    return {
        "gb_s": gigabytes / timing.wall_s,
        "cpu_s_gb": timing.cpu_s / gigabytes,
        "busy": timing.cpu_s / timing.wall_s,
    }


def trial(backend: str, read: peers.Reader) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            found = Total()
            with timed() as timing:
                await read(command(params), found.take)
            assert found.total == params["mib"] << 20
            return rates(found.total, timing)

        numbers: Numbers = run_async(backend, main)
        return numbers

    return measured


def blocking(pipe_kib: int) -> Trial:
    def measured(params: Params) -> Numbers:
        found = Total()
        with timed() as timing:
            peers.blocking(command(params), found.take, pipe_bytes=pipe_kib * 1024)
        assert found.total == params["mib"] << 20
        return rates(found.total, timing)

    return measured


def target(
    promise: str,
    metric: str,
    of: str,
    over: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    case: str = SPLICE,
    limit: str | None = "blocking os.read, 256 KiB pipe",
) -> Target:
    return Target(
        promise=promise, metric=metric, of=of, over=over, case=case, at_least=at_least, at_most=at_most, limit=limit
    )


BENCHMARK = Benchmark(
    title="Reading one child",
    about="The whole output of a child is read, counted and thrown away; the time includes starting the child. "
    "`dd` writes zeros in blocks of 64 KiB. Its own copy into the pipe takes as long as the reader's copy out of it, so fast readers wait for it. "
    "The second child splices pages into its pipe and copies nothing: there the reader is what is measured, and the targets are judged there, "
    "except against uvloop, which gives its children a socket that takes no pages. "
    "How busy a row is says how much of the time the reader had a CPU. "
    "A warm heap is that of a program that has let go of an object of more than 256 KiB before, as most large programs have: there asyncio's reads cost no page faults. "
    "The base line is asyncio's `StreamReader.read(65536)`; peers have the pipe that they make, of 64 KiB, unless a row says otherwise.",
    variants={
        "asyncio StreamReader": trial("asyncio", peers.stream_reader),
        "asyncio StreamReader, warm heap": trial("asyncio", peers.stream_reader_warm_heap),
        "asyncio StreamReader, 256 KiB pipe": trial("asyncio", peers.stream_reader_large_pipe),
        "uvloop StreamReader": trial("uvloop", peers.stream_reader),
        "uvloop transport": trial("uvloop", peers.transport),
        "anyio on asyncio": trial("asyncio", peers.anyio_process),
        "anyio on trio": trial("trio", peers.anyio_process),
        "trio": trial("trio", peers.trio_process),
        "blocking os.read, 64 KiB pipe": blocking(64),
        "blocking os.read, 256 KiB pipe": blocking(256),
        "procflow on asyncio": trial("asyncio", peers.ours),
        "procflow on uvloop": trial("uvloop", peers.ours),
        "procflow on trio": trial("trio", peers.ours),
        "procflow on asyncio, receive_batch()": trial("asyncio", peers.ours_batches),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
        Metric(key="busy", title="busy", format=".0%"),
    ),
    cases={DD: {"child": "dd"}, SPLICE: {"child": "splice"}},
    params={"mib": 512},
    quick={"mib": 16},
    applies=lambda case, variant: case == DD or not ("uvloop" in variant or variant == "anyio on trio"),
    targets=(
        target("bulk, one subscriber: throughput over StreamReader", "gb_s", "procflow on asyncio", "asyncio StreamReader", at_least=6),
        target("bulk, one subscriber: throughput over StreamReader in a program whose heap is warm (the study's floor)", "gb_s", "procflow on asyncio", "asyncio StreamReader, warm heap", at_least=3.5),
        target("bulk, one subscriber: throughput over anyio", "gb_s", "procflow on asyncio", "anyio on asyncio", at_least=6),
        target("bulk, one subscriber: CPU per GB against StreamReader", "cpu_s_gb", "procflow on asyncio", "asyncio StreamReader", at_most=0.2),
        target("bulk, one subscriber: CPU per GB against anyio", "cpu_s_gb", "procflow on asyncio", "anyio on asyncio", at_most=0.2),
        target("bulk, one subscriber: throughput over blocking `os.read`, same pipe", "gb_s", "procflow on asyncio", "blocking os.read, 256 KiB pipe", at_least=0.75, limit=None),
        target("bulk, trio: throughput over procflow on asyncio", "gb_s", "procflow on trio", "procflow on asyncio", at_least=0.6),
        target("bulk, trio: throughput over trio's own", "gb_s", "procflow on trio", "trio", at_least=1.3),
        target("bulk, uvloop: throughput over uvloop's own transport", "gb_s", "procflow on uvloop", "uvloop transport", at_least=1, case=DD),
    ),
)  # fmt: skip
