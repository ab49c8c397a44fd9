"""C-81, C-85: what becomes of the guard while its host lives, and what it costs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.core.containment.hosts import Cookie, hosted, someone, wait_until

REPLACED = r"""
told = []
class Keeper(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())
logging.getLogger("procflow.termination").addHandler(Keeper(logging.WARNING))
"""


def test_killed_guard_is_replaced_and_told_everything(cookie: Cookie, backend: str) -> None:
    """C-81: within ten times the second that is promised; then a kill of the host still leaves nothing but what was let go."""
    script = (
        REPLACED
        + r"""
async def main():
    async with pf.spawn(tree("setpgid", "daemon")) as child, pf.spawn(tree("setsid")) as free:
        await wait_guarded(child)
        say("trees", free.pid)
        hear()
        await free.detach()
        old = guard_pid()
        os.kill(old, signal.SIGKILL)
        with anyio.fail_after(10):
            while guard_pid() == old:
                await anyio.sleep(0.001)
        await wait_guarded(child)
        assert told == [f"guard {old} was replaced by {guard_pid()}: it has ended"], told
        assert not os.path.exists(f"/proc/{old}"), "not reaped"
        say("replaced")
        await anyio.sleep_forever()
run(main)
"""
    )
    with hosted(cookie, backend, script) as host:
        (free,) = host.hear("trees")
        people = cookie.wait_for("leader", "leader", "setpgid", "daemon", "setsid")
        host.tell("go")
        host.hear("replaced")
        host.kill()
        cookie.wait_until_gone(but={*people["setsid"], *(who for who in people["leader"] if who.pid == int(free))})
        assert someone(int(free)) is not None
        assert len(cookie.living()) == 2


def test_normal_exit_after_a_replacement_leaves_nothing(cookie: Cookie) -> None:
    """C-81: the guard that was started in place of a killed one ends with its host too."""
    script = r"""
async def main():
    await pf.run(tree("leaves", "daemon"), stdout=pf.NULL, stderr=pf.NULL)
    async with pf.spawn(pf.Command("sleep", "300")) as child:
        await wait_guarded(child)
        old = guard_pid()
        os.kill(old, signal.SIGKILL)
        await wait_guarded(child, other_than=old)
        say("guard", guard_pid())
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        (guard,) = host.hear("guard")
        assert host.process.wait() == 0
        cookie.wait_until_gone()
        wait_until(lambda: someone(int(guard)) is None, "the guard ends with its host")


def test_stopped_guard_holds_nobody_up(cookie: Cookie, backend: str) -> None:
    """C-85: a guard that reads nothing: spawns and stops go on, what it was not told is said, and it is told later."""
    script = r"""
async def main():
    async with pf.spawn(pf.Command("sleep", "300")) as child:
        await wait_guarded(child)
        os.kill(guard_pid(), signal.SIGSTOP)
        host = current_host()
        for group in range(10**7, 10**7 + 1000):  # more than a channel holds
            host.register(group)
            host.unregister(group)
        untold = len(host._untold)
        assert untold <= 1000, untold
        for _ in range(5):
            await pf.run(pf.Command("true"))
        async with pf.spawn(tree("setsid")) as late:
            assert late.containment.level == "group"
            say("late", *late.containment.missing)
            os.kill(guard_pid(), signal.SIGCONT)
            await wait_guarded(late)
            hear()
            os.kill(os.getpid(), signal.SIGKILL)
run(main)
"""
    with hosted(cookie, backend, script) as host:
        assert " ".join(host.hear("late")) == "the guard is too slow, and has not been told yet"
        cookie.wait_for("leader", "setsid")
        host.tell("die")
        cookie.wait_until_gone()


def test_guard_that_does_not_answer_is_replaced_by_one_that_never_knew(cookie: Cookie, backend: str) -> None:
    """C-80: detach() with a stopped guard: bounded, and the child lives when the host and its guards are gone."""
    script = (
        REPLACED
        + r"""
async def main():
    async with pf.spawn(tree("setsid")) as child, pf.spawn(tree("stubborn")) as other:
        await wait_guarded(other)
        say("trees", child.pid)
        hear()
        old = guard_pid()
        os.kill(old, signal.SIGSTOP)
        with anyio.fail_after(10):
            await child.detach()
        assert not os.path.exists(f"/proc/{old}")
        assert told == [f"guard {old} was replaced by {guard_pid()}: it did not answer"], told
        os.kill(os.getpid(), signal.SIGKILL)
run(main)
"""
    )
    with hosted(cookie, backend, script) as host:
        (pid,) = host.hear("trees")
        people = cookie.wait_for("leader", "leader", "setsid", "stubborn")
        host.tell("go")
        assert host.process.wait() == -signal.SIGKILL
        left = {*people["setsid"], *(who for who in people["leader"] if who.pid == int(pid))}
        cookie.wait_until_gone(but=left)
        assert cookie.living() == left


