"""Ctrl-C and other handlers that raise: wherever they strike, no child is left."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import procflow as pf

from .conftest import ON_ONE_BACKEND

pytestmark = pytest.mark.anyio

PRELUDE = """
import asyncio, os, random, signal, subprocess, sys, warnings
import anyio
import procflow as pf
from procflow._containment.guard.host import belongings  # of the host: they stay
from procflow._process.stopping import last_resort
last_resort.KILL_WAIT_S = 10.0  # a busy machine runs late what is to die
warnings.simplefilter("ignore")
def living():
    pids = set(map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())) - belongings()[0]
    return [p for p in pids if open(f"/proc/{p}/stat").read().rpartition(")")[2].split()[0] not in "ZX"]
descriptors = lambda: len(set(map(int, os.listdir("/proc/self/fd"))) - belongings()[1])
async def main():
    async with pf.spawn(pf.Command("sleep", "300")):
        await anyio.sleep(10)
"""

INTERRUPTED_SPAWN = """
if what == "guard":
    anyio.run(anyio.sleep, 0, backend=backend)  # imports and the like
else:
    anyio.run(pf.run, pf.Command("true"), backend=backend)  # so that it is not the guard that is interrupted
real = subprocess._fork_exec if where == "fork" else subprocess.Popen._execute_child
def torn(*args):
    result = real(*args)
    os.kill(os.getpid(), signal.SIGINT)  # its handler runs before the caller sees the result
    return result
if where == "fork":
    subprocess._fork_exec = torn
else:
    subprocess.Popen._execute_child = torn
def without_runner():
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
run = (lambda: anyio.run(main, backend="trio")) if backend == "trio" else without_runner
before = descriptors()
try:
    run()
except BaseException as exc:
    print(type(exc).__name__)
print(living(), descriptors() - before)
"""

INTERRUPTED_ANYWHERE = """
async def main():
    # Again and again: Python throws away what a handler raises in a callback of a weak reference.
    signal.setitimer(signal.ITIMER_REAL, 0.003 + chance.random() * 0.03, 5.0)
    while True:
        async with pf.spawn(pf.Command("sleep", "300"), shutdown=pf.Shutdown.sigterm(0.1)):
            await anyio.sleep(0.02)
chance = random.Random(3)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
seen = set()
for _ in range(60):
    try:
        anyio.run(main, backend=backend)
    except BaseException as exc:
        seen.add(type(exc).__name__)
    signal.setitimer(signal.ITIMER_REAL, 0)
print(seen, living())
"""


async def in_a_host(script: str, **names: str) -> list[str]:
    """Run ``script`` in a host of its own; returns what it printed."""
    assignments = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = pf.Command(sys.executable, "-c", PRELUDE + assignments + script, env=env, name="host")
    done = await pf.run(command, check=False, timeout_s=300)
    assert done.outcome.ok, done.stderr.text
    return done.stdout.lines


@ON_ONE_BACKEND
@pytest.mark.parametrize("what", ["child", "guard"])
@pytest.mark.parametrize("where", ["fork", "constructor"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_interrupt_between_fork_and_handle_leaves_nothing(what: str, where: str, backend: str) -> None:
    """C-3: a handler that raises while Popen starts the child, or the guard: on trio it waits, elsewhere that is ended."""
    assert await in_a_host(INTERRUPTED_SPAWN, what=what, where=where, backend=backend) == ["KeyboardInterrupt", "[] 0"]


@ON_ONE_BACKEND
async def test_interrupts_at_random_leave_nothing_on_trio() -> None:
    """C-3, C-67: Ctrl-C at any moment of a block's life leaves as KeyboardInterrupt, and no child lives on."""
    assert await in_a_host(INTERRUPTED_ANYWHERE, backend="trio") == ["{'KeyboardInterrupt'} []"]


@ON_ONE_BACKEND
async def test_interrupts_at_random_leave_no_child_on_asyncio() -> None:
    """C-3, C-67: the same; what leaves is asyncio's affair, whose runner cancels at any bytecode of the loop itself."""
    (said,) = await in_a_host(INTERRUPTED_ANYWHERE, backend="asyncio")
    assert said.endswith("[]")


def test_trio_that_another_thread_is_importing_is_left_alone() -> None:
    """C-6: a loop of asyncio starts children while trio is half imported for a loop in another thread."""
    script = (
        "import sys, types\n"
        "sys.modules['trio'] = types.ModuleType('trio')\n"
        "import anyio, procflow as pf\n"
        "print(anyio.run(pf.run, pf.Command('true')).outcome)\n"
        "assert 'trio.lowlevel' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "true exited with 0\n", done.stderr
