"""A program whose children do what a process tree can do to escape its end.

Runs by itself, with the standard library only: ``python -I -S _hostile_program.py COOKIE [options] MEMBER...``

    COOKIE             a unique text.  It stays in the arguments of every process of the tree, so all of them are found in
                       ``/proc/*/cmdline``, whatever became of their environment, session, parent or pid.
    --leash PATH       when this file is gone, links of the fork chain end at their next hop; nothing else looks at it
    --lifetime-s N     every process is killed by the kernel after that time (default 120), so nothing stays for ever
    --leader WHAT      what the leader does once everybody is up: ``waits`` (default), ``exits`` with status 0, or
                       ``closes`` its outputs and waits
    --chain-width N    how many chains the fork chain is (default 32)
    --chain-pause-s N  how long each link lives (default 0.05)
    --dying-s N        how long ``prints-while-dying`` takes to die (default 5)

Members, in the order of ``MEMBERS`` below; all but the daemons and the chain are children of the leader:

    term-ignorer        ignores SIGTERM, SIGINT and SIGHUP
    stopped             stops itself with SIGSTOP, and again whenever it is continued
    setpgid-escapee     leads a group of its own in the leader's session
    setsid-escapee      leads a session of its own
    daemon              forked twice, in a session that it does not lead; its parent is gone
    bare-daemon         the same, with an empty environment
    pipe-holder         keeps the leader's stdout and stderr open, and is silent
    closed-outputs      has closed stdin, stdout and stderr
    prints-while-dying  keeps the outputs too; SIGTERM makes it print without a pause, and exit with 0 only after a while
    fork-chain          each process makes its successor, which makes a session of its own, and exits

Protocol: on stdout the leader prints one line for itself and for each member, in the order of the arguments, once it is up,
then ``ready``.  A line is ``NAME PID PPID PGID SID``; the pid of the fork chain is that of the process that began it, which
has exited.  After that the leader is silent.  If something could not be set up it exits with 3 and prints nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

SILENT: Final = ("term-ignorer", "stopped", "setpgid-escapee", "setsid-escapee", "daemon", "bare-daemon", "fork-chain")
"""Members whose outputs go nowhere, so that they hold no pipe of the leader."""

SIGEV_SIGNAL: Final = 0


@dataclass
class Options:
    """What the leader was asked for; the members are given it as plain words, in this order."""

    cookie: str
    leash: str
    until_mono_s: float
    chain_width: int
    chain_pause_s: float
    dying_s: float

    def words(self) -> list[str]:
        """Return what ``from_words()`` understands."""
        return [str(value) for value in vars(self).values()]

    @classmethod
    def from_words(cls, words: list[str]) -> Options:
        """Return the options of the leader, in a member."""
        return cls(words[0], words[1], float(words[2]), int(words[3]), float(words[4]), float(words[5]))


def main() -> None:
    """Be the leader, or one of the members."""
    if sys.argv[2:3] == ["--be"]:
        name, report_fd = sys.argv[3], int(sys.argv[4])
        options = Options.from_words([sys.argv[1], *sys.argv[5:]])
        kill_at(options.until_mono_s)
        if name in SILENT:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.close(null)
        MEMBERS[name](options, Report(name, report_fd))
        return
    import argparse  # the members are spared it: there are many of them

    parser = argparse.ArgumentParser()
    parser.add_argument("cookie")
    parser.add_argument("members", nargs="*", metavar="MEMBER")
    parser.add_argument("--leash", default="")
    parser.add_argument("--lifetime-s", type=float, default=120.0)
    parser.add_argument("--leader", choices=("waits", "exits", "closes"), default="waits")
    parser.add_argument("--chain-width", type=int, default=32)
    parser.add_argument("--chain-pause-s", type=float, default=0.05)
    parser.add_argument("--dying-s", type=float, default=5.0)
    asked = parser.parse_intermixed_args()
    until_mono_s = time.monotonic() + asked.lifetime_s
    kill_at(until_mono_s)
    options = Options(asked.cookie, asked.leash, until_mono_s, asked.chain_width, asked.chain_pause_s, asked.dying_s)
    lead(options, asked.members, asked.leader)


def kill_at(until_mono_s: float) -> None:
    """Have the kernel kill this process then.  SIGALRM would not end what is stopped or handles it; SIGKILL does."""

    class Event(ctypes.Structure):
        _fields_ = (
            ("value", ctypes.c_void_p),
            ("signo", ctypes.c_int),
            ("notify", ctypes.c_int),
            ("rest", ctypes.c_char * 48),
        )

    class Times(ctypes.Structure):
        _fields_ = (
            ("interval_s", ctypes.c_long),
            ("interval_ns", ctypes.c_long),
            ("s", ctypes.c_long),
            ("ns", ctypes.c_long),
        )

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "timer_create"):  # a C library of before 2021
        libc = ctypes.CDLL("librt.so.1")
    left_s = max(until_mono_s - time.monotonic(), 0.001)
    timer = ctypes.c_void_p()
    event = Event(None, signal.SIGKILL, SIGEV_SIGNAL, b"")
    times = Times(0, 0, int(left_s), int(left_s % 1 * 1e9))
    if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        raise OSError("timer_create")
    if libc.timer_settime(timer, 0, ctypes.byref(times), None):
        raise OSError("timer_settime")


# --- the leader -----------------------------------------------------------------------------------------------------


def lead(options: Options, names: list[str], then: str) -> None:
    """Start the members, say when they are up, and then wait or exit."""
    started: list[tuple[str, int, int]] = []
    for name in names:
        receive_end, send_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            become(name, send_end, options)
        os.close(send_end)
        started.append((name, pid, receive_end))
    lines = [line_of("leader")]
    for name, pid, receive_end in started:
        with open(receive_end, "rb") as reports:
            lines.append(reports.read())  # ends when the member has reported, or has died
        if not lines[-1]:
            os._exit(3)
        if name == "stopped":
            os.waitpid(pid, os.WUNTRACED)
        elif name in {"daemon", "bare-daemon", "fork-chain"}:  # what began it has exited
            os.waitpid(pid, 0)
    write_all(1, b"".join((*lines, b"ready\n")))
    if then == "exits":
        os._exit(0)
    if then == "closes":
        os.close(1)
        os.close(2)
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        signal.pause()


def become(name: str, report_fd: int, options: Options) -> NoReturn:
    """Be the member ``name``: what must be done before it has a program of its own, and then that program."""
    try:
        if name in {"daemon", "bare-daemon"}:
            os.setsid()
            middle = os.getpid()
            if os.fork():
                os._exit(0)
            while os.getppid() == middle:
                time.sleep(0.0005)
        os.set_inheritable(report_fd, True)  # noqa: FBT003 (takes it by position only)
        words = [sys.executable, "-I", "-S", __file__, options.cookie, "--be", name, str(report_fd)]
        os.execve(words[0], words + options.words()[1:], {} if name == "bare-daemon" else dict(os.environ))
    finally:  # a copy of the leader must never go on as one
        os._exit(3)


def line_of(name: str) -> bytes:
    """Return the line that describes this process."""
    return f"{name} {os.getpid()} {os.getppid()} {os.getpgid(0)} {os.getsid(0)}\n".encode()


def write_all(fd: int, data: bytes) -> None:
    """Write everything, unless nobody reads."""
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(fd, data) :]


# --- the members ----------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What a member owes to the leader."""

    name: str
    fd: int

    def send(self) -> None:
        """Tell the leader that this member is up."""
        write_all(self.fd, line_of(self.name))
        os.close(self.fd)


