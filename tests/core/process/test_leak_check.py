"""``assert_no_leaks()`` finds what it promises to find."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import anyio
import pytest

from procflow._observers import emit
from procflow.observation import Spawned
from procflow.testing import LeakError, assert_no_leaks


def test_descriptor_is_found_and_named() -> None:
    """C-93: an open descriptor is a leak, and the message says where it leads."""
    with pytest.raises(LeakError, match="descriptor .* -> /dev/null"), assert_no_leaks(settle_s=0.0):
        fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)


def test_zombie_is_found() -> None:
    """C-93: an ended child that nobody reaped is a leak."""
    with pytest.raises(LeakError, match="zombie"), assert_no_leaks(settle_s=0.0):
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.wait()


def test_orphan_in_a_group_of_ours_is_found() -> None:
    """C-93: a member of a group that the spawner started is found although its leader is gone and it is no child of ours."""
    with pytest.raises(LeakError, match="process of group"), assert_no_leaks(settle_s=0.0):
        child = subprocess.Popen(["sh", "-c", "sleep 60 >/dev/null & echo $!"], stdout=-1, start_new_session=True)
        emit(Spawned, name="sh", pid=child.pid)
        assert child.stdout is not None
        orphan = int(child.stdout.readline())
        child.stdout.close()
        child.wait()
    os.kill(orphan, 9)


def test_thread_is_found_and_given_time() -> None:
    """C-93: a thread that still runs is a leak; one that is ending is waited for."""
    go = threading.Event()
    with pytest.raises(LeakError, match="thread 'stray'"), assert_no_leaks(settle_s=0.0):
        thread = threading.Thread(target=go.wait, name="stray")
        thread.start()
    with assert_no_leaks():
        go.set()
        threading.Thread(target=threading.Event().wait, args=(0.05,)).start()
    thread.join()


@pytest.mark.anyio
async def test_task_is_found() -> None:
    """C-93: with ``async with`` a task that still runs is a leak."""
    async with anyio.create_task_group() as tasks:
        with pytest.raises(LeakError, match="task 'stray'"):
            async with assert_no_leaks(settle_s=0.0):
                tasks.start_soon(anyio.sleep_forever, name="stray")
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


def test_exception_of_the_block_goes_on() -> None:
    """C-93: nothing is checked when the block raises: the first error is the one to see."""
    fd = -1
    with pytest.raises(KeyError), assert_no_leaks():
        fd = os.open("/dev/null", os.O_RDONLY)
        raise KeyError
    os.close(fd)


FIRST_USE = """
import anyio
from procflow.testing import assert_no_leaks

async def use():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, await anyio.connect_tcp("127.0.0.1", port) as stream:
        server = await listener.listeners[0].accept()
        await server.send(b"x")
        assert await stream.receive() == b"x"
        await server.aclose()

def run(main):
    anyio.run(main, backend=BACKEND, backend_options=OPTIONS)
"""

WAYS = {
    "loop": "with assert_no_leaks(settle_s=10): run(use)",
    "loop of a package that is known": "import uvloop\nwith assert_no_leaks(settle_s=10): run(use)",
    "async block": """
async def main():
    async with assert_no_leaks(settle_s=10):
        await use()
run(main)""",
    "block in a loop": """
async def main():
    with assert_no_leaks(settle_s=10):
        await use()
        await anyio.sleep(0.05)  # sockets are closed in the next turns of the loop, and a plain block lets it make none
run(main)""",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("anyio_backend_name", ["asyncio", "uvloop", "trio"])
def test_first_use_is_no_leak(anyio_backend_name: str, way: str) -> None:
    """C-93: what an event loop keeps from its first use on, as uvloop does, is no leak of who was first."""
    backend = "trio" if anyio_backend_name == "trio" else "asyncio"
    options = {} if backend == "trio" else {"use_uvloop": anyio_backend_name == "uvloop"}
    program = f"BACKEND, OPTIONS = {backend!r}, {options!r}\n{FIRST_USE}\n{WAYS[way]}"

    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


LEAKS = {
    "/dev/null": "os.open('/dev/null', os.O_RDONLY)",
    "pipe:": "os.pipe()",
    "2 leaks": "os.write(os.pipe()[1], b'x')",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_uvloop_hides_no_leak(leak: str) -> None:
    """C-93: beside the first use of uvloop, a descriptor of the same kind is still found."""
    program = f"""
import os
BACKEND, OPTIONS = "asyncio", {{"use_uvloop": True}}
{FIRST_USE}
async def main():
    async with assert_no_leaks(settle_s=1):
        await use()
        {LEAKS[leak]}
run(main)"""

    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=100, stderr=subprocess.PIPE, text=True)

    assert "LeakError" in done.stderr
    assert leak in done.stderr
