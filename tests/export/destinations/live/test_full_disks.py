"""A disk that is full: a file system of two megabytes, which only the run sees and which is gone with it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.export.destinations.live.shops import SRC

NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--mount")
SCRIPT: Final = """
set -e
mount -t tmpfs -o size=2m none out
"$@" run small.json --quiet
cp out/small/manifest.json before
set +e
"$@" run shop.json --engine $ENGINE --json --quiet >said
echo $? >status
find out -type f | sort >files
cmp out/small/manifest.json before
"$@" run small.json --quiet
"""
"""What is there in the end is seen in there only."""


def has_namespaces() -> bool:
    tried = [*NAMESPACE, "true"]
    return (
        shutil.which("unshare") is not None and subprocess.run(tried, check=False, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not has_namespaces(), reason="mounts need a namespace of one's own")
@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_a_full_disk_ends_the_export_and_leaves_the_old_set(tmp_path: Path, engine: str) -> None:
    """E-42: W1: `DESTINATION_FULL`; no part, no file without a manifest and no hidden one; what was published is as it was."""
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as database, database:
        database.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, body TEXT)")
        database.executemany("INSERT INTO big VALUES (?, ?)", ((n, os.urandom(400).hex()) for n in range(10_000)))
    for name, count in (("small", 10), ("shop", 10_000)):
        export = {
            "name": name,
            "query": f"SELECT id, body FROM big WHERE id < {count}",
            "mode": "full",
            "format": "csv",
        }
        values = {
            "source": {"type": "sqlite", "path": "shop.sqlite"},
            "destination": {"type": "local", "path": "out/{export}"},
            "exports": [export],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    (tmp_path / "out").mkdir()
    program = [sys.executable, "-m", "procflow_export"]
    environ = os.environ | {"ENGINE": engine, "PYTHONPATH": SRC, "PYTHONUTF8": "1"}

    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", SCRIPT, "sh", *program],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    [verdict] = json.loads((tmp_path / "said").read_text())["exports"]
    assert verdict["failure"]["code"] == "DESTINATION_FULL"
    assert (tmp_path / "status").read_text() == "1\n"
    left = (tmp_path / "files").read_text().split()
    assert not [name for name in left if name.startswith("out/shop/")]
    assert len([name for name in left if name.startswith("out/small/")]) == 4
