"""Programs of distribution packages: installed ones, or those that ``./run test`` has unpacked into ``.local/packages``.

Owns where they are and what they need to run.  Knows nothing of what they do.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNPACKED: Final = Path(__file__).resolve().parents[1] / ".local" / "packages" / "root"
_SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Program:
    """A program that can be started.

    Attributes:
        path: Where it is.
        libraries: Value of ``LD_LIBRARY_PATH`` that it needs; empty where it needs none.
    """

    path: Path
    libraries: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """The variables to start it with, beside ``PATH``."""
        found = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        return found | ({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})


def find_program(name: str, *, folders: str = "usr/*bin") -> Program | None:
    """Return a program, or ``None`` if it is neither installed nor unpacked.

    Args:
        name: Name of its file.
        folders: Pattern of the folders, below a root, that may hold it; the last in the order of names wins.
    """
    if folders == "usr/*bin":
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS))
        if (installed := shutil.which(name, path=path)) is not None:
            return Program(Path(installed))
    for root in (Path("/"), UNPACKED):
        found = sorted(path for path in root.glob(f"{folders}/{name}") if os.access(path, os.X_OK))
        if found:
            return Program(found[-1], "" if root == Path("/") else _libraries())
    return None


def _libraries() -> str:
    return os.pathsep.join(
        str(folder) for pattern in ("usr/lib/*-linux-*", "lib/*-linux-*") for folder in UNPACKED.glob(pattern)
    )
