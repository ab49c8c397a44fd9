"""The hostile tree: every member is what its name says, is found from outside, and is gone after the block.

Its processes are started by ``subprocess`` here: what procflow does to them is the matter of other tests.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

import procflow as pf
from procflow.testing import Hostile, HostileTree, Started, hostile_tree, parse_started, survivors
from tests.patience import Growing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="found through /proc")

PATIENCE_S = 20.0

IN_GROUP = (
    Hostile.TERM_IGNORER,
    Hostile.STOPPED,
    Hostile.PIPE_HOLDER,
    Hostile.CLOSED_OUTPUTS,
    Hostile.PRINTS_WHILE_DYING,
)
ESCAPEES = (Hostile.SETPGID_ESCAPEE, Hostile.SETSID_ESCAPEE, Hostile.DAEMON, Hostile.BARE_DAEMON, Hostile.FORK_CHAIN)


class NeverUpError(AssertionError):
    """The leader ended before everybody was there."""


@contextlib.contextmanager
def started(
    tree: HostileTree, *, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], Mapping[Hostile | None, Started]]]:
    """A block in which the leader runs; nothing but the leader is ended after it."""
    leader = subprocess.Popen(
        [*prefix, *tree.argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    )
    try:
        assert leader.stdout is not None
        printed = b""
        while not printed.endswith(b"ready\n"):
            more = os.read(leader.stdout.fileno(), 65536)
            if not more:
                raise NeverUpError(f"the leader ended with {leader.wait()}")
            printed += more
        yield leader, parse_started(printed.decode().splitlines())
    finally:
        leader.kill()
        leader.wait()
        assert leader.stdout is not None
        leader.stdout.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def members_of(tree: HostileTree) -> set[Hostile | None]:
    return {survivor.member for survivor in tree.survivors()}


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()


# --- the whole ------------------------------------------------------------------------------------------------------


def test_every_member_is_found_by_its_cookie_and_killed_by_the_block() -> None:
    """C-93: all members together report themselves, are found from outside, and none is alive after the block."""
    with hostile_tree() as tree:
        with started(tree) as (_, said):
            assert set(said) == {None, *Hostile}
            assert members_of(tree) == {None, *Hostile}
        assert members_of(tree) >= {Hostile.DAEMON, Hostile.BARE_DAEMON, Hostile.FORK_CHAIN}

    assert {survivor.member for survivor in tree.killed} == set(Hostile)
    assert tree.survivors() == []


@pytest.mark.parametrize("member", Hostile)
def test_each_member_alone(member: Hostile) -> None:
    """C-93: each member can be had alone, and its block leaves nothing."""
    with hostile_tree(member) as tree:
        with started(tree) as (_, said):
            assert set(said) == {None, member}
            assert members_of(tree) == {None, member}

    assert {survivor.member for survivor in tree.killed} == {member}
    assert survivors(tree.cookie) == []


def test_block_kills_when_its_body_raises_and_the_tree_was_never_awaited() -> None:
    """C-93: a broken test leaves nothing: neither a tree that is up nor one that is just being made."""
    leader: subprocess.Popen[bytes] | None = None
    with pytest.raises(KeyError):
        with hostile_tree() as tree:
            leader = subprocess.Popen(tree.argv, stdout=subprocess.DEVNULL, start_new_session=True)
            raise KeyError

    assert leader is not None
    assert leader.wait() == -signal.SIGKILL
    wait_until(lambda: tree.survivors() == [])


def test_tree_ends_by_itself() -> None:
    """C-93: without anybody's help every member, the stopped one and the chain too, ends with its lifetime."""
    was_complete = False
    lifetime = Growing(2.0, times=2)
    while True:
        with hostile_tree(lifetime_s=lifetime.seconds) as tree:
            with contextlib.suppress(NeverUpError), started(tree) as (leader, _):  # else it had no time to be complete
                was_complete = True
                assert leader.wait() == -signal.SIGKILL
                wait_until(lambda: tree.survivors() == [])
            wait_until(lambda: tree.survivors() == [])

        assert tree.killed == []
        if was_complete or not lifetime.grow():
            break
    assert was_complete


def test_block_that_started_nothing_kills_nothing() -> None:
    """C-93: a command that nobody ran is no survivor, and its words hold no secret of the host."""
    with hostile_tree() as tree:
        assert tree.survivors() == []

    assert tree.killed == []


def test_two_trees_do_not_see_each_other() -> None:
    """C-93: the cookie tells trees apart."""
    with hostile_tree(Hostile.DAEMON) as first, hostile_tree(Hostile.TERM_IGNORER) as second:
        with started(first), started(second):
            assert members_of(first) == {None, Hostile.DAEMON}
            assert members_of(second) == {None, Hostile.TERM_IGNORER}


