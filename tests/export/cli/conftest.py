"""Running the program as people and programs do: as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

TIMEOUT_S = 100.0
SRC = str(Path(__file__).parents[3] / "src")


@dataclass(frozen=True)
class Ended:
    """A finished program."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Shop:
    """A folder with a small database and configurations over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.env = {
            name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
        }
        self.env |= {"PYTHONPATH": SRC, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        with closing(sqlite3.connect(folder / "shop.sqlite")) as database, database:
            database.execute("CREATE TABLE loose (name TEXT)")
            for table, rows in (("customers", 300), ("orders", 2000), ("items", 5000)):
                database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER)")
                database.execute(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                    f"INSERT INTO {table} SELECT i, 'name ' || i, i * 7 FROM n",
                    (rows,),
                )

    def config(self, *exports: Mapping[str, object], name: str = "shop.yaml", **root: object) -> Path:
        values: dict[str, object] = {
            "source": {"type": "sqlite", "path": "shop.sqlite"},
            "destination": {"type": "local", "path": "out"},
            "exports": [{"mode": "full", "format": "parquet", **export} for export in exports],
        }
        path = self.folder / name
        path.write_text(json.dumps(values | root))  # JSON is YAML
        return path

    def three(self) -> Path:
        return self.config(
            {"name": "customers", "table": "customers"},
            {"name": "orders", "table": "orders", "mode": "chunked", "chunk_count": 2, "parallel": 2},
            {"name": "items", "table": "items", "mode": "chunked", "chunk_count": 4, "parallel": 4},
        )

    def slow(self, **tuning: object) -> Path:
        """One quick export, and one that takes a minute in many small batches."""
        return self.config(
            {"name": "customers", "table": "customers"},
            {
                "name": "items",
                "table": "items",
                "mode": "chunked",
                "chunk_count": 2,
                "tuning": {"batch_size": 50, "throttle_ms": 600, "max_retries": 0, **tuning},
            },
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "procflow_export", *arguments]

    def run(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> Ended:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.env | (env or {}), capture_output=True, text=True,
            timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False, **options,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: str, **options: Any) -> Iterator[Started]:
        process = subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip
        try:
            yield Started(process, self)
        finally:
            family = [process.pid, *(child.pid for child in _children(process.pid))]
            for pid in reversed(family):
                if process.poll() is None or pid != process.pid:
                    _kill(pid)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def execute(self, statement: str) -> None:
        """Change the database."""
        with closing(sqlite3.connect(self.folder / "shop.sqlite")) as database, database:
            database.execute(statement)

    def parts(self, export: str) -> list[str]:
        """Parts that the manifest names; none when nothing is published."""
        manifest = self.out / export / "manifest.json"
        if not manifest.exists():
            return []
        return sorted(part["key"] for part in json.loads(manifest.read_text())["parts"])

    def files(self, export: str) -> list[str]:
        """Everything in the folder of an export, hidden files included."""
        folder = self.out / export
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class Started:
    """The program while it runs."""

    def __init__(self, process: subprocess.Popen[str], shop: Shop) -> None:
        self.process = process
        self.shop = shop

    def workers(self) -> list[psutil.Process]:
        return [child for child in _children(self.process.pid) if "worker" in _command_line(child)]

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if self.process.poll() is not None:
                out, err = self.process.communicate()
                raise AssertionError(f"ended with {self.process.returncode} before {what}\n{out}\n{err}")
            assert time.monotonic() < deadline, f"never: {what}"
            time.sleep(0.02)

    def end(self) -> Ended:
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return Ended(self.process.returncode, out, err)


def _children(pid: int) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def _command_line(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
    return words


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
