"""The strict level: a nanny is the parent, and nothing below it gets away."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow._containment.helpers import nanny as program
from procflow._containment.nanny import channel as nanny_module
from procflow._containment.nanny import template as template_module
from procflow._containment.nanny.cgroup import find_delegated
from procflow._containment.nanny.circumstances import read_circumstances
from procflow._containment.nanny.container import StrictContainer
from tests.core.containment.hosts import wait_until
from tests.core.process.conftest import is_alive, process_state, python

pytestmark = pytest.mark.anyio

AWAY = """
import os, signal, sys, time
# A daemon in a session of its own, whose parent is gone, with nothing in its environment.
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execve(sys.executable, ["python", "-I", "-S", "-c", "import time; time.sleep(120)"], {})
    os._exit(0)
os.wait()
"""
"""Prints the daemon's number, and returns."""

CHAIN = """
import os, sys, time
# Each link forks the next one and exits, 32 side by side, for at most 60 s.
end = time.monotonic() + 60
for _ in range(32):
    if os.fork() == 0:
        os.setsid()
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
        os._exit(0)
"""


def links(cookie: str) -> list[int]:
    """The living processes with ``cookie`` in their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if cookie.encode() in file.read():  # a zombie has no arguments any more
                    found.append(int(name))
    return found


async def gone(pid: int) -> None:
    with anyio.fail_after(10):
        while is_alive(pid):
            await anyio.sleep(0.005)


def nanny_of(child: pf.Process) -> nanny_module.Nanny:
    container = child._core.container
    assert isinstance(container, StrictContainer)
    return container._nanny


async def daemon_of(child: pf.Process) -> int:
    return int((await child.stdout.wait_for_line(r"\d+")).text)


class TestReach:
    async def test_leaving_the_block_ends_a_daemon_with_an_emptied_environment(self) -> None:
        """C-83: it left group, session and parent, and carries nothing that could tell where it comes from."""
        async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
            assert child.containment.level == "strict"
            daemon = await daemon_of(child)
            assert is_alive(daemon)
            assert os.getsid(daemon) != child.pid

        assert not is_alive(daemon)
        assert child.state is pf.ProcessState.ENDED

    async def test_terminate_reaches_it_too(self) -> None:
        """C-83: when terminate() has returned, nothing of the tree is alive."""
        async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
            daemon = await daemon_of(child)

            outcome = await child.terminate()

            assert not is_alive(daemon)
            assert outcome.signal == signal.SIGTERM
            assert [report.signal for report in outcome.phases] == [signal.SIGTERM, signal.SIGKILL]
            assert outcome.phases[-1].ended

    async def test_a_daemon_is_not_waited_for_in_the_phase_of_the_group(self) -> None:
        """C-64, C-83: it got no signal of that phase, so the phase is over when the group is empty."""
        async with pf.spawn(
            python(AWAY + "time.sleep(120)"), containment="strict", shutdown=pf.Shutdown.sigterm(60.0)
        ) as child:
            daemon = await daemon_of(child)
            begun = time.monotonic()

        assert not is_alive(daemon)
        assert time.monotonic() - begun < 30

    async def test_a_phase_for_the_tree_reaches_everybody(self) -> None:
        """C-64, C-83: a polite signal to the tree goes to those who left the group, and they are waited for."""
        script = AWAY.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "")
        phase = pf.Phase(signal=signal.SIGTERM, wait_s=60.0, to=pf.Target.TREE)
        async with pf.spawn(python(script + "time.sleep(120)"), containment="strict") as child:
            daemon = await daemon_of(child)

            outcome = await child.terminate(pf.Shutdown(phases=[phase]))

        assert not is_alive(daemon)
        assert [report.signal for report in outcome.phases] == [signal.SIGTERM]

    async def test_run_ends_what_the_command_left_behind(self) -> None:
        """C-61, C-83: also what left the group."""
        done = await pf.run(python(AWAY), containment="strict")

        assert done.outcome.ok
        assert not is_alive(int(done.stdout.text))

    async def test_wide_chain_of_forks(self) -> None:
        """C-83: 32 chains in which no process lives longer than its fork takes."""
        cookie = f"chain-{time.monotonic_ns()}"
        async with pf.spawn(python(CHAIN + "print('up'); time.sleep(120)", cookie), containment="strict") as child:
            await child.stdout.wait_for_line("up")
            assert links(cookie)

            await child.kill()

            assert links(cookie) == []

    async def test_who_left_the_group_is_told(self) -> None:
        """C-92: an event names everybody whom a signal to the group would not have reached."""
        told: list[pf.ProcessEvent] = []
        with pf.observe(told.append):
            async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
                daemon = await daemon_of(child)

        (escaped,) = [event for event in told if isinstance(event, pf.Escaped)]
        assert (escaped.pid, escaped.escaped_pids, escaped.has_survived) == (child.pid, (daemon,), False)

    async def test_signal_to_the_tree_says_whether_anybody_is_there(self) -> None:
        """C-66: after the leader was reaped the daemon is still within reach, by its own number pinned."""
        async with pf.spawn(python(AWAY), containment="strict") as child:
            daemon = await daemon_of(child)
            await child.wait()
            assert child.state is pf.ProcessState.EXITED

            assert child.send_signal(signal.SIGUSR1, to=pf.Target.TREE)
            await gone(daemon)
            with anyio.fail_after(10):
                while child.send_signal(0, to=pf.Target.TREE):
                    await anyio.sleep(0.005)


class TestEndingOfHelpers:
    async def test_nanny_that_is_killed_takes_its_tree_along(self) -> None:
        """C-83: the template gets her children, and ends them; the status of the leader is unknown."""
        async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
            daemon = await daemon_of(child)
            os.kill(nanny_of(child).pid, signal.SIGKILL)

            with anyio.fail_after(10):
                outcome = await child.wait()

            await gone(daemon)
            assert outcome.is_unknown
        assert child.state is pf.ProcessState.ENDED

    async def test_report_says_that_the_nanny_is_gone(self) -> None:
        """C-84: nothing claims more than is established."""
        async with pf.spawn(python("import time; time.sleep(120)"), containment="strict") as child:
            os.kill(nanny_of(child).pid, signal.SIGKILL)
            with anyio.fail_after(10):
                await child.wait()

            assert child.containment.level != "strict"
            assert "its nanny is gone" in child.containment.missing

    async def test_report_says_that_the_template_is_gone(self) -> None:
        """C-84: between two deaths too: the nanny still reaches everything, and nobody would if she were killed."""
        async with pf.spawn(python("import time; time.sleep(120)"), containment="strict") as child:
            whole, nanny = child.containment, nanny_of(child)
            template = parent(nanny.pid)
            os.kill(template, signal.SIGKILL)
            await gone(template)

            between = child.containment
            assert (between.level, between.mechanisms) == ("strict", whole.mechanisms)
            (said,) = set(between.missing) - set(whole.missing)
            assert said == "the template of its nanny is gone: nobody ends the tree when the nanny is killed"

            await pf.run(pf.Command("true"), containment="strict")  # has another template, and takes the old one away
            assert child.containment == between
            os.kill(nanny.pid, signal.SIGKILL)
            await gone(nanny.pid)
            assert child.containment.level != "strict"
            assert {"its nanny is gone", said} <= set(child.containment.missing)

    async def test_template_that_is_killed_is_replaced(self) -> None:
        """C-81, C-82: those who have a nanny keep her, and the next one is started by a new template."""
        async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
            daemon = await daemon_of(child)
            template = parent(nanny_of(child).pid)
            os.kill(template, signal.SIGKILL)
            await gone(template)

            for _ in range(3):
                assert (await pf.run(pf.Command("echo", "on"), containment="strict")).stdout.text == "on\n"

            assert is_alive(daemon)
        assert not is_alive(daemon)


async def keeper_of_a_run(containment: pf.Strict | None = None) -> int:
    """Return the pid of the nanny that a short run had."""
    async with pf.spawn(pf.Command("true"), containment=containment or "strict") as child:
        keeper = nanny_of(child).pid
        await child.wait()
    return keeper


class TestReserve:
    async def test_one_nanny_keeps_one_tree_after_the_other(self, tmp_path: Path) -> None:
        """C-82: nothing of a tree is left on the nanny for the next one."""
        script = (
            "import os, resource as r; print(os.nice(0), r.getrlimit(r.RLIMIT_NOFILE)[0], os.getcwd(), os.umask(0))"
        )
        wanted = pf.Strict(nice=3, limits={"nofile": 77})
        async with pf.spawn(python(script).with_(cwd=tmp_path, umask=0o27), containment=wanted) as child:
            keeper = nanny_of(child).pid
            first = (await child.stdout.wait_for_line("")).text
        async with pf.spawn(python(script), containment="strict") as child:
            assert nanny_of(child).pid == keeper
            second = (await child.stdout.wait_for_line("")).text

        os.umask(mask := os.umask(0))
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert first == f"{os.nice(0) + 3} 77 {tmp_path} {0o27}"
        assert second == f"{os.nice(0)} {nofile} {os.getcwd()} {mask}"

    async def test_it_reaches_the_next_tree_as_well(self) -> None:
        """C-83: a daemon with an emptied environment is ended in the second tree of a nanny, and in the third."""
        keepers: set[int] = set()
        for _ in range(3):
            async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
                daemon = await daemon_of(child)
                keepers.add(nanny_of(child).pid)
            assert not is_alive(daemon)
        assert len(keepers) == 1

    async def test_of_many_one_is_kept(self) -> None:
        """C-67: the others end."""
        async with contextlib.AsyncExitStack() as stack:
            children = [
                await stack.enter_async_context(pf.spawn(pf.Command("cat"), stdin=pf.PIPE, containment="strict"))
                for _ in range(4)
            ]
            keepers = {nanny_of(child).pid for child in children}
            assert len(keepers) == 4

        with anyio.fail_after(10):
            while sum(map(is_alive, keepers)) > 1:
                await anyio.sleep(0.005)
        assert await keeper_of_a_run() in keepers

    async def test_one_that_was_killed_is_replaced(self) -> None:
        """C-81: nobody notices."""
        keeper = await keeper_of_a_run()
        os.kill(keeper, signal.SIGKILL)
        await gone(keeper)

        assert await keeper_of_a_run() != keeper

    async def test_one_whose_template_is_gone_is_not_used(self) -> None:
        """C-83: nobody would end its tree when it is killed."""
        keeper = await keeper_of_a_run()
        template = parent(keeper)
        os.kill(template, signal.SIGKILL)
        await gone(template)

        other = await keeper_of_a_run()
        assert other != keeper
        assert parent(other) != template
        await gone(keeper)

    async def test_it_is_not_waited_for_where_sockets_have_a_timeout(self) -> None:
        """C-81: what a host has set for its own sockets does not count."""
        keeper = await keeper_of_a_run()
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(10.0)
        try:
            assert await keeper_of_a_run() == keeper
        finally:
            socket.setdefaulttimeout(before)

    @pytest.mark.parametrize("program", ["sleep", "no-such-program-at-all"])
    async def test_one_that_owes_an_answer_is_not_used(self, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        """C-82: a signal handler of the host has raised while it waited for a start."""
        keeper = await keeper_of_a_run()

        def wait_interrupted(nanny: nanny_module.Nanny) -> int:
            raise TimeoutError

        with monkeypatch.context() as patch:
            patch.setattr(nanny_module.Nanny, "_wait_started", wait_interrupted)
            with pytest.raises(pf.SpawnError):
                await pf.run(pf.Command(program, "60"), containment="strict")

        assert await keeper_of_a_run() != keeper
        await gone(keeper)

    async def test_one_that_is_stopped_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-81: a fresh one is there sooner."""
        rest = nanny_module.Nanny.rest

        def stop_and_rest(nanny: nanny_module.Nanny) -> int:
            os.kill(nanny.pid, signal.SIGSTOP)
            return rest(nanny)

        with monkeypatch.context() as patch:
            patch.setattr(nanny_module.Nanny, "rest", stop_and_rest)
            keeper = await keeper_of_a_run()
        try:
            with anyio.fail_after(template_module.REST_S * 10):
                assert await keeper_of_a_run() != keeper
        finally:
            os.kill(keeper, signal.SIGCONT)
        await gone(keeper)

    async def test_one_that_was_changed_is_not_used(self) -> None:
        """C-82: whoever is in a tree may set limits of its parent; they are not those of the next tree."""
        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, containment="strict") as child:
            keeper = nanny_of(child).pid
            soft, hard = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
            resource.prlimit(keeper, resource.RLIMIT_NOFILE, (soft - 1, hard))

        assert await keeper_of_a_run() != keeper
        await gone(keeper)

    async def test_copy_of_the_host_leaves_one_alone(self) -> None:
        """C-67: also one that nothing was started by yet."""
        nanny = await template_module.hire_nanny("", read_circumstances().inherited)
        copy = os.fork()
        if copy == 0:
            nanny.close()
            os._exit(0)
        os.waitpid(copy, 0)

        nanny._send("let go")
        with anyio.fail_after(10):
            await anyio.wait_readable(nanny._channel)
        assert nanny._receive() == ("gone",)
        nanny.close()

    def test_failed_start_leaves_it_no_descriptor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-7: what one start has left would be there for all others."""

        def fork() -> int:
            raise BlockingIOError

        start = program.Start(
            program=b"true",
            arguments=[],
            environment={},
            cwd=None,
            umask=0,
            group=None,
            terminal=None,
            numbers=[],
            attributes={},
            cgroup=[],
            mask=[],
        )
        monkeypatch.setattr(os, "fork", fork)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(BlockingIOError):
            program.start_with({}, start, {})
        assert os.listdir("/proc/self/fd") == before

    def test_descriptors_that_cannot_be_moved_are_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-7: those that were moved before have other numbers, under which they are closed."""
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
        duplicate = fcntl.fcntl
        moved: list[int] = []

        def duplicate_once(fd: int, command: int, lowest: int) -> int:
            if moved:
                raise OSError(errno.EMFILE, "")
            moved.append(duplicate(fd, command, lowest))
            return moved[0]

        kept = fds[1]
        monkeypatch.setattr(fcntl, "fcntl", duplicate_once)
        with pytest.raises(OSError, match="24"):
            program.aside(fds, [*fds, kept])
        assert fds == [*moved, kept]
        for fd in fds:
            os.close(fd)

    async def test_one_that_was_let_go_is_not_used(self) -> None:
        """C-68: it has a tree that lives on."""
        async with pf.spawn(python("import time; time.sleep(120)"), containment="strict") as child:
            keeper = nanny_of(child).pid
            await child.detach()
        try:
            assert await keeper_of_a_run() != keeper
        finally:
            os.kill(child.pid, signal.SIGKILL)
        await gone(keeper)

    async def test_tree_that_ended_by_itself_needs_no_stop(self) -> None:
        """C-66: the zombie that the nanny was told to reap does not count as alive."""
        for _ in range(20):
            async with pf.spawn(pf.Command("true"), containment="strict") as child:
                await child.wait()
                assert child.state is pf.ProcessState.ENDED