def test_zombies_are_not_alive() -> None:
    """C-93: a leader that was killed and not yet reaped is no survivor."""
    with hostile_tree(Hostile.CLOSED_OUTPUTS) as tree:
        with started(tree) as (leader, _):
            os.killpg(leader.pid, signal.SIGKILL)
            os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
            wait_until(lambda: tree.survivors() == [])
            assert state_of(leader.pid) == "Z"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives its rights away")
def test_unprivileged_user() -> None:
    """C-93: the tree works for a user without rights."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    program = "import argparse, subprocess, sys; subprocess.run([sys.executable, '--version'], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        if (
            subprocess.run([*nobody, python, "-I", "-S", "-c", program], capture_output=True, check=False).returncode
            == 0
        ):
            break
    else:
        pytest.skip("no Python here that another user may run")
    with hostile_tree(python=python) as tree:
        with started(tree, prefix=nobody) as (leader, said):
            assert os.stat(f"/proc/{leader.pid}").st_uid == 65534
            assert members_of(tree) == {None, *Hostile}
            assert set(said) == {None, *Hostile}


def test_killing_the_group_spares_the_escapees_only() -> None:
    """C-93: SIGKILL to the leader's group ends exactly the members that stayed in it."""
    with hostile_tree() as tree:
        with started(tree) as (leader, _):
            os.killpg(leader.pid, signal.SIGKILL)
            wait_until(lambda: members_of(tree) == set(ESCAPEES))

    assert {survivor.member for survivor in tree.killed} == set(ESCAPEES)


# --- the members ----------------------------------------------------------------------------------------------------


def test_term_ignorer() -> None:
    """C-93: SIGTERM, SIGINT and SIGHUP do not end the TERM-ignorer."""
    with hostile_tree(Hostile.TERM_IGNORER) as tree:
        with started(tree) as (_, said):
            pid = said[Hostile.TERM_IGNORER].pid
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)

            with open(f"/proc/{pid}/status") as file:
                masks = dict(line.split(":\t") for line in file if line.startswith("Sig"))
            assert int(masks["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1
            assert state_of(pid) not in "ZX"


def test_stopped_child() -> None:
    """C-93: the stopped child keeps SIGTERM pending until it is continued, and stops again when it is only continued."""
    with hostile_tree(Hostile.STOPPED) as tree:
        with started(tree) as (_, said):
            pid = said[Hostile.STOPPED].pid
            assert state_of(pid) == "T"
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda: state_of(pid) == "T")
            os.kill(pid, signal.SIGTERM)
            assert state_of(pid) == "T"
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda: members_of(tree) == {None})


def test_escapees_have_left_the_group_or_the_session() -> None:
    """C-93: one escapee leads a group in the leader's session, the other a session; both are children of the leader."""
    with hostile_tree(Hostile.SETPGID_ESCAPEE, Hostile.SETSID_ESCAPEE) as tree:
        with started(tree) as (leader, said):
            group, session = said[Hostile.SETPGID_ESCAPEE], said[Hostile.SETSID_ESCAPEE]
            assert (group.pgid, group.sid, group.ppid) == (group.pid, leader.pid, leader.pid)
            assert (session.pgid, session.sid, session.ppid) == (session.pid, session.pid, leader.pid)
            assert os.getpgid(group.pid) == group.pid
            assert os.getsid(session.pid) == session.pid


@pytest.mark.parametrize("member", [Hostile.DAEMON, Hostile.BARE_DAEMON])
def test_daemons(member: Hostile) -> None:
    """C-93: a daemon is in another session, leads it not, and its parent is not of the tree; the bare one has no environment."""
    with hostile_tree(member) as tree:
        with started(tree) as (leader, said):
            daemon = said[member]
            assert os.getsid(daemon.pid) == daemon.sid not in (leader.pid, daemon.pid)
            assert daemon.ppid not in {survivor.pid for survivor in tree.survivors()}
            with open(f"/proc/{daemon.pid}/environ", "rb") as file:
                assert (file.read() == b"") == (member is Hostile.BARE_DAEMON)


def test_fork_chain() -> None:
    """C-93: the chain goes on under pids that all change, in sessions of their own, with parents outside of the tree."""
    with hostile_tree(Hostile.FORK_CHAIN) as tree:
        with started(tree) as (leader, _):
            before = {survivor.pid for survivor in tree.survivors() if survivor.member is Hostile.FORK_CHAIN}
            assert before
            wait_until(lambda: not before & {survivor.pid for survivor in tree.survivors()})
            after = {survivor.pid for survivor in tree.survivors() if survivor.member is Hostile.FORK_CHAIN}
            assert after
            for pid in after:
                with contextlib.suppress(ProcessLookupError):  # a link that was just seen
                    assert os.getsid(pid) != leader.pid
                    assert os.getpgid(pid) != leader.pid

    assert tree.killed


