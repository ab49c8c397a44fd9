"""Hosts as programs of their own, to be killed, as root and as somebody else."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from procflow.testing import HostileTree
from procflow.testing.hostile import PROGRAM

ROOT: Final = Path(__file__).resolve().parents[3]
HOST: Final = ROOT / "tools" / "soak" / "host.py"
NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
GONE_S: Final = 10.0
"""Ten times what is promised."""


@contextmanager
def running_host(
    level: str,
    trees: Sequence[HostileTree],
    *,
    backend: str = "asyncio",
    prefix: Sequence[str] = (),
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A host that runs ``trees``, all of them up; it is killed when the block is left."""
    python = sys.executable if folder is None else "/usr/bin/python3"
    host_program = HOST if folder is None else folder / HOST.name
    path = os.pathsep.join(sys.path) if folder is None else str(folder)
    host = subprocess.Popen(
        [*prefix, python, str(host_program), level, backend],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        assert host.stdin is not None
        assert host.stdout is not None
        commands = [tree.argv for tree in trees]
        if folder is not None:  # the checkout may be closed to others
            program = str(folder / "procflow" / "testing" / Path(PROGRAM).name)
            commands = [tuple(program if word == PROGRAM else word for word in argv) for argv in commands]
        host.stdin.write(json.dumps(commands) + "\n")
        host.stdin.flush()
        said = host.stdout.readline()
        assert said, "the host has failed"
        assert set(json.loads(said)["levels"]) == {level}
        yield host
    finally:
        host.kill()
        host.communicate()


@cache
def other_python() -> str | None:
    """Return why no host can be run as another user, or ``None``."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return "needs root and setpriv"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with contextlib.suppress(OSError):
        said = subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, text=True, check=False).stdout
        if said.split()[-1:] and said.split()[-1].startswith(f"{version}."):
            return None
    return f"needs a Python {version} that every user may run"


@contextmanager
def everybodys_copy() -> Iterator[Path]:
    """A folder with what a host needs, where every user may read it."""
    with tempfile.TemporaryDirectory(prefix="procflow-everybody-", dir="/tmp") as name:
        folder = Path(name)
        for module in ("procflow", "anyio", "msgspec", "idna", "sniffio", "typing_extensions"):
            spec = importlib.util.find_spec(module)
            if spec is None or spec.origin is None:
                continue
            origin = Path(spec.origin)
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, folder / module, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, folder / origin.name)
        shutil.copy(HOST, folder / HOST.name)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder
