"""The layer rules of the design hold, and each of them would notice a breach."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
}

# For every contract one module that breaks it.
BREACHES = {
    "core-knows-no-export": ("procflow/record/breach_export.py", "import procflow_export.model"),
    "core-dependencies": ("procflow/record/breach_driver.py", "import pyarrow"),
    "opentelemetry-place": ("procflow/adapters/breach_otel.py", "import opentelemetry.trace"),
    "core-values": ("procflow/outcome.py", "import time"),
    "core-layers": ("procflow/events.py", "import procflow.errors"),
    "redaction-layers": ("procflow/redaction/places.py", "import procflow.redaction.policy"),
    "record-redaction-layers": ("procflow/record/redaction/needles.py", "import procflow.record.redaction.stream"),
    "record-logs-layers": ("procflow/record/logs/format.py", "import procflow.record.logs.storage"),
    "record-logs-and-redaction-know-no-process": ("procflow/record/logs/breach_loop.py", "import anyio"),
    "supervision-layers": ("procflow/_supervision/values.py", "import procflow._supervision.supervisor"),
    "streams-know-no-process": ("procflow/_streams/breach_process.py", "import procflow._process.spawn"),
    "stream-layers": ("procflow/_streams/log/breach_up.py", "import procflow._streams.consumers.crew"),
    "record-values": ("procflow/record/fold/breach_clock.py", "import time"),
    "recording-layers": ("procflow/record/recording/ledger.py", "import procflow.record.recording.run"),
    "record-exports": ("procflow/record/exports/ids.py", "import procflow.record.exports.spans"),
    "record-sinks": ("procflow/record/sinks/port.py", "import procflow.record.sinks.targets"),
    "record-cli-place": ("procflow/record/breach_cli.py", "import procflow.record.cli.main"),
    "record-views": ("procflow/record/views/words.py", "import procflow.record.views.svg"),
    "record-store-layers": ("procflow/record/store/rows.py", "import procflow.record.store.ingest"),
    "record-layers": ("procflow/record/reading/breach_up.py", "import procflow.record.fold.view"),
    "record-scrubbing": ("procflow/record/scrubbing/events.py", "import procflow.record.scrubbing.logs"),
    "record-retention": ("procflow/record/retention/choice.py", "import procflow.record.retention.listing"),
    "export-values": ("procflow_export/planning/breach_clock.py", "import time"),
    "asyncpg-place": ("procflow_export/pipeline/breach_asyncpg.py", "import asyncpg"),
    "aiomysql-place": ("procflow_export/sources/postgres/breach_aiomysql.py", "import aiomysql"),
    "obstore-place": ("procflow_export/formats/breach_obstore.py", "import obstore"),
    "pyarrow-place": ("procflow_export/pipeline/breach_pyarrow.py", "import pyarrow"),
    "rich-place": ("procflow_export/engines/breach_rich.py", "import rich"),
    "sources-strangers": ("procflow_export/sources/sqlite/breach_mysql.py", "import procflow_export.sources.mysql"),
    "core-names-place": ("procflow_export/formats/breach_procflow.py", "import procflow"),
    "core-public-names": ("procflow_export/engines/breach_private.py", "import procflow._streams.log.log"),
    "state-place": ("procflow_export/engines/breach_state.py", "import procflow_export.state"),
    "cli-place": ("procflow_export/engines/breach_cli.py", "import procflow_export.cli.main"),
    "export-layers": ("procflow_export/model/breach_up.py", "import procflow_export.pipeline"),
}


def lint(cwd: Path) -> dict[str, str]:
    """Return KEPT or BROKEN for each contract by its name, as import-linter judges ``cwd/src``."""
    done = subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--config", "pyproject.toml"],
        cwd=cwd,
        env={"PATH": "", "PYTHONPATH": str(cwd / "src"), "COLUMNS": "400", "NO_COLOR": "1", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert set(verdicts) == set(CONTRACTS.values()), done.stdout + done.stderr
    return verdicts


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    if not LINT_IMPORTS.exists():
        pytest.skip("import-linter is not installed; to have it: ./run check")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_is_kept_and_none_is_blind(copied: Path) -> None:
    assert set(lint(copied).values()) == {"KEPT"}
    assert set(BREACHES) == set(CONTRACTS)

    for name, statement in BREACHES.values():
        path = copied / "src" / name
        before = path.read_text("utf-8") if path.exists() else ""
        path.write_text(f"{before}\n{statement}\n", "utf-8")

    verdicts = lint(copied)
    blind = [contract for contract, name in CONTRACTS.items() if verdicts[name] != "BROKEN"]
    assert not blind
