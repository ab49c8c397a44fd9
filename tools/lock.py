"""Write the lock files: requirements/*.txt, exact versions with hashes and nothing that names a registry.

uv's own lock file and pylock.toml record the address of every file, so neither is kept in the repository: uv resolves into a
temporary place that git ignores, and each set is exported from that one resolution, so that all sets agree on versions.

That place is empty in a fresh clone, so what the lock files hold already is handed to uv as wishes, unless newer versions are wanted.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"

SETS: dict[str, list[str]] = {
    "tool": ["--only-group", "tool"],
    "demo": ["--extra", "export", "--group", "demo", "--group", "build"],
    "test": ["--extra", "export", "--group", "test", "--group", "build"],
    "check": ["--extra", "export", "--group", "test", "--group", "lint", "--group", "docs", "--group", "build"],
    "peers": ["--only-group", "peers"],
}

HEADER = """\
# Made by `./run lock` from pyproject.toml; do not edit.
"""

HOST = re.compile(r"[a-z][a-z0-9+.-]*://|\bfile:|--(?:extra-)?index-url|--find-links|\bindex[-_]url\b", re.IGNORECASE)

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def hosts_in(text: str) -> list[str]:
    """Return the lines of a lock file that name a place instead of a version."""
    return [line for line in text.splitlines() if HOST.search(line)]


def pins_in(texts: Iterable[str]) -> list[str]:
    """Return ``name==version`` for each package that the lock files hold in one version only."""
    versions: dict[str, set[str]] = {}
    for text in texts:
        for name, version in PIN.findall(text):
            versions.setdefault(name, set()).add(version)
    return [f"{name}=={found.pop()}" for name, found in sorted(versions.items()) if len(found) == 1]


def check() -> int:
    """Return 1 and say why if a lock file is missing, or names a host."""
    problems = [f"{name}.txt is missing" for name in SETS if not (LOCKS / f"{name}.txt").is_file()]
    for path in sorted(LOCKS.glob("*.txt")):
        problems += [f"{path.name}: {line}" for line in hosts_in(path.read_text("utf-8"))]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def write(*, upgrade: bool) -> int:
    uv = str(Path(sys.executable).with_name("uv"))
    pins = pins_in(path.read_text("utf-8") for path in LOCKS.glob("*.txt"))
    wishes = ["--upgrade"] if upgrade else [word for pin in pins for word in ("--upgrade-package", pin)]
    subprocess.run([uv, "lock", "-q", *wishes], cwd=ROOT, check=True)
    LOCKS.mkdir(exist_ok=True)
    for name, selection in SETS.items():
        command = [uv, "export", "-q", "--frozen", "--no-emit-project", "--no-header", "--no-annotate", *selection]
        text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        # A check, not an assumption: what uv writes may change.
        if found := hosts_in(text):
            print(f"{name}: the export names a host: {found[0]}", file=sys.stderr)
            return 1
        (LOCKS / f"{name}.txt").write_text(HEADER + text, "utf-8")
        print(f"requirements/{name}.txt: {len(re.findall(r'^[a-z]', text, re.MULTILINE | re.IGNORECASE))} packages")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a lock file names a host")
    parser.add_argument("--upgrade", action="store_true", help="take newer versions where pyproject.toml allows them")
    arguments = parser.parse_args()
    return check() if arguments.check else write(upgrade=arguments.upgrade)


if __name__ == "__main__":
    sys.exit(main())
