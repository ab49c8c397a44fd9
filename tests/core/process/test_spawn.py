"""Starting: what the child gets, what the host pays, what a failure says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow.testing import assert_no_leaks

from .conftest import ON_ONE_BACKEND, is_alive, python

pytestmark = pytest.mark.anyio


async def test_child_gets_what_the_command_says(tmp_path: Path) -> None:
    """C-1: arguments, cwd, environment, umask reach the child as they are; no shell looks at them."""
    script = "import os,sys; os.umask(m := os.umask(0)); print(sys.argv[1:], os.getcwd(), sorted(os.environ.items()), oct(m))"
    command = python(script, "$HOME; ls", "a b").with_(cwd=tmp_path, env={"A": "1"}, inherit_env=False, umask=0o27)

    done = await pf.run(command, containment="group")  # a guard adds a variable

    # LC_CTYPE is what the interpreter adds to an empty environment.
    assert done.stdout.text.replace("('LC_CTYPE', 'C.UTF-8')", "").replace(", ]", "]") == (
        f"['$HOME; ls', 'a b'] {tmp_path} [('A', '1')] 0o27\n"
    )


async def test_child_sees_only_its_descriptors() -> None:
    """C-69: a child has descriptors 0 to 2 and pass_fds, whatever the host has open and inheritable."""
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    passed = os.open("/dev/zero", os.O_RDONLY)
    try:
        done = await pf.run(pf.Command("ls", "-l", "/proc/self/fd", pass_fds=[passed]))
    finally:
        os.close(stray)
        os.close(passed)

    numbers = {line.split(" -> ")[0].split()[-1] for line in done.stdout.lines if " -> " in line}
    own = {line.split(" -> ")[0].split()[-1] for line in done.stdout.lines if line.endswith("/fd")}
    assert numbers - own == {"0", "1", "2", str(passed)}
    assert "/dev/zero" in done.stdout.text


async def test_leader_has_a_session_and_group_of_its_own() -> None:
    """C-65: pid, group and session are one number."""
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_outputs_are_streams_null_or_inherited(stream: str, capfd: pytest.CaptureFixture[str]) -> None:
    """C-8: a stream by default, the null device, or the host's own descriptor; each output by itself."""
    command = pf.shell("echo out; echo err >&2")

    streamed = await pf.run(command)
    if stream == "stdout":
        null, inherited = await pf.run(command, stdout=pf.NULL), await pf.run(command, stdout=pf.INHERIT)
    else:
        null, inherited = await pf.run(command, stderr=pf.NULL), await pf.run(command, stderr=pf.INHERIT)

    seen = capfd.readouterr()
    assert (streamed.stdout.text, streamed.stderr.text) == ("out\n", "err\n")
    for done in (null, inherited):
        texts = {"stdout": done.stdout.text, "stderr": done.stderr.text}
        assert texts == {"stdout": "out\n", "stderr": "err\n"} | {stream: ""}
    assert (seen.out, seen.err) == (("out\n", "") if stream == "stdout" else ("", "err\n"))


async def test_an_output_that_is_no_stream_says_so() -> None:
    """C-8: asking for a stream that was not asked for is the caller's mistake, with the cure in the message (TPT 14)."""
    async with pf.spawn(pf.Command("true"), stdout=pf.NULL) as child:
        with pytest.raises(pf.UsageError, match="StreamConfig"):
            _ = child.stdout
        with pytest.raises(pf.UsageError, match="PIPE"):
            _ = child.stdin
    with pytest.raises(TypeError):
        pf.spawn(pf.Command("true"), stdout="null")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="shell"):
        pf.spawn("true")  # type: ignore[arg-type]  # the point of the test


async def test_each_output_has_its_own_configuration() -> None:
    """C-8: what one stream retains says nothing about the other (TPT 180)."""
    command = pf.shell("echo 1234567890; echo 1234567890 >&2")

    done = await pf.run(command, stderr=pf.StreamConfig(replay=pf.Replay.none()))

    assert done.stdout.text == "1234567890\n"
    assert done.stderr.lost_bytes == 11


