"""``run()``: deadlines, the drain, orphans, what is kept, and a thousand runs."""

from __future__ import annotations

import os
import signal
import time

import anyio
import pytest

import procflow as pf
from tests.patience import FairClock, Growing

from .conftest import group_is_gone, is_alive, python

pytestmark = pytest.mark.anyio

MARGIN_S = 2.0
"""Ten times 200 ms."""


async def test_completed_has_outcome_and_output() -> None:
    """C-62: run() returns Completed with outcome, stdout and stderr (TPT 28)."""
    done = await pf.run(pf.shell("cat; echo err >&2"), stdin=b"fed\n")

    assert isinstance(done, pf.Completed)
    assert (done.stdout.text, done.stderr.lines, done.outcome.exit_code) == ("fed\n", ["err"], 0)
    assert done.outcome.output_complete
    assert not done.stdout.truncated


async def test_check_raises_with_everything() -> None:
    """C-62: ExitError carries the outcome and both outputs; its text has neither arguments nor more than the tail."""
    with pytest.raises(pf.ExitError) as caught:
        await pf.run(pf.shell("echo out; echo why >&2; exit 3 # hunter2"))

    error = caught.value
    assert error.outcome.exit_code == 3
    assert (error.stdout.text, error.stderr.text) == ("out\n", "why\n")
    assert str(error) == "sh exited with 3"
    assert "why" in error.__notes__[0]
    assert "hunter2" not in repr(error) + "".join(error.__notes__)
    assert (await pf.run(pf.shell("exit 3"), check=False)).outcome.exit_code == 3


async def test_large_stdin_and_output_at_once() -> None:
    """C-7: the feeder is a task of its own: 8 MiB through cat, with nobody blocking anybody (TPT 166)."""
    data = bytes(range(256)) * 4096 * 8

    done = await pf.run(pf.Command("cat"), stdin=data, stdout=pf.StreamConfig(replay=pf.Replay.all()))

    assert done.stdout.bytes == data


async def test_child_that_stops_reading_is_normal() -> None:
    """C-7: EPIPE on standard input is recorded in the outcome, not raised."""
    done = await pf.run(pf.shell("head -c 10; exec <&-"), stdin=b"x" * 1_000_000)

    assert done.stdout.text == "x" * 10
    assert done.outcome.stdin_broken
    assert done.outcome.ok


@pytest.mark.parametrize("stdin", [pf.NULL, pf.PIPE])
async def test_nobody_waits_for_input_by_default(stdin: object) -> None:
    """C-7: run() gives the null device, or a pipe that is closed at once: cat ends."""
    with anyio.fail_after(10):
        assert (await pf.run(pf.Command("cat"), stdin=stdin)).outcome.ok  # type: ignore[arg-type]  # a parameter


async def test_inherited_stdin() -> None:
    """C-7: INHERIT leads where the host's own descriptor leads."""
    done = await pf.run(pf.shell("readlink /proc/self/fd/0; readlink /proc/$PPID/fd/0"), stdin=pf.INHERIT)

    assert done.stdout.lines[0] == done.stdout.lines[1]


