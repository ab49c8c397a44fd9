"""Run every check that is not a test, two at a time, and say which failed and how long each took.

All of them run even if one fails.  The output of a check appears whole, when it ends; that of a good one is not shown.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTHON = sys.executable
CHECK_TIMEOUT_S = 600.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    command: tuple[str, ...]
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    check: Check
    status: int
    output: str
    elapsed_s: float


def tool(name: str) -> str:
    return str(BIN / name)


# The slow ones first, so that the quick ones fill the second place beside them.
CHECKS: tuple[Check, ...] = (
    Check(name="mypy", command=(tool("mypy"),)),
    Check(name="pyright", command=(tool("pyright"), "--warnings")),
    Check(name="docs", command=(tool("zensical"), "build", "--strict", "--clean", "-f", "mkdocs.yml")),
    Check(name="format", command=(tool("ruff"), "format", "--check", "."), hint="./run fmt"),
    Check(name="lint", command=(tool("ruff"), "check", "--no-fix", "."), hint="./run fmt repairs some"),
    Check(name="layers", command=(tool("lint-imports"), "--no-cache")),
    Check(name="dependencies", command=(tool("deptry"), "src")),
    Check(name="lock", command=(PYTHON, "tools/lock.py", "--check"), hint="./run lock"),
    Check(name="promises", command=(PYTHON, "tools/promises.py", "--check"), hint="python tools/promises.py"),
    Check(
        name="conformance",
        command=(PYTHON, "-m", "tools.conformance", "--check"),
        hint="python -m tools.conformance",
    ),
    Check(name="types", command=(PYTHON, "-m", "tools.type_tables", "--check"), hint="python -m tools.type_tables"),
    Check(
        name="changelog", command=(tool("towncrier"), "build", "--draft", "--version", "next", "--date", "unreleased")
    ),
    Check(name="shell", command=("sh", "-n", "run", ".ci/run")),
)


def run_check(check: Check) -> Result:
    began = time.monotonic()
    # Colours and progress lines belong to a terminal; the output is shown later, as text.
    environ = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            check.command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Result(check=check, status=1, output=f"{exc}\n", elapsed_s=time.monotonic() - began)
    return Result(
        check=check, status=done.returncode, output=ESCAPES.sub("", done.stdout), elapsed_s=time.monotonic() - began
    )


def show(result: Result) -> None:
    verdict = "ok" if result.status == 0 else "FAILED"
    print(f"{verdict:>6}  {result.check.name:<13} {result.elapsed_s:5.1f} s", flush=True)
    if result.status != 0:
        print("\n".join(f"        {line}" for line in result.output.rstrip().splitlines()), flush=True)


def main() -> int:
    names = [check.name for check in CHECKS]
    parser = argparse.ArgumentParser(prog="./run check", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"run only these: {', '.join(names)}")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in names]:
        parser.error(f"there is no check {unknown[0]!r}; there are {', '.join(names)}")
    checks = [check for check in CHECKS if not arguments.names or check.name in arguments.names]

    began = time.monotonic()
    failed: list[Check] = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for future in as_completed([pool.submit(run_check, check) for check in checks]):
            result = future.result()
            show(result)
            if result.status != 0:
                failed.append(result.check)

    elapsed_s = time.monotonic() - began
    if not failed:
        print(f"all {len(checks)} checks are good ({elapsed_s:.1f} s)")
        return 0
    print(f"{len(failed)} of {len(checks)} checks failed ({elapsed_s:.1f} s):")
    for check in failed:
        print(f"  {check.name}" + (f": {check.hint}" if check.hint else ""))
    return 1


if __name__ == "__main__":
    sys.exit(main())
