"""Kill exports at named points and at random moments, run them again, and compare what is published with the source.

Each kill has a table of its own that is written all the time, and an export of it.  Who is killed takes turns; when, in which mode,
from which database and by which engine is drawn from the seed.  After the kill, and after every run that follows it, an
independent reader (DuckDB, over the parts that the manifest names) must find one state of the table, each row once; in the end no
process, connection, temporary file or unnamed part may be left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom
from typing import Final

from tools.servers import ServerUnavailableError
from tools.soak.crashes.databases import Servers
from tools.soak.crashes.places import Stores
from tools.soak.crashes.plans import LOCAL, SOURCES, STORE_OF, STORES, Victim, draw
from tools.soak.crashes.trials import Finding, carry_out

LINE_EVERY: Final = 10


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run soak commit", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how many (default: 200)")
    parser.add_argument("--seed", help="the seed of all kills (default: a new one)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first one, to repeat it")
    parser.add_argument("--source", choices=SOURCES, action="append", help="only from this one; may be repeated")
    parser.add_argument(
        "--destination",
        choices=[LOCAL, *STORES],
        action="append",
        help="only to this store, or a directory; may be repeated",
    )
    parser.add_argument("--victim", choices=list(Victim), action="append", help="only kill this one; may be repeated")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first kill that left something")
    parser.add_argument("--verbose", action="store_true", help="a line for every kill")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where everything happens (default: a new one)")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else str(SystemRandom().randrange(10**6))
    sources = tuple(options.source or SOURCES)
    destinations = tuple(STORE_OF[name] for name in options.destination or STORES if name != LOCAL)
    victims = tuple(Victim(name) for name in options.victim or Victim)
    print(f"seed {seed}, {options.kills} kills; Ctrl-C stops", flush=True)
    begun = time.monotonic()
    findings: list[Finding] = []
    root = options.directory or Path(tempfile.mkdtemp(prefix="procflow-commit-"))
    try:
        with Servers() as servers, Stores() as stores:
            for number in range(options.first, options.first + options.kills):
                plan = draw(seed, number, sources=sources, victims=victims, stores=destinations)
                finding = carry_out(plan, root, servers, stores)
                findings.append(finding)
                if options.verbose or not finding.is_good:
                    missed = "" if finding.was_hit else " (missed)"
                    print(f"{time.monotonic() - begun:6.0f} s  kill {number}: {plan}{missed}")
                if not finding.is_good:
                    _tell(finding, root)
                    if not options.keep_going:
                        break
                if len(findings) % LINE_EVERY == 0:
                    print(f"{time.monotonic() - begun:6.0f} s  {summary(findings)}", flush=True)
    except KeyboardInterrupt:
        print("\n".join(table(findings)))
        print(f"stopped: {summary(findings)}", flush=True)
        return 130
    except ServerUnavailableError as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        if options.directory is None and not any(root.iterdir()):
            root.rmdir()
    print("\n".join(table(findings)))
    is_good = all(finding.is_good for finding in findings)
    print(f"{'good' if is_good else 'bad'}: {summary(findings)}")
    return 0 if is_good else 1


def summary(findings: list[Finding]) -> str:
    """Return one line about all kills so far."""
    hit = sum(finding.was_hit for finding in findings)
    wrong = sum(bool(finding.wrong) for finding in findings)
    left = sum(bool(finding.left) for finding in findings)
    return f"{len(findings)} kills ({hit} in time): {wrong} wrong sets, {left} with leftovers"


def table(findings: list[Finding]) -> list[str]:
    """Return the lines of a Markdown table: how many kills of whom, in which mode, by which engine, to where."""
    kills: Counter[tuple[str, ...]] = Counter()
    hits: Counter[tuple[str, ...]] = Counter()
    wrong: Counter[tuple[str, ...]] = Counter()
    left: Counter[tuple[str, ...]] = Counter()
    for finding in findings:
        plan = finding.plan
        cell: tuple[str, ...] = (plan.victim.value, plan.mode, plan.engine, plan.destination)
        kills[cell] += 1
        hits[cell] += finding.was_hit
        wrong[cell] += bool(finding.wrong)
        left[cell] += bool(finding.left)
    lines = ["| killed | mode | engine | destination | kills | in time | wrong sets | leftovers |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for cell in sorted(kills):
        numbers = (kills[cell], hits[cell], wrong[cell], left[cell])
        lines.append(f"| {' | '.join(map(str, (*cell, *numbers)))} |")
    return lines


def _tell(finding: Finding, root: Path) -> None:
    for sentence in finding.wrong:
        print(f"    wrong: {sentence}")
    for sentence in finding.left:
        print(f"    left: {sentence}")
    plan = finding.plan
    print(f"    everything is in {root / f'plan-{plan.number}'}; to repeat it:", flush=True)
    print(f"    ./run soak commit --kills 1 --first {plan.number} --seed {plan.seed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
