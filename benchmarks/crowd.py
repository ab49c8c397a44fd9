"""A machine with many processes: sleepers that go with whoever asked for them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

_SLEEPERS: Final = """
import os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.close(1)
        os.read(0, 1)
        os._exit(0)
os.write(1, b"ready\\n")
os.close(1)
os.read(0, 1)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
"""All read the same pipe, whose other end only the host holds: they end with it, however it ends, and their parent reaps them."""


def process_count() -> int:
    """Return how many processes the machine has."""
    return sum(name.isdigit() for name in os.listdir("/proc"))


@contextlib.contextmanager
def crowd(total: int) -> Iterator[int]:
    """Bring the machine to ``total`` processes for the block, and give how many there are; it may have more already."""
    missing = max(0, total - process_count())
    argv = [sys.executable, "-I", "-S", "-c", _SLEEPERS, str(missing)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sleepers:
        assert sleepers.stdin is not None
        assert sleepers.stdout is not None
        if sleepers.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{missing} processes cannot be started here")
        try:
            yield process_count()
        finally:
            sleepers.stdin.close()
