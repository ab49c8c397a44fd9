"""`./run bench`: all benchmarks, or those that are named, alone or as a suite; the tables go to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import page
from benchmarks.harness import Benchmark, Results, run, say, table
from benchmarks.sampling import profile
from benchmarks.targets import Verdict, verdict_table


@dataclass(frozen=True, slots=True)
class Suite:
    """Benchmarks that answer one question together."""

    title: str
    names: tuple[str, ...]


SUITES: Final = {
    "streams": Suite(
        "Targets of the streams",
        (
            "reader",
            "fanout",
            "stuck",
            "lines",
            "memory_lines",
            "flood",
            "latency",
            "chatty",
            "memory",
            "history",
            "stdin",
        ),
    ),
    "endings": Suite(
        "Targets of the endings",
        (
            "spawn",
            "containment",
            "burst",
            "resident",
            "exits",
            "idle",
            "stop",
            "escalation",
            "groups",
            "kill",
            "host_killed",
            "runs",
        ),
    ),
    "record": Suite(
        "Targets of the run record", ("emit", "redaction", "recorded", "aside", "ingest", "live_rows", "tail")
    ),
    "export": Suite(
        "Targets of the export", ("export_postgres", "export_mariadb", "export_sqlite", "export_loop", "export_workers")
    ),
}
NAMES: Final = tuple(name for suite in SUITES.values() for name in suite.names)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"a suite ({', '.join(SUITES)}) or a benchmark ({', '.join(NAMES)}); all by default",
    )
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many rounds, not what each benchmark asks for")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md alone; --quick implies it")
    parser.add_argument(
        "--profile",
        metavar="VARIANT",
        help="measure nothing: run this variant of the one named benchmark and show which lines take the time",
    )
    parser.add_argument(
        "--case", action="append", default=[], help="only this case; may be repeated, and nothing is written"
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="only variants whose names hold this; may be repeated, and nothing is written",
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES) - set(SUITES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if options.profile is not None:
        if len(options.names) != 1 or options.names[0] not in NAMES:
            parser.error("--profile needs the name of one benchmark")
        return profile(options.names[0], load(options.names[0]), options.profile, *options.case[:1])
    is_narrowed = bool(options.case or options.variant)
    is_written = not (options.quick or options.no_write or options.rounds or is_narrowed)
    names = chosen(options.names)
    verdicts: dict[str, list[Verdict]] = {}
    has_failed = False
    started = time.monotonic()
    for name in names:
        benchmark = load(name)
        if is_narrowed:
            benchmark = narrowed(benchmark, options.case, options.variant)
        results = run(name, benchmark, is_quick=options.quick, rounds=options.rounds)
        has_failed |= any(variant.startswith("procflow") for _, variant in results.failures)
        verdicts[name] = results.verdicts(benchmark.targets)
        show(name, benchmark, results, is_written=is_written)
    for name, suite in SUITES.items():
        measured = [verdict for member in suite.names for verdict in verdicts.get(member, [])]
        if measured and not options.quick:
            text = verdict_table(measured)
            print(f"\n{suite.title}\n\n{text}", flush=True)
            if is_written and set(suite.names) <= set(names):
                page.keep_targets(name, suite.title, text)
    say(f"done in {time.monotonic() - started:.0f} s")
    return 1 if has_failed else 0


def chosen(names: Sequence[str]) -> list[str]:
    """Return the benchmarks that are meant by the names of suites and benchmarks, each once, in the order of the suites."""
    wanted = {member for name in names or SUITES for member in (SUITES[name].names if name in SUITES else (name,))}
    return [name for name in NAMES if name in wanted]


def load(name: str) -> Benchmark:
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    return benchmark


def narrowed(benchmark: Benchmark, cases: Sequence[str], variants: Sequence[str]) -> Benchmark:
    """Return only these cases and the variants whose names hold one of these texts, all if none is given, and the targets about them."""
    kept = {
        variant: trial
        for variant, trial in benchmark.variants.items()
        if not variants or any(text in variant for text in variants)
    }
    chosen_cases = {case: params for case, params in benchmark.cases.items() if not cases or case in cases}
    smaller = replace(benchmark, cases=chosen_cases, variants=kept, targets=())
    return replace(smaller, targets=tuple(t for t in benchmark.targets if t.rows <= set(smaller.rows)))


def show(name: str, benchmark: Benchmark, results: Results, *, is_written: bool) -> None:
    text = table(benchmark, results)
    print(f"\n{benchmark.title}\n\n{text}", flush=True)
    if is_written:
        page.keep(name, benchmark, results, text)


if __name__ == "__main__":
    sys.exit(main())
