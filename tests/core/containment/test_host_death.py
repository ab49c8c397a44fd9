"""C-80: what is left when the host is gone, whatever way it went; and the cells of "what escapes at which level"."""

from __future__ import annotations

import os
import signal

import pytest

from tests.core.containment.hosts import Cookie, hosted, is_alive, someone, wait_until

KEPT = ("stubborn", "setpgid", "setsid", "daemon")

HOLD_TREES = r"""
level = sys.argv[5]
async def main():
    async with pf.spawn(tree("stubborn", "setpgid", "setsid", "daemon"), containment=level) as child:
        async with pf.spawn(tree("stubborn", "setpgid", "setsid", "daemon", "emptied"), containment=level):
            if level == "guarded":
                await wait_guarded(child)
            say("holding")
            await anyio.sleep_forever()
run(main)
"""


def test_nothing_that_was_registered_or_marked_outlives_the_host(cookie: Cookie, backend: str) -> None:
    """C-80, C-84: guarded: only the daemon with an emptied environment escapes."""
    with hosted(cookie, backend, HOLD_TREES, "guarded") as host:
        host.hear("holding")
        (emptied,) = cookie.wait_for("leader", "leader", *KEPT, *KEPT, "emptied")["emptied"]
        host.kill()
        cookie.wait_until_gone(but={emptied})
        assert is_alive(emptied)


def test_at_the_group_level_everything_outlives_a_killed_host(cookie: Cookie) -> None:
    """C-84: group: nothing ends anybody when the host is killed."""
    with hosted(cookie, "asyncio", HOLD_TREES, "group") as host:
        host.hear("holding")
        people = cookie.wait_for("leader", "leader", *KEPT, *KEPT, "emptied")
        host.kill()
        everybody = [who for role in people.values() for who in role]
        assert len(everybody) == 11
        assert all(map(is_alive, everybody))


def test_host_killed_before_it_could_register(cookie: Cookie, backend: str) -> None:
    """C-80: the host dies between the fork and the note of its pid: the variable tells."""
    script = r"""
from procflow._containment.guard.container import GuardedContainer
def bind(self, leader):
    say("forked", leader.pid)
    os.kill(os.getpid(), signal.SIGKILL)
GuardedContainer.bind = bind
async def main():
    async with pf.spawn(tree()):
        pass
run(main)
"""
    with hosted(cookie, backend, script) as host:
        (pid,) = host.hear("forked")
        assert host.process.wait() == -signal.SIGKILL
        # By its number first: the arguments of a process that has just executed its program may not be readable yet.
        wait_until(lambda: someone(int(pid)) is None, "the leader is gone")
        cookie.wait_until_gone()


def test_host_killed_before_the_guard_has_begun_to_watch(cookie: Cookie) -> None:
    """C-80: the start-up window: what the host has said and done before its guard runs is found all the same."""
    script = r"""
async def main():
    async with pf.spawn(tree("setsid")) as child:
        os.kill(guard_pid(), signal.SIGSTOP)  # it has run for some microseconds
        say("stopped", guard_pid(), child.containment.level)
        hear()
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        pid, level = host.hear("stopped")
        cookie.wait_for("leader", "setsid")
        host.kill()
        os.kill(int(pid), signal.SIGCONT)
        cookie.wait_until_gone()
    assert level == "group"


def test_forked_copy_of_the_host_that_keeps_every_descriptor(cookie: Cookie, backend: str) -> None:
    """C-80: a multiprocessing child of the host holds our end of the channel, and lives."""
    script = r"""
import multiprocessing, time
def hold():
    say("copy", os.getpid())
    time.sleep(600)
async def main():
    async with pf.spawn(tree("setsid", "stubborn")) as child:
        await wait_guarded(child)
        multiprocessing.get_context("fork").Process(target=hold, daemon=True).start()
        await anyio.sleep_forever()
run(main)
"""
    with hosted(cookie, backend, script) as host:
        (pid,) = host.hear("copy")
        copy = someone(int(pid))
        assert copy is not None
        cookie.wait_for("leader", "setsid", "stubborn")
        try:
            host.process.kill()
            cookie.wait_until_gone(but={copy})
            assert is_alive(copy)
        finally:
            os.kill(copy.pid, signal.SIGKILL)


def test_host_that_becomes_another_program(cookie: Cookie) -> None:
    """C-80: execv ends the host, which nobody can stop its children in its place."""
    script = r"""
