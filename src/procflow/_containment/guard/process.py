"""One running guard, seen from the host: its process and our end of its channel.

Owns both, from the start to the reaping.  Must not know what the guard is told, nor what follows when it dies.  What is said
on the channel is in ``helpers/guard.py``.

Nothing here waits, except ``end()`` for a process that it has killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Final

from procflow._containment.helper import above_standard, own_pidfd, start_helper

END_WAIT_S: Final = 0.1
"""How long a killed guard may take to end."""

PACKET_BYTES: Final = 65536

MOST_UNREAD: Final = 64
"""How many packets may wait in the channel before the guard is woken to read them: a quarter of what it takes."""

COMPLAINT_BYTES: Final = 4096

_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Where the first is missing (macOS) there is no guard, and nobody reads it."""


def boot_ticks() -> int:
    """Return this moment as the kernel tells when a process was started: in clock ticks since boot."""
    return int(time.clock_gettime(_BOOT_CLOCK) * _TICKS_A_S)


class GuardProcess:
    """A started guard.

    Attributes:
        is_ready: Whether it has said that it watches.
    """

    def __init__(self, variable: str) -> None:
        """Start it; takes as long as any spawn, not as long as its interpreter.

        Raises:
            NoHelperError: If there can be none here.
            SpawnError: If it cannot be started now.
            OSError: If there is no descriptor left for it.
        """
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as always:
            host = own_pidfd()  # first: where there is none there are no sockets of packets either
            always.callback(os.close, host)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            always.enter_context(theirs)
            on_failure.callback(ours.close)
            ours.settimeout(0.0)
            bell = os.eventfd(0)
            on_failure.callback(os.close, bell)
            heard = above_standard(bell)
            always.callback(os.close, heard)
            self._leader: Final = start_helper(
                "guard.py", (variable, host, heard, boot_ticks()), pass_fds=(host, heard), stdio=theirs.fileno()
            )
            on_failure.pop_all()
        # A number, not an object: one that is never closed would be warned about when the interpreter ends, and to close
        # it is to say that the host is gone.
        self.channel: Final = ours.detach()
        self._bell = bell
        self._unread = 0
        self.is_ready = False
        self._complaint = b""

    def __repr__(self) -> str:
        return f"<GuardProcess {self.pid}{'' if self.is_ready else ', starting'}>"

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._leader.pid

    @property
    def exit_fd(self) -> int:
        """Readable once it has ended."""
        return self._leader.exit_fd

    @property
    def complaint(self) -> str:
        """The last line of what its interpreter said instead of running it."""
        lines = self._complaint.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What is open because of it."""
        return self.channel, self._bell, self.exit_fd

    def send(self, packet: bytes) -> bool:
        """Say something, which is heard at the end of the host at the latest, or soon after ``ring()``.

        Returns false if the channel is full, or nobody listens any more.
        """
        channel = socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, self.channel)
        try:
            channel.settimeout(0.0)  # a host may have set another default, for which Python waits in spite of the flag
            # Not write(2): a host may have SIGPIPE as it is by default, and would die of it.
            channel.send(packet, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError:
            self.ring()
            return False
        finally:
            channel.detach()
        self._unread += 1
        if self._unread >= MOST_UNREAD:
            self.ring()
        return True

    def ring(self) -> None:
        """Have it hear now what was said."""
        self._unread = 0
        os.eventfd_write(self._bell, 1)

    def answers(self) -> Iterator[bytes]:
        """Yield the answers that are there."""
        while True:
            try:
                packet = os.read(self.channel, PACKET_BYTES)
            except ConnectionResetError:  # told once: it ended without reading what we said
                continue
            except OSError:
                return
            if not packet:
                return
            if packet == b"ready":
                self.is_ready = True
            elif not packet.startswith((b"=", b".")):
                self._complaint = (self._complaint + packet)[-COMPLAINT_BYTES:]
                continue
            yield packet

    def has_ended(self) -> bool:
        """Look whether it has ended."""
        return self._leader.observe()

    def end(self) -> None:
        """Kill and reap it, then close everything; idempotent.  Blocks until it is dead, at most 100 ms."""
        if self._leader.exit_fd < 0:
            return
        # In this order: while it lives, a closed channel tells it that the host is gone.
        with contextlib.suppress(OSError):
            self._leader.signal(signal.SIGKILL)
        poller = select.poll()
        poller.register(self._leader.exit_fd, select.POLLIN)
        poller.poll(END_WAIT_S * 1000)
        self._leader.reap()
        self._leader.close()
        os.close(self.channel)
        os.close(self._bell)
