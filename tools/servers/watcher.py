"""The watcher: a process that holds one server for its owner, and of which nothing is left.

A small process in a session of its own, nobody's child, that holds a pidfd of the owner and is the subreaper of the server's
processes.  When the owner is gone, or on SIGTERM, it kills every process under it and removes the data directory.  The
kernel kills the server when the watcher itself dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.servers.kinds import KINDS, RECIPES, Kind
from tools.servers.owner import Owner
from tools.servers.server import Server, ServerStartError
from tools.servers.system import PR_SET_CHILD_SUBREAPER, libc_prctl, own_children

STOP_DEADLINE_S: Final = 10.0


class Watcher:
    """One server, from an empty directory until nothing is left of it."""

    def __init__(self, kind: Kind, owner: Owner, programs: Path, options: Sequence[str]) -> None:
        self._death_signal = RECIPES[kind].death_signal
        self._owner = owner
        self._directory = owner.directory / kind
        self._endpoint = owner.directory / f"{kind}.json"
        self._server = Server(kind, self._directory, programs, options)

    def run(self, answer: int) -> None:
        """Start the server, write ``ready`` or the reason why not to ``answer``, and wait for the end of the owner."""
        stop_read, stop_write = os.pipe()
        os.set_blocking(stop_write, False)
        signal.set_wakeup_fd(stop_write)
        signal.signal(signal.SIGTERM, lambda *_: None)
        libc_prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            owner_gone = self._owner.open_pidfd()
            try:
                self._server.start()
                self._publish()
            except (ServerStartError, OSError) as exc:
                os.write(answer, str(exc).encode())
                return
            os.write(answer, b"ready")
            os.close(answer)
            select.select([owner_gone, stop_read], [], [])
        except ProcessLookupError:
            pass  # the owner ended first
        finally:
            self._remove()

    def _publish(self) -> None:
        content = {"url": self._server.url, "watcher": str(Owner.of(os.getpid()))}
        draft = self._endpoint.with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.rename(self._endpoint)

    def _remove(self) -> None:
        """Kill everything under this subreaper, then remove the directory and, if it was the last, the owner's."""
        deadline = time.monotonic() + STOP_DEADLINE_S
        sent: set[int] = set()
        while children := own_children():
            for pid in children:
                is_late = time.monotonic() > deadline
                if pid not in sent or is_late:
                    sent.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if is_late else self._death_signal)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.005)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._endpoint.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._owner.directory.rmdir()


def main() -> None:
    """Become the watcher: nobody's child, in a session of its own; standard output is the answer to the launcher."""
    kind = next(known for known in KINDS if known == sys.argv[1])
    if os.fork():
        os._exit(0)
    os.setsid()
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    Watcher(kind, Owner.parse(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]).run(answer)
