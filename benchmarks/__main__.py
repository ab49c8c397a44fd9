"""`./run bench`: all benchmarks, or those that are named; the tables go to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import ROOT, Benchmark, Results, run, table

NAMES: Final = ("reader", "fanout", "lines", "spawn", "resident", "kill", "export")
PAGE: Final = ROOT / "docs" / "benchmarks.md"
RAW: Final = ROOT / ".cache" / "benchmarks"
PACKAGES: Final = ("anyio", "trio", "uvloop", "asyncpg", "aiomysql", "pyarrow", "numpy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md alone; --quick implies it")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    is_written = not (options.quick or options.no_write)
    has_failed = False
    started = time.monotonic()
    for name in options.names or NAMES:
        benchmark: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
        results = run(name, benchmark, is_quick=options.quick, say=say)
        has_failed |= any(variant.startswith("procflow") for _, variant in results.failures)
        text = table(benchmark, results)
        print(f"\n{benchmark.title}\n\n{text}", flush=True)
        if is_written:
            keep(name, benchmark, results, text)
    say(f"done in {time.monotonic() - started:.0f} s")
    return 1 if has_failed else 0


def keep(name: str, benchmark: Benchmark, results: Results, text: str) -> None:
    """Replace the section of this benchmark in the page, and keep the numbers of every trial."""
    RAW.mkdir(parents=True, exist_ok=True)
    raw = {" / ".join(row): numbers for row, numbers in results.numbers.items()}
    (RAW / f"{name}.json").write_text(json.dumps({"machine": machine(), "trials": raw}, indent=1) + "\n")
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n\n{benchmark.about.strip()}\n\n{text}\n{conditions(benchmark)}\n\n{end}"
    page = PAGE.read_text()
    if begin not in page:
        page += f"\n## {benchmark.title}\n\n{begin}\n{end}\n"
    PAGE.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: section, page, flags=re.DOTALL))


def conditions(benchmark: Benchmark) -> str:
    found = machine()
    versions = ", ".join(f"{package} {version}" for package, version in found["packages"].items())
    return (
        f"*{found['date']}, {benchmark.rounds} rounds; {found['cpu']}, {found['cores']} cores, Linux {found['kernel']}, "
        f"Python {found['python']}, {versions}; load before the last round {found['load']}.*"
    )


def machine() -> dict[str, Any]:
    cpu_info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": packages,
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
