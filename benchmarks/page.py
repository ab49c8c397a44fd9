"""Where results go: a section of docs/benchmarks.md for each table, and a file with the numbers of every trial."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import ROOT, Benchmark, Results

PAGE: Final = ROOT / "docs" / "benchmarks.md"
RAW: Final = ROOT / ".local" / "benchmarks"
PACKAGES: Final = ("anyio", "trio", "uvloop", "shellous", "sh", "plumbum", "asyncpg", "aiomysql", "pyarrow", "numpy")


def keep(name: str, benchmark: Benchmark, results: Results, text: str) -> None:
    """Replace the section of this benchmark in the page, and keep the numbers of every trial."""
    RAW.mkdir(parents=True, exist_ok=True)
    raw = {" / ".join(row): numbers for row, numbers in results.numbers.items()}
    (RAW / f"{name}.json").write_text(json.dumps({"machine": machine(), "trials": raw}, indent=1) + "\n")
    section = f"{benchmark.about.strip()}\n\n{text}\n{conditions(f'{benchmark.rounds} rounds')}"
    write_section(name, benchmark.title, section)


def keep_targets(suite: str, title: str, text: str) -> None:
    """Replace the section with the targets of a suite."""
    about = f"Every target of this group in one table; `./run bench {suite}` measures them all in one run."
    write_section(f"{suite} targets", title, f"{about}\n\n{text}\n{conditions('one run')}")


def write_section(name: str, title: str, body: str) -> None:
    """Write ``body`` between the marks of ``name``; a section that is new comes last."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = PAGE.read_text()
    if begin not in page:
        page += f"\n## {title}\n\n{begin}\n{end}\n"
    section = f"{begin}\n\n{body}\n\n{end}"
    PAGE.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: section, page, flags=re.DOTALL))


def conditions(how_often: str) -> str:
    """Return one line on when, where and with what was measured."""
    found = machine()
    versions = ", ".join(f"{package} {version}" for package, version in found["packages"].items())
    return (
        f"*{found['date']}, {how_often}; {found['cpu']}, {found['cores']} cores, Linux {found['kernel']}, "
        f"Python {found['python']}, {versions}; load at the end {found['load']}.*"
    )


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
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
