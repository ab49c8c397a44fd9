"""Watch a build, keep its log, and show why it failed: `./run example build-view`.

One process, three subscribers: a live view that may skip (best effort, so a slow terminal never slows the build), the whole log
as a file (reliable), and the newest lines for the moment of failure.  Without a command it compiles some modules of Python's
library, one of which has a mistake.  `./run example build-view -- make -j8` watches your own build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import anyio

import procflow as pf

FRAME_S = 0.1
TAIL_LINES = 15
MODULES = ("email", "html", "http", "importlib", "json", "logging", "unittest", "urllib", "xml")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run example build-view", description=__doc__)
    parser.add_argument("--log", type=Path, default=Path("build-view.log"), help="where the whole log goes")
    parser.add_argument("command", nargs="*", help="the build, after --")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="procflow-example-") as scratch:
        command = pf.Command(*options.command) if options.command else broken_build(Path(scratch))
        try:
            return anyio.run(build, command, options.log)
        except (pf.SpawnError, pf.ConsumerError) as exc:
            print(f"build-view: {exc}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("build-view: interrupted; nothing of the build is running any more", file=sys.stderr)
            return 130


async def build(command: pf.Command, log_path: Path) -> int:
    """Run ``command`` and return the exit code for the shell."""
    async with pf.spawn(command, merge_stderr=True) as child:
        log = child.stdout.pipe_to(log_path)
        tail = child.stdout.consume(pf.CollectLines.tail(TAIL_LINES))
        async with child.stdout.lines(pf.BestEffort()) as lines, View(sys.stderr.fileno(), child.name) as view:
            async for line in lines:
                await view.show(line)
        outcome = await child.wait()
        written, failure_tail = (await log.wait()).value, (await tail.wait()).value
    if not outcome.ok:
        print(f"--- the last {len(failure_tail.lines)} lines ---", *failure_tail.lines, sep="\n")
    print(f"{outcome}; the whole log, {written.bytes_written:,} bytes, is in {log_path}")
    return outcome.exit_code if outcome.exit_code is not None else 1


class View:
    """One line on a terminal that says how far the build is; on anything else, a line now and then."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._is_terminal = os.isatty(fd)
        self._line_count = self._lost_bytes = 0
        self._line = ""
        self._started = time.monotonic()
        self._next_frame = self._started

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._draw(end="\n")

    async def show(self, item: str | pf.Gap) -> None:
        """Take the next line into account; draw at most ten frames a second."""
        if isinstance(item, pf.Gap):
            self._lost_bytes += item.lost_bytes
            return
        self._line_count += 1
        self._line = item.strip() or self._line
        now = time.monotonic()
        if now >= self._next_frame:
            self._next_frame = now + (FRAME_S if self._is_terminal else 10.0)
            await self._draw(end="" if self._is_terminal else "\n")

    async def _draw(self, end: str) -> None:
        skipped = f", {self._lost_bytes:,} bytes not shown" if self._lost_bytes else ""
        head = f"{self._name} {time.monotonic() - self._started:6.1f} s {self._line_count:6,} lines{skipped}  "
        text = head + "".join(char if char.isprintable() else " " for char in self._line)
        if self._is_terminal:
            text = "\r\x1b[K" + text[: os.get_terminal_size(self._fd).columns - 1]
        # In a thread: a terminal that is stopped (Ctrl-S) must not stop the log.
        await anyio.to_thread.run_sync(os.write, self._fd, (text + end).encode(), abandon_on_cancel=True)


def broken_build(directory: Path) -> pf.Command:
    """Compile modules of Python's library, and one that cannot be compiled."""
    library = Path(os.__file__).parent
    for name in MODULES:
        shutil.copytree(library / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "xml" / "zz_broken.py").write_text("def unfinished(:\n    pass\n")
    return pf.Command(sys.executable, "-m", "compileall", "-f", ".", cwd=directory, name="compileall")
