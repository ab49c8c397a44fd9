"""Whose servers they are: a process, whose end is the end of them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process whose end is the end of its servers, told apart from a later process with the same id."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Self:
        # proc_pid_stat(5): the command name may hold anything, so fields are counted after its closing parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(pid=pid, started_ticks=int(fields[19]))

    @classmethod
    def parse(cls, text: str) -> Self:
        pid, started_ticks = text.split("-")
        return cls(pid=int(pid), started_ticks=int(started_ticks))

    def __str__(self) -> str:
        return f"{self.pid}-{self.started_ticks}"

    @property
    def directory(self) -> Path:
        """Where the servers of this owner live; the last watcher removes it."""
        return Path(tempfile.gettempdir()) / f"procflow-servers-{self}"

    def open_pidfd(self) -> int:
        """Return a descriptor that becomes readable when the owner ends.

        Raises:
            ProcessLookupError: If it has ended already.
        """
        pidfd = os.pidfd_open(self.pid)
        with contextlib.suppress(OSError):
            if Owner.of(self.pid) == self:
                return pidfd
        os.close(pidfd)
        raise ProcessLookupError
