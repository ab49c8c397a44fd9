"""Run rounds of random work and check everything: bytes, sums, leaks, memory.

Each round has a seed of its own; one that fails prints the command that repeats its choices (not its timing).
``./run soak endings`` kills hosts instead, ``./run soak commit`` exports: see their ``--help``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import anyio

from procflow.testing import assert_no_leaks
from tools.soak.readers import Pattern, Tally
from tools.soak.rounds import soak_round

BACKENDS: Final[dict[str, dict[str, Any]]] = {
    "asyncio": {"backend": "asyncio", "backend_options": {"use_uvloop": False}},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}
WARM_UP_ROUNDS: Final = 9
"""Three of each back end: imports, caches, arenas and thread pools have come to what they need."""
RSS_MARGIN_BYTES: Final = 16 << 20
"""What resident memory may grow by after the warm-up.  Free memory is given back before each look, but the largest rounds leave a heap with holes:
a few MiB in ten minutes, while the number of blocks stays the same.  A leak of a buffer of 64 KiB a round passes this in four minutes."""
BLOCKS_MARGIN: Final = 10_000
"""How many more blocks of memory the interpreter may hold: 20 a round, in ten minutes.  A flat run varies by some hundred."""
HEAP_MARGIN_BYTES: Final = 1 << 20
"""How many more bytes of the C library's heap may be in use: what is in use, not what the heap has grown to.  A flat run varies by some 20 KiB."""
OBJECTS_MARGIN: Final = 50
"""Objects of the package that may outlive a round: values that a cache or an exception of the interpreter still holds."""
LINE_EVERY_S: Final = 5.0


@dataclass
class Soak:
    """Rounds in turn on every back end, and what is watched over all of them."""

    seed: str
    backends: tuple[str, ...]
    directory: Path
    tally: Tally = field(default_factory=Tally)
    rounds: int = 0
    rss_bytes: int = 0
    rss_base_bytes: int = 0
    rss_most_bytes: int = 0
    objects_base: int = 0
    blocks_base: int = 0
    heap_base_bytes: int = 0

    def __post_init__(self) -> None:
        self.pattern = Pattern()
        self.pattern_path = self.directory / "pattern"
        self.pattern_path.write_bytes(self.pattern.period)
        for backend in self.backends:  # libuv opens a pipe for its signals once, and keeps it
            anyio.run(anyio.sleep, 0, **BACKENDS[backend])

    def next_round(self) -> str:
        """Run one round; return the name of its back end.

        Raises:
            RoundError: Something was wrong.
        """
        backend = self.backends[self.rounds % len(self.backends)]
        seed = f"{self.seed}.{self.rounds}" if self.rounds or "." not in self.seed else self.seed
        try:
            with assert_no_leaks(settle_s=20.0):
                done = anyio.run(soak_round, seed, self.pattern, self.pattern_path, **BACKENDS[backend])
            self.rounds += 1
            self.tally.add(done)
            self._watch_memory()
        except BaseExceptionGroup as group:  # trio raises an interrupt where it happens to be, within its nurseries
            if group.split(KeyboardInterrupt)[1] is None:
                raise KeyboardInterrupt from None
            raise RoundError(seed, backend) from group
        except Exception as error:
            raise RoundError(seed, backend) from error
        return backend

    def _watch_memory(self) -> None:
        gc.collect()
        trim()
        rss, objects, blocks, heap = rss_bytes(), own_objects(), sys.getallocatedblocks(), heap_bytes()
        self.rss_bytes = rss
        if self.rounds <= WARM_UP_ROUNDS:
            self.rss_base_bytes = max(self.rss_base_bytes, rss)
            self.objects_base = max(self.objects_base, objects)
            self.blocks_base = max(self.blocks_base, blocks)
            self.heap_base_bytes = max(self.heap_base_bytes, heap)
        self.rss_most_bytes = max(self.rss_most_bytes, rss)
        if rss > self.rss_base_bytes + RSS_MARGIN_BYTES:
            raise AssertionError(f"resident memory grew from {self.rss_base_bytes >> 20} to {rss >> 20} MiB")
        if heap > self.heap_base_bytes + HEAP_MARGIN_BYTES:
            raise AssertionError(
                f"{heap >> 10} KiB of the heap are in use, {self.heap_base_bytes >> 10} after the warm-up"
            )
        if blocks > self.blocks_base + BLOCKS_MARGIN:
            raise AssertionError(f"{blocks} blocks of memory are held, {self.blocks_base} after the warm-up")
        if objects > self.objects_base + OBJECTS_MARGIN:
            raise AssertionError(f"{objects} objects of the package outlived the round, {self.objects_base} before it")

    def described(self) -> str:
        """One line about all rounds so far."""
        tally = self.tally
        return (
            f"{self.rounds} rounds, {tally.children} children, {tally.sources} sources, {tally.subscribers} subscribers, "
            f"{tally.delivered_bytes >> 20} MiB and {tally.lines} lines delivered, {tally.lost_bytes >> 20} MiB lost, "
            f"RSS {self.rss_bytes >> 20} MiB ({self.rss_base_bytes >> 20} after the warm-up, {self.rss_most_bytes >> 20} at most)"
        )


