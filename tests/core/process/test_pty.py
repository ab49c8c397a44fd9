"""Children on a terminal of their own."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import anyio
import pytest

import procflow as pf
from tests.patience import Growing

from .conftest import group_is_gone, is_alive, process_state, python

pytestmark = pytest.mark.anyio

NOW = pf.Shutdown.now()
QUIET = pf.Pty(echo=False)


async def test_it_is_the_controlling_terminal() -> None:
    """C-10: all three descriptors are the terminal, which controls the session that the child leads."""
    script = (
        "import os; tty = os.open('/dev/tty', os.O_RDWR); "
        "print([os.ttyname(fd) == os.ttyname(0) and os.isatty(fd) for fd in (0, 1, 2)], "
        "os.getsid(0) == os.getpid() == os.tcgetpgrp(tty))"
    )

    done = await pf.run(python(script), pty=pf.Pty())

    assert done.stdout.text == "[True, True, True] True\r\n"


async def test_window_and_echo_are_set_before_the_child_starts() -> None:
    """C-10: the child finds them at its first step."""
    done = await pf.run(pf.shell("stty size; stty -a"), pty=pf.Pty(rows=33, cols=111, echo=False))

    assert done.stdout.lines[0] == "33 111"
    assert " -echo " in done.stdout.text


async def test_one_merged_stream() -> None:
    """C-10: both outputs are ``child.stdout``; ``child.stderr`` says where to look."""
    async with pf.spawn(pf.shell("echo 1; echo 2 >&2; echo 3"), pty=pf.Pty()) as child:
        async with child.stdout.lines() as lines:
            assert [line async for line in lines] == ["1", "2", "3"]
        with pytest.raises(pf.UsageError, match="where stdout goes"):
            _ = child.stderr
        with pytest.raises(pf.UsageError, match="stderr"):
            _ = child.stages[0].stderr


@pytest.mark.parametrize("size", [1, 4_095, 11_000, 300_000])
async def test_the_last_bytes_before_the_exit_arrive(size: int) -> None:
    """C-10: EIO is the end of the stream, after every byte."""
    done = await pf.run(pf.Command("head", "-c", str(size), "/dev/zero"), pty=QUIET)

    assert done.stdout.bytes == b"\0" * size
    assert done.stdout.is_complete
    assert done.outcome.output_complete


async def test_what_closes_its_descriptors_before_it_exits_is_not_hung_up() -> None:
    """C-10: nobody has the terminal open for a moment; that is neither the end nor a hang-up."""
    script = (
        "import os, select, signal\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        "select.select([], [], [], 0.05)\n"
        "os.write(os.open('/dev/tty', os.O_RDWR), b'again')"
    )

    done = await pf.run(python(script), pty=QUIET)

    assert done.stdout.bytes == b"again"
    assert done.outcome.exit_code == 0


async def test_a_background_job_keeps_nobody_waiting() -> None:
    """C-10, C-60, C-61: the exit is seen although a job has the terminal open; what is cut says so."""
    script = pf.shell("trap '' HUP; sleep 60 & echo bye")
    with anyio.fail_after(10):
        done = await pf.run(script, pty=pf.Pty(), drain_s=0.05)
        async with pf.spawn(script, pty=pf.Pty(), shutdown=NOW) as child:
            assert (await child.wait()).ok

    assert done.stdout.text == "bye\r\n"
    assert not done.outcome.output_complete
    assert group_is_gone(done.outcome.pid)
    assert group_is_gone(child.pid)


async def test_what_is_written_comes_back_if_echo_is_on() -> None:
    """C-10: echo is a property of the terminal, and can be changed while the child runs."""
    keep = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(pf.shell("read a; read b; echo got b; read c; echo end"), pty=pf.Pty(), stdout=keep) as child:
        await child.stdin.send(b"shown\n")
        await child.stdout.wait_for_line("shown")
        child.set_echo(on=False)
        await child.stdin.send(b"hidden\n")
        await child.stdout.wait_for_line("got b")  # the terminal has seen it
        child.set_echo(on=True)
        await child.stdin.send(b"shown again\n")
        async with child.stdout.lines(start="start") as lines:
            assert [line async for line in lines] == ["shown", "got b", "shown again", "end"]


async def test_resize_reaches_the_child() -> None:
    """C-10: the window changes and SIGWINCH tells of it."""
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print(tuple(os.get_terminal_size()), flush=True))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    async with pf.spawn(python(script), pty=pf.Pty(), shutdown=NOW) as child:
        await child.stdout.wait_for_line("up")
        child.resize(50, 132)
        await child.stdout.wait_for_line(r"\(132, 50\)")
        with pytest.raises(ValueError, match="rows"):
            child.resize(0, 80)
    child.resize(10, 10)  # nothing happens any more
    child.set_echo(on=False)


@pytest.mark.parametrize("text", ["", "line\n", "no line end", "two\nlines", "\n"])
async def test_closing_stdin_is_the_end_of_the_input(text: str) -> None:
    """C-10: the end-of-file character, twice after an unfinished line; the child gets every byte."""
    done = await pf.run(pf.Command("cat"), pty=QUIET, stdin=text)

    assert done.stdout.text == text.replace("\n", "\r\n")
    assert done.outcome.ok


async def test_the_handle_closes_stdin_in_the_same_way() -> None:
    """C-10, C-7: ``aclose()``, and ``wait()`` if nobody touched it."""
    with anyio.fail_after(10):
        async with pf.spawn(pf.Command("cat"), pty=QUIET) as child:
            await child.stdin.send(b"abc")
            await child.stdin.aclose()
            assert (await child.wait()).ok
        async with pf.spawn(pf.Command("cat"), pty=QUIET) as child:
            assert (await child.wait()).ok


READS_KEYS = """
import os, select, signal, sys, tty
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
if sys.argv[1] == "before":
    tty.setcbreak(0)
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
tty.setcbreak(0, 0)  # TCSANOW: nothing is thrown away
keys = b""
while b"\\4" not in keys:
    keys += os.read(0, 1)