async def test_newest_mebibyte_is_kept_and_the_cut_is_told() -> None:
    """C-61: run() keeps the last 1 MiB of each stream and says to the byte what it cut (TPT D4)."""
    total = 3 * (1 << 20) + 7
    done = await pf.run(python(f"import os\nfor i in range({total} // 7 + 1): os.write(1, b'%06d\\n' % i)"))

    produced = (total // 7 + 1) * 7
    assert done.stdout.truncated
    assert done.stdout.lost_bytes + len(done.stdout.bytes) == produced
    assert 1 << 20 <= len(done.stdout.bytes) <= (1 << 20) + (1 << 16)
    assert done.stdout.lines[-1] == f"{total // 7:06d}"


async def test_run_returns_although_a_grandchild_holds_the_pipe(clock: FairClock) -> None:
    """C-61: drain + 200 ms after the leader's exit, output_complete=False, and the straggler is gone (TPT 169, D1)."""
    begun = time.monotonic()
    done = await pf.run(pf.shell("sleep 60 & echo $!; exit 0"))

    assert time.monotonic() - begun > 0.4
    assert clock.since(begun) < 0.5 + MARGIN_S
    assert not done.outcome.output_complete
    assert done.outcome.usage is not None
    assert not is_alive(int(done.stdout.text))
    assert group_is_gone(done.outcome.pid)


async def test_silent_straggler_is_ended_without_a_drain() -> None:
    """C-61: a straggler that holds no pipe costs no drain, and is ended too."""
    with anyio.fail_after(20):
        done = await pf.run(pf.shell("sleep 60 >/dev/null 2>&1 & echo $!"), drain_s=60)

    assert done.outcome.output_complete
    assert not is_alive(int(done.stdout.text))


async def test_orphans_may_be_left() -> None:
    """C-61: orphans="leave" leaves them alone; the run itself leaves nothing else."""
    done = await pf.run(pf.shell("sleep 60 >/dev/null 2>&1 & echo $!"), orphans="leave")

    orphan = int(done.stdout.text)
    assert is_alive(orphan)
    end(orphan)


async def test_orphans_may_be_waited_for() -> None:
    """C-61: orphans="wait" returns when they have ended by themselves, with all their output (TPT 170)."""
    done = await pf.run(pf.shell("(sleep 0.3; echo late) & exit 0"), orphans="wait")
    assert done.stdout.text == "late\n"
    assert done.outcome.output_complete

    timeout = Growing(0.3)
    while True:
        with pytest.raises(pf.TimedOut) as caught:
            await pf.run(pf.shell("sleep 60 & echo $!; exit 0"), orphans="wait", timeout_s=timeout.seconds)
        if caught.value.outcome.exit_code is not None or not timeout.grow():  # else the leader had no time to exit
            break
    assert not is_alive(int(caught.value.stdout.text))
    assert caught.value.outcome.exit_code == 0


async def test_wall_timeout_ends_the_tree_and_keeps_the_output(clock: FairClock) -> None:
    """C-63: TimedOut has the outcome and all output so far; the tree was stopped by policy (TPT 162, D1)."""
    timeout = Growing(0.5)
    while True:
        begun = time.monotonic()
        with pytest.raises(pf.TimedOut) as caught:
            await pf.run(pf.shell("sleep 60 & echo $!; wait"), timeout_s=timeout.seconds)
        assert time.monotonic() - begun >= timeout.seconds
        assert clock.since(begun) < timeout.seconds + MARGIN_S
        if caught.value.stdout.text or not timeout.grow():  # else it had no time to say anything
            break

    error = caught.value
    assert (error.clock, error.timeout_s) == ("wall", timeout.seconds)
    assert not is_alive(int(error.stdout.text))
    assert error.outcome.ended_by is pf.EndedBy.TIMEOUT
    assert [phase.ended for phase in error.outcome.phases] == [True]
    assert "SIGTERM (timeout)" in str(error)


async def test_a_child_that_keeps_writing_is_not_idle() -> None:
    """C-63: every output begins the time of silence anew."""
    idle_timeout = Growing(1.0, times=2)
    chatty: pf.Completed | None = None
    while chatty is None:
        script = f"for i in 1 2 3 4 5 6; do echo $i; sleep {idle_timeout.seconds / 5:g}; done"
        try:
            chatty = await pf.run(pf.shell(script), idle_timeout_s=idle_timeout.seconds)
        except pf.TimedOut:  # a machine that was busy for a whole second made it silent
            if not idle_timeout.grow():
                raise
    assert chatty.stdout.lines[-1] == "6"
    assert chatty.outcome.duration_s > idle_timeout.seconds


async def test_a_child_that_falls_silent_is_ended(clock: FairClock) -> None:
    """C-63: by its idle timeout, with all that it said before."""
    idle_timeout = Growing(0.3)
    while True:
        begun = time.monotonic()
        with pytest.raises(pf.TimedOut) as caught:
            await pf.run(pf.shell("echo 1; sleep 60"), idle_timeout_s=idle_timeout.seconds)
        assert caught.value.outcome.duration_s >= idle_timeout.seconds
        assert clock.since(begun) < idle_timeout.seconds + MARGIN_S
        if caught.value.stdout.text or not idle_timeout.grow():  # else it had no time to say anything
            break
    assert caught.value.clock == "idle"
    assert caught.value.outcome.ended_by is pf.EndedBy.IDLE_TIMEOUT
    assert caught.value.stdout.text == "1\n"


async def test_cancel_scope_does_the_same_tear_down() -> None:
    """C-63: anyio.move_on_after() around run() ends the whole tree before it returns (TPT N8)."""
    pids: list[int] = []
    duration = f"61.{os.getpid()}"  # workers that run this test at the same time must not meet

    async def watch(name: str) -> None:
        with anyio.fail_after(30):
            while not pids:
                pids.extend(pid for pid in children_named(name))
                await anyio.sleep(0.01)
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(watch, duration)
            await pf.run(pf.shell(f"sleep {duration} & wait"))
    assert scope.cancelled_caught
    assert pids
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"idle_timeout_s": 1.0, "stdout": pf.NULL, "stderr": pf.INHERIT},
        {"timeout_s": 0},
        {"idle_timeout_s": -1},
        {"drain_s": -0.1},
        {"orphans": "eat"},
        {"containment": "sloppy"},
    ],
)
async def test_impossible_limits_are_refused(kwargs: dict[str, object]) -> None:
    """C-63: a limit that cannot be meant is refused before anything is started."""
    with pytest.raises(ValueError):
        await pf.run(pf.Command("true"), **kwargs)  # type: ignore[arg-type]  # parameters


