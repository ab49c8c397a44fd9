"""Whole runs as processes of their own, and the most memory that each had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

MIB: Final = 1 << 20
BUDGET_MB: Final = 256
TIMEOUT_S: Final = 300.0
SRC: Final = str(Path(__file__).parents[3] / "src")

# The kernel's account of a process that has ended is its VmHWM over its whole life, that of the workers it waited for included, and
# also that of the process it was forked from.  A test's own is large: so a small one starts the program and reads the account.
_WITNESS: Final = """
import json, os, subprocess, sys
child = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(child.pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump({"status": os.waitstatus_to_exitcode(status), "peak_bytes": usage.ru_maxrss * 1024}, file)
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended.

    Attributes:
        status: Its exit status.
        peak_bytes: The most resident memory that it, or the largest of its workers, had.
        verdict: What it said of its export.
        out: Where its files are.
        err: What it said to people.
    """

    status: int
    peak_bytes: int
    verdict: dict[str, Any]
    out: Path
    err: str

    def files(self) -> list[Path]:
        return sorted(self.out.rglob("*.parquet"))

    def row_count(self) -> int:
        """Rows that the files say they have."""
        return sum(pq.read_metadata(file).num_rows for file in self.files())


def export(
    folder: Path, source: dict[str, Any], export: dict[str, Any], *options: str, memory_mb: int | None = None
) -> Ended:
    """Run ``python -m procflow_export run`` with one export in a process of its own, to its end."""
    config: dict[str, Any] = {
        "source": source,
        "destination": {"type": "local", "path": "out"},
        "exports": [{"name": "table", "mode": "full", "format": "parquet"} | export],
    }
    if memory_mb is not None:
        config["memory_mb"] = memory_mb
    (folder / "run.yaml").write_text(json.dumps(config))  # JSON is YAML
    account = folder / "account.json"
    program = [sys.executable, "-m", "procflow_export", "run", "run.yaml", "--json", *options]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WITNESS, str(account), *program],
        cwd=folder, env=os.environ | {"PYTHONPATH": SRC, "PYTHONUTF8": "1"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    found = json.loads(account.read_text())
    print(f"peak {found['peak_bytes'] / MIB:.0f} MiB")  # shown where a bound is missed
    [verdict] = json.loads(done.stdout)["exports"]
    return Ended(**found, verdict=verdict, out=folder / "out", err=done.stderr)