while select.select([0], [], [], 0.5)[0]:
    keys += os.read(0, 1)
print(keys.hex())
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_end_of_the_input_is_not_lost_on_who_reads_keys(when: str) -> None:
    """C-10: the terminal makes a NUL of an end that came before the child read keys, so it comes again, a few times.

    The kernel passes on what was written some time later, so the first one may come in time after all.
    """
    async with pf.spawn(python(READS_KEYS, when), pty=QUIET) as child:
        await child.stdout.wait_for_line("ready")
        child.stdin.close()
        child.send_signal(signal.SIGUSR1)

        with anyio.fail_after(20):
            assert re.fullmatch("(00)?(04){1,6}", (await child.stdout.wait_for_line("04")).text)
            await child.wait()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
async def test_a_shell_that_was_fed_ends() -> None:
    """C-10: what edits lines itself and was at work when its input ended finds the end at its next prompt."""
    with anyio.fail_after(20):
        done = await pf.run(pf.Command("bash", "--norc", "-i"), pty=QUIET, stdin="echo one\ncat /dev/null\necho two\n")
    assert [line for line in done.stdout.lines if line in ("one", "two")] == ["one", "two"]


async def test_input_is_passed_on_piece_by_piece() -> None:
    """C-10, C-7: a terminal takes little at a time; the feeder waits for it."""
    lines = b"".join(b"%05d\n" % number for number in range(20_000))

    done = await pf.run(pf.Command("wc", "-c"), pty=QUIET, stdin=lines)

    assert done.stdout.text.split() == [str(len(lines))]


async def test_writing_to_a_child_that_is_gone_is_an_error() -> None:
    """C-10, C-7: also if the terminal was full when it went: the kernel then says "try again" for ever."""
    lines = b"x\n" * 1000
    async with pf.spawn(pf.shell("read x"), pty=pf.Pty(), shutdown=NOW) as child:
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(10):
            while True:
                await child.stdin.send(lines)

    done = await pf.run(pf.shell("read x"), pty=pf.Pty(), stdin=lines * 100)
    assert done.outcome.stdin_broken
    assert done.outcome.ok


async def test_raw_passes_every_byte_both_ways() -> None:
    """C-10: a raw terminal changes nothing: no CR, no echo, no key that means something."""
    every = bytes(range(256))
    script = "import os; got = b''\nwhile len(got) < 256: got += os.read(0, 256)\nos.write(1, got + b'\\n')"

    done = await pf.run(python(script), pty=pf.Pty(raw=True), stdin=every)

    assert done.stdout.bytes == every + b"\n"


