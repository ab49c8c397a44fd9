"""The export command as a process that is watched from outside, and killed.

Who belongs to a run is told by a cookie in the environment of every process, and by descent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from procflow_export.destinations.crash import STOP_ENV
from tools.soak.crashes.databases import PATIENCE_S, wait_until

COOKIE_ENV: Final = "PROCFLOW_SOAK_COOKIE"
GONE_WITHIN_S: Final = 2.0
"""What is promised: so long after its parent no process of a run is alive."""


class Program:
    """One run of the command."""

    def __init__(
        self, directory: Path, *arguments: str, stop_at: str | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        self.cookie = uuid4().hex
        self._seen: set[tuple[int, str]] = set()
        temporary = directory / "tmp"
        temporary.mkdir(exist_ok=True)
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TMPDIR": str(temporary),
            COOKIE_ENV: self.cookie,
            **(more or {}),
        }
        if stop_at is not None:
            environ[STOP_ENV] = stop_at
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "procflow_export", *arguments],
                cwd=directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def family(self) -> list[int]:
        """Every process of the run that is alive, and whoever was seen before and still is: a guard has no environment."""
        found = _with_cookie(self.cookie) | _descendants(self.process.pid)
        self._seen |= {(pid, began) for pid in found if (began := _began(pid)) is not None}
        return sorted(found | {pid for pid, began in self._seen if _began(pid) == began})

    def workers(self) -> list[int]:
        """The processes that do work for the parent, those first that are stopped."""
        found = [pid for pid in self.family() if pid != self.process.pid and b"\0worker\0" in _command_line(pid)]
        return sorted(found, key=lambda pid: _state(pid) != "T")

    def is_over(self) -> bool:
        return self.process.poll() is not None

    def stopped(self) -> list[int]:
        """The processes that have reached their point and stand still."""
        return [pid for pid in self.family() if _state(pid) == "T"]

    def wait_moment(self, delay_s: float | None) -> bool:
        """Wait until a process stands still at its point, or for some time; False if the run ended before that."""
        if delay_s is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(delay_s)
            return not self.is_over()
        wait_until(lambda: self.is_over() or self.stopped(), "a process at its point, or the end of the run")
        return not self.is_over()

    def finish(self) -> int:
        """Let the run go on to its end, whoever stands still; return its exit status."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while True:
            for pid in self.stopped():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.02)
            if time.monotonic() > deadline:
                raise TimeoutError(f"a run does not end: {self.log.read_text(errors='replace')[-2000:]}")

    def close(self) -> None:
        """End whatever is left of the run."""
        for pid in (*self.family(), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(
    directory: Path, *arguments: str, stop_at: str | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Start the command; when the block is left nothing of it is alive."""
    program = Program(directory, *arguments, stop_at=stop_at, more=environ)
    try:
        yield program
    finally:
        program.close()


def survivors(program: Program, *, within_s: float = GONE_WITHIN_S) -> list[str]:
    """Return the processes of a run that are alive so long after its end, by their command lines."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not program.family(), "nobody is left", patience_s=within_s)
    return [f"{pid} {_command_line(pid).decode(errors='replace')}" for pid in program.family()]


def _with_cookie(cookie: str) -> set[int]:
    wanted = f"{COOKIE_ENV}={cookie}".encode()
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (process / "environ").read_bytes() and _state(int(process.name)) not in ("Z", None):
                    found.add(int(process.name))
    return found


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                for word in (task / "children").read_text().split():
                    if int(word) not in found and _state(int(word)) not in ("Z", None):
                        found.add(int(word))
                        waiting.append(int(word))
    return found


def _state(pid: int) -> str | None:
    return next(iter(_stat(pid)), None)


def _began(pid: int) -> str | None:
    """Return when a process that is alive began, which tells it from a later one with its number; None if it is not."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def _stat(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
