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
    with sleepers(max(0, total - process_count())):
        yield process_count()


@contextlib.contextmanager
def sleepers(count: int) -> Iterator[None]:
    """Give the machine ``count`` processes for the block, and one that is their parent."""
    argv = [sys.executable, "-I", "-S", "-c", _SLEEPERS, str(count)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        if parent.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{count} processes cannot be started here")
        try:
            yield
        finally:
            parent.stdin.close()
