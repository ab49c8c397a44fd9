"""Kill hosts at random moments, with hostile trees under them, and count who is left: nobody may be.

Each kill has a host of its own, guarded or strict in turn, on each back end in turn.  The moment is random: from the first start to
long after the last tree is up.  Who is left is looked for from outside one second later, by the cookie in the arguments of every
process of the trees, and each is told by pid and moment of its start.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

from procflow.testing import Hostile, HostileTree, Survivor, hostile_tree
from procflow.testing.hostile import LeaderManner

HOST: Final = Path(__file__).with_name("host.py")
LEVELS: Final = ("guarded", "strict")
BACKENDS: Final = ("asyncio", "uvloop", "trio")
WAIT_S: Final = 1.0
"""What is promised: a second after its host nobody is alive."""

MOST_SHOWN: Final = 20

CHAIN_PAUSE_S: Final = 0.2
"""How long a link lives: with 20 trees some hundred chains at 20 links a second would take every processor by themselves."""

MEMBERS: Final[dict[str, tuple[Hostile, ...]]] = {
    # An emptied environment is out of a guard's reach: a cell of the table "what escapes at which level".
    "guarded": tuple(member for member in Hostile if member is not Hostile.BARE_DAEMON),
    "strict": tuple(Hostile),
}


class Kill:
    """One host, one moment."""

    def __init__(self, number: int, seed: str, *, trees: int, backends: Sequence[str], wait_s: float) -> None:
        self.rng = Random(f"{seed}.{number}")
        self.level = LEVELS[number % len(LEVELS)]
        self.backend = backends[number // len(LEVELS) % len(backends)]
        self.count = trees
        self.waits_ready = self.rng.random() < 0.5
        self.delay_s = self.rng.random() * (0.3 if self.waits_ready else 4.0)
        self.wait_s = wait_s
        self.was_up = False

    def __str__(self) -> str:
        moment = f"{self.delay_s:.3f} s after {'the last tree was up' if self.waits_ready else 'its start'}"
        return f"{self.level} on {self.backend}, killed {moment}"

    def run(self) -> list[Survivor]:
        """Start, kill, wait a second; return who is alive."""
        with ExitStack() as blocks:
            trees = [blocks.enter_context(self._tree()) for _ in range(self.count)]
            host = subprocess.Popen(
                [sys.executable, str(HOST), self.level, self.backend],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            with host:
                assert host.stdin is not None
                assert host.stdout is not None
                host.stdin.write(json.dumps([tree.argv for tree in trees]) + "\n")
                host.stdin.flush()
                if self.waits_ready:
                    self.was_up = bool(host.stdout.readline())
                time.sleep(self.delay_s)
                host.send_signal(signal.SIGKILL)
            killed_mono_s = time.monotonic()
            if host.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the host ended by itself with {host.returncode}")
            time.sleep(max(0.0, killed_mono_s + WAIT_S - time.monotonic()))
            while left := [survivor for tree in trees for survivor in tree.survivors()]:
                if time.monotonic() >= killed_mono_s + self.wait_s:
                    break
            return left

    def _tree(self) -> AbstractContextManager[HostileTree]:
        members = list(MEMBERS[self.level])
        self.rng.shuffle(members)
        # One tree in five has everybody: 32 chains of forks in each would leave no processor to anybody else.
        some = members if self.rng.random() < 0.2 else members[: self.rng.randint(2, 5)]
        manner: LeaderManner = self.rng.choice(("waits", "waits", "exits", "closes"))
        return hostile_tree(*some, leader=manner, chain_width=self.rng.choice((2, 8, 32)), chain_pause_s=CHAIN_PAUSE_S)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run soak endings", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, metavar="N", help="how many hosts (default: 300)")
    parser.add_argument("--trees", type=int, default=20, metavar="N", help="how many trees each has (default: 20)")
    parser.add_argument("--seed", help="the seed of all kills (default: a new one)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first one, to repeat it")
    parser.add_argument("--backend", choices=BACKENDS, help="only this one (default: all, in turn)")
    parser.add_argument(
        "--wait-s", type=float, default=WAIT_S, metavar="N", help="how long somebody may be left (default: 1)"
    )
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else str(SystemRandom().randrange(10**6))
    backends = (options.backend,) if options.backend else BACKENDS
    print(f"seed {seed}, {options.kills} kills of hosts with {options.trees} trees; Ctrl-C stops", flush=True)
    begun = time.monotonic()
    ups = dict.fromkeys(LEVELS, 0)
    kills = dict.fromkeys(LEVELS, 0)
    number = options.first
    try:
        for number in range(options.first, options.first + options.kills):
            kill = Kill(number, seed, trees=options.trees, backends=backends, wait_s=options.wait_s)
            left = kill.run()
            kills[kill.level] += 1
            ups[kill.level] += kill.was_up
            if left:
                shown = ", ".join(map(str, left[:MOST_SHOWN])) + (", ..." if len(left) > MOST_SHOWN else "")
                print(f"kill {number} ({kill}) left {len(left)}: {shown}", file=sys.stderr)
                print(f"to repeat it: ./run soak endings --kills 1 --first {number} --seed {seed}", file=sys.stderr)
                return 1
            if (number + 1) % 10 == 0:
                print(f"{time.monotonic() - begun:6.0f} s  {number + 1} kills, nobody left", flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {number - options.first} kills; nobody was left until then", flush=True)
        return 130
    told = ", ".join(f"{kills[level]} {level} ({ups[level]} with every tree up)" for level in LEVELS)
    print(f"good: {told}: 0 survivors, {options.wait_s:g} s after the host")
    return 0


if __name__ == "__main__":
    sys.exit(main())
