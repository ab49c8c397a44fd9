"""A real run, looked at from outside while it goes on, and after it was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.core.record.cli.conftest import PATIENCE_S, Shell

RUN = """
import anyio
from procflow import record

async def main():
    async with record.open_run("nightly", record="runs") as run:
        async with run.job("build") as job:
            await job.sh("true")
            await job.sh("sleep", "600")

anyio.run(main)
"""


def test_a_run_from_its_first_event_to_its_death(shell: Shell, tmp_path: Path) -> None:
    """RR-43, RR-62, RR-66, RR-93: followed while it goes on; once it is killed it has crashed, and the open call is named."""
    program = tmp_path / "nightly.py"
    program.write_text(RUN)
    seen: list[str] = []

    with subprocess.Popen([sys.executable, program], cwd=shell.folder, env=shell.env) as run:
        try:
            while not shell.run("list", "--state", "running").out:
                assert run.poll() is None
            with shell.started("tail", "latest") as tail:
                assert tail.stdout is not None
                while not seen or "[2] pid" not in seen[-1]:
                    seen.append(tail.stdout.readline())
                    assert seen[-1]
                going_on = (shell.run("check", "nightly").status, shell.run("what-up").out)
                run.kill()
                rest, err = tail.communicate(timeout=PATIENCE_S)
        finally:
            run.kill()

    assert any("[1] exit 0" in line for line in seen)
    assert going_on[0] == 4
    assert "[2] sleep 600" in going_on[1]
    assert (rest, err, tail.returncode) == ("", "the record has no end: its writer is gone\n", 0)
    assert shell.run("check", "nightly").status == 2
    assert "[2] sleep 600" in shell.run("what-up", "nightly").out
    assert "lost" in shell.run("timeline", "nightly").out
    assert shell.run("ingest").status == 0
    assert shell.run("show", "nightly", "--database", "runs/records.sqlite").out == shell.run("show", "nightly").out