async def test_missing_program_is_named_with_a_suggestion() -> None:
    """C-4: SpawnError names program, cwd and OS error, suggests a near name, and shows no argument (TPT 23)."""
    with pytest.raises(pf.SpawnError) as caught:
        await pf.run(pf.Command("pyhton3", "--password=hunter2", cwd="/"))

    error = caught.value
    assert (error.program, error.cwd, error.errno) == ("pyhton3", "/", 2)
    assert error.suggestion == "python3"
    assert "hunter2" not in str(error) + repr(error)
    assert "did you mean 'python3'" in str(error)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (pf.Command("true", cwd="/no/such/folder"), "working directory"),
        (pf.Command("/etc/passwd"), "denied"),
        (pf.Command("/no/such/program"), "No such file"),
    ],
)
async def test_other_spawn_failures_say_why(command: pf.Command, text: str) -> None:
    """C-4: a wrong folder, a file that is no program, a path that leads nowhere."""
    with pytest.raises(pf.SpawnError, match=text):
        async with pf.spawn(command, stdin=b"x" * 100_000):
            pytest.fail("it cannot start")


async def test_popen_is_kept_on_the_vfork_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-4: nothing that makes CPython fork (preexec_fn, user, group, extra_groups) is ever passed."""
    seen: list[dict[str, object]] = []
    real = subprocess.Popen.__init__

    def start(*args: object, **kwargs: object) -> None:
        seen.append(kwargs)
        real(*args, **kwargs)  # type: ignore[call-overload]  # passed through

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    await pf.run(pf.Command("true", cwd="/", umask=0o22, env={"A": "1"}), stdin=b"x")

    assert not {"preexec_fn", "user", "group", "extra_groups"} & seen[0].keys()
    assert seen[0]["close_fds"] is True
    assert seen[0]["start_new_session"] is True


def test_the_kernel_sees_vfork(tmp_path: Path) -> None:
    """C-4: strace shows vfork, not fork, for a command with everything that a Command can hold, and for the guard."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode != 0:
        pytest.skip("strace cannot be used here")
    script = (
        "import anyio, procflow as pf\n"
        "command = pf.Command('true', cwd='/', umask=0o22, env={'A': '1'}, pass_fds=[2])\n"
        "anyio.run(lambda: pf.run(command, stdin=b'x'))\n"
    )
    log = tmp_path / "trace"

    subprocess.run(
        [strace, "-f", "-e", "trace=vfork,fork,clone,clone3", "-o", str(log), sys.executable, "-c", script],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    calls = log.read_text()
    assert calls.count("vfork(") == 2
    assert "CLONE_VFORK" in calls or " fork(" not in calls


@ON_ONE_BACKEND
async def test_nothing_process_global_changes() -> None:
    """C-5: signal handlers, wakeup fd, umask, cwd and the subreaper flag are the same before and after."""
    script = """
import ctypes, os, signal, sys
def look():
    os.umask(mask := os.umask(0))
    reaper = ctypes.c_int(-1); ctypes.CDLL(None).prctl(37, ctypes.byref(reaper), 0, 0, 0)
    wakeup = signal.set_wakeup_fd(-1); signal.set_wakeup_fd(wakeup)
    return ([signal.getsignal(n) for n in signal.valid_signals()], wakeup, mask, os.getcwd(), reaper.value,
        signal.pthread_sigmask(signal.SIG_BLOCK, []), sys.excepthook, sys.getswitchinterval())
import anyio
import asyncio
before = look(), asyncio.get_event_loop_policy
import procflow as pf, procflow.testing
assert (look(), asyncio.get_event_loop_policy) == before
async def main():
    inside = look()
    async with pf.spawn(pf.Command("sleep", "60")) as child:
        assert look() == inside
        await child.terminate()
    await pf.run(pf.Command("true"))
    assert look() == inside
anyio.run(main, backend=sys.argv[1])
assert look() == before[0]
print("same")
"""
    for backend in ("asyncio", "trio"):
        command = pf.Command(
            sys.executable, "-c", script, backend, env={"PYTHONPATH": os.pathsep.join(sys.path)}, name="look"
        )
        done = await pf.run(command, check=False)
        assert (done.stdout.text, done.stderr.text) == ("same\n", "")


def test_loops_in_other_threads() -> None:
    """C-6: several loops, none of them in the main thread, each with its own children at the same time."""
    outcomes: list[pf.Outcome] = []

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(one, number)

    async def one(number: int) -> None:
        async with pf.spawn(pf.shell(f"read line; exit {number}"), stdin=pf.PIPE) as child:
            await child.stdin.send(b"go\n")
            outcomes.append(await child.wait())
        done = await pf.run(pf.Command("echo", "hi"))
        assert done.stdout.text == "hi\n"

    with assert_no_leaks():
        backends = [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {}), ("asyncio", {})]
        threads = [
            threading.Thread(target=lambda b=b, o=o: anyio.run(work, backend=b, backend_options=o)) for b, o in backends
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(outcome.exit_code or 0 for outcome in outcomes) == sorted(list(range(5)) * len(backends))


async def test_burst_of_spawns_leaves_the_loop_responsive() -> None:
    """C-4: spawns that are asked for at once are made one a turn: others get their turn between any two of them."""
    turns = 0
    is_over = False

    async def count() -> None:
        nonlocal turns
        while not is_over:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        async with anyio.create_task_group() as runs:
            for _ in range(30):
                runs.start_soon(pf.run, pf.Command("true"))
        is_over = True

    assert turns >= 30


class TestCancelEverywhere:
    """C-3 and C-63: cancelled at every step of the scheduler, nothing is left."""

    @staticmethod
    async def scenario_spawn() -> None:
        async with pf.spawn(pf.shell("sleep 60 & echo ready; wait"), shutdown=pf.Shutdown.now()) as child:
            await child.stdout.wait_for_line("ready")
            await child.terminate(pf.Shutdown.now())

    @staticmethod
    async def scenario_run() -> None:
        await pf.run(pf.shell("echo hello; sleep 60 & exit 0"), drain_s=0.01, shutdown=pf.Shutdown.now())

    @pytest.mark.parametrize("scenario", ["scenario_spawn", "scenario_run"])
    async def test_cancel_at_every_step(self, scenario: str) -> None:
        """C-3: cancelling at the n-th checkpoint, for every n, leaks no process, descriptor, thread or task."""
        step, is_complete = 0, False
        while not is_complete:
            async with assert_no_leaks():
                is_complete = await cancel_at_step(getattr(self, scenario), step)
            step += 1 + step // 30  # later steps are turns in which everybody waits for the child
        assert step > 5


async def cancel_at_step(work: object, step: int) -> bool:
    """Run ``work`` and cancel it after ``step`` turns of the loop; return whether it was complete before that."""
    is_complete = False

    async def body() -> None:
        nonlocal is_complete
        await work()  # type: ignore[operator]
        is_complete = True
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        for _ in range(step):
            await anyio.lowlevel.checkpoint()
            if is_complete:
                break
        tasks.cancel_scope.cancel()
    return is_complete


async def test_exception_of_the_body_is_not_wrapped() -> None:
    """C-67: the exception that leaves the block is the body's own object, not in a group, not replaced."""
    error = ValueError("mine")

    with pytest.raises(ValueError) as caught:
        async with pf.spawn(pf.Command("sleep", "60")) as child:
            raise error

    assert caught.value is error
    assert not is_alive(child.pid)


async def test_a_block_is_entered_once() -> None:
    """C-67: the block owns one process; entering it again is the caller's mistake."""
    block = pf.spawn(pf.Command("true"))
    async with block as child:
        await child.wait()

    with pytest.raises(RuntimeError, match="once"):
        await block.__aenter__()


async def test_exit_watch_failure_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-3: if the exit cannot be watched, the child that was just started is killed and reaped, and SpawnError raised (TPT 163)."""

    def fail(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("procflow._process.leader._open_exit_fd", fail)
    with pytest.raises(pf.SpawnError, match="watched"):
        await pf.run(pf.Command("sleep", "60"))


async def test_no_descriptor_left_is_a_spawn_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-3, C-4: pipes that cannot be opened are a SpawnError with the OS error, and those already open are closed."""
    real, calls = os.pipe, 0

    def pipe() -> tuple[int, int]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(24, "Too many open files")
        return real()

    monkeypatch.setattr("procflow._process.stdio.plans.os.pipe", pipe)
    with pytest.raises(pf.SpawnError, match="Too many open files") as caught:
        await pf.run(pf.Command("true"))
    assert caught.value.errno == 24


async def test_signals_are_at_default_in_the_child() -> None:
    """C-69: a SIGPIPE that Python ignores is not ignored in the child."""
    done = await pf.run(pf.shell("yes | head -n 1"))

    assert done.stdout.text == "y\n"
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
