"""What a stream costs its host in memory, measured from outside its own bookkeeping."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1024 * 1024
BOUND_BYTES = MIB + 64 * 1024  # of the default replay, and of one Reliable(): the largest, and one read
SLACK_BYTES = 4 * MIB

# VmHWM belongs to the address space, so it starts anew with each program, unlike ru_maxrss; "5" resets it to what is resident.
HOST = """
import os, subprocess, sys
import anyio
from procflow._streams.reading.source import FdSource
from procflow._streams.stream import open_stream
from procflow.policies import BestEffort, Reliable, Replay, StreamConfig

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))

async def read(total, mode):
    child = subprocess.Popen(["head", "-c", str(total), "/dev/zero"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    source = FdSource(os.dup(child.stdout.fileno()))
    child.stdout.close()
    config = StreamConfig(replay=Replay.all()) if mode == "replay all" else StreamConfig()
    async with open_stream(source, config) as stream:
        if mode == "reliable":
            stalled = stream.subscribe(Reliable())
            while not stream.statistics().stalled_by and stream.ending is None:
                await anyio.sleep(0)
        else:
            stalled = stream.subscribe(BestEffort()) if mode == "best effort" else None
            await stream.wait_ended()
        produced = stream.produced_bytes
        if stalled is not None:
            stalled.close()
    child.kill()
    child.wait()
    return produced

async def main():
    mode = sys.argv[2]
    await read(1, mode)
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = memory("VmRSS")
    produced = await read(int(sys.argv[3]), mode)
    print(produced, memory("VmHWM") - before)

backend, use_uvloop = {"asyncio": ("asyncio", False), "uvloop": ("asyncio", True), "trio": ("trio", None)}[sys.argv[1]]
anyio.run(main, backend=backend, backend_options={} if use_uvloop is None else {"use_uvloop": use_uvloop})
"""


def produced_and_growth(tmp_path: Path, backend: str, mode: str, total_bytes: int) -> tuple[int, int]:
    program = tmp_path / "host.py"
    program.write_text(HOST)
    done = subprocess.run(
        [sys.executable, program, backend, mode, str(total_bytes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    produced, growth = map(int, done.stdout.split())
    return produced, growth


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("mode", ["no subscriber", "best effort", "reliable"])
def test_a_child_that_writes_much_costs_no_more_than_the_bound(backend: str, mode: str, tmp_path: Path) -> None:
    """C-28: a child writes 1 GiB; the peak of its host's memory grows by less than the stated bound and 4 MiB."""
    produced, growth = produced_and_growth(tmp_path, backend, mode, 1024 * MIB)

    if mode == "reliable":  # stalled: the child is stopped by it
        assert MIB <= produced <= BOUND_BYTES
    else:
        assert produced == 1024 * MIB
    assert growth < BOUND_BYTES + SLACK_BYTES


def test_the_measurement_sees_what_a_stream_keeps(tmp_path: Path) -> None:
    """C-28: the control: with unbounded replay the same measurement shows every byte that was kept."""
    produced, growth = produced_and_growth(tmp_path, "asyncio", "replay all", 32 * MIB)

    assert produced == 32 * MIB
    assert growth > 32 * MIB - SLACK_BYTES