async def test_a_key_interrupts_the_foreground() -> None:
    """C-10: Ctrl-C that is written to the terminal is SIGINT for the child, not for the host."""
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, lambda *_: os._exit(7))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    async with pf.spawn(python(script), pty=QUIET) as child:
        await child.stdout.wait_for_line("up")
        await child.stdin.send(b"\x03")
        outcome = await child.wait()

    assert outcome.exit_code == 7


async def test_job_control_of_a_shell() -> None:
    """C-10: an interactive shell has its jobs in groups of their own; leaving the block ends them all the same."""
    bash = pf.Command("bash", "--norc", "--noediting", "-i", env={"PS1": "", "PS2": "", "HISTFILE": None})
    async with pf.spawn(bash, pty=QUIET, shutdown=pf.Shutdown.hangup(0.5)) as child:
        await child.stdin.send(b"trap '' HUP; sleep 600 & echo job $!\n")
        background = int((await child.stdout.wait_for_line(r"^job (\d+)")).groups[0] or 0)
        await child.stdin.send(b"sleep 601; echo back from $?\n")
        with anyio.fail_after(10):
            # Before it is the program that it is to become it does not obey the key.
            while program_name(foreground := foreground_group(child.pid)) != "sleep":
                await anyio.sleep(0.002)
        await child.stdin.send(b"\x1a")
        await child.stdout.wait_for_line("Stopped")
        await child.stdin.send(b"echo still $((6*7))\n")
        await child.stdout.wait_for_line("still 42")

        assert os.getpgid(background) == background != child.pid
        assert process_state(foreground) == "T"
        assert {member.pid for member in child._core.container.living() or ()} == {background, foreground}

    assert not is_alive(background)
    assert not is_alive(foreground)
    assert process_state(child.pid) is None
    assert group_is_gone(child.pid)


async def test_who_leaves_the_group_is_killed_with_the_session() -> None:
    """C-10, C-65: also if nobody there obeys a signal."""
    stubborn = "import signal,os; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]; os.setpgid(0, 0); print('up %d' % os.getpid(), flush=True); signal.pause()"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-I', '-S', '-c', {stubborn!r}]).wait()"
    async with pf.spawn(python(script), pty=QUIET) as child:
        member = int((await child.stdout.wait_for_line(r"up (\d+)")).groups[0] or 0)
        outcome = await child.terminate(pf.Shutdown.hangup(0.05))

    assert not is_alive(member)
    assert [phase.signal for phase in outcome.phases] == [signal.SIGHUP, signal.SIGKILL]


async def test_a_missing_program_is_an_error_with_a_suggestion() -> None:
    """C-10, C-4: as without a terminal."""
    with pytest.raises(pf.SpawnError, match="did you mean") as info:
        await pf.run(pf.Command("slep", "1"), pty=pf.Pty())
    assert info.value.errno == errno.ENOENT
    with pytest.raises(pf.SpawnError, match="working directory"):
        await pf.run(pf.Command("true", cwd="/no/such/place"), pty=pf.Pty())
    with pytest.raises(pf.SpawnError) as info:
        await pf.run(pf.Command("/etc/passwd"), pty=pf.Pty())
    assert info.value.errno == errno.EACCES


