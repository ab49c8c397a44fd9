"""Programs that start children and are then killed: `python -m benchmarks.hosts call VARIANT TOKEN`, or `trees LEVEL DIRECTORY CASE`.

A tree is a leader, two children in its group and one in a session of its own, each of which appends its number to a file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.calls import CALLS
from benchmarks.harness import run_async
from benchmarks.loops import run_on
from benchmarks.trial import import_for

TREES: Final = 20
TREE_SIZE: Final = 4
TOKEN: Final = "PROCFLOW_BENCH_TOKEN"
SHELL: Final = "sleep 60 & sleep 60; echo never"
"""A shell and two programs that hold its output."""

PROCESSES: Final = 3

_SLEEPER: Final = 'echo $$ >>"$0"; exec sleep 60'
_TREE: Final = f"""
for one in 1 2; do sh -c '{_SLEEPER}' "$0" & done
$1 setsid sh -c '{_SLEEPER}' "$0" &
echo $$ >>"$0"
wait
"""

CLEAN: Final = "own session"
EMPTIED: Final = "own session, environment emptied"
UNREGISTERED: Final = "host dies between spawn and registration"


def tree(directory: Path, number: int, case: str) -> list[str]:
    """Return the command of one tree."""
    return ["/bin/sh", "-c", _TREE, str(directory / str(number)), "env -i" if case == EMPTIED else ""]


def tree_pids(directory: Path) -> list[int]:
    """Return the numbers of every process that has reported itself."""
    return [int(pid) for file in directory.iterdir() for pid in file.read_text().split()]


def environ_with(token: str) -> dict[str, str]:
    # The environment of this process must not hold it: only the children count.
    return {**os.environ, TOKEN: token}


def call(variant: str, token: str) -> None:
    """Run the shell as a peer does, and wait for it."""
    chosen = CALLS[variant]
    import_for(variant)
    argv = ["/bin/sh", "-c", SHELL]
    if chosen.backend is None:
        chosen.run(argv, environ_with(token))
    else:
        run_on(chosen.backend, chosen.watcher, chosen.run, argv, environ_with(token))


def bare_trees(prefix: Sequence[str], directory: Path, case: str) -> None:
    """Start every tree with ``Popen``, behind ``prefix``."""
    import subprocess

    popens = [
        subprocess.Popen([*prefix, *tree(directory, number, case)], start_new_session=True) for number in range(TREES)
    ]
    popens[0].wait()


def our_trees(level: str, directory: Path, case: str) -> None:
    """Start every tree with procflow at ``level``."""
    import procflow as pf
    from benchmarks.levels import at_level

    async def main() -> None:
        async with AsyncExitStack() as children:
            # The helpers are there before anything counts: that they are started beside the first spawn is another question.
            spawn: Any = await children.enter_async_context(at_level(level))
            registered = TREES - 1 if case == UNREGISTERED else TREES
            for number in range(registered):
                command = pf.Command(*tree(directory, number, case))
                await children.enter_async_context(spawn(command))
            if case == UNREGISTERED:
                kill_between_spawn_and_registration(directory)
                await children.enter_async_context(spawn(pf.Command(*tree(directory, registered, case))))
            await asyncio.sleep(60)

    run_async("asyncio", main)


def kill_between_spawn_and_registration(directory: Path) -> None:
    """Make this host stand still in its next spawn, after the fork and before anybody is told: there it will be killed.

    The first thing a host does with a child that it has just forked is to open a pidfd.  Known hole: at a level at which somebody
    else forks, and opens it too, nothing happens, because there is no such moment.
    """
    real = os.pidfd_open

    def stand_still(pid: int, flags: int = 0) -> int:
        # Helpers are watched through pidfds too: only a tree counts.
        if bytes(directory) in Path(f"/proc/{pid}/cmdline").read_bytes():
            sys.stdin.read()
        return real(pid, flags)

    os.pidfd_open = stand_still


def main() -> None:
    match sys.argv[1:]:
        case ["call", variant, token]:
            call(variant, token)
        case ["trees", "nothing", directory, case]:
            bare_trees((), Path(directory), case)
        case ["trees", "pdeathsig", directory, case]:
            bare_trees(("setpriv", "--pdeathsig", "KILL"), Path(directory), case)
        case ["trees", level, directory, case]:
            our_trees(level, Path(directory), case)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
