"""The kill experiment: a command with a deadline, and what is left of it when the call has returned."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import trio

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async

TOKEN = "PROCFLOW_BENCH_TOKEN"
SHELL = "sleep 60 & sleep 60; echo never"
PATIENCE_S = 3.0
Attempt = Callable[[dict[str, str], float], Awaitable[None]]


def alive(token: str) -> list[int]:
    """Return every process whose environment holds the token; a zombie has none."""
    needle = f"{TOKEN}={token}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def numbers(token: str, before: float) -> Numbers:
    """Return the numbers of a call that has just returned, and end what it left."""
    returned_s = time.perf_counter() - before
    left = alive(token)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return {"returned_s": returned_s, "left": len(left)}


def environ_with(token: str) -> dict[str, str]:
    # The environment of this process must not hold it: only the children count.
    return {**os.environ, TOKEN: token}


def on(backend: str, attempt: Attempt) -> Trial:
    def trial(params: Params) -> Numbers:
        async def main() -> Numbers:
            token = uuid.uuid4().hex
            before = time.perf_counter()
            await attempt(environ_with(token), params["deadline_s"])
            return numbers(token, before)

        found: Numbers = run_async(backend, main)
        return found

    return trial


def subprocess_run(params: Params) -> Numbers:
    token = uuid.uuid4().hex
    before = time.perf_counter()
    with contextlib.suppress(subprocess.TimeoutExpired):
        argv = ["sh", "-c", SHELL]
        subprocess.run(argv, env=environ_with(token), capture_output=True, timeout=params["deadline_s"], check=False)
    return numbers(token, before)


async def _asyncio_process(environ: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
        "sh", "-c", SHELL, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def communicate(environ: dict[str, str], deadline_s: float) -> None:
    process = await _asyncio_process(environ)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), deadline_s)


async def kill_and_wait(environ: dict[str, str], deadline_s: float) -> None:
    process = await _asyncio_process(environ)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), deadline_s)
    process.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), PATIENCE_S)


async def anyio_run(environ: dict[str, str], deadline_s: float) -> None:
    with anyio.move_on_after(deadline_s):
        await anyio.run_process(["sh", "-c", SHELL], env=environ)


async def trio_run(environ: dict[str, str], deadline_s: float) -> None:
    run_process: Any = trio.run_process
    with trio.move_on_after(deadline_s):
        await run_process(["sh", "-c", SHELL], env=environ, capture_stdout=True, capture_stderr=True)


async def ours_deadline(environ: dict[str, str], deadline_s: float) -> None:
    with contextlib.suppress(pf.TimedOut):
        await pf.run(pf.Command("sh", "-c", SHELL, env=environ), timeout_s=deadline_s)


async def ours_cancelled(environ: dict[str, str], deadline_s: float) -> None:
    with anyio.move_on_after(deadline_s):
        await pf.run(pf.Command("sh", "-c", SHELL, env=environ))


BENCHMARK = Benchmark(
    title="The kill experiment",
    about="A shell starts two `sleep`s, one of them in the background, and is given a deadline of 0.3 s with its output captured. "
    "When has the call returned, and how many processes are alive at that moment? Peers with their default settings. "
    f"asyncio's `wait()` after `kill()` waits for the pipe's end, which the `sleep`s hold; it is given up after {PATIENCE_S:g} s.",
    variants={
        "subprocess.run(timeout=)": subprocess_run,
        "asyncio wait_for(communicate())": on("asyncio", communicate),
        "asyncio, then kill() and wait()": on("asyncio", kill_and_wait),
        "uvloop wait_for(communicate())": on("uvloop", communicate),
        "anyio.run_process on asyncio": on("asyncio", anyio_run),
        "anyio.run_process on trio": on("trio", anyio_run),
        "trio.run_process": on("trio", trio_run),
        "procflow run(timeout_s=) on asyncio": on("asyncio", ours_deadline),
        "procflow run(timeout_s=) on uvloop": on("uvloop", ours_deadline),
        "procflow run(timeout_s=) on trio": on("trio", ours_deadline),
        "procflow run() cancelled, on asyncio": on("asyncio", ours_cancelled),
        "procflow run() cancelled, on uvloop": on("uvloop", ours_cancelled),
        "procflow run() cancelled, on trio": on("trio", ours_cancelled),
    },
    metrics=(
        Metric(key="returned_s", title="returned after s"),
        Metric(key="left", title="processes left (most of all rounds)", format=".0f", is_worst=True),
    ),
    cases={"": {}},
    params={"deadline_s": 0.3},
    quick={},
    rounds=5,
)
