"""Hosts that may be killed: real interpreters, and trees that tell who is in them.

Whoever belongs to a test carries its cookie in its arguments.  So survivors are found from outside, whatever they did to their
session, their group or their environment, and each is known by its pid and the moment of its start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 10.0
"""Ten times the second in which a guard must have done its work."""

READY_S = 90.0
"""How long a host may take to be where a test wants it, on whatever machine."""

TREE = r"""
import os, signal, sys
report, cookie, *roles = sys.argv[1:]
def note(role):
    fd = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, f"{role} {os.getpid()}\n".encode())
    os.close(fd)
def live():
    while True:
        signal.pause()
if roles == ["exec"]:
    note("emptied")
    live()
leaves = "leaves" in roles
for role in set(roles) - {"leaves"}:
    if os.fork() == 0:
        if role == "stubborn":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        elif role == "setpgid":
            os.setpgid(0, 0)
        else:
            os.setsid()
        if role in ("daemon", "emptied") and os.fork():
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        if role == "emptied":
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", os.environ["TREE"], report, cookie, "exec"], {})
        note(role)
        live()
if leaves:
    while open(report).read().count("\n") < len(roles) - 1:
        pass
note("leader")
if not leaves:
    live()
"""
"""``report cookie role ..``: a process for each role, all of which write their role and pid to the file ``report``.

The roles: stubborn (ignores signals), setpgid, setsid, daemon (a session of its own, and an orphan), emptied (the same, with an
empty environment); with ``leaves`` the leader ends once all of them are there.
"""

PRELUDE = r"""
import logging, os, signal, sys, threading
import anyio
import procflow as pf
from procflow._containment.guard.host import current_host
backend, report, cookie, tree_program = sys.argv[1:5]
backend_options = {} if backend == "trio" else {"use_uvloop": backend == "uvloop"}
def run(function, *args):
    return anyio.run(function, *args, backend="trio" if backend == "trio" else "asyncio", backend_options=backend_options)
def tree(*roles, **surroundings):
    surroundings["env"] = {"TREE": tree_program}
    return pf.Command(sys.executable, "-I", "-S", "-c", tree_program, report, cookie, *roles, name="tree", **surroundings)
def say(*words):
    print(*words, flush=True)
def hear():
    return sys.stdin.readline().strip()
async def wait_guarded(child, other_than=0):
    while child.containment.level != "guarded" or guard_pid() == other_than:
        await anyio.sleep(0.005)
def guard_pid():
    return next(current_host().pids(), 0)
"""


class Someone(NamedTuple):
    """One process, known beyond the use of its number."""

    pid: int
    started: int


def someone(pid: int) -> Someone | None:
    """Who has ``pid`` now; ``None`` if nobody that is alive has."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        if fields[0] not in (b"Z", b"X"):
            return Someone(pid, int(fields[19]))
    return None


def is_alive(who: Someone) -> bool:
    return someone(who.pid) == who


class Cookie:
    """What marks every process of one test, and the file in which they report."""

    def __init__(self, folder: Path) -> None:
        self.text = uuid.uuid4().hex
        self.report = folder / f"report-{self.text}"
        self.report.touch()
        self.report.chmod(0o666)

    def living(self) -> set[Someone]:
        """Everybody alive who has the cookie in its arguments."""
        found = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                    if self.text.encode() in file.read():
                        found.add(someone(int(name)))
        return {who for who in found if who is not None}

    def wait_for(self, *roles: str) -> dict[str, list[Someone]]:
        """Wait until as many of each role have reported; return who they are."""
        deadline = time.monotonic() + READY_S
        while True:
            lines = self.report.read_text().splitlines()
            said = [line.split()[0] for line in lines]
            if all(said.count(role) >= roles.count(role) for role in roles):
                break
            assert time.monotonic() < deadline, f"only {said} came, not all of {roles}"
            time.sleep(0.005)
        people: dict[str, list[Someone]] = {}
        for line in lines:
            role, pid = line.split()
            who = someone(int(pid))
            people.setdefault(role, []).extend([who] if who is not None else [])
        return people

    def wait_until_gone(self, *, but: set[Someone] = frozenset()) -> None:  # type: ignore[assignment]  # read only
        """Wait until nobody but those named is alive, no longer than ten times what is promised."""
        deadline = time.monotonic() + LIMIT_S
        while left := self.living() - but:
            assert time.monotonic() < deadline, f"still alive: {left}"
            time.sleep(0.002)

    def end(self) -> None:
        """Kill whoever is left."""
        while left := self.living():
            for who in left:
                with contextlib.suppress(OSError):
                    os.kill(who.pid, signal.SIGKILL)
            time.sleep(0.002)


class Host:
    """An interpreter that runs a script on top of ``PRELUDE``."""

    def __init__(self, cookie: Cookie, backend: str, script: str, *args: str, **surroundings: object) -> None:
        self.process = subprocess.Popen(  # type: ignore[call-overload]  # what a test adds to it
            [sys.executable, "-c", PRELUDE + script, backend, str(cookie.report), cookie.text, TREE, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            **surroundings,
        )

    def hear(self, first: str) -> list[str]:
        """Wait for a line that begins with the word ``first``; return the rest of its words."""
        for line in self.process.stdout:
            words: list[str] = line.split()
            if words and words[0] == first:
                return words[1:]
        raise AssertionError(f"the host ended with {self.process.wait()} before it said {first!r}")

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        with self.process:
            self.process.kill()


@contextlib.contextmanager
def hosted(cookie: Cookie, backend: str, script: str, *args: str, **surroundings: object) -> Iterator[Host]:
    host = Host(cookie, backend, script, *args, **surroundings)
    try:
        yield host
    finally:
        host.end()


def wait_until(condition: object, what: str, limit_s: float = READY_S) -> None:
    """Poll ``condition``."""
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]  # a function
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)