async def test_surroundings_are_those_of_the_command(tmp_path: Path) -> None:
    """C-10, C-1: environment (with names that no shell can spell), working directory and descriptors."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        script = (
            "import os, signal; print(os.getcwd()); print(sorted(os.environ.items()));"
            "print(sorted(map(int, os.listdir('/proc/self/fd'))))"
        )
        command = pf.Command(
            sys.executable,
            "-I",
            "-S",
            "-c",
            script,
            cwd=tmp_path,
            env={"a.b": "1"},
            inherit_env=False,
            pass_fds=[reading],
        )
        done = await pf.run(command, pty=pf.Pty(), containment="group")  # a guard adds a variable
    finally:
        os.close(reading)
        os.close(writing)

    assert done.stdout.lines[:2] == [str(tmp_path.resolve()), "[('LC_CTYPE', 'C.UTF-8'), ('a.b', '1')]"]
    assert done.stdout.lines[2] == str([0, 1, 2, 3, reading])  # 3 reads the folder


async def test_a_relative_program_is_found_from_its_directory(tmp_path: Path) -> None:
    """C-10, C-4: as without a terminal, also through a relative folder on PATH."""
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)

    for command in (
        pf.Command("./hello", cwd=tmp_path),
        pf.Command("hello", cwd=tmp_path, env={"PATH": ".:/usr/bin:/bin"}),
    ):
        assert (await pf.run(command, pty=pf.Pty())).stdout.text == "hello\r\n"


async def test_sigpipe_is_not_ignored_in_the_child() -> None:
    """C-10, C-5: what the interpreter ignores is restored, as without a terminal."""
    done = await pf.run(pf.shell("yes | head -1; echo ${PIPESTATUS:-x}; grep SigIgn /proc/self/status"), pty=pf.Pty())

    ignored = int(done.stdout.lines[-1].split()[1], 16)
    assert ignored & (1 << (signal.SIGPIPE - 1)) == 0


async def test_a_timeout_keeps_what_was_on_the_screen() -> None:
    """C-10, C-63: as for any other run; the signal is SIGHUP, which shells obey."""
    timeout = Growing(0.3)
    while True:
        with pytest.raises(pf.TimedOut) as info:
            await pf.run(pf.shell("echo so far; sleep 60"), pty=pf.Pty(), timeout_s=timeout.seconds)
        if info.value.stdout.text or not timeout.grow():  # else it had no time to say anything
            break

    assert info.value.stdout is not None
    assert info.value.stdout.text == "so far\r\n"
    assert info.value.outcome.signal == signal.SIGHUP


async def test_many_terminals_at_once() -> None:
    """C-10, C-69: sixty runs, twenty at a time, nothing lost and nothing left."""
    limiter = anyio.CapacityLimiter(20)

    async def one(number: int) -> None:
        async with limiter:
            done = await pf.run(pf.shell(f"head -c 5000 /dev/zero; cat; echo {number}"), pty=QUIET, stdin="in")
            assert done.stdout.bytes == b"\0" * 5000 + b"in%d\r\n" % number

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(one, number)


class TestRefusals:
    async def test_what_a_terminal_cannot_be(self) -> None:
        """C-10: contradictions fail where the block is made."""
        command = pf.Command("true")
        with pytest.raises(TypeError, match="pty must be"):
            pf.spawn(command, pty=True)  # type: ignore[arg-type]  # the point of the test
        for choice in ({"stderr": pf.NULL}, {"merge_stderr": True}, {"stdout": pf.NULL}, {"stdin": pf.INHERIT}):
            with pytest.raises(ValueError, match=r"pty="):
                pf.spawn(command, pty=pf.Pty(), **choice)
        with pytest.raises(pf.UsageError, match="single command"):
            pf.spawn(command | command, pty=pf.Pty())
        with pytest.raises(pf.UsageError, match="umask"):
            pf.spawn(command.with_(umask=0o77), pty=pf.Pty())
        with pytest.raises(pf.UsageError, match="terminal of its own"):
            pf.spawn(command, pty=pf.Pty(), terminal="shared")
        with pytest.raises(ValueError, match="terminal must be"):
            pf.spawn(command, terminal="mine")  # type: ignore[arg-type]  # the point of the test

    def test_a_window_has_two_sides(self) -> None:
        """C-10: what no window can be is refused."""
        with pytest.raises(ValueError, match="rows"):
            pf.Pty(rows=0)
        with pytest.raises(ValueError, match="cols"):
            pf.Pty(cols=70_000)
        with pytest.raises(TypeError, match="rows"):
            pf.Pty(rows="24")  # type: ignore[arg-type]  # the point of the test

    async def test_only_a_child_with_a_terminal_has_one(self) -> None:
        """C-10: the error says how to get one."""
        async with pf.spawn(pf.Command("sleep", "60"), shutdown=NOW) as child:
            with pytest.raises(pf.UsageError, match="pty=procflow.Pty"):
                child.resize(24, 80)
            with pytest.raises(pf.UsageError, match="pty=procflow.Pty"):
                child.set_echo(on=False)


def program_name(pid: int) -> str | None:
    """The kernel's name for what ``pid`` runs."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return None


def foreground_group(pid: int) -> int:
    """The foreground group of the terminal that controls ``pid``; -1 if none does."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[5])
