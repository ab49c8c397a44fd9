"""Having a record for oneself while it is removed or rewritten.

Owns the two locks that are needed for that: one on the directory of the run, which only those have who change a record that is over, and one on
its event file, which its writer has while it lives.  Must not know what is done meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from procflow.record.errors import RecordBusyError
from procflow.record.reading.liveness import NO_LOCKS

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def held_record(directory: str, events_file: str, *, alone: bool) -> Iterator[None]:
    """Hold the record in ``directory``, with its ``events_file``, against its writer and against whoever else calls this.

    Args:
        directory: Of the run.
        events_file: Of the run, too.
        alone: Also against readers that have a lock of their own on the file.  Other readers take it for written meanwhile, so this is for
            a record that goes.

    Raises:
        RecordBusyError: If somebody holds it.
        OSError: If one of the two cannot be opened.
    """
    with contextlib.ExitStack() as files:
        for path, flags, lock in (
            (directory, _DIRECTORY, fcntl.LOCK_EX),
            (events_file, _FILE, fcntl.LOCK_EX if alone else fcntl.LOCK_SH),
        ):
            fd = os.open(path, flags)
            files.callback(os.close, fd)
            try:
                fcntl.flock(fd, lock | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RecordBusyError(path=directory) from None
            except OSError as exc:
                if exc.errno not in NO_LOCKS:  # without locks, its state was told by the process that wrote it
                    raise
        yield