def wait_for_end(_options: Options, report: Report) -> None:
    """Do nothing, until a signal comes or the time is over."""
    report.send()
    while True:
        signal.pause()


def ignore_signals(options: Options, report: Report) -> None:
    """Ignore what asks for an end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait_for_end(options, report)


def stop_again(_options: Options, report: Report) -> None:
    """Stop, and stop again when continued; the leader waits for the first time."""
    report.send()
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def leave_group(options: Options, report: Report) -> None:
    """Make a group."""
    os.setpgid(0, 0)
    wait_for_end(options, report)


def leave_session(options: Options, report: Report) -> None:
    """Make a session."""
    os.setsid()
    wait_for_end(options, report)


def close_outputs(options: Options, report: Report) -> None:
    """Have no descriptors 0, 1 and 2."""
    for fd in (0, 1, 2):
        os.close(fd)
    wait_for_end(options, report)


def print_while_dying(options: Options, report: Report) -> None:
    """Answer SIGTERM with output instead of an end."""
    # Blocked and waited for: a handler would run only after the output that nobody reads was written.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    report.send()
    signal.sigwait({signal.SIGTERM})
    until_s = time.monotonic() + options.dying_s
    while time.monotonic() < until_s:
        try:
            os.write(1, b"still dying\n" * 100)
        except BrokenPipeError:
            time.sleep(0.01)
    os._exit(0)


def fork_for_ever(options: Options, report: Report) -> None:
    """Begin the chains, and exit."""
    for number in range(options.chain_width):
        if os.fork() == 0:
            os.close(report.fd)
            time.sleep(options.chain_pause_s * number / options.chain_width)  # so that they do not hop all at once
            hop(options)
    report.send()
    os._exit(0)


def hop(options: Options) -> NoReturn:
    """Be link after link: each is a new process, and its predecessor is gone."""
    try:
        while time.monotonic() < options.until_mono_s and (not options.leash or os.path.exists(options.leash)):
            os.setsid()
            time.sleep(options.chain_pause_s)
            if os.fork():
                break
    finally:
        os._exit(0)


MEMBERS: Final[dict[str, Callable[[Options, Report], None]]] = {
    "term-ignorer": ignore_signals,
    "stopped": stop_again,
    "setpgid-escapee": leave_group,
    "setsid-escapee": leave_session,
    "daemon": wait_for_end,
    "bare-daemon": wait_for_end,
    "pipe-holder": wait_for_end,
    "closed-outputs": close_outputs,
    "prints-while-dying": print_while_dying,
    "fork-chain": fork_for_ever,
}

if __name__ == "__main__":
    main()
