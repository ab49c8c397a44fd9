"""What a command costs: its own processes and the server that it talks to, seen from outside.

Wall time is that of the whole command, its start included.  CPU is user plus system time of all its processes, or of all
processes of the server, those that ended meanwhile included.  Memory is what all its processes held together at their
worst, resident, sampled; of a single process exactly the peak that the kernel kept.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.harness import ROOT
from benchmarks.runs import descendants
from tools.servers import PR_SET_CHILD_SUBREAPER, libc_prctl

SAMPLE_S: Final = 0.02
SETTLE_S: Final = 2.0
"""How long a server may need to end what it had started for a client that is gone."""
TICKS: Final = os.sysconf("SC_CLK_TCK")
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one command took.

    Attributes:
        wall_s: From its start until it has ended.
        client_cpu_s: CPU of all its processes.
        server_cpu_s: CPU of the server meanwhile; 0 without one.
        peak_bytes: The most memory that its processes held together.
        output: What it wrote to its standard output.
    """

    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    peak_bytes: int
    output: bytes


def observed(
    argv: Sequence[str], environ: Mapping[str, str], *, server_pid: int | None, drains: bool = False
) -> Observation:
    """Run a command and return what it took; ``drains`` throws its standard output away instead of keeping it.

    Raises:
        RuntimeError: If its exit status is not 0; the message is the last line that it wrote to standard error.
    """
    # Orphans of the command stay in sight, and in the accounts.
    libc_prctl(PR_SET_CHILD_SUBREAPER, 1)
    others = _children()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        peak = Peak()
        server = Server(server_pid)
        server_before, client_before, started = server.cpu_s(), _reaped_cpu_s(), time.perf_counter()
        child = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if drains else output,
            stderr=errors,
        )
        with peak.sampled():
            status = child.wait()
            wall_s = time.perf_counter() - started
        _reap_orphans(others)
        client_cpu_s = _reaped_cpu_s() - client_before
        server.settle()
        server_cpu_s = server.cpu_s() - server_before
        output.seek(0)
        errors.seek(0)
        if status != 0:
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"exit status {status}")
        return Observation(
            wall_s=wall_s,
            client_cpu_s=client_cpu_s,
            server_cpu_s=server_cpu_s,
            peak_bytes=peak.bytes,
            output=output.read(),
        )


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap_orphans(others: set[int]) -> None:
    """Wait for the children that were not there before: a guard or a server of this process does not end."""
    while orphans := _children() - others:
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


class Peak:
    """The most memory that the descendants of this process held together."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextlib.contextmanager
    def sampled(self) -> Iterator[None]:
        is_over = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(is_over,))
        sampler.start()
        try:
            yield
        finally:
            is_over.set()
            sampler.join()

    def _sample(self, is_over: threading.Event) -> None:
        while not is_over.wait(SAMPLE_S):
            self.look()

    def look(self) -> None:
        """Take what is held now, and what each process alone held at its worst."""
        held = [_memory_bytes(pid) for pid in descendants()]
        # Of one process the kernel knows the peak; of several nobody knows whether theirs fell together.
        together = sum(now for now, _ in held)
        self.bytes = max(self.bytes, together, *(worst for _, worst in held))


def _memory_bytes(pid: int) -> tuple[int, int]:
    """Return what is resident of a process, and the most that ever was since its program began."""
    found = {"VmRSS": 0, "VmHWM": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, text = line.partition(":")
            if name in found:
                found[name] = int(text.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]


class Server:
    """All processes of a server on this machine."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._resident = set() if pid is None else set(descendants(pid))

    def cpu_s(self) -> float:
        """Return the CPU time of all its processes, those that it has waited for included."""
        if self._pid is None:
            return 0.0
        ticks = sum(_ticks(self._pid)[:4])
        return (ticks + sum(sum(_ticks(pid)[:2]) for pid in descendants(self._pid))) / TICKS

    def settle(self) -> None:
        """Wait until processes that were started for a client have ended."""
        deadline = time.monotonic() + SETTLE_S
        while self._pid is not None and set(descendants(self._pid)) - self._resident and time.monotonic() < deadline:
            time.sleep(0.01)


def _ticks(pid: int) -> tuple[int, ...]:
    """Return utime, stime, cutime and cstime of a process; zeros if it is gone."""
    with contextlib.suppress(OSError):
        # proc_pid_stat(5): the command name may hold anything, so fields are counted after its closing parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return tuple(int(field) for field in fields[11:15])
    return (0, 0, 0, 0)
