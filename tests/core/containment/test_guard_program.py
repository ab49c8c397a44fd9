"""The guard's program by itself: what it kills, whom it spares, and what it does not listen to."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from procflow._containment.guard.process import boot_ticks
from procflow._containment.helper import FOLDER
from procflow._containment.helpers import guard as program
from tests.core.containment.hosts import LIMIT_S, Cookie, wait_until

PROGRAM = os.path.join(FOLDER, "guard.py")
VARIABLE = f"PROCFLOW_HOST_of_a_test_{os.getpid()}"  # tests that run at the same time must not meet


NOW = 2**62
"""Ticks that every process was started before."""


class Channel:
    """Our end of a guard's channel, and its bell."""

    def __init__(self, socket: socket.socket, bell: int) -> None:
        self.recv = socket.recv
        self.send = socket.send
        self.close = socket.close
        self._bell = bell

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)


@contextmanager
def guard_of(host_pid: int, ticks: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], Channel]]:
    """A guard that watches ``host_pid``, which counts ``ticks`` now, and our end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(host_pid)
    bell = os.eventfd(0)
    arguments = [
        sys.executable,
        "-I",
        "-S",
        PROGRAM,
        VARIABLE,
        str(pidfd),
        str(bell),
        str(boot_ticks() if ticks is None else ticks),
    ]
    with ours, theirs:
        fd = theirs.fileno()
        process = subprocess.Popen(arguments, pass_fds=[pidfd, bell], stdin=fd, stdout=fd, stderr=fd)
        os.close(pidfd)
        theirs.close()
        try:
            yield process, Channel(ours, bell)
        finally:
            process.kill()
            process.wait()
            os.close(bell)


@contextmanager
def sleeper(cookie: Cookie, **surroundings: object) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()", cookie.text]
    process = subprocess.Popen(arguments, start_new_session=True, **surroundings)  # type: ignore[call-overload]  # env
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def switches(pid: int) -> int:
    """How often the process was given a processor."""
    with open(f"/proc/{pid}/status", "rb") as file:
        return sum(int(line.split()[1]) for line in file if b"ctxt_switches" in line)


def sleeps(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"S"


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def test_signals_to_everything_do_not_end_it() -> None:
    """C-80: SIGINT, SIGTERM and SIGHUP mean nothing to it."""
    with guard_of(os.getpid()) as (guard, channel):
        assert channel.recv(100) == b"ready"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            guard.send_signal(number)
        channel.send(b"!1 !2")
        channel.ring()
        assert channel.recv(100) == b"=1 =2"
        assert guard.poll() is None


def test_words_wake_it_only_when_the_bell_rings() -> None:
    """C-85: a spawn costs no process switch; whoever found the channel full hears when there is room."""
    with guard_of(os.getpid()) as (guard, channel):
        assert channel.recv(100) == b"ready"
        wait_until(lambda: sleeps(guard.pid), "the guard sleeps")
        before = switches(guard.pid)
        for number in range(100):
            channel.send(b"+%d:1" % (1 << 22 | number))
            channel.send(b"-%d" % (1 << 22 | number))
        assert switches(guard.pid) == before
        with pytest.raises(BlockingIOError):
            while True:
                channel.send(b"!1", socket.MSG_DONTWAIT)

        channel.ring()

        answers = b""
        while not answers.endswith(b"."):
            answers = channel.recv(100)
        channel.send(b"!2", socket.MSG_DONTWAIT)


def test_host_that_runs_another_program_is_gone(cookie: Cookie) -> None:
    """C-80: its pidfd says nothing then, but the end of the channel does."""
    with sleeper(cookie) as mine, guard_of(os.getpid()) as (guard, channel):
        assert channel.recv(100) == b"ready"
        channel.send(b"+%d:%d" % (mine.pid, NOW))
        channel.close()
        wait_until(lambda: has_ended(guard), "the guard ends")
        assert mine.wait() == -signal.SIGKILL


def test_it_reads_what_is_left_before_it_acts(cookie: Cookie) -> None:
    """C-80: everything that the host has said counts, also what was not read yet when it ended."""
    with sleeper(cookie) as host, guard_of(host.pid) as (guard, channel):
        assert channel.recv(100) == b"ready"
        guard.send_signal(signal.SIGSTOP)
        marked = {"env": os.environ | {VARIABLE: "7"}}
        with sleeper(cookie) as mine, sleeper(cookie) as given_up, sleeper(cookie, **marked) as spared:
            # Not children of its host: the host is gone when this is read, so nothing can be told from their parent.
            channel.send(f"+{mine.pid}:{NOW} +{given_up.pid}:{NOW}".encode())
            channel.send(f"-{given_up.pid} !7".encode())
            host.kill()
            guard.send_signal(signal.SIGCONT)

            wait_until(lambda: has_ended(guard), "the guard ends")

            assert mine.wait() == -signal.SIGKILL
            assert given_up.poll() is None
            assert spared.poll() is None


def test_number_that_is_given_up_is_not_signalled(cookie: Cookie) -> None:
    """C-66: also if both words come at once."""
    with sleeper(cookie) as stranger, sleeper(cookie) as host, guard_of(host.pid) as (guard, channel):
        assert channel.recv(100) == b"ready"
        channel.send(f"+{stranger.pid}:{NOW} -{stranger.pid}".encode())

        host.kill()
        wait_until(lambda: has_ended(guard), "the guard ends")

        assert stranger.poll() is None


def test_number_that_was_given_out_again_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-66: the moment of its start tells the leader from a later process of the same number."""
    killed: list[int] = []
    starts = {11: 100, 12: 201, 13: 300, 14: 199}
    monkeypatch.setattr(program, "read_start", starts.get)
    monkeypatch.setattr(os, "killpg", lambda pid, number: killed.append(pid))
    guard = program.Guard(b"X")
    guard.note(
        b"+11:100 +12:200 +13:300 -13 +14:200 +15:200"
    )  # of 15 the leader was reaped, and its group may have members

    guard.kill_groups()

    assert killed == [11, 14, 15]


