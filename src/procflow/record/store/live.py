"""Rows of a run while it runs, in the process that runs it.

Owns a thread that ingests the record each time something was written to it.  Must not know what is written.

It reads the file like any other ingester, so what it stores is what the file says, and the run owes it nothing: a database that fails is
told about by the logger, and the file can be ingested later.  The thread is one of its own, not one of a pool: a connection belongs to the
thread that opened it, this one lives as long as the run, and most of the time it waits.  It is a daemon, because a database that
somebody else has locked must not keep the program.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import Final

import anyio
import anyio.to_thread

from procflow.record.envelope import Event
from procflow.record.reading.files import open_record
from procflow.record.sinks.port import Dropped
from procflow.record.store.database import open_database
from procflow.record.store.ingest import Ingest
from procflow.record.store.reports import IngestReport

GATHER_S: Final = 0.05
"""How long it waits after an event for more of them: one transaction for all."""

RETRY_S: Final = 1.0
"""How long it waits after a failure."""

BUSY_WAIT_S: Final = 5.0
"""How long it waits for another writer before that is a failure."""

CLOSE_WAIT_S: Final = 10.0
"""How long closing waits for the last rows."""

_log = logging.getLogger("procflow.record")


class DatabaseSink:
    """Keeps a database up to a record that is being written.  A sink; it comes after the one that writes the file.

    Args:
        database: The database; made if it is not there.
        record: The record, the file or the directory of the run, written by a sink before this one.
        gather_s: How long it waits after an event for more of them.
        close_wait_s: How long closing waits for the last rows.
    """

    def __init__(
        self,
        database: str | os.PathLike[str],
        record: str | os.PathLike[str],
        *,
        gather_s: float = GATHER_S,
        close_wait_s: float = CLOSE_WAIT_S,
    ) -> None:
        # Absolute, because the thread opens them when the program may have changed its directory.
        self._database: Final = os.path.abspath(database)
        self._record: Final = os.path.abspath(record)
        self._gather_s: Final = gather_s
        self._close_wait_s: Final = close_wait_s
        self._has_news: Final = threading.Event()
        self._is_closing: Final = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble = ""
        """Why the database is not complete; empty if it is, or will be."""
        self.report: IngestReport | None = None
        """What the last ingest has done; ``None`` until the sink is closed, and if it failed."""

    def __repr__(self) -> str:
        return f"<DatabaseSink {self._database!r}{', in trouble' if self.trouble else ''}>"

    @property
    def lost_count(self) -> int:
        """0: what the database lacks is in the file."""
        return 0

    @property
    def failure(self) -> str:
        """Nothing is ever lost here; see ``trouble``."""
        return ""

    def emit(self, line: bytes, event: Event) -> None:  # noqa: ARG002 (it is read from the file)
        """Note that the file has grown."""
        if self._thread is None and not self._is_closing.is_set():
            self._thread = threading.Thread(target=self._work, name="procflow record database", daemon=True)
            self._thread.start()
        if not self._has_news.is_set():
            self._has_news.set()

    def recover(self) -> Dropped | None:
        """Nothing is ever lost here."""
        return None

    async def aclose(self) -> None:
        """Wait until the database has all that the file has, at most ``close_wait_s``; idempotent.

        Close what writes the file first: only then is it known to be over.
        """
        self._is_closing.set()
        self._has_news.set()
        if self._thread is None:
            return
        with anyio.CancelScope(shield=True):  # bounded
            await anyio.to_thread.run_sync(self._thread.join, self._close_wait_s, limiter=anyio.CapacityLimiter(1))
        if self._thread.is_alive():
            self._tell(f"it is not complete after {self._close_wait_s:g} s")

    # --- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_closing.is_set()  # one try is made after that
            try:
                self.report = self._ingest()
            except Exception as exc:  # noqa: BLE001 (whatever it is, the run does not suffer from it)
                self._tell(str(exc))
                self._is_closing.wait(RETRY_S)
            else:
                self.trouble = ""
                return

    def _ingest(self) -> IngestReport:
        with (
            open_database(self._database, busy_wait_s=BUSY_WAIT_S) as connection,
            open_record(self._record) as file,
        ):
            ingest = Ingest(connection, file)
            while not self._is_closing.is_set():
                ingest.catch_up()
                self._has_news.wait()
                self._is_closing.wait(self._gather_s)
                self._has_news.clear()
            return ingest.run()

    def _tell(self, trouble: str) -> None:
        if not self.trouble:
            with contextlib.suppress(Exception):  # a handler of the host's logging may fail too
                _log.warning("the rows of %s wait: %s; the run goes on", self._record, trouble)
        self.trouble = trouble