async def main():
    async with pf.spawn(tree("setsid")) as child:
        await wait_guarded(child)
        say("guarded")
        hear()
        os.execv("/bin/sleep", ["sleep", "600"])
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        host.hear("guarded")
        cookie.wait_for("leader", "setsid")
        host.tell("go")
        cookie.wait_until_gone()
        assert host.process.poll() is None


def test_daemon_of_a_finished_child_ends_with_a_host_that_ends_normally(cookie: Cookie, backend: str) -> None:
    """C-81: the host's normal exit leaves nothing, not even what a finished child has left behind; until then that may live."""
    script = r"""
async def main():
    await pf.run(tree("leaves", "daemon"), stdout=pf.NULL, stderr=pf.NULL)
    await pf.run(pf.Command("true"))
run(main)
say("done")
hear()
"""
    with hosted(cookie, backend, script) as host:
        host.hear("done")
        (daemon,) = cookie.wait_for("daemon", "leader")["daemon"]
        assert is_alive(daemon)
        host.tell("end")
        assert host.process.wait() == 0
        cookie.wait_until_gone()


def test_detached_child_lives_when_its_host_is_killed(cookie: Cookie, backend: str) -> None:
    """C-80, C-68: detach() has the guard's word when it returns; who was not detached is ended."""
    script = r"""
async def main():
    async with pf.spawn(tree("stubborn")):
        async with pf.spawn(tree("setsid", "daemon")) as child:
            say("waiting", child.pid)
            hear()
            await child.detach()
            os.kill(os.getpid(), signal.SIGKILL)
run(main)
"""
    with hosted(cookie, backend, script) as host:
        (pid,) = host.hear("waiting")
        people = cookie.wait_for("leader", "leader", "stubborn", "setsid", "daemon")
        spared = {who for who in people["leader"] if who.pid == int(pid)} | {*people["setsid"], *people["daemon"]}
        assert len(spared) == 3
        host.tell("detach")
        assert host.process.wait() == -signal.SIGKILL
        cookie.wait_until_gone(but=spared)
        assert all(map(is_alive, spared))


def test_orphans_that_are_left_live_when_the_host_is_killed(cookie: Cookie, backend: str) -> None:
    """C-80, C-61: run(orphans="leave") lets the group and its daemons go, and has the guard's word for it."""
    script = r"""
async def main():
    await pf.run(tree("leaves", "stubborn", "daemon"), orphans="leave", drain_s=0.0)
    os.kill(os.getpid(), signal.SIGKILL)
run(main)
"""
    with hosted(cookie, backend, script) as host:
        assert host.process.wait() == -signal.SIGKILL
        people = cookie.wait_for("leader", "stubborn", "daemon")
        spared = {*people["stubborn"], *people["daemon"]}
        assert len(spared) == 2
        # Nobody says that a guard has ended: it would be after its last look.
        host_guards = [
            int(name) for name in os.listdir("/proc") if name.isdigit() and _is_guard_of(int(name), host.process.pid)
        ]
        wait_until(lambda: all(someone(pid) is None for pid in host_guards), "the guard ends")
        assert all(map(is_alive, spared))