class TestLettingGo:
    async def test_detached(self) -> None:
        """C-68: a detached tree lives on, with the nanny as its parent, who reaps it in the end."""
        async with pf.spawn(python("import time; time.sleep(120)"), containment="strict") as child:
            keeper = nanny_of(child).pid
            await child.detach()
        try:
            assert is_alive(child.pid)
            assert parent(child.pid) == keeper
        finally:
            os.kill(child.pid, signal.SIGKILL)
        await gone(child.pid)
        await gone(keeper)
        assert process_state(child.pid) is None

    async def test_orphans_may_be_left(self) -> None:
        """C-61: what run() leaves lives on."""
        done = await pf.run(python(AWAY), containment="strict", orphans="leave")

        daemon = int(done.stdout.text)
        try:
            assert is_alive(daemon)
        finally:
            os.kill(daemon, signal.SIGKILL)
        await gone(daemon)


class TestStart:
    @pytest.mark.parametrize(
        ("command", "part"),
        [
            (pf.Command("no-such-program-anywhere"), "No such file"),
            (pf.Command("/etc/passwd"), "Permission denied"),
            (pf.Command("true", cwd="/no/such/place"), "the working directory cannot be used"),
            (pf.Command("true", pass_fds=[987]), "descriptor 987"),
        ],
        ids=lambda value: value.name if isinstance(value, pf.Command) else "",
    )
    async def test_refusals_are_those_of_every_start(self, command: pf.Command, part: str) -> None:
        """C-4: the same words as without a nanny."""
        errors = []
        for level in ("group", "strict"):
            with pytest.raises(pf.SpawnError) as caught:
                await pf.run(command, containment=level)
            errors.append(str(caught.value))

        assert part in errors[0]
        assert errors[0] == errors[1]

    async def test_child_gets_what_every_child_gets(self, tmp_path: Path) -> None:
        """C-1, C-69, C-82: directory, environment, umask, descriptors, signals: as without a nanny."""
        script = (
            "import os, signal; print(os.getcwd(), oct(os.umask(0)), sorted(item for item in os.environ.items() if not item[0].startswith('PROCFLOW_HOST_')), sorted(map(int, os.listdir('/proc/self/fd'))),"
            "[n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN], signal.pthread_sigmask(0, []))"
        )
        receive, send = os.pipe()
        passed = fcntl.fcntl(send, fcntl.F_DUPFD, 57)  # a free number that no end of a pipe has
        try:
            command = python(script).with_(
                cwd=tmp_path, umask=0o27, env={"A": "ä\udcff", "LANG": None}, inherit_env=False, pass_fds=[passed]
            )
            said = [(await pf.run(command, containment=level)).stdout.text for level in ("group", "strict")]
        finally:
            for fd in (receive, send, passed):
                os.close(fd)

        assert str(tmp_path) in said[0]
        assert said[0] == said[1]

    async def test_directory_and_umask_of_the_host_are_those_of_the_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C-82: not those of the time when the template was started."""
        await pf.run(pf.Command("true"), containment="strict")
        monkeypatch.chdir(tmp_path)
        before = os.umask(0o13)
        try:
            done = await pf.run(python("import os; print(os.getcwd(), oct(os.umask(0)))"), containment="strict")
        finally:
            os.umask(before)

        assert done.stdout.text == f"{tmp_path} 0o13\n"

    async def test_input_and_output(self) -> None:
        """C-7, C-8: what is fed arrives, and every byte comes back."""
        done = await pf.run(pf.Command("cat"), stdin=b"x" * 3_000_000, containment="strict")

        assert done.stdout.lost_bytes + len(done.stdout.bytes) == 3_000_000

    async def test_large_arguments_and_environment(self) -> None:
        """C-82: more than fits into one packet."""
        command = python("import os, sys; print(len(sys.argv[1]), len(os.environ['X']))", "a" * 100_000)

        done = await pf.run(command.with_(env={"X": "b" * 100_000}), containment="strict")

        assert done.stdout.text == "100000 100000\n"

    async def test_exit_and_usage(self) -> None:
        """C-62: status, signal and usage come from the nanny; the usage also while stragglers keep the leader unreaped."""
        done = await pf.run(python("x = sum(range(3_000_000)); raise SystemExit(7)"), check=False, containment="strict")
        assert done.outcome.exit_code == 7
        assert done.outcome.usage is not None
        assert done.outcome.usage.user_s > 0
        async with pf.spawn(python(AWAY), containment="strict") as child:
            assert (await child.wait()).usage is not None
        async with pf.spawn(python("import time; time.sleep(120)"), containment="strict") as child:
            assert child.send_signal(signal.SIGKILL)
            assert (await child.wait()).signal == signal.SIGKILL

    async def test_pipeline(self) -> None:
        """C-9: the stages have one nanny."""
        done = await pf.run(
            pf.Command("printf", "b\\na\\n") | pf.Command("sort") | python("import os; print(os.getppid(), input())"),
            containment="strict",
        )

        assert done.stdout.text.split()[1] == "a"
        assert all(stage.outcome.ok for stage in done.stages)

    async def test_terminal_of_its_own(self) -> None:
        """C-10: the child leads a session on its terminal."""
        script = "import os; print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), os.getsid(0) == os.getpid())"
        done = await pf.run(python(script), pty=pf.Pty(), containment="strict")

        assert done.stdout.text.split() == ["True", "True", "True"]

    async def test_many_at_once(self) -> None:
        """C-3, C-69: 60 starts from several tasks."""
        outputs: list[str] = []

        async def one(number: int) -> None:
            done = await pf.run(pf.Command("echo", str(number)), containment="strict")
            outputs.append(done.stdout.text.strip())

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(one, number)

        assert sorted(map(int, outputs)) == list(range(60))

    async def test_cancelled_while_a_nanny_is_hired(self) -> None:
        """C-3: nothing is left, and the next start is as good as ever."""
        for _ in range(20):
            with anyio.move_on_after(0):
                async with pf.spawn(pf.Command("sleep", "60"), containment="strict"):
                    await anyio.sleep_forever()
        assert (await pf.run(pf.Command("echo", "on"), containment="strict")).stdout.text == "on\n"

    async def test_lent_terminal_is_refused(self) -> None:
        """C-10: the terminal belongs to the host's session, and a nanny has one of her own."""
        with pytest.raises(pf.UsageError, match="terminal"):
            pf.spawn(pf.Command("true"), terminal="shared", containment="strict")


