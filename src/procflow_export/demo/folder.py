"""The demo's folder: made by the demo, emptied by the demo, and nothing else is ever deleted.

A folder belongs to the demo when its marker lies in it.  Only names that the demo writes are removed, so a file that somebody put
beside them stays.  A folder without marker is used only when it is empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from procflow_export.demo.shop import TABLES
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError
from procflow_export.model.manifest import MARKER_KEY

DEMO_MARKER: Final = ".procflow-demo"
_MARKER_TEXT: Final = "This folder was made by `procflow-export demo`, which empties it when it runs again.\n"
_DATABASE: Final = "shop.sqlite"
_CONFIG: Final = "shop.yaml"
_DATA: Final = "data"
_STATE: Final = "shop.state"
_OURS: Final = re.compile(r"manifest(?:-[0-9a-f-]+)?\.json|\.procflow~.*\.tmp")


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where the demo puts what it makes."""

    root: Path

    @property
    def database(self) -> Path:
        """The shop."""
        return self.root / _DATABASE

    @property
    def config(self) -> Path:
        """The configuration by which it is exported."""
        return self.root / _CONFIG

    @property
    def data(self) -> Path:
        """One folder per export."""
        return self.root / _DATA


@contextmanager
def claimed_folder(path: Path) -> Iterator[DemoFolder]:
    """Hold ``path`` as the demo's own folder, emptied of what an earlier demo left there.

    Raises:
        DestinationError: If the folder belongs to somebody else, is no folder, is used by another demo now, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / DEMO_MARKER).exists() and any(path.iterdir()):
            raise _unusable(f"{path} was not made by the demo and is not empty; name another folder with --output")
        marker = os.open(path / DEMO_MARKER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as exc:
        raise _unusable(f"{path} cannot be the demo's folder: {exc.strerror or exc}") from exc
    try:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise _unusable(f"another demo is running in {path}") from exc
        if os.fstat(marker).st_size == 0:
            os.write(marker, _MARKER_TEXT.encode())
        folder = DemoFolder(path)
        try:
            _empty(folder)
        except OSError as exc:
            raise _unusable(f"{exc.filename or path} cannot be replaced: {exc.strerror or exc}") from exc
        yield folder
    finally:
        os.close(marker)


def _remove_state(directory: Path) -> None:
    """Remove a state directory unless it is a link, or somebody else's file lies in it."""
    if directory.is_symlink() or not directory.is_dir():
        return
    for file in (*directory.glob("state.db*"), directory / "open.lock", *directory.glob("leases/*.lease")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (directory / "leases").rmdir()
        directory.rmdir()


def _empty(folder: DemoFolder) -> None:
    for file in (folder.database, folder.root / f"{_DATABASE}-journal", folder.config):
        file.unlink(missing_ok=True)
    _remove_state(folder.root / _STATE)
    if folder.data.is_symlink() or not folder.data.is_dir():
        return
    for table in TABLES:
        directory = folder.data / table
        if directory.is_symlink() or not directory.is_dir():
            continue
        for file in directory.iterdir():
            if _is_ours(file.name, table) and (file.is_file() or file.is_symlink()):
                file.unlink()
        with contextlib.suppress(OSError):  # somebody else's file lies in it
            directory.rmdir()
    with contextlib.suppress(OSError):
        folder.data.rmdir()


def _is_ours(name: str, table: str) -> bool:
    part = re.fullmatch(rf"{re.escape(table)}-[0-9a-f-]+-c\d+-p\d+\.parquet", name)
    return name == MARKER_KEY or part is not None or _OURS.fullmatch(name) is not None


def _unusable(message: str) -> DestinationError:
    return DestinationError(Code.DESTINATION_NOT_USABLE, message)
