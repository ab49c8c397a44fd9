"""The hostile tree: processes that try everything to outlive the one that started them, and a way to find each of them.

Owns the host's side: the command, what the tree said when it was up, and who of it is alive.  Must not know how procflow ends
a tree: whoever tests that needs a second opinion.

Problem: a daemon with an empty environment bears no mark, and a chain of forks no lasting pid, session or parent.  What all of
them keep is the arguments of their program, so a cookie stands there.  Rejected: a variable of the environment, process
groups, and following parents: each has a member here that escapes it.

A process that forks and exits can be missed by any pass over ``/proc``: its successor is not listed yet, and it itself is
gone when it is looked at.  So after a pass that met a dead or vanished process the new numbers are looked at too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, TypeAlias

from procflow._process.process import Process
from procflow.command import Command, revealed_arguments
from procflow.errors import PlatformError
from procflow.testing.leaks import LeakError

PROGRAM: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_hostile_program.py")

LIFETIME_S: Final = 120.0
KILL_WAIT_S: Final = 10.0
"""How long the end of the block waits for what it killed."""

MAX_PASSES: Final = 50
POLL_S: Final = 0.002
EMPTY_READS: Final = 20
"""How often the arguments of a process that runs a new program are read until they are there."""

_KERNEL_THREAD: Final = 0x00200000

LeaderManner: TypeAlias = Literal["waits", "exits", "closes"]
"""What the leader of a hostile tree does once everybody is up."""


class Hostile(Enum):
    """The members of a hostile tree: one for each way out."""

    TERM_IGNORER = "term-ignorer"
    """Ignores SIGTERM, SIGINT and SIGHUP."""

    STOPPED = "stopped"
    """Has stopped itself with SIGSTOP, and does so again whenever it is continued."""

    SETPGID_ESCAPEE = "setpgid-escapee"
    """Leads a group of its own in the session of the leader."""

    SETSID_ESCAPEE = "setsid-escapee"
    """Leads a session of its own."""

    DAEMON = "daemon"
    """Was forked twice, in a session that it does not lead; its parent is gone."""

    BARE_DAEMON = "bare-daemon"
    """A daemon with an empty environment."""

    PIPE_HOLDER = "pipe-holder"
    """Keeps the leader's outputs open, and is silent."""

    CLOSED_OUTPUTS = "closed-outputs"
    """Has closed its standard descriptors."""

    PRINTS_WHILE_DYING = "prints-while-dying"
    """Answers SIGTERM with endless output, and exits only ``dying_s`` later."""

    FORK_CHAIN = "fork-chain"
    """Many processes, each of which starts its successor, in a session of its own, and exits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a process of the tree said about itself when it was up.

    Attributes:
        pid: Its process id; for the fork chain that of the process that began it, which has exited.
        ppid: Its parent then.
        pgid: Its process group.
        sid: Its session.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A living process with a cookie in its arguments.

    Attributes:
        pid: Its process id.
        member: Which member it is; ``None`` for the leader, and for copies of it that are just becoming a member.
        state: The letter of the kernel: R, S, D, T, ...
        started_ticks: When it started, in clock ticks since the boot: with ``pid`` this is unique.
    """

    pid: int
    member: Hostile | None
    state: str
    started_ticks: int

    def __str__(self) -> str:
        return f"{'leader' if self.member is None else self.member.value}, pid {self.pid}, state {self.state}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HostileTree:
    """A tree that was or will be started, by whoever runs ``command``; made by ``hostile_tree()``.

    Attributes:
        command: The command of its leader.
        cookie: The text that all of its processes bear in their arguments.
        members: Who is to be in it.
        killed: Who was alive when the block ended, and was killed; empty before that.
    """

    command: Command
    cookie: str
    members: tuple[Hostile, ...]
    killed: list[Survivor] = field(default_factory=list)
    _leash: str = field(repr=False)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as words, for hosts that are programs of their own."""
        return tuple(os.fsdecode(word) for word in (self.command.program, *revealed_arguments(self.command)))

    async def wait_ready(self, child: Process) -> Mapping[Hostile | None, Started]:
        """Wait until everybody is up and return what each said, the leader as ``None``; reads lines of ``child.stdout``.

        Raises:
            NotReadyError: If it ended before that.
        """
        assert child.stdout is not None, "the tree reports on stdout"
        lines: list[str] = []
        while lines[-1:] != ["ready"]:
            lines.append((await child.stdout.wait_for_line("")).text)
        return parse_started(lines)

    def survivors(self) -> list[Survivor]:
        """Return who is alive now: see ``survivors()``."""
        return survivors(self.cookie)

    def kill_survivors(self) -> list[Survivor]:
        """Kill everybody, wait for their ends, and return who was alive; blocks the thread for up to 10 s.

        Raises:
            LeakError: If somebody is still alive then.
        """
        found = {(member.pid, member.started_ticks): member for member in self.survivors()}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._leash)
        deadline = time.monotonic() + KILL_WAIT_S
        while left := self.survivors():
            if time.monotonic() >= deadline:
                raise LeakError(str(member) for member in left)
            for member in left:
                _kill(member, self.cookie)
            time.sleep(POLL_S)
        return list(found.values())


@contextmanager
def hostile_tree(
    *members: Hostile,
    leader: LeaderManner = "waits",
    lifetime_s: float = LIFETIME_S,
    chain_width: int = 32,
    chain_pause_s: float = 0.05,
    dying_s: float = 5.0,
    python: str | None = None,
) -> Iterator[HostileTree]:
    """A block for one hostile tree; nothing of it is alive after the block, whoever has started it or not.

    The leader prints what ``wait_ready()`` and ``parse_started()`` understand, so no test has to sleep.  It works for every user
    that may read this package and may run ``python``.  If nobody is left to leave the block, its lifetime ends the tree.

    Args:
        members: Who is in it; all of ``Hostile`` if none is named.
        leader: Once everybody is up it ``"waits"``, ``"exits"`` with status 0, or ``"closes"`` its outputs and waits.
        lifetime_s: After this the kernel kills each process of it.
        chain_width: How many chains ``FORK_CHAIN`` consists of.
        chain_pause_s: How long each link of them lives.
        dying_s: How long ``PRINTS_WHILE_DYING`` takes to die.
        python: The interpreter of the tree, 3.11 or newer; by default ``sys.executable``.

    Raises:
        PlatformError: On systems other than Linux.
        LeakError: On leaving, if something cannot be killed.
    """
    if sys.platform != "linux":
        raise PlatformError("the hostile tree is found through /proc, so it needs Linux")
    names = members or tuple(Hostile)
    cookie = f"hostile-{secrets.token_hex(8)}"
    # The links of the chain look at it, since SIGKILL by pid may come too late for every one of them.
    descriptor, leash = tempfile.mkstemp(prefix=f"procflow-{cookie}-")
    os.close(descriptor)
    options = {
        "--leash": leash,
        "--lifetime-s": lifetime_s,
        "--leader": leader,
        "--chain-width": chain_width,
        "--chain-pause-s": chain_pause_s,
        "--dying-s": dying_s,
    }
    words = [str(word) for option in options.items() for word in option]
    command = Command(
        python or sys.executable,
        "-I",
        "-S",
        PROGRAM,
        cookie,
        *words,
        *(name.value for name in names),
        name="hostile-tree",
    )
    tree = HostileTree(command=command, cookie=cookie, members=names, _leash=leash)
    try:
        yield tree
    finally:
        tree.killed.extend(tree.kill_survivors())


def parse_started(lines: Iterable[str]) -> dict[Hostile | None, Started]:
    """Return what the leader of a hostile tree printed, up to ``ready``; the leader itself stands under ``None``."""
    started: dict[Hostile | None, Started] = {}
    for line in lines:
        if line.strip() == "ready":
            break
        name, *numbers = line.split()
        pid, ppid, pgid, sid = map(int, numbers)
        started[None if name == "leader" else Hostile(name)] = Started(pid=pid, ppid=ppid, pgid=pgid, sid=sid)
    return started


def survivors(cookie: str) -> list[Survivor]:
    """Return the living processes of this machine that bear ``cookie`` in their arguments; zombies are not alive.

    Nobody who is alive during the whole call is missing, a fork chain included; what is listed may have ended since, so
    of a fork chain more links may be listed than are alive at once.  A pass over ``/proc`` costs about 20 us a process.
    """
    found: dict[int, Survivor] = {}
    seen: set[int] = set()
    for _ in range(MAX_PASSES):
        new = _pids() - seen
        seen |= new
        missed = False
        for pid in new:
            is_alive, survivor = _look(pid, cookie)
            missed |= not is_alive
            if survivor is not None:
                found[pid] = survivor
        if not missed:
            break
    return list(found.values())


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _look(pid: int, cookie: str) -> tuple[bool, Survivor | None]:
    """Return whether ``pid`` is alive, and what it is if it bears ``cookie`` too."""
    for _ in range(EMPTY_READS):
        try:
            with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
                words = file.read(4096).split(b"\0")
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                fields = file.read(1024).rpartition(b")")[2].decode().split()
        except OSError:
            return False, None
        if fields[0] in "ZX":  # what it made before its end is not in the same listing
            return False, None
        if int(fields[6]) & _KERNEL_THREAD:
            break
        if cookie.encode() in words:
            member = Hostile(words[words.index(b"--be") + 1].decode()) if b"--be" in words else None
            return True, Survivor(pid=pid, member=member, state=fields[0], started_ticks=int(fields[19]))
        if words != [b""]:
            break
        time.sleep(0.0005)  # it is between two programs: the arguments of the new one are not there yet
    return True, None


def _kill(member: Survivor, cookie: str) -> None:
    """Kill ``member``, if its number is still its own."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(member.pid)
        try:
            if _look(member.pid, cookie)[1] is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