async def test_not_ready_has_outcome_and_tail() -> None:
    """C-62: a line that never comes: NotReadyError with the outcome of the process, soon after its end."""
    async with pf.spawn(pf.shell("echo starting; exit 9")) as child:
        with anyio.fail_after(10), pytest.raises(pf.NotReadyError) as caught:
            await child.stdout.wait_for_line("listening")
    assert caught.value.outcome is not None
    assert caught.value.outcome.exit_code == 9
    assert b"starting" in caught.value.tail

    async with pf.spawn(pf.shell("sleep 60 & exit 9"), shutdown=pf.Shutdown.now()) as child:  # the pipe stays open
        with anyio.fail_after(10), pytest.raises(pf.NotReadyError) as caught:
            await child.stdout.wait_for_line("listening")
    assert caught.value.outcome is not None
    assert caught.value.outcome.exit_code == 9


async def test_not_ready_shows_why_a_server_did_not_start() -> None:
    """C-45, C-62: who waits for a line of one output is shown the end of the other one too, and how the process ended."""
    program = "echo loading; head -c 60000 /dev/zero >&2; echo >&2; echo 'FATAL: port in use' >&2; exit 9"
    async with pf.spawn(pf.shell(program, name="server")) as child:
        with anyio.fail_after(10), pytest.raises(pf.NotReadyError) as caught:
            await child.stdout.wait_for_line("listening")

    assert str(caught.value) == "server stdout: server exited with 9 before the line that was waited for"
    assert caught.value.__notes__[0] == "last output:\n  loading"
    assert caught.value.__notes__[1].startswith("standard error:\n")
    assert caught.value.__notes__[1].endswith("\n  FATAL: port in use")
    assert caught.value.outcome is not None
    assert caught.value.outcome.stderr_tail.endswith(b"FATAL: port in use\n")

    async with pf.spawn(pf.shell(program)) as child:
        with anyio.fail_after(10), pytest.raises(pf.NotReadyError) as caught:
            await child.stderr.wait_for_line("listening")
    assert len(caught.value.__notes__) == 1, "nothing is shown twice"


async def test_a_thousand_runs() -> None:
    """C-69: 1 000 short runs, 200 at a time: zero zombies, descriptors and threads at baseline (TPT N12, N13)."""
    limiter = anyio.CapacityLimiter(200)
    texts: list[str] = []

    async def one(number: int) -> None:
        async with limiter:
            texts.append((await pf.run(pf.Command("echo", str(number)))).stdout.text)

    async with anyio.create_task_group() as tasks:
        for number in range(1000):
            tasks.start_soon(one, number)

    assert sorted(int(text) for text in texts) == list(range(1000))


def children_named(argument: str) -> list[int]:
    """Return the pids of all processes with ``argument`` in their argument list."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if argument.encode() in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue
    return found


def end(pid: int) -> None:
    """Kill an orphan that a test left on purpose."""
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.001)