def test_two_loops_in_two_threads_have_one_guard(cookie: Cookie) -> None:
    """C-81, C-6: both loops watch it, one replaces it, and both are told; the loop that did may end."""
    script = (
        REPLACED
        + r"""
barrier = threading.Barrier(2)
async def main(mine):
    async with pf.spawn(tree("setsid")) as child:
        await wait_guarded(child)
        old = guard_pid()
        barrier.wait()
        if mine:
            os.kill(old, signal.SIGKILL)
        await wait_guarded(child, other_than=old)
        barrier.wait()
        if not mine:
            assert len(told) == 1, told
            say("replaced")
            hear()
        barrier.wait()
    if mine:
        return
    async with pf.spawn(tree("setsid")) as child:
        await wait_guarded(child)
        old = guard_pid()
        os.kill(old, signal.SIGKILL)
        await wait_guarded(child, other_than=old)
        say("again", guard_pid())
        await anyio.sleep_forever()
other = threading.Thread(target=lambda: anyio.run(main, True, backend="trio"))
other.start()
run(main, False)
"""
    )
    with hosted(cookie, "asyncio", script) as host:
        host.hear("replaced")
        cookie.wait_for("leader", "leader", "setsid", "setsid")  # who is ended before that says nothing any more
        host.tell("go")
        host.hear("again")
        cookie.wait_for("leader", "leader", "leader", "setsid", "setsid", "setsid")
        host.kill()
        cookie.wait_until_gone()


def test_forked_copy_is_a_host_of_its_own(cookie: Cookie, backend: str) -> None:
    """C-80: a multiprocessing child has a variable and a guard of its own, and leaves its parent's alone."""
    script = r"""
import multiprocessing
async def inside():
    async with pf.spawn(tree("setsid")) as child:
        await wait_guarded(child)
        say("copy", os.getpid(), guard_pid(), current_host().variable)
        await anyio.sleep_forever()
async def main():
    async with pf.spawn(tree("stubborn")) as child:
        await wait_guarded(child)
        copy = multiprocessing.get_context("fork").Process(target=in_a_thread_of_its_own)
        copy.start()
        say("host", os.getpid(), guard_pid(), current_host().variable)
        await anyio.to_thread.run_sync(copy.join)
        say("left", guard_pid(), len(current_host()._groups), child.containment.level)
        await anyio.sleep_forever()
def in_a_thread_of_its_own():
    # Where no loop runs yet: a copy of a running one cannot be used.
    thread = threading.Thread(target=run, args=(inside,))
    thread.start()
    thread.join()
run(main)
"""
    with hosted(cookie, backend, script) as host:
        first, second = (host.process.stdout.readline().split() for _ in range(2))
        told = {who: rest for who, *rest in (first, second)}
        assert len({*told["host"], *told["copy"]}) == 6  # not one in common
        people = cookie.wait_for("leader", "leader", "stubborn", "setsid")
        copy = someone(int(told["copy"][0]))
        assert copy is not None
        os.kill(copy.pid, signal.SIGKILL)
        assert host.hear("left") == [told["host"][1], "1", "guarded"]
        theirs = {*people["stubborn"], *(who for who in people["leader"] if os.path.exists(f"/proc/{who.pid}"))}
        hosts = {who for who in cookie.living() if who.pid == host.process.pid}
        wait_until(lambda: len(cookie.living()) == 3, "what the copy has started is gone")
        assert {*people["stubborn"], *hosts} < cookie.living()
        assert theirs
        host.kill()
        cookie.wait_until_gone()