class RoundError(Exception):
    """A round found something wrong."""

    def __init__(self, seed: str, backend: str) -> None:
        self.seed = seed
        self.backend = backend
        super().__init__(f"round {seed} on {backend} failed")


def rss_bytes() -> int:
    """Resident memory of this process; 0 where nobody can tell."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def trim() -> None:
    """Give free memory back, so that what is measured is what is held."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return


class HeapNumbers(ctypes.Structure):
    """What `mallinfo2()` of glibc says; see its manual page."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def heap_bytes() -> int:
    """Bytes of the C library's heap that are in use; 0 where nobody can tell."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):  # not glibc, or too old
        return 0
    mallinfo2.restype = HeapNumbers
    numbers = mallinfo2()
    return int(numbers.uordblks + numbers.hblkhd)


def own_objects() -> int:
    """How many objects of streams and processes are alive."""
    prefixes = ("procflow._streams", "procflow._process", "procflow._containment")
    return sum(str(type(thing).__module__).startswith(prefixes) for thing in gc.get_objects())


def run_rounds(soak: Soak, *, seconds: float, rounds: int | None) -> None:
    """Run rounds until the time is over, and say every few seconds how it goes."""
    began = said = time.monotonic()
    while (elapsed_s := time.monotonic() - began) < seconds and (rounds is None or soak.rounds < rounds):
        backend = soak.next_round()
        if time.monotonic() - said >= LINE_EVERY_S:
            said = time.monotonic()
            print(f"{elapsed_s:6.0f} s  {backend:<7}  {soak.described()}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["endings"]:
        from tools.soak.endings import main as kill_hosts

        return kill_hosts(words[1:])
    if words[:1] == ["commit"]:
        from tools.soak.commit import main as kill_exports

        return kill_exports(words[1:])
    parser = argparse.ArgumentParser(prog="./run soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long (default: 10)")
    parser.add_argument("--seed", help="the seed of all rounds, or of the one to repeat (default: a new one)")
    parser.add_argument("--rounds", type=int, metavar="N", help="stop after so many rounds")
    parser.add_argument("--backend", choices=BACKENDS, help="only this one (default: all, in turn)")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else str(SystemRandom().randrange(10**6))
    backends = (options.backend,) if options.backend else tuple(BACKENDS)
    if not options.minutes > 0:
        parser.error("--minutes must be more than 0")

    with tempfile.TemporaryDirectory(prefix="procflow-soak-") as directory:
        soak = Soak(seed, backends, Path(directory))
        try:
            print(f"seed {seed}, {options.minutes:g} minutes, on {', '.join(backends)}; Ctrl-C stops", flush=True)
            run_rounds(soak, seconds=options.minutes * 60, rounds=options.rounds)
        except RoundError as error:
            traceback.print_exception(error.__cause__)
            print(f"{error}; {soak.described()}", file=sys.stderr)
            print(f"to repeat it: ./run soak --rounds 1 --seed {error.seed} --backend {error.backend}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"stopped: {soak.described()}; nothing was wrong until then", flush=True)
            return 130
        except BrokenPipeError:  # nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        print(f"good: {soak.described()}")
        print("endings: " + ", ".join(f"{name} {count}" for name, count in sorted(soak.tally.endings.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
