"""What it costs to have calls recorded: many short ones, and one that writes a lot."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.redaction import SECRETS, secrets
from benchmarks.targets import Target
from procflow.record import open_run

Opening = Callable[[str], AbstractAsyncContextManager[object]]

SHORT, PACED, FLOOD = "many short calls", "one call that writes 100 MB/s", "one call that writes as fast as it can"

WRITER = """
import os, sys, time
block = (b"a line of a build that says what it does, and to which file it does it, in 80 bytes\\n" * 12000)[:1_000_000]
began = time.monotonic()
for number in range(int(sys.argv[1])):
    if sys.argv[2] == "True":
        time.sleep(max(0, began + number / 100 - time.monotonic()))
    os.write(1, block)
"""


def make_file(directory: str, number: int) -> None:
    """Make an empty file as a log is made."""
    os.close(os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def trial(opening: Opening, *, each: Callable[[str, int], object] = lambda _directory, _number: None) -> Trial:
    """Return the trial that makes the calls in the block that ``opening`` gives for a directory, and does something before each."""

    async def calls(params: Params, directory: str) -> Numbers:
        command = pf.Command("true")
        async with opening(directory):
            for _ in range(20):
                await pf.run(command)
            with timed() as timing:
                for number in range(params["count"]):
                    each(directory, number)
                    await pf.run(command)
        return {"wall_us": timing.wall_s / params["count"] * 1e6, "cpu_us": timing.cpu_s / params["count"] * 1e6}

    async def flood(params: Params, directory: str) -> Numbers:
        script = pf.Command(sys.executable, "-c", WRITER, str(params["blocks"]), str(params["paced"]))
        async with opening(directory):
            with timed() as timing:
                await pf.run(script)
        return {"wall_us": timing.wall_s * 1e6, "cpu_us": timing.cpu_s * 1e6}

    def measured(params: Params) -> Numbers:
        with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
            return anyio.run(calls if params["case"] == SHORT else flood, params, directory)

    return measured


BARE, FILE = "not recorded", "not recorded, but a file is made for each"
NONE, MANY, UNLOGGED = "recorded", f"recorded, {SECRETS} secrets", "recorded without logs"

BENCHMARK = Benchmark(
    title="Recorded calls",
    about="`true` is run again and again, one after the other, as `procflow.run()` does it by default; and a child writes 200 MB, 100 MB a second or as fast as it can. Not recorded, and inside of `open_run()`, "
    "with logs, all rules of redaction, and 20 secrets or none. The record is on the local disk; nothing is synced but its first and last line.",
    variants={
        BARE: trial(lambda _: nullcontext()),
        FILE: trial(lambda _: nullcontext(), each=make_file),
        UNLOGGED: trial(lambda directory: open_run("x", record=directory, logs=False)),
        NONE: trial(lambda directory: open_run("x", record=directory)),
        MANY: trial(lambda directory: open_run("x", record=directory, secrets=secrets(SECRETS))),
    },
    metrics=(
        Metric(key="wall_us", title="µs", format=".0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs", format=".0f", has_ratio=True),
    ),
    cases={SHORT: {"case": SHORT}, PACED: {"case": PACED, "paced": True}, FLOOD: {"case": FLOOD, "paced": False}},
    params={"count": 1000, "blocks": 200},
    quick={"count": 30, "blocks": 4},
    rounds=5,
    targets=(
        Target(promise="1,000 recorded calls with 20 secrets (RR-101)", metric="wall_us", of=MANY, over=BARE, case=SHORT, at_most=1.05, limit=FILE),
        Target(promise="1,000 recorded calls with no secrets", metric="wall_us", of=NONE, over=BARE, case=SHORT, at_most=1.03, limit=FILE),
        Target(promise="a child that writes 100 MB/s and is logged (RR-75)", metric="wall_us", of=NONE, over=BARE, case=PACED, at_most=1.15),
        Target(promise="the same with 20 secrets", metric="wall_us", of=MANY, over=BARE, case=PACED, at_most=1.15),
    ),
)  # fmt: skip