@pytest.mark.parametrize("ahead", [-360_000, 360_000])
def test_host_in_another_time_namespace(cookie: Cookie, ahead: int) -> None:
    """C-80: where the host's clock of the boot is ``ahead`` of the guard's, its groups are killed, and no stranger is."""
    with (
        sleeper(cookie) as stranger,
        sleeper(cookie) as host,
        guard_of(host.pid, boot_ticks() + ahead) as (guard, channel),
        sleeper(cookie) as mine,
    ):
        assert channel.recv(100) == b"ready"
        channel.send(f"+{mine.pid}:{boot_ticks() + ahead} +{stranger.pid}:{boot_ticks() + ahead - 100_000}".encode())

        host.kill()
        wait_until(lambda: has_ended(guard), "the guard ends")

        assert mine.wait() == -signal.SIGKILL
        assert stranger.poll() is None


def test_start_that_cannot_be_read_spares_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-80: a sandbox may show a /proc of its own."""
    monkeypatch.setattr(os, "read", lambda *_: b"7 (sleep) S 1")

    assert program.read_start(os.getpid()) is None


def test_every_copy_of_the_variable_counts_and_others_do_not(cookie: Cookie) -> None:
    """C-80: names that only begin or end like it are not it; one behind 100 KB of others is."""
    large = {f"LARGE_{i}": "x" * 10_000 for i in range(10)}
    with sleeper(cookie) as host, guard_of(host.pid) as (guard, channel):
        assert channel.recv(100) == b"ready"
        with (
            sleeper(cookie, env={"A": "1", VARIABLE: "1"}) as first,
            sleeper(cookie, env={**large, VARIABLE: "2"}) as last,
            sleeper(cookie, env={VARIABLE + "x": "1", "x" + VARIABLE: "1", "A": f"{VARIABLE}=1"}) as other,
        ):
            host.kill()
            wait_until(lambda: has_ended(guard), "the guard ends")
            assert first.wait() == last.wait() == -signal.SIGKILL
            assert other.poll() is None


def test_chain_of_forks_does_not_outrun_it(cookie: Cookie) -> None:
    """C-80: processes that fork and exit all the time, each in a session of its own."""
    # It ends by itself some time: nobody who cleans up after a test can be sure to catch it.
    chain = "import os, time\nend = time.monotonic() + 20\nwhile time.monotonic() < end:\n if os.fork(): os._exit(0)\n os.setsid()"
    arguments = [sys.executable, "-I", "-S", "-c", chain, cookie.text]
    trials_left = 3
    while True:
        trials_left -= 1
        reading, writing = os.pipe()
        with sleeper(cookie) as host, guard_of(host.pid) as (guard, channel), open(reading, "rb", buffering=0) as ended:
            assert channel.recv(100) == b"ready"
            for _ in range(4):
                subprocess.Popen(arguments, env={VARIABLE: "1"}, stdout=writing).wait()
            os.close(writing)
            host.kill()
            begun = time.monotonic()
            wait_until(lambda: has_ended(guard), "the guard ends")
            took_s = time.monotonic() - begun
            # The pipe tells for sure when nobody is left; a look at the processes may miss who is being born.
            is_over = bool(select.select([ended], [], [], LIMIT_S)[0])
            select.select([ended], [], [])
            assert ended.read() == b""
        # It gives up after a while: on a machine that lets the chains run and not the guard, that proves nothing.
        if is_over or took_s < program.LIMIT_S or not trials_left:
            break
    assert is_over


def test_it_needs_nothing_of_the_package(tmp_path: Path) -> None:
    """C-85: a single file that a bare interpreter runs, and that imports four modules."""
    copy = tmp_path / "guard.py"
    copy.write_bytes(Path(PROGRAM).read_bytes())
    script = f"import sys; before = set(sys.modules); sys.path.insert(0, {str(tmp_path)!r}); import guard; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    new = set(done.stdout.split())
    assert "guard" in new
    assert not new & {"signal", "enum", "ctypes", "socket", "subprocess", "threading", "re", "typing"}
