"""What a spilled history costs its host in memory, and that every byte of it is there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from procflow._streams.history.archive import MEMORY_BYTES
from procflow._streams.history.spill import LOAD_BYTES

MIB = 1024 * 1024
BOUND_BYTES = MEMORY_BYTES + LOAD_BYTES + 64 * 1024  # one window, one read, and what a reader has loaded
SLACK_BYTES = 4 * MIB

CHILD = """
import sys
block = bytes(range(256)) * 4096
for number in range(int(sys.argv[1])):
    sys.stdout.buffer.write(number.to_bytes(8, "big") + block[8:])
"""

HOST = """
import hashlib, os, subprocess, sys
import anyio
from procflow._streams.reading.source import FdSource
from procflow._streams.stream import open_stream
from procflow.events import Chunk
from procflow.policies import Reliable, Replay, StreamConfig

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))

async def digest(events):
    found = hashlib.sha256()
    async for event in events:
        assert isinstance(event, Chunk)
        found.update(event.data)
    return found.hexdigest()

async def read(mib, path):
    command = [sys.executable, "-S", "-c", sys.argv[4], str(mib)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    source = FdSource(os.dup(child.stdout.fileno()))
    child.stdout.close()
    async with open_stream(source, StreamConfig(replay=Replay.all(spill=path))) as stream:
        async with stream.subscribe(Reliable(buffer_bytes=1 << 50)) as slow:  # takes nothing before the end
            await stream.wait_ended()
            digests = [await digest(slow)]
        async with stream.subscribe(start="start") as late:
            digests.append(await digest(late))
    child.wait()
    return digests

async def main():
    directory, mib = sys.argv[2], int(sys.argv[3])
    await read(2, directory)
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = memory("VmRSS")
    digests = await read(mib, directory)
    print(memory("VmHWM") - before, *digests)

backend, use_uvloop = {"asyncio": ("asyncio", False), "uvloop": ("asyncio", True), "trio": ("trio", None)}[sys.argv[1]]
anyio.run(main, backend=backend, backend_options={} if use_uvloop is None else {"use_uvloop": use_uvloop})
"""


def expected_digest(mib: int) -> str:
    block = bytes(range(256)) * 4096
    found = hashlib.sha256()
    for number in range(mib):
        found.update(number.to_bytes(8, "big") + block[8:])
    return found.hexdigest()


@pytest.mark.parametrize(("backend", "mib"), [("asyncio", 1024), ("uvloop", 128), ("trio", 128)])
def test_a_spilled_history_costs_one_window(backend: str, mib: int, tmp_path: Path) -> None:
    """C-28: a child writes 1 GiB; the host's peak grows by less than the bound and 4 MiB; a stalled and a late reader have it all."""
    program = tmp_path / "host.py"
    program.write_text(HOST)
    done = subprocess.run(
        [sys.executable, program, backend, tmp_path, str(mib), CHILD], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    growth, *digests = done.stdout.split()
    assert digests == [expected_digest(mib)] * 2
    assert int(growth) < BOUND_BYTES + SLACK_BYTES
