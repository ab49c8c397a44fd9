"""The example that records a build, run as a user would: a real clone, real tests, a real wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from procflow.record import RecordState, load

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80"}


def test_a_build_is_recorded_and_drawn(tmp_path: Path) -> None:
    """RR-90, RR-91: three jobs of shell calls are in the record, in a text, in a picture and in a trace."""
    command = [sys.executable, str(ROOT / "examples" / "run.py"), "record-build", "--root", str(tmp_path)]

    done = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    [directory] = tmp_path.iterdir()
    view = load(directory)
    assert (view.state, view.run.outcome, view.health.is_clean) == (RecordState.FINISHED, "succeeded", True)
    assert [(job.job_id, job.outcome) for job in view.jobs.values()] == [
        ("build", "succeeded"),
        ("test", "succeeded"),
        ("package", "succeeded"),
    ]
    assert [call.exit_code for call in view.calls.values()] == [0] * 9
    assert [(note.key, isinstance(note.value, int)) for note in view.notes] == [("package.modules", True)]
    lines = done.stdout.splitlines()
    assert max(map(len, lines[:13])) <= 80
    assert [line.split()[0] for line in lines[:13] if line[:2].strip()] == ["build", "build", "test", "package"]
    ET.parse(directory / "run.svg")
    trace = json.loads((directory / "trace.json").read_text("utf-8"))["traceEvents"]
    assert sum(event["ph"] == "B" for event in trace) == sum(event["ph"] == "E" for event in trace) == 1 + 3 + 9