def test_fork_chain_ends_when_only_its_leash_is_gone() -> None:
    """C-93: the block ends a chain that no SIGKILL would catch, because each link looks for its leash."""
    with hostile_tree(Hostile.FORK_CHAIN, chain_pause_s=0.0, chain_width=2) as tree:
        with started(tree):
            wait_until(lambda: Hostile.FORK_CHAIN in members_of(tree))

    assert tree.survivors() == []


def test_pipe_holder_keeps_the_output_open_after_the_leader() -> None:
    """C-93: there is no end of file while the pipe holder lives, although the leader has exited."""
    with hostile_tree(Hostile.PIPE_HOLDER, Hostile.SETSID_ESCAPEE, leader="exits") as tree:
        with started(tree) as (leader, said):
            assert leader.wait() == 0
            assert leader.stdout is not None
            assert select.select([leader.stdout], [], [], 0)[0] == []
            os.kill(said[Hostile.PIPE_HOLDER].pid, signal.SIGKILL)
            assert os.read(leader.stdout.fileno(), 1) == b""


def test_other_members_hold_no_pipe() -> None:
    """C-93: only the pipe holder and the one that prints keep the output open: the effects of members do not mix."""
    others = set(Hostile) - {Hostile.PIPE_HOLDER, Hostile.PRINTS_WHILE_DYING}
    with hostile_tree(*others, leader="exits") as tree:
        with started(tree) as (leader, _):
            assert leader.stdout is not None
            assert os.read(leader.stdout.fileno(), 1) == b""
            assert members_of(tree) == others


def test_closed_outputs() -> None:
    """C-93: the member has closed its standard descriptors, and so has a leader that is asked to, while both live."""
    with hostile_tree(Hostile.CLOSED_OUTPUTS, leader="closes") as tree:
        with started(tree) as (leader, said):
            assert leader.stdout is not None
            assert os.read(leader.stdout.fileno(), 1) == b""
            assert leader.poll() is None
            open_fds = set(os.listdir(f"/proc/{said[Hostile.CLOSED_OUTPUTS].pid}/fd"))
            assert open_fds.isdisjoint({"0", "1", "2"})


def test_prints_while_dying() -> None:
    """C-93: SIGTERM makes it print without a pause; it exits only after its time, and the leader's end does not stop it."""
    dying = Growing(1.0, times=2)
    while True:
        with hostile_tree(Hostile.PRINTS_WHILE_DYING, dying_s=dying.seconds) as tree:
            with started(tree) as (leader, said):
                assert leader.stdout is not None
                begun_s, printed_bytes = time.monotonic(), 0
                os.kill(said[Hostile.PRINTS_WHILE_DYING].pid, signal.SIGTERM)
                leader.kill()
                while data := os.read(leader.stdout.fileno(), 65536):
                    printed_bytes += len(data)
                assert time.monotonic() - begun_s >= 0.9 * dying.seconds
        if printed_bytes > 1_000_000 or not dying.grow():  # else the machine did not let it, or us
            break
    assert printed_bytes > 1_000_000


def test_leader_that_exits_early() -> None:
    """C-93: the leader exits with 0 once everybody is up, and everybody stays."""
    with hostile_tree(leader="exits") as tree:
        with started(tree) as (leader, _):
            assert leader.wait() == 0
            assert members_of(tree) == set(Hostile)


def test_member_that_cannot_be_set_up_fails_the_tree() -> None:
    """C-93: a member that does not come up is no silent hole: the leader exits with 3 and prints nothing."""
    with hostile_tree(Hostile.DAEMON) as tree:
        done = subprocess.run([*tree.argv[:-1], "no-such-member"], capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (3, b"")

    assert tree.killed == []


@pytest.mark.anyio
async def test_tree_as_a_child_of_procflow(anyio_backend: object) -> None:
    """C-93: the command runs as any other; ``wait_ready()`` tells who is there and leaves later output to others."""
    with hostile_tree(Hostile.TERM_IGNORER, Hostile.PRINTS_WHILE_DYING, dying_s=60.0) as tree:
        async with pf.spawn(tree.command, shutdown=pf.Shutdown.now()) as child:
            said = await tree.wait_ready(child)
            assert child.stdout is not None
            assert said[None].pid == child.pid
            os.kill(said[Hostile.PRINTS_WHILE_DYING].pid, signal.SIGTERM)
            assert (await child.stdout.wait_for_line("dying")).text == "still dying"
        assert tree.survivors() == []

    assert tree.killed == []


@pytest.mark.anyio
async def test_tree_that_never_comes_up_is_told(anyio_backend: object) -> None:
    """C-93: waiting for a tree whose leader ended raises, with its outcome."""
    with hostile_tree(Hostile.DAEMON) as tree:
        broken = tree.command.with_(arguments=(*tree.command.arguments[:-1], "no-such-member"))
        async with pf.spawn(broken) as child:
            with pytest.raises(pf.NotReadyError) as caught:
                await tree.wait_ready(child)

    assert caught.value.outcome is not None
    assert caught.value.outcome.exit_code == 3
