"""A program that runs trees, to be killed: ``python host.py LEVEL BACKEND``, the commands as JSON on its standard input.

It starts every command, waits until each tree has said ``ready`` and its containment is in force, prints one line (JSON: the level of
each, and the pids of the leaders), and waits for its end.  The word ``leave`` on standard input makes it leave its blocks, and
exit; the end of the input does not.
"""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from typing import cast

import anyio

import procflow as pf

PATIENCE_S = 60.0


async def run_trees(level: pf.ContainmentRequest, commands: list[list[str]]) -> None:
    """Run everything until somebody ends this process, or says ``leave``."""
    async with AsyncExitStack() as blocks:
        children: list[pf.Process] = []
        shutdown = pf.Shutdown.sigterm(0.5)
        for argv in commands:
            command = pf.Command(*argv, name="tree")
            children.append(await blocks.enter_async_context(pf.spawn(command, containment=level, shutdown=shutdown)))
        with anyio.fail_after(PATIENCE_S):
            for child in children:
                await child.stdout.wait_for_line("^ready$")
                while child.containment.level != level:  # noqa: ASYNC110 (nobody is told when a guard is there)
                    await anyio.sleep(0.002)
        levels = [child.containment.level for child in children]
        print(json.dumps({"levels": levels, "pids": [child.pid for child in children]}), flush=True)
        while True:
            line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            if line == "leave\n":
                return
            if not line:
                await anyio.sleep_forever()


def main() -> None:
    level, backend = cast(pf.ContainmentRequest, sys.argv[1]), sys.argv[2]
    commands = json.loads(sys.stdin.readline())
    options = {} if backend == "trio" else {"use_uvloop": backend == "uvloop"}
    anyio.run(
        run_trees,
        level,
        commands,
        backend="trio" if backend == "trio" else "asyncio",
        backend_options=options,
    )


if __name__ == "__main__":
    main()
