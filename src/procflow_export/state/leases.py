"""Leases: one run at a time works on an export.

Owns the two ways to have one: a lock of the kernel on a file, and, for a state in memory, the store's own knowledge.

A lease is a lock and no row with a heartbeat: the kernel lets go of it in the instant in which its holder dies, by SIGKILL
too, and never while the holder lives, however long that is stopped.  So nobody has to guess from a clock whether a run is
dead, and no pid has to mean the same in two containers that share the directory.  A state lies on a local file system anyway:
SQLite's log ahead needs shared memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from procflow_export.model.codes import Code
from procflow_export.model.errors import StateError
from procflow_export.model.ledger import Lease
from procflow_export.model.times import rfc3339

_ATTEMPTS: Final = 5
_DECODER: Final = msgspec.json.Decoder(Lease)  # for all threads: see ``model.manifest``
_RETRY_S: Final = 0.02
"""Whoever only looks at a lease holds it for an instant; a run does not."""


class Leases(Protocol):
    """See ``StateStore.leased()`` and ``StateStore.lease()``."""

    def leased(self, export: str, run_id: str | None) -> contextlib.AbstractContextManager[None]: ...

    def lease(self, export: str) -> Lease | None: ...


class FileLeases:
    """Leases as locked files of one directory, which must be there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def leased(self, export: str, run_id: str | None) -> Iterator[None]:
        """Hold the lease of ``export``: see ``StateStore.leased()``."""
        with self._opened(export) as fd:
            if not _lock(fd, attempts=_ATTEMPTS):
                raise _is_leased(export, _holder(fd))
            try:
                _write(fd, msgspec.json.encode(own_lease(run_id)) + b"\n")
                yield
                _write(fd, b"")
            finally:
                # A child that was forked meanwhile has the descriptor as well, and would hold the lock on.
                fcntl.flock(fd, fcntl.LOCK_UN)

    def lease(self, export: str) -> Lease | None:
        """Return who holds the lease: see ``StateStore.lease()``."""
        if not self._path(export).exists():
            return None
        with self._opened(export) as fd:
            return None if _lock(fd, attempts=1) else _holder(fd)

    def _path(self, export: str) -> Path:
        # The configuration refuses names that two exports share, and those that cannot be part of a file's name.
        return self._directory / f"{export}.lease"

    @contextmanager
    def _opened(self, export: str) -> Iterator[int]:
        path = self._path(export)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StateError(
                Code.STATE_NOT_USABLE, f"the lease file {path} cannot be opened: {exc.strerror or exc}"
            ) from exc
        try:
            yield fd
        finally:
            os.close(fd)


class OwnLeases:
    """Leases of a state that only this object knows."""

    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}

    @contextmanager
    def leased(self, export: str, run_id: str | None) -> Iterator[None]:
        """Hold the lease of ``export``: see ``StateStore.leased()``."""
        if export in self._held:
            raise _is_leased(export, self._held[export])
        self._held[export] = own_lease(run_id)
        try:
            yield
        finally:
            del self._held[export]

    def lease(self, export: str) -> Lease | None:
        """Return who holds the lease: see ``StateStore.lease()``."""
        return self._held.get(export)


def own_lease(run_id: str | None) -> Lease:
    """Return the lease that this process takes now."""
    since = rfc3339(datetime.now(UTC))
    return Lease(run_id=run_id, pid=os.getpid(), host=socket.gethostname(), since=since)


def _lock(fd: int, *, attempts: int) -> bool:
    for attempt in range(attempts):
        if attempt:
            time.sleep(_RETRY_S)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError as exc:
            if exc.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise StateError(
                    Code.STATE_NOT_USABLE, "the file system of the state has no locks: put it on a local one"
                ) from exc
            raise StateError(Code.STATE_FAILED, f"a lease cannot be taken: {exc.strerror or exc}") from exc
        return True
    return False


def _write(fd: int, words: bytes) -> None:
    """Say who holds the lease; on a full disk nobody reads that, and the lock holds all the same."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, words, 0)


def _holder(fd: int) -> Lease | None:
    """Return who wrote the lease file; its holder may not have come to that yet."""
    with contextlib.suppress(msgspec.DecodeError, OSError):
        return _DECODER.decode(os.pread(fd, 4096, 0))
    return None


def _is_leased(export: str, holder: Lease | None) -> StateError:
    who = "another run or command" if holder is None or holder.run_id is None else f"run {holder.run_id}"
    where = "" if holder is None else f", process {holder.pid} on {holder.host}, since {holder.since}"
    return StateError(Code.EXPORT_LEASED, f"{who} works on export {export!r} at this moment{where}")
