"""Real processes that write a record, and do what they are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = r"""
import fcntl, os, signal, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("ready", flush=True)
for order in sys.stdin:
    verb, _, rest = order.rstrip("\n").partition(" ")
    if verb == "write":
        os.write(fd, bytes.fromhex(rest))
    elif verb == "exec":
        print(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, 1)]), flush=True)
        continue
    elif verb == "fork":
        pid = os.fork()
        if pid == 0:
            os.close(1)
            signal.pause()
        print(pid, flush=True)
        continue
    print("done", flush=True)
"""


class RecordWriter:
    """A writer in a process of its own, which holds the lock of its file."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def tell(self, order: str) -> str:
        """Give an order, wait until it is carried out, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def write(self, data: bytes) -> None:
        """Append to the record."""
        assert self.tell(f"write {data.hex()}") == "done"

    def kill(self) -> None:
        """Kill it with SIGKILL, and reap it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def record_writer(path: Path) -> Iterator[RecordWriter]:
    """Start a writer of ``path``; it is gone when the block is left."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield RecordWriter(process)
        finally:
            process.kill()
