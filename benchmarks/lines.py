"""Lines of 80 bytes from a child, as text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from benchmarks.children import BLOCK
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.targets import Target

LINE_BYTES = 80


@contextlib.contextmanager
def file_of_lines(params: Params) -> Iterator[Params]:
    """Make the file that the child writes out: lines of different text and equal length."""
    with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
        path = Path(directory) / "lines"
        block = b"".join(
            f"{number:>20} the quick brown fox jumps over the lazy dog".ljust(79).encode() + b"\n"
            for number in range(12_800)
        )
        with path.open("wb") as file:
            for _ in range(params["mib"]):
                file.write(block)
        yield {"file": str(path), "lines": params["mib"] * 12_800}


def command(params: Params) -> list[str]:
    return ["dd", f"if={params['file']}", "bs=64k", "status=none"]


def rates(count: int, wall_s: float, cpu_s: float) -> Numbers:
    return {"m_lines_s": count / wall_s / 1e6, "cpu_us_line": cpu_s / count * 1e6}


def trial(backend: str, read: Callable[[list[str]], Awaitable[int]]) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            with timed() as timing:
                count = await read(command(params))
            assert count == params["lines"]
            return rates(count, timing.wall_s, timing.cpu_s)

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours_lines(argv: list[str]) -> int:
    import procflow as pf

    count = 0
    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async for _line in child.stdout.lines():
            count += 1
    return count


async def ours_batches(argv: list[str]) -> int:
    import procflow as pf

    count = 0
    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async for lines in child.stdout.line_batches():
            for _line in lines:
                count += 1
    return count


async def stream_reader(argv: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)  # noqa: TID251  # a peer
    assert process.stdout is not None
    count = 0
    async for line in process.stdout:
        line.decode()
        count += 1
    await process.wait()
    return count


async def anyio_lines(argv: list[str]) -> int:
    import anyio.streams.buffered

    count = 0
    async with await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        stream = anyio.streams.buffered.BufferedByteReceiveStream(process.stdout)
        try:
            while True:
                line = await stream.receive_until(b"\n", 1 << 20)
                line.decode()
                count += 1
        except (anyio.EndOfStream, anyio.IncompleteRead):
            pass
    return count


def chunks_of_text(argv: list[str]) -> Iterator[list[str]]:
    """The least that makes lines: blocking reads, one decoding and one split for each."""
    rest = b""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0, pipesize=256 * 1024) as process:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), BLOCK):
            end = data.rfind(b"\n") + 1
            lines = (rest + data[:end]).decode().split("\n")
            rest = data[end:]
            del lines[-1]
            yield lines


async def bare_batches(argv: list[str]) -> int:
    count = 0
    for lines in chunks_of_text(argv):
        for _line in lines:
            count += 1
    return count


async def bare_steps(argv: list[str]) -> int:
    async def steps() -> AsyncIterator[str]:
        for lines in chunks_of_text(argv):
            for line in lines:
                yield line

    count = 0
    async for _line in steps():
        count += 1
    return count


def blocking(params: Params) -> Numbers:
    count = 0
    with timed() as timing, subprocess.Popen(command(params), stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for _line in process.stdout:
            count += 1
    return rates(count, timing.wall_s, timing.cpu_s)


BENCHMARK = Benchmark(
    title="Lines",
    about="A child writes lines of 80 bytes in blocks of 64 KiB; every line is decoded and counted. "
    "The base line is `async for line in process.stdout` with `line.decode()`. "
    "Two rows have nothing built on them: blocking reads that are decoded and split at once, with and without an `async for` step for each line.",
    variants={
        "asyncio StreamReader": trial("asyncio", stream_reader),
        "uvloop StreamReader": trial("uvloop", stream_reader),
        "anyio receive_until on asyncio": trial("asyncio", anyio_lines),
        "anyio receive_until on trio": trial("trio", anyio_lines),
        "blocking text": blocking,
        "blocking os.read and split": trial("asyncio", bare_batches),
        "blocking os.read and split, an async for step each": trial("asyncio", bare_steps),
        "procflow lines() on asyncio": trial("asyncio", ours_lines),
        "procflow lines() on uvloop": trial("uvloop", ours_lines),
        "procflow lines() on trio": trial("trio", ours_lines),
        "procflow line_batches() on asyncio": trial("asyncio", ours_batches),
        "procflow line_batches() on uvloop": trial("uvloop", ours_batches),
        "procflow line_batches() on trio": trial("trio", ours_batches),
    },
    metrics=(
        Metric(key="m_lines_s", title="M lines/s", has_ratio=True),
        Metric(key="cpu_us_line", title="CPU µs/line", has_ratio=True),
    ),
    cases={"": {}},
    params={"mib": 32},
    quick={"mib": 2},
    prepare=file_of_lines,
    targets=(
        Target(promise="80-byte lines: `lines()` over `async for line in StreamReader`", metric="m_lines_s", of="procflow lines() on asyncio", over="asyncio StreamReader", limit="blocking os.read and split, an async for step each", at_least=5),
        Target(promise="80-byte lines: `line_batches()` over `async for line in StreamReader`", metric="m_lines_s", of="procflow line_batches() on asyncio", over="asyncio StreamReader", limit="blocking os.read and split", at_least=9),
        Target(promise="80-byte lines: `line_batches()` over blocking text iteration", metric="m_lines_s", of="procflow line_batches() on asyncio", over="blocking text", limit="blocking os.read and split", at_least=1),
    ),
)  # fmt: skip
