"""The children of the stream benchmarks: command lines that cost as little as a program that is everywhere can."""

from __future__ import annotations

import sys
from typing import Final

BLOCK: Final = 64 * 1024
STAMP_BYTES: Final = 80

_PYTHON: Final = (sys.executable, "-I", "-S", "-c")
_SPLICE: Final = """
import os, sys
page_cache = os.memfd_create("zeros")
os.write(page_cache, bytes(65536))
for _ in range(int(sys.argv[1])):
    done = 0
    while done < 65536:
        done += os.splice(page_cache, 1, 65536 - done, offset_src=done)
"""
_STAMPS: Final = """
import sys
from os import write
from time import monotonic_ns, sleep
pause_s = float(sys.argv[2])
for _ in range(int(sys.argv[1])):
    if pause_s:
        sleep(pause_s)
    write(1, b"%079d\\n" % monotonic_ns())
"""


def zeros(mib: int | None) -> list[str]:
    """Writes so many MiB in blocks of 64 KiB; without end if ``None``."""
    count = [f"count={mib * 16}"] if mib is not None else []
    return ["dd", "if=/dev/zero", "bs=64k", *count, "status=none"]


def spliced(mib: int) -> list[str]:
    """Moves pages into its pipe instead of copying: the reader's copy is then the only one."""
    return [*_PYTHON, _SPLICE, str(mib * 16)]


def small_writes(count: int) -> list[str]:
    """Writes ``count`` times 80 bytes, each with a call of its own."""
    return ["dd", "if=/dev/zero", f"bs={STAMP_BYTES}", f"count={count}", "status=none"]


def stamped_lines(count: int, *, pause_s: float = 0.0) -> list[str]:
    """Writes lines of 80 bytes, each with a call of its own and the time of the monotonic clock in ns; pauses before each."""
    return [*_PYTHON, _STAMPS, str(count), repr(pause_s)]


def sink() -> list[str]:
    """Reads everything in blocks of 64 KiB and throws it away."""
    return ["dd", "of=/dev/null", "bs=64k", "status=none"]
