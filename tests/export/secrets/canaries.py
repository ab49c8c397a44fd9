"""Secrets that tests hide, and how they are found again in whatever form they leak."""

from __future__ import annotations

import base64
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# Letters and digits are the same in every quoting and percent-encoding, so this much of a secret is found in all of them.
PASSWORD_CORE = "c4n4ryP4ssw0rd7"
TOKEN_CORE = "t0k3nOfTh3C4n4ry"
CORES = (PASSWORD_CORE, TOKEN_CORE)
PASSWORD = f"{PASSWORD_CORE}/?#@:%&=+ '\"\\ä"
TOKEN = f"{TOKEN_CORE}'\"\\ %;--ß"


def forms(core: str) -> set[bytes]:
    """What gives a secret away that holds ``core``."""
    data = core.encode()
    found = {data, data.hex().encode(), data.hex().upper().encode(), data[::-1]}
    for before in range(3):
        # Of each of the three alignments, the characters that no neighbour can change.
        text = base64.b64encode(b"\0" * before + data)
        first = -(-before * 4 // 3) if before else 0
        whole = (before + len(data)) * 8 // 6
        found.add(text[first:whole])
    return found


def leaks(text: bytes | str, cores: tuple[str, ...] = CORES) -> list[str]:
    """The secrets that are in a text in any form."""
    data = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    return [core for core in cores if any(form in data for form in forms(core))]


def leaks_in(folder: Path, cores: tuple[str, ...] = CORES) -> dict[str, list[str]]:
    """The same of every file below a folder and of its name."""
    files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    found = {str(path): leaks(path.read_bytes(), cores) + leaks(str(path), cores) for path in files if path.is_file()}
    return {name: secrets for name, secrets in found.items() if secrets}


@dataclass(slots=True)
class Watched:
    """What ``/proc`` shows of a program's children while they run.

    Attributes:
        arguments: The argument lists that were seen, by process.
        environments: The environments that were seen, by process.
        killed: The worker that was killed, if one was to be.
    """

    arguments: dict[int, set[bytes]] = field(default_factory=dict)
    environments: dict[int, set[bytes]] = field(default_factory=dict)
    killed: int | None = None

    @property
    def workers(self) -> list[int]:
        return [pid for pid, seen in self.arguments.items() if any(is_worker(arguments) for arguments in seen)]


@contextmanager
def watching(pid: int, *, kills_in: str | int | None = None) -> Iterator[Watched]:
    """Look at the children of a process, as often as possible, until the block ends.

    With ``kills_in``, the first worker that has opened that file, or is connected to that port, is killed.
    """
    seen, over = Watched(), threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            for child in descendants(pid):
                with suppress(OSError, psutil.Error):
                    look_at(child)

    def look_at(child: int) -> None:
        arguments = proc(child, "cmdline")
        if arguments == proc(pid, "cmdline"):
            return  # between fork and exec, a child shows its parent's
        seen.arguments.setdefault(child, set()).add(arguments)
        seen.environments.setdefault(child, set()).add(proc(child, "environ"))
        if kills_in is not None and seen.killed is None and is_worker(arguments) and is_at_work(child, kills_in):
            os.kill(child, signal.SIGKILL)
            seen.killed = child

    thread = threading.Thread(target=look, name="watch")
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it may end at any moment
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def is_worker(arguments: bytes) -> bool:
    return b"\0procflow_export\0worker\0" in arguments


def is_at_work(pid: int, place: str | int) -> bool:
    process = psutil.Process(pid)
    if isinstance(place, str):
        return any(file.path == place for file in process.open_files())
    return any(one.raddr and one.raddr.port == place for one in process.net_connections("inet"))
