"""The thread that writes unfinished lines of logs once they have waited.

Owns the waiting.  Must not know what a log is: it is told when something is due, and asks again.

Why a thread: the children of a run may belong to several event loops, none of which need live as long as the run, and a log
that waits for a slow disk must not hold up a loop for a line that nobody has finished.
"""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

JOIN_S: Final = 1.0
"""How long closing waits for the thread, which a disk may hold up."""


class Flushable(Protocol):
    """Something that may have an unfinished line."""

    def flush_idle(self, mono_ns: int) -> int | None:
        """Write what has waited long enough; return when to ask again, ``None`` if nothing waits."""
        ...


class IdleFlusher:
    """Asks whatever waits, on the monotonic clock; the thread is started by the first one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Flushable, int] = {}
        self._thread: threading.Thread | None = None
        self._is_over = False

    def watch(self, what: Flushable, due_ns: int) -> None:
        """Ask ``what`` at ``due_ns``, unless it is to be asked before that."""
        with self._changed:
            if what in self._due or self._is_over:
                return
            self._due[what] = due_ns
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="procflow log flusher", daemon=True)
                self._thread.start()
            else:
                self._changed.notify()

    def close(self) -> None:
        """End the thread; what still waits is its owner's to write."""
        with self._changed:
            self._is_over = True
            self._due.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_over and (wait_s := self._wait_s()) != 0:
                    self._changed.wait(wait_s)
                if self._is_over:
                    return
                now = time.monotonic_ns()
                ready = [what for what, due_ns in self._due.items() if due_ns <= now]
                for what in ready:
                    del self._due[what]
            # Unlocked: whoever has more to write must not wait for the disk of another one.
            for what in ready:
                again_ns = what.flush_idle(now)
                if again_ns is not None:
                    self.watch(what, again_ns)

    def _wait_s(self) -> float | None:
        """Return how long nothing is due; ``None``: for ever."""
        if not self._due:
            return None
        return max(min(self._due.values()) - time.monotonic_ns(), 0) / 1e9
