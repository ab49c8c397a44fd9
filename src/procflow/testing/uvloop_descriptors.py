"""The descriptors that uvloop keeps, which are nobody's leak.

Owns what libuv opens on first use, and how that is told from what a test has left behind.  Must not know what is done with the others.

Problem: the first loop of a process leaves both ends of a pipe, for good; the first stream of a loop leaves a descriptor to
``/dev/null``, as long as the loop is open.  So whatever a test uses first looks like a leak of that test.
What can be opened before is opened before, which leaves no doubt.  What cannot be (the loop is not running here, or uvloop is not
even imported) is known by its look.  Rejected: an import of uvloop by us, for programs that never use it.
Known holes: without a running loop, one leaked descriptor to ``/dev/null`` for each open loop of uvloop is taken for uvloop's own; if
uvloop was first imported in the block, so is one leaked pipe with both ends, in blocking mode, that holds a single byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import socket
import sys
import termios
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeGuard

import anyio

if TYPE_CHECKING:
    import asyncio

DEVICE: Final = "/dev/null"

OPEN_WAIT_S: Final = 5.0
"""Far above what it takes to open and close a connection to ourselves."""

_warm_loops: Final[weakref.WeakSet[asyncio.AbstractEventLoop]] = weakref.WeakSet()


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What uvloop had opened at a moment.

    Attributes:
        has_lock: Whether that was its pipe.
        loops: The loops that surely had their ``/dev/null``.
    """

    has_lock: bool = False
    loops: weakref.WeakSet[asyncio.AbstractEventLoop] = field(default_factory=weakref.WeakSet)


def open_lock() -> Opened:
    """Open the pipe that every process with uvloop has, if it is imported; return what is open now."""
    make_loop = getattr(sys.modules.get("uvloop"), "new_event_loop", None)
    if make_loop is not None:
        make_loop().close()
    return Opened(make_loop is not None, _warm_loops.copy())


async def open_spare() -> None:
    """Open the descriptor that the running loop will have, if it is one of uvloop."""
    if "uvloop" not in sys.modules:
        return
    import asyncio  # only where it is in use anyhow

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if not _is_uvloop(loop) or loop in _warm_loops:
        return
    closed = loop.create_future()

    class Ends(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (it is what was wanted)
            if not closed.done():  # nobody waits any more
                closed.set_result(None)

    ours, theirs = socket.socketpair()
    with ours, theirs, anyio.move_on_after(OPEN_WAIT_S, shield=True):
        transport, _ = await loop.create_connection(Ends, sock=ours)
        transport.abort()
        await closed
        _warm_loops.add(loop)


def kept_by_uvloop(new: Mapping[int, str], before: Opened) -> frozenset[int]:
    """Return those of ``new`` descriptors, with where they lead, that uvloop has opened for itself since ``before``."""
    if not new or "uvloop" not in sys.modules:
        return frozenset()
    kept = set() if before.has_lock else _lock_among(new)
    to_device = [fd for fd, target in new.items() if target == DEVICE]
    if to_device:
        loops = [found for found in gc.get_objects() if _is_uvloop(found)]
        spares = sum(not loop.is_closed() and loop not in before.loops for loop in loops)
        kept.update(sorted(to_device)[:spares])
    return frozenset(kept)


def _lock_among(new: Mapping[int, str]) -> set[int]:
    """Return the ends of the pipe with which libuv guards its signal handling: a blocking one that holds one byte."""
    ends: dict[str, set[int]] = {}
    for fd, target in new.items():
        if target.startswith("pipe:") and _holds_one_byte(fd):
            ends.setdefault(target, set()).add(fd)
    return next((fds for fds in ends.values() if len(fds) == 2), set())


def _holds_one_byte(fd: int) -> bool:
    """Whether a pipe does and blocks; both ends can tell."""
    count = bytearray(4)
    with contextlib.suppress(OSError):  # closed meanwhile
        fcntl.ioctl(fd, termios.FIONREAD, count)
        return os.get_blocking(fd) and int.from_bytes(count, sys.byteorder) == 1
    return False


def _is_uvloop(value: object) -> TypeGuard[asyncio.AbstractEventLoop]:
    kind = getattr(sys.modules.get("uvloop"), "Loop", None)
    # Not isinstance(), which asks the value, and so runs code of every proxy there is.
    return kind is not None and issubclass(type(value), kind)
