"""The guard: when its host is gone, it kills what the host had started, and ends.

    python -I -S guard.py VARIABLE HOST_PIDFD BELL TICKS

A program of its own, run by a bare interpreter; nothing of ``procflow`` is imported.  It sleeps in ``poll(2)`` until the
host's pidfd, the bell or the end of the channel wakes it, and imports so little that it stays below 10 MiB.

The channel is descriptor 0, 1 and 2: a socket of packets.  A packet of the host holds words with blanks between them:

    +PID:TICKS  a group whose leader, which was not reaped, has this pid and was started no later than TICKS: kill it
    -PID        that group is no longer the host's: forget it
    !VALUE      what carries VARIABLE=VALUE shall live on; never taken back

Words wait in the channel, where they outlive the host, until the bell rings, an eventfd: to wake another process for each
word would be the dearest part of a spawn.  TICKS are clock ticks since boot, as the start of a process is in proc_pid_stat(5).
Those of the arguments are the host's moment of the guard's start: in another time namespace the guard counts differently.

A packet of the guard is one of:

    ready       it watches
    =VALUE ..   these values of ``!`` are noted, and so is everything that was said before them
    .           the bell rang and the channel was read: whoever found it full may go on

Everything else that comes from it is the complaint of an interpreter that could not start.

The host is gone when its pidfd says so, or when every copy of the other end of the channel is closed: it runs another program
now, which knows nothing of the children.  The pidfd is needed because a process that the host has forked may hold a copy of
the channel for ever.  Then, in this order: read what is left in the channel; SIGKILL to every group; SIGKILL to
whoever carries VARIABLE in its environment, until two looks in a row find nobody; against a storm of forks, with many hands.

SIGINT, SIGTERM and SIGHUP mean nothing here: who sends them to everything they see means the programs, not their guard.

Known holes: who has emptied its environment, or written over it (some servers put a title there), is found by its group only;
who may not be signalled, because it changed its user, lives on.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]  # `signal` makes enumerations of its constants, which take 0.8 MB
import os
import select
import sys
import time

# Not `signal`, which is this module and enumerations of its constants: they take 0.8 MB.

CHANNEL = 0
PACKET_BYTES = 65536
QUIET_LOOKS = 2
STORM_LOOKS = 4
"""After so many looks that all found somebody it is a storm."""

HANDS = 15
NEWEST_PER_LOOK = 50
PAUSE_S = 0.001
LIMIT_S = 10.0
"""How long to look for processes that carry the variable: some may not die."""


class Guard:
    """What the host has said."""

    def __init__(self, variable: bytes, ahead: int = 0) -> None:
        self.mark = b"\0" + variable + b"="
        self.ahead = (
            ahead  # of the ticks of the host; more by the time of our own start, too short for a number to come round
        )
        self.groups: dict[int, int] = {}  # the leader's pid, and the latest moment of its start
        self.let_go: set[bytes] = set()

    def read_channel(self) -> bool:
        """Read every packet that is there; return whether there can be more."""
        while True:
            try:
                packet = os.read(CHANNEL, PACKET_BYTES)
            except BlockingIOError:
                return True
            except ConnectionResetError:  # told once: the host has closed it without reading our answers
                continue
            if not packet:
                return False
            self.note(packet)

    def note(self, packet: bytes) -> None:
        noted = []
        for word in packet.split():
            kind, rest = word[:1], word[1:]
            if kind == b"+":
                pid, _, ticks = rest.partition(b":")
                self.groups[int(pid)] = int(ticks)
            elif kind == b"-":
                self.groups.pop(int(rest), None)
            elif kind == b"!":
                self.let_go.add(rest)
                noted.append(b"=" + rest)
        if noted:
            answer(b" ".join(noted))

    def kill_groups(self) -> None:
        for pid, latest in self.groups.items():
            started = read_start(pid)
            # A younger process has been given the number: the group had become empty.
            if started is None or started <= latest + self.ahead:
                try:
                    os.killpg(pid, _signal.SIGKILL)
                except OSError:
                    continue

    def kill_marked(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        looks = quiet = 0
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            quiet = 0 if self.look() else quiet + 1
            looks += 1
            if looks == STORM_LOOKS and not quiet:
                call_hands()
            time.sleep(PAUSE_S)

    def look(self) -> bool:
        """Kill whoever is found; return whether anybody was."""
        # The youngest first: of those who fork and end at once they are the ones that are still there when their turn comes.
        newest = newest_pid()
        listed = sorted(map(int, filter(str.isdigit, os.listdir("/proc"))), key=lambda pid: (pid > newest, -pid))
        killed = [pid for pid in listed if self.kill_if_marked(pid)]
        # And those who are gone before any turn comes are met by the number given out last.
        killed += [pid for pid in (newest_pid() for _ in range(NEWEST_PER_LOOK)) if self.kill_if_marked(pid)]
        return bool(killed)

    def kill_if_marked(self, pid: int) -> bool:
        try:
            pidfd = os.pidfd_open(pid)  # first: the number cannot change hands after that unnoticed
        except OSError:
            return False
        try:
            if not self.is_marked(pid):
                return False
            _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(pidfd)
        return True

    def is_marked(self, pid: int) -> bool:
        environment = read_environment(pid)
        start = environment.find(self.mark)
        if start < 0:
            return False
        value = environment[start + len(self.mark) :].partition(b"\0")[0]
        return value not in self.let_go


def call_hands() -> None:
    """Go on as several processes at once.

    A scheduler gives each session, or each process, its share.  Against hundreds that fork new sessions without a pause one
    process would get too little to ever catch up.
    """
    for _ in range(HANDS):
        try:
            if os.fork() == 0:
                os.setsid()
                return
        except OSError:  # they have taken every number there is
            return


def answer(packet: bytes) -> None:
    try:
        os.write(CHANNEL, packet)
    except OSError:  # gone, or it does not read: then it does not wait for an answer either
        return


def boot_ticks() -> int:
    """Return this moment in clock ticks since boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def read_start(pid: int) -> int | None:
    """Return the moment at which ``pid`` was started, in clock ticks; see proc_pid_stat(5)."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        # pid (comm) state ppid ...; comm may hold blanks and parentheses.
        fields = os.read(fd, 1024).rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, ValueError, IndexError):  # a sandbox may show something of its own
        return None
    finally:
        os.close(fd)


def newest_pid() -> int:
    """Return the number that was given out last; see proc_loadavg(5)."""
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 256).split()[-1])
    except (OSError, ValueError, IndexError):  # a sandbox may show something of its own
        return 0
    finally:
        os.close(fd)


def read_environment(pid: int) -> bytes:
    """Return the environment that ``pid`` was started with, each variable between two NULs; empty if it may not be read."""
    parts = [b"\0"]
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    except OSError:
        return b""
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(parts)


def main() -> None:
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)
    host_pidfd, bell, ticks = map(int, sys.argv[2:5])
    guard = Guard(os.fsencode(sys.argv[1]), boot_ticks() - ticks + 1)  # both are rounded down
    os.set_blocking(CHANNEL, False)
    poller = select.poll()
    poller.register(CHANNEL, 0)  # its end only
    poller.register(host_pidfd, select.POLLIN)
    poller.register(bell, select.POLLIN)
    answer(b"ready")
    is_over = False
    while not is_over:
        woken = {fd for fd, _ in poller.poll()}
        if bell in woken:
            os.eventfd_read(bell)  # before the channel: what is said after this rings again
        # After the look at the host: what it said before it ended is in the channel by now.
        is_over = not guard.read_channel() or host_pidfd in woken
        if bell in woken:
            answer(b".")
    guard.kill_groups()
    guard.kill_marked()


if __name__ == "__main__":
    main()
