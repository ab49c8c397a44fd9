"""Running the command line as people and programs do: as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from procflow.record.events import RecordEvent
from tests.core.record.sample import EVENTS, lines_of

SRC = str(Path(__file__).parents[4] / "src")
PATIENCE_S = 100.0
RUN_ID = "019b76da-a800-7000-8000-000000000001"


@dataclass(frozen=True)
class Ended:
    """A finished program."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A directory with a root of runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "runs"
        self.root.mkdir()
        colours = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PROCFLOW_RUNS")
        self.env = {name: text for name, text in os.environ.items() if name not in colours}
        self.env |= {"PYTHONPATH": SRC, "TERM": "xterm-256color", "PYTHONUTF8": "1"}

    def record(self, name: str = RUN_ID, events: Sequence[RecordEvent] = EVENTS, tail: bytes = b"") -> Path:
        """Write the record of a run, and return its directory."""
        directory = self.root / name
        directory.mkdir()
        (directory / "events.jsonl").write_bytes(b"".join(lines_of(events)) + tail)
        return directory

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "procflow", "record", *map(str, arguments)]

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> Ended:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.env | dict(env or {}), text=True, timeout=PATIENCE_S, check=False,
            **_streams(options),
        )  # fmt: skip
        return Ended(done.returncode, done.stdout or "", done.stderr or "")

    @contextmanager
    def started(self, *arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.env, text=True,
            **_streams(options),
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()


def _streams(options: Mapping[str, Any]) -> dict[str, Any]:
    stdin = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    return {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **stdin, **options}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)
