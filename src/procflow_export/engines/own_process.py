"""Settings of a process that is ours alone: the command line's, or a worker's.

Owns what is never done in the process of a host that imported the package: how memory is allocated, how long a thread
may keep the interpreter.  Must be cheap to import, and called before anything that allocates.

**Memory.**  What an export holds at its peak is the same in every run, so its process shall keep little beside it.  Arrow's
own pool (mimalloc) keeps what its threads have freed, each thread for itself; glibc gives every thread an arena that no other one
uses.  Decoding, hand-over and encoding are three threads that free what another one has allocated: with one arena for all, Arrow
included, an export of TPC-H lineitem peaks at 175 MiB instead of 207, of wide rows at 171 instead of 213, and takes
less time.  What is larger than ``MMAP_BYTES`` goes back to the system as soon as it is freed, so that one row of 100 MiB leaves no trace.

**Threads.**  BLAS starts threads for linear algebra, of which there is none here.  A thread that waits for the interpreter takes it
after ``SWITCH_S``: the event loop, which moves the bytes, must not wait for a decoder as long as Python's 5 ms.
"""

from __future__ import annotations

import os
import sys
from typing import Final

TRIM_BYTES: Final = 8 << 20
MMAP_BYTES: Final = 4 << 20
SWITCH_S: Final = 0.001

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def settle() -> None:
    """Make these settings; where the system has no such knob, it stays as it is."""
    sys.setswitchinterval(SWITCH_S)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.platform == "linux":
        _set_allocator()


def _set_allocator() -> None:
    """Set what malloc does; see mallopt(3).  Nothing happens with another C library than glibc."""
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (_M_ARENA_MAX, 1),
            (_M_MMAP_THRESHOLD, MMAP_BYTES),
            (_M_TRIM_THRESHOLD, TRIM_BYTES),
        ):
            mallopt(parameter, value)
