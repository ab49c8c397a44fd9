"""Environments of their own for the programs and packages that run beside us.

Their versions and hashes are in requirements/peers.txt, one resolution for all of them, made from the group ``peers`` of pyproject.toml
by `./run lock`.  An environment is made once, below .local, and made anew when that file changes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.harness import ROOT
from tools.lock import PIN

PINS: Final = ROOT / "requirements" / "peers.txt"
PLACE: Final = ROOT / ".local" / "benchmarks" / "environments"

ENVIRONMENTS: Final[dict[str, tuple[str, ...]]] = {
    "tpchgen": ("tpchgen-cli",),
    "rivet": ("rivet-cli",),
    "connectorx": ("connectorx", "pyarrow"),
    "adbc": ("adbc-driver-postgresql", "pyarrow"),
    "pandas": ("pandas", "psycopg[binary]", "pyarrow", "sqlalchemy[pymysql]"),
    "asyncmy": ("asyncmy", "pyarrow"),
    "mariadb": ("mariadb[binary]", "pyarrow"),
}
"""What is installed into each."""


class NotInstalledError(Exception):
    """An environment is not there and was not to be made, or could not be made; the message is why."""


def versions(*packages: str) -> str:
    """Return packages with their locked versions, as a sentence lists them."""
    locked = dict(PIN.findall(PINS.read_text("utf-8")))
    return ", ".join(f"{package} {locked[package]}" for package in packages)


def directory(name: str) -> Path:
    """Return where the environment is, or would be: the path follows from the locked versions and the Python."""
    content = "\n".join([PINS.read_text("utf-8"), sys.version, *ENVIRONMENTS[name]])
    return PLACE / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def ensure(name: str, *, is_made: bool = True) -> Path:
    """Return the directory with the programs of an environment, which is made if it is missing and ``is_made``.

    Raises:
        NotInstalledError: If there is none.
    """
    place = directory(name)
    if not place.exists():
        if not is_made:
            raise NotInstalledError(f"{name} is not installed; without --quick it would be")
        _make(name, place)
    return place / "bin"


def _make(name: str, place: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    for old in PLACE.glob(f"{name}-{'?' * 12}"):
        shutil.rmtree(old)
    draft = place.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    python = str(draft / "bin" / "python")
    steps = (
        [uv, "venv", "-q", "--relocatable", "-p", sys.executable, str(draft)],
        # The hashes of the constraints are verified. Compiled: no peer's first run compiles its imports.
        [uv, "pip", "install", "-q", "--compile-bytecode", "-c", str(PINS), "-p", python, *ENVIRONMENTS[name]],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            lines = done.stderr.strip().splitlines()
            raise NotInstalledError(f"{name} could not be installed: {lines[-1] if lines else done.returncode}")
    draft.rename(place)
