"""The record itself: a file that is only ever appended to.

Owns the file, its lock, and its writes.  Must not know what events mean, apart from those after which it syncs.

One event is one unbuffered write on an ``O_APPEND`` descriptor: when ``emit()`` has returned, the line survives SIGKILL of this
process.  It does not survive a power failure until it was synced; ``durability`` says when that is.
A write may be torn all the same, by a full disk or by a SIGKILL in the middle of it.  So whoever reads takes a line that is
none as lost, and after a failed write a lone newline comes first.

The lock (``flock``) says that the writer lives.  It goes with the last copy of the descriptor: those of executed children are
closed by the kernel, those of forked copies of this process by us.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import weakref
from pathlib import Path
from typing import Final, Literal, TypeAlias

from procflow.record.envelope import Event, tag_of
from procflow.record.sinks.port import Dropped, Losses

Durability: TypeAlias = Literal["process", "job", "event"]
"""After which events the file is synced: the first and the last, also each finished job, or each.

What is not synced survives the death of this process, but not that of the machine.
"""

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

_SYNCED: Final[dict[str, frozenset[str] | None]] = {
    "process": frozenset({"run_started", "run_finished"}),
    "job": frozenset({"run_started", "run_finished", "job_finished"}),
    "event": None,
}
"""The types after which is synced; ``None``: all."""

_log = logging.getLogger("procflow.record")


class FileSink:
    """Appends to a file that it has created.

    Args:
        path: The file; must not exist.
        durability: When it is synced.

    Raises:
        FileExistsError: If there is such a file: a record is never written over.
        OSError: If it cannot be created, or its directory.
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: Durability = "process") -> None:
        if durability not in _SYNCED:
            raise ValueError(f"durability must be one of {', '.join(map(repr, _SYNCED))}, not {durability!r}")
        self.path: Final = Path(path)
        self._synced = _SYNCED[durability]
        self._losses = Losses()
        self._make_folder()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, FILE_MODE)
        with contextlib.suppress(OSError):  # a file system without locks: then pid and start time tell who is alive
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # waits: a reader that asks who is alive holds it for an instant
        _close_in_copies(self)

    def __repr__(self) -> str:
        return f"<FileSink {str(self.path)!r}{'' if self._fd >= 0 else ', closed'}>"

    @property
    def lost_count(self) -> int:
        """How many events were lost."""
        return self._losses.count

    @property
    def failure(self) -> str:
        """Why something was lost; empty if nothing was."""
        return self._losses.failure_of(str(self.path))

    def emit(self, line: bytes, event: Event) -> None:
        """Append ``line``; syncs after it if its type and the durability say so, which takes about a millisecond."""
        if self._losses.is_owed:  # recover() has just found that nothing can be written
            self._losses.lose(event.seq, self._losses.reason)
            return
        error = self._write(line)
        if error:
            self._lose(event, error)
            return
        self._losses.settle()
        if self._synced is None or tag_of(event) in self._synced:
            self._sync(event)

    def recover(self) -> Dropped | None:
        """End the torn line, if the disk takes a byte again."""
        if not self._losses.is_owed or self._write(b"\n"):
            return None
        return self._losses.tell()

    async def aclose(self) -> None:
        """Close the file, and with it the lock."""
        self.close()

    def close(self) -> None:
        """The same, from anywhere."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, data: bytes) -> str:
        """Write ``data`` with one call; return what was wrong, or nothing."""
        if self._fd < 0:
            return "the sink is closed"
        try:
            written = os.write(self._fd, data)
        except OSError as exc:
            return exc.strerror or type(exc).__name__
        return "" if written == len(data) else "the disk took only a part of a line"

    def _sync(self, event: Event) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as exc:  # it is written, and may get lost with the machine
            _log.warning("%s: event %d could not be synced: %s", self.path, event.seq, exc.strerror)

    def _lose(self, event: Event, reason: str) -> None:
        if not self._losses.count:
            _log.warning("%s: event %d is lost: %s; the run goes on", self.path, event.seq, reason)
        self._losses.lose(event.seq, reason)

    def _make_folder(self) -> None:
        folder = self.path.parent
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(FOLDER_MODE)
                folder.chmod(FOLDER_MODE)  # a directory that inherits a group's rights (setgid, ACL) would have more


_open_files: Final[weakref.WeakSet[FileSink]] = weakref.WeakSet()
_hooks: Final[list[object]] = []


def _close_in_copies(sink: FileSink) -> None:
    """See to it that a forked copy of this process closes the file: it would hold the lock after our death."""
    _open_files.add(sink)
    if not _hooks:  # once, and not at import: nothing of the host is changed before there is a record
        _hooks.append(_close_all)
        os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    for sink in list(_open_files):
        sink.close()
