"""One server of a kind for all processes of an owner.

They share it through a directory whose name follows from the owner, so that they need no channel between them: who comes
first starts the server, by its watcher, under the directory's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tools.servers.kinds import Kind, binaries
from tools.servers.owner import Owner
from tools.servers.server import ServerStartError
from tools.servers.watcher import STOP_DEADLINE_S

_WATCH: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tools.servers.watcher import main; main()"


def ensure(kind: Kind, owner: Owner, options: Sequence[str] = ()) -> str:
    """Return the administrator's URL of the owner's server, which is started if no process of this run did so before.

    The server ends with the owner, or by ``stop(owner)``.  ``options`` are words that end its command line if it is started.

    Raises:
        ServerUnavailableError: If it is not installed.
        ServerStartError: If it does not start.
    """
    programs = binaries(kind)
    with _locked(owner):
        endpoint = owner.directory / f"{kind}.json"
        if not endpoint.exists():
            _launch(kind, owner, programs, options)
        url = json.loads(endpoint.read_text())["url"]
    return str(url)


def stop(owner: Owner) -> None:
    """End the owner's servers and return when they and their directories are gone; nothing happens if there are none."""
    if not owner.directory.exists():
        return
    watchers = [json.loads(path.read_text())["watcher"] for path in owner.directory.glob("*.json")]
    for text in watchers:
        watcher = Owner.parse(text)
        with contextlib.suppress(ProcessLookupError):
            pidfd = watcher.open_pidfd()
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                if not select.select([pidfd], [], [], 3 * STOP_DEADLINE_S)[0]:
                    raise TimeoutError(f"the watcher of {owner.directory} does not end")
            finally:
                os.close(pidfd)


@contextlib.contextmanager
def running(*kinds: Kind, options: Mapping[Kind, Sequence[str]] | None = None) -> Iterator[dict[Kind, str]]:
    """Give the URLs of servers that live as long as the block, and never longer than this process.

    ``options`` are further words of the servers' command lines.
    """
    owner = Owner.of(os.getpid())
    try:
        yield {kind: ensure(kind, owner, (options or {}).get(kind, ())) for kind in kinds}
    finally:
        stop(owner)


@contextlib.contextmanager
def _locked(owner: Owner) -> Iterator[None]:
    owner.directory.mkdir(mode=0o755, exist_ok=True)
    if owner.directory.stat().st_uid != os.geteuid():
        raise PermissionError(f"{owner.directory} belongs to someone else")
    lock = os.open(owner.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _launch(kind: Kind, owner: Owner, programs: Path, options: Sequence[str]) -> None:
    # -I -S: no site, so that neither coverage nor any .pth file takes part in the watcher.
    root = str(Path(__file__).parents[2])
    argv = [sys.executable, "-I", "-S", "-c", _WATCH, root, kind, str(owner), str(programs), *options]
    started = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, cwd="/")
    answer = started.stdout.decode(errors="replace").strip()
    if answer != "ready":
        raise ServerStartError(f"{kind} did not start: {answer or 'its watcher died'}")