def _is_guard_of(pid: int, host: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return len(words) > 5 and words[3].endswith(b"guard.py") and words[5] == str(host).encode()


def test_environment_that_was_replaced_is_marked_too(cookie: Cookie) -> None:
    """C-80: Command(inherit_env=False) does not hide a daemon."""
    script = r"""
async def main():
    async with pf.spawn(tree("setsid", "daemon", inherit_env=False)) as child:
        await wait_guarded(child)
        say("holding")
        await anyio.sleep_forever()
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        host.hear("holding")
        cookie.wait_for("leader", "setsid", "daemon")
        host.kill()
        cookie.wait_until_gone()


def test_unmarked_environment_guards_the_group_only(cookie: Cookie) -> None:
    """C-84: Guarded(marks_environment=False): who left the group lives on, and the child has no variable."""
    script = r"""
async def main():
    async with pf.spawn(tree("stubborn", "setsid", "daemon"), containment=pf.Guarded(marks_environment=False)) as child:
        await wait_guarded(child)
        say("mechanisms", *child.containment.mechanisms, child.pid)
        await anyio.sleep_forever()
run(main)
"""
    with hosted(cookie, "asyncio", script) as host:
        *mechanisms, pid = host.hear("mechanisms")
        people = cookie.wait_for("leader", "stubborn", "setsid", "daemon")
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert b"PROCFLOW_HOST_" not in file.read()
        host.kill()
        left = {*people["setsid"], *people["daemon"]}
        cookie.wait_until_gone(but=left)
        assert all(map(is_alive, left))
    assert mechanisms == ["group", "guard"]


@pytest.mark.parametrize("kind", ["pipeline", "pty"])
def test_stages_and_terminals_are_guarded_too(cookie: Cookie, kind: str) -> None:
    """C-80: the stages of a pipeline, one of which has a session of its own, and what is on a pty."""
    script = r"""
away = tree("stubborn")
away = pf.Command("setsid", away.program, *away.arguments, env=away.env)
async def main():
    what, options = {"pipeline": (tree("setsid") | away, {}), "pty": (tree("setsid", "stubborn"), {"pty": pf.Pty()})}[sys.argv[5]]
    async with pf.spawn(what, **options) as child:
        await wait_guarded(child)
        say("holding", *child.containment.mechanisms)
        await anyio.sleep_forever()
run(main)
"""
    with hosted(cookie, "asyncio", script, kind) as host:
        mechanisms = host.hear("holding")
        cookie.wait_for("setsid", "stubborn", *(["leader", "leader"] if kind == "pipeline" else ["leader"]))
        host.kill()
        cookie.wait_until_gone()
    assert mechanisms[-2:] == ["guard", "token"]


NESTED = r"""
inner_program, who = sys.argv[5], sys.argv[6]
async def main():
    if who == "outer":
        # The report and the cookie go on; the inner host is a host like any other.
        arguments = [backend, report, cookie, tree_program, inner_program, "inner"]
        inner = pf.Command(sys.executable, "-c", inner_program, *arguments, name="inner")
        async with pf.spawn(tree("stubborn")), pf.spawn(inner, stdout=pf.INHERIT, stdin=pf.INHERIT) as child:
            await wait_guarded(child)
            say("outer", child.pid)
            await anyio.sleep_forever()
    else:
        # Only the variable of the outer host can tell that this daemon is below it.
        async with pf.spawn(tree("setsid", "daemon", inherit_env=False)) as child:
            await wait_guarded(child)
            variables = [name for name in open(f"/proc/{child.pid}/environ").read().split("\0") if "PROCFLOW_HOST" in name]
            say("inner", guard_pid(), len(variables))
            await anyio.sleep_forever()
run(main)
"""


@pytest.mark.parametrize("victim", ["outer", "inner", "outer and the inner guard"])
def test_nested_hosts_do_not_hide_each_other(cookie: Cookie, victim: str) -> None:
    """C-80: a host below a host has a variable of its own, and its children carry both."""
    from tests.core.containment.hosts import PRELUDE

    with hosted(cookie, "asyncio", NESTED, PRELUDE + NESTED, "outer") as host:
        told: dict[str, list[str]] = {}
        while len(told) < 2:  # in whatever order
            line = host.process.stdout.readline()
            assert line, "the host has ended"
            who, *rest = line.split()
            told[who] = rest
        people = cookie.wait_for("leader", "leader", "stubborn", "setsid", "daemon")
        guard, variables = told["inner"]
        assert variables == "2"
        inner = someone(int(told["outer"][0]))
        outer = someone(host.process.pid)
        assert inner is not None
        assert outer is not None
        if victim == "inner":
            os.kill(inner.pid, signal.SIGKILL)
            (first,) = [who for who in people["leader"] if os.getpgid(people["stubborn"][0].pid) == who.pid]
            cookie.wait_until_gone(but={outer, first, *people["stubborn"]})
            assert is_alive(first)
        else:
            if victim != "outer":
                os.kill(int(guard), signal.SIGSTOP)
                os.kill(int(guard), signal.SIGKILL)
            host.kill()
            cookie.wait_until_gone()