class TestHosts:
    """What a host does to itself, or has done to it."""

    async def test_numbers_are_not_signalled_once_they_are_given_up(self) -> None:
        """C-66: after the end of the block nobody is looked for below the number that the nanny had."""
        async with pf.spawn(python(AWAY), containment="strict") as child:
            await daemon_of(child)
        container = child._core.container

        assert child.containment.level != "strict"
        assert container.living() == ()
        for target in pf.Target:
            assert not child.send_signal(signal.SIGUSR1, to=target)
            assert not child.send_signal(0, to=target)

    async def test_group_of_a_lost_nanny_is_not_signalled_by_its_number(self, observed: list[pf.ProcessEvent]) -> None:
        """C-66: the zombie that held the number was hers."""
        async with pf.spawn(python("import time; time.sleep(120)"), containment="strict") as child:
            os.kill(nanny_of(child).pid, signal.SIGKILL)
            with anyio.fail_after(10):
                while process_state(child.pid) is not None:
                    time.sleep(0.005)  # the loop must not notice by itself

            assert not child.send_signal(signal.SIGUSR1, to=pf.Target.GROUP)
        assert not [event for event in observed if isinstance(event, pf.Signalled) and event.to == "group"]

    async def test_many_descriptors(self) -> None:
        """C-82: as many as can be passed at once; one more is refused by its reason."""
        fds = [os.dup(0) for _ in range(nanny_module.MOST_DESCRIPTORS - 1)]
        try:
            command = python("import os; print(len(os.listdir('/proc/self/fd')))")
            done = await pf.run(command.with_(pass_fds=fds[1:]), containment="strict")
            assert int(done.stdout.text) >= len(fds)
            with pytest.raises(pf.SpawnError, match="240 descriptors at most"):
                await pf.run(command.with_(pass_fds=fds), containment="strict")
        finally:
            for fd in fds:
                os.close(fd)

    async def test_no_descriptor_left(self) -> None:
        """C-4, C-90: a SpawnError with EMFILE, and the next start is as good as ever."""
        await pf.run(pf.Command("true"), containment="strict")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        for spare in range(2, 20):
            highest = max(map(int, os.listdir("/proc/self/fd")))
            fillers = [os.dup(0) for _ in range(8)]
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8 + spare, before[1]))
                with contextlib.suppress(pf.SpawnError):
                    await pf.run(pf.Command("true"), containment="strict")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for fd in fillers:
                    os.close(fd)
        assert (await pf.run(pf.Command("echo", "on"), containment="strict")).stdout.text == "on\n"

    def test_children_may_do_what_their_host_may_now(self) -> None:
        """C-82: a privilege that the host has given up since is not given to a child, nor a processor."""
        script = """
import ctypes, os, anyio, procflow as pf
probe = pf.Command("grep", "-E", "^(NoNewPrivs|Seccomp|Cap|Cpus_allowed:)", "/proc/self/status")
async def main():
    said = []
    for _ in range(2):
        said.append([(await pf.run(probe, containment=level)).stdout.text for level in ("group", "strict")])
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        ctypes.CDLL(None).prctl(24, 21, 0, 0, 0)  # PR_CAPBSET_DROP CAP_SYS_ADMIN, for those who may
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    (first, strict), (second, strict_second) = said
    print(first == strict, second == strict_second, first != second)
anyio.run(main)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "True True True\n"

    def test_template_is_given_up_while_it_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-81: threads may differ in what their children inherit."""

        async def hire(inherited: tuple[object, ...]) -> int:
            nanny = await template_module.hire_nanny("", inherited)
            nanny.close()
            return nanny.pid

        here = read_circumstances().inherited
        anyio.run(hire, here)
        ask = template_module._reserve_of
        other: list[int] = []

        async def ask_late(template: template_module._Template) -> nanny_module.Nanny | None:
            if not other:
                other.append(0)
                thread = threading.Thread(target=lambda: other.append(anyio.run(hire, ("other", *here))))
                thread.start()
                thread.join()
            return await ask(template)

        monkeypatch.setattr(template_module, "_reserve_of", ask_late)
        assert anyio.run(hire, here) not in other

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can have itself given groups")
    def test_host_of_many_groups(self) -> None:
        """C-82: what tells of it may be long."""
        script = """
import os, anyio, procflow as pf
os.setgroups(range(100_000, 102_000))
async def main():
    print((await pf.run(pf.Command("id", "-G"), containment="strict")).stdout.text.count(" "))
anyio.run(main)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert int(done.stdout) >= 2000

    def test_children_are_what_their_host_is_now(self) -> None:
        """C-82: users, limits, niceness and blocked signals of the moment, not of the template's start."""
        script = """
import os, resource, signal, anyio, procflow as pf
async def ask():
    probe = "import os, resource, signal; print(os.getuid(), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0], sorted(map(int, signal.pthread_sigmask(0, []))))"
    return (await pf.run(pf.Command(%r, "-I", "-S", "-c", probe), containment="strict")).stdout.text
async def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1])
    first = await ask()
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (321, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    second = await ask()
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            print(await ask())
        except pf.PlatformError:  # it may not run this interpreter
            print("refused")
        except pf.SpawnError:
            print("refused")
    print(first, second, sep="|")
anyio.run(main)
"""
        done = subprocess.run(
            [sys.executable, "-c", script % "/usr/bin/python3"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=60,
        )

        *third, last = done.stdout.strip().splitlines()[:-1], done.stdout.strip().splitlines()[-1]
        first, second = done.stdout.replace("\n|", "|").strip().splitlines()[-1].split("|")
        assert first.split()[3:] == [f"[{signal.SIGUSR1},".replace(str(signal.SIGUSR1), "10"), "17]"]
        nice = int(first.split()[1])
        assert second.split()[1:] == [str(nice + 3), "321", "[]"]
        assert not any(line.startswith("0 ") for line in third[0][:-1]), "a child of nobody was root"
        assert last

    def test_forked_copies_hold_no_nanny(self) -> None:
        """C-67: a copy of the host has the channels open, and the nannies end all the same: but one, and that with the host."""
        script = """
import os, signal, time, anyio, procflow as pf
async def main():
    sleep = pf.Command("sleep", "60")
    async with (
        pf.spawn(sleep, containment="strict", shutdown=pf.Shutdown.now()) as one,
        pf.spawn(sleep, containment="strict", shutdown=pf.Shutdown.now()) as other,
    ):
        nannies = [child._core.container._nanny.pid for child in (one, other)]
        copy = os.fork()
        if copy == 0:
            os.closerange(1, 3)
            time.sleep(60)
            os._exit(0)
    deadline = time.monotonic() + 20
    while all(os.path.exists(f"/proc/{nanny}") for nanny in nannies) and time.monotonic() < deadline:
        time.sleep(0.01)
    print(*(nanny for nanny in nannies if os.path.exists(f"/proc/{nanny}")), copy)
anyio.run(main)
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=60,
        )

        reserve, copy = map(int, done.stdout.split())
        try:
            wait_until(lambda: not is_alive(reserve), "the end of the reserve")
            assert is_alive(copy)
        finally:
            os.kill(copy, signal.SIGKILL)

    async def test_hung_nanny_bounds_a_detach(self) -> None:
        """C-68: a second at most, then it is said that the tree is still ours."""
        async with pf.spawn(pf.Command("sleep", "60"), containment="strict", shutdown=pf.Shutdown.now()) as child:
            keeper = nanny_of(child).pid
            os.kill(keeper, signal.SIGSTOP)
            try:
                with anyio.fail_after(30), pytest.raises(pf.PlatformError, match="has not answered"):
                    await child.detach()
            finally:
                os.kill(keeper, signal.SIGCONT)
            assert child.state is pf.ProcessState.RUNNING

    async def test_hung_nanny_starts_nothing_later(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-3: a start that was given up does not happen after all."""
        hire = template_module.hire_nanny
        hired: list[nanny_module.Nanny] = []

        async def hire_and_stop(base: str, inherited: tuple[object, ...]) -> nanny_module.Nanny:
            nanny = await hire(base, inherited)
            os.kill(nanny.pid, signal.SIGSTOP)
            monkeypatch.setattr(nanny_module, "ANSWER_S", 0.2)
            hired.append(nanny)
            return nanny

        monkeypatch.setattr("procflow._containment.choice.hire_nanny", hire_and_stop)
        with pytest.raises(pf.SpawnError, match="has not answered"):
            await pf.run(pf.Command("touch", tmp_path / "ran"), containment="strict")

        await gone(hired[0].pid)
        assert not (tmp_path / "ran").exists()

    async def test_detached_trees_are_not_claimed(self) -> None:
        """C-68, C-84: after detach() nothing is said to hold them."""
        async with pf.spawn(pf.Command("sleep", "60"), containment="strict") as child:
            await child.detach()
            assert child.containment.level == "group"
            assert "a nanny: it was let go" in child.containment.missing
        os.kill(child.pid, signal.SIGKILL)
        await gone(child.pid)


class TestAttributes:
    async def test_limits_and_niceness(self) -> None:
        """C-82: set between the fork and the program, in the child alone."""
        wanted = pf.Strict(nice=5, limits={"nofile": (64, 128), "core": 0})
        script = "import os, resource as r; print(os.nice(0), r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE))"

        done = await pf.run(python(script), containment=wanted)

        assert done.stdout.text == f"{os.nice(0) + 5} (64, 128) (0, 0)\n"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 128

    @pytest.mark.root
    async def test_user_and_groups(self) -> None:
        """C-82: names and numbers; the groups are those of the user unless they are given."""
        command = pf.Command("/usr/bin/env", "sh", "-c", "id -u; id -g; id -G")

        done = await pf.run(command, containment=pf.Strict(user="nobody"))
        assert done.stdout.lines == ["65534", "65534", "65534"]
        done = await pf.run(command, containment=pf.Strict(user=65534, group="daemon", extra_groups=["daemon", 7]))
        assert done.stdout.lines == ["65534", "1", "1 7"]

    async def test_refusals(self) -> None:
        """C-4, C-82: what cannot be had is said before or instead of the start."""
        for wanted, part in (
            (pf.Strict(user="no-such-user"), "no-such-user"),
            (pf.Strict(limits={"nonsense": 1}), "no limit 'nonsense'"),
            (pf.Strict(cgroup="/no/such/cgroup"), "/no/such/cgroup"),
        ):
            with pytest.raises(pf.PlatformError, match=part):
                await pf.run(pf.Command("true"), containment=wanted)
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        if os.geteuid() != 0 and hard != resource.RLIM_INFINITY:
            with pytest.raises(pf.SpawnError, match="set the limit nproc"):
                await pf.run(pf.Command("true"), containment=pf.Strict(limits={"nproc": hard + 1}))

    async def test_wrong_values(self) -> None:
        """C-82: fail where they are given."""
        for values in (
            {"nice": 20},
            {"nice": -1},
            {"memory_bytes": 0},
            {"cpus": 0},
            {"limits": {"nofile": -2}},
            {"limits": {"nofile": (10, 5)}},
            {"limits": {"nofile": 2**70}},
            {"user": -1},
            {"user": 2**32 - 1},
            {"extra_groups": [2**40]},
        ):
            with pytest.raises(ValueError):
                pf.Strict(**values)
        with pytest.raises(TypeError):
            pf.Strict(extra_groups="wheel")
        with pytest.raises(ValueError, match="containment must be"):
            pf.spawn(pf.Command("true"), containment="sloppy")  # type: ignore[arg-type]  # wrong on purpose


def members_of(leaf: str | Path) -> list[str]:
    """Return who is in a cgroup; nobody if it is gone, or goes while it is read."""
    try:
        return Path(leaf, "cgroup.procs").read_text().split()
    except OSError as exc:
        if exc.errno in {errno.ENOENT, errno.ENODEV}:
            return []
        raise


class TestCgroup:
    @pytest.fixture
    def base(self) -> str:
        delegated = find_delegated(None)
        if not delegated.path:
            pytest.skip(f"no delegated cgroup: {delegated.reason}")
        return delegated.path

    async def test_tree_has_a_leaf_that_goes_with_it(self, base: str) -> None:
        """C-83: born in it, ended by it, and no directory stays when the nanny goes."""
        async with pf.spawn(python(AWAY + "time.sleep(120)"), containment="strict") as child:
            assert child.containment.mechanisms[-1] == "cgroup"
            leaf = nanny_of(child).cgroup
            daemon = await daemon_of(child)
            members = members_of(leaf)
            assert {str(child.pid), str(daemon)} <= set(members)
            keeper = nanny_of(child).pid
            assert str(keeper) not in members

        assert not is_alive(daemon)
        assert not members_of(leaf)
        with contextlib.suppress(ProcessLookupError):  # it may be the reserve
            os.kill(keeper, signal.SIGKILL)
        with anyio.fail_after(10):
            while Path(leaf).exists():
                await anyio.sleep(0.005)

    async def test_limit_without_its_controller_is_refused(self, base: str) -> None:
        """C-82: a limit that would not hold starts nothing."""
        if "memory" in Path(base, "cgroup.controllers").read_text():
            pytest.skip("this system has the controller")
        with pytest.raises(pf.SpawnError, match=r"be limited by memory\.max"):
            await pf.run(pf.Command("true"), containment=pf.Strict(memory_bytes=1 << 30))

    async def test_nanny_of_a_limited_tree_is_not_used_again(self, base: str) -> None:
        """C-82: limits stay with a cgroup, so the next tree gets another one."""
        first = await keeper_of_a_run()
        with contextlib.suppress(pf.SpawnError):  # refused where there is no such controller, after it was tried
            await pf.run(pf.Command("true"), containment=pf.Strict(memory_bytes=1 << 30))

        assert await keeper_of_a_run() != first
        await gone(first)

    @pytest.mark.parametrize("left", ["a freeze", "a cgroup"])
    async def test_cgroup_of_a_tree_is_not_the_next_one_s(self, base: str, left: str) -> None:
        """C-82: whoever has stopped or changed it has meant the tree that was in it."""
        async with pf.spawn(pf.Command("sleep", "60"), containment="strict", shutdown=pf.Shutdown.now()) as child:
            leaf, keeper = Path(nanny_of(child).cgroup), str(nanny_of(child).pid)
            with anyio.fail_after(
                10
            ):  # she leaves it once she has told of the start; frozen herself she could end nobody
                while keeper in members_of(leaf):
                    await anyio.sleep(0.005)
            if left == "a freeze":
                Path(leaf, "cgroup.freeze").write_text("1")
            else:
                Path(leaf, "below").mkdir()

        async with pf.spawn(pf.Command("sleep", "60"), containment="strict", shutdown=pf.Shutdown.now()) as child:
            leaf = Path(nanny_of(child).cgroup)
            assert str(child.pid) in members_of(leaf)
            assert Path(leaf, "cgroup.freeze").read_text() == "0\n"
            assert not [path for path in leaf.iterdir() if path.is_dir()]


class TestBest:
    async def test_is_strict_where_that_can_be_had(self) -> None:
        """C-82: and says so."""
        async with pf.spawn(pf.Command("sleep", "60"), containment="best") as child:
            assert child.containment.requested == "best"
            assert child.containment.level == "strict"

    async def test_is_less_where_it_cannot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-82: ``strict`` raises, ``best`` goes on and says why."""
        monkeypatch.setattr(
            template_module, "start_helper", lambda *_, **__: (_ for _ in ()).throw(OSError(11, "no more"))
        )
        monkeypatch.setattr(template_module, "_hosts", {})
        with pytest.raises(pf.SpawnError, match="no nanny can be had for it: no more"):
            await pf.run(pf.Command("true"), containment="strict")

        async with pf.spawn(pf.Command("sleep", "60"), containment="best") as child:
            assert child.containment.level != "strict"
            assert any("no more" in text for text in child.containment.missing)


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


assert sys.platform == "linux", "nannies are for Linux"
