"""Follow many programs in one terminal, as `journalctl -f` does: `./run example follow`.

Every line of standard output and standard error of every child appears once, whole, behind a time and a name.  Reading is reliable:
when the terminal is slow the children wait, and memory stays where it is.  Without commands it follows 50 chatty little services until
they end; `./run example follow -- 'ping localhost' 'tail -F /var/log/syslog'` follows your own, until Ctrl-C, which leaves none of them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

import procflow as pf

COLOURS = tuple(f"\x1b[{number}m" for number in (36, 33, 32, 35, 34, 96, 93, 92, 95, 94))
RED, RESET = "\x1b[31m", "\x1b[0m"
LINES_WAITING = 1000
"""When the terminal is this far behind, the children wait."""

SERVICE = """
i=0
while [ $i -lt {lines} ]; do
    i=$((i + 1))
    echo "request $i served in $((i * 7919 % 97)) ms"
    [ $((i % 10)) -eq 0 ] && echo "request $i was slow" >&2
    [ $((i % 25)) -eq {phase} ] && sleep 0.05
done
exit {status}
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run example follow", description=__doc__)
    parser.add_argument("--children", type=int, default=50, metavar="N", help="how many services to invent (50)")
    parser.add_argument("--lines", type=int, default=200, metavar="N", help="how much each of them says (200)")
    parser.add_argument("--grep", metavar="PATTERN", help="show only lines that match")
    parser.add_argument("command", nargs="*", help="commands for a shell, after --")
    options = parser.parse_args(argv)
    commands = [pf.shell(text, name=text.split()[0]) for text in options.command]
    if not commands:
        commands = [service(number, options.lines) for number in range(options.children)]
    code = 141
    try:
        code = anyio.run(follow, commands, re.compile(options.grep or ""))
    except* BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
    except* KeyboardInterrupt:
        say("interrupted; none of the children is running any more")
        code = 130
    return code


async def follow(commands: Sequence[pf.Command], pattern: re.Pattern[str]) -> int:
    """Run all ``commands`` at once, print what they say, and return 0 if every one of them ended well."""
    width = max(len(command.name) for command in commands)
    colours = itertools.cycle(COLOURS if sys.stdout.isatty() else [""])
    line_counts: Counter[str] = Counter()
    failures: list[pf.Outcome] = []
    started = time.monotonic()
    ours, theirs = anyio.create_memory_object_stream[str](LINES_WAITING)

    async def follow_one(command: pf.Command, colour: str) -> None:
        head = f"{colour}{command.name:<{width}}{RESET if colour else ''} "
        async with pf.spawn(command) as child:
            async for tagged in child.output.lines():
                line_counts[command.name] += 1
                if pattern.search(tagged.item):
                    is_red = colour and tagged.source == "stderr"
                    text = f"{RED}{tagged.item}{RESET}" if is_red else tagged.item
                    await ours.send(f"{time.strftime('%H:%M:%S')} {head}{text}\n")
            outcome = await child.wait()
        if not outcome.ok:
            failures.append(outcome)

    async with theirs, anyio.create_task_group() as printer:
        printer.start_soon(print_all, theirs)
        async with ours, anyio.create_task_group() as followers:
            for command in commands:
                followers.start_soon(follow_one, command, next(colours))

    for outcome in failures:
        say(str(outcome))
    say(
        f"{line_counts.total():,} lines of {len(commands)} children in {time.monotonic() - started:.1f} s; "
        f"{len(commands) - len(failures)} ended well, {len(failures)} failed"
    )
    return 1 if failures else 0


async def print_all(lines: MemoryObjectReceiveStream[str]) -> None:
    """Print what there is, all of it at once, in a thread: a terminal that is slow, or stopped, stops nobody's clock."""
    async for line in lines:
        text = [line]
        with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
            while len(text) < LINES_WAITING:
                text.append(lines.receive_nowait())
        await anyio.to_thread.run_sync(print_now, "".join(text), abandon_on_cancel=True)


def print_now(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def say(text: str) -> None:
    print(f"follow: {text}", file=sys.stderr, flush=True)


def service(number: int, lines: int) -> pf.Command:
    """A program that talks for a while; every tenth fails in the end."""
    script = SERVICE.format(lines=lines, phase=number % 25, status=3 if number % 10 == 9 else 0)
    return pf.shell(script, name=f"service-{number:02}")