@pytest.mark.parametrize("why", ["gone", "broken", "silent"])
def test_guard_that_cannot_run_is_not_tried_for_ever(cookie: Cookie, tmp_path: Path, why: str) -> None:
    """C-81: no interpreter, or one that fails: a few tries, spawns go on, and ``missing`` says why; a spawn tries again later."""
    broken = tmp_path / "python"
    if why != "gone":
        broken.write_text("#!/bin/sh\n" + ("echo it is broken >&2\n" if why == "broken" else "") + "exit 3\n")
        broken.chmod(0o755)
    script = r"""
from procflow._containment.guard import host as guard
guard.RETRY_DELAYS_S = (0.0, 0.01, 0.02)
tries = []
class Counted(guard.GuardProcess):
    def __init__(self, variable):
        tries.append(variable)
        super().__init__(variable)
guard.GuardProcess = Counted
good, sys.executable = sys.executable, sys.argv[5]
async def main():
    async with pf.spawn(pf.Command("sleep", "300")) as child:
        with anyio.fail_after(60):
            while len(tries) < 4 or child.containment.missing[0].endswith("starting"):
                await anyio.sleep(0.005)
        say("missing", *child.containment.missing)
        await pf.run(pf.Command("true"))
        assert len(tries) == 4, tries
        sys.executable = good
        guard.current_host()._retry_mono_s = 0.0  # a minute later
        await pf.run(pf.Command("true"))
        await wait_guarded(child)
        say("well", child.containment.level, len(tries))
run(main)
"""
    with hosted(cookie, "asyncio", script, str(broken)) as host:
        missing = " ".join(host.hear("missing"))
        expected = {
            "gone": "No such file or directory",
            "broken": "a guard: it is broken",
            "silent": "a guard: it has ended",
        }
        assert expected[why] in missing
        assert host.hear("well") == ["guarded", "5"]
        assert host.process.wait() == 0


def test_spawn_does_not_wait_for_the_guard(cookie: Cookie, tmp_path: Path, backend: str) -> None:
    """C-85: with an interpreter that takes for ever to start, children come and go."""
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nread nothing\nexec sleep 600\n")
    slow.chmod(0o755)
    script = r"""
sys.executable, good = sys.argv[5], sys.executable
async def main():
    async with pf.spawn(pf.Command("true")) as child:
        assert (await child.wait()).exit_code == 0
        say("level", child.containment.level, *child.containment.missing)
run(main)
"""
    with hosted(cookie, backend, script, str(slow)) as host:
        assert " ".join(host.hear("level")) == "group the guard is still starting"
        assert host.process.wait() == 0


def test_without_pidfds_there_is_no_guard(cookie: Cookie) -> None:
    """C-80: the report says what is missing, and the group is reached as ever."""
    script = r"""
os.environ["PROCFLOW_NO_PIDFD"] = "1"
async def main():
    async with pf.spawn(pf.Command("sleep", "300")) as child:
        say("level", child.containment.level, *child.containment.missing)
        await child.detach()
        os.kill(child.pid, signal.SIGKILL)
    say("children", open(f"/proc/self/task/{os.getpid()}/children").read().count(" "))
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        assert " ".join(host.hear("level")) == "group a guard: this system has no pidfds"
        assert host.process.wait() == 0


def test_guard_takes_little_memory_and_no_time(cookie: Cookie) -> None:
    """C-85: at most 10 MiB resident, no tick of a processor while nothing happens, with one thread in the host."""
    script = r"""
async def main():
    async with pf.spawn(pf.Command("sleep", "300")) as child:
        await wait_guarded(child)
        for _ in range(20):
            await pf.run(pf.Command("true"))
        say("guard", guard_pid(), threading.active_count(), len(os.listdir("/proc/self/task")))
        hear()
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        pid, threads, tasks = map(int, host.hear("guard"))
        assert (threads, tasks) == (1, 1)
        # It has read all that was said once it sleeps.
        wait_until(lambda: _stat(pid)[0] == b"S", "the guard sleeps")
        before = _stat(pid)
        woken = _switches(pid)
        assert _resident_bytes(pid) <= 10 << 20
        end = time.monotonic() + 1.0
        wait_until(lambda: time.monotonic() >= end, "a second in which nothing happens")
        after = _stat(pid)
        assert after[11:13] == before[11:13]
        assert _switches(pid) == woken


def _stat(pid: int) -> list[bytes]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _switches(pid: int) -> str:
    """How often it has gone to sleep by itself."""
    with open(f"/proc/{pid}/status") as file:
        return next(line for line in file if line.startswith("voluntary"))


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) * 1024
