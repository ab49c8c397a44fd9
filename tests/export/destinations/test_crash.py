"""SIGKILL at every named point of an export's way to its destination, then a rerun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procflow_export.destinations import Depth, Owner, finish_publication, read_published, take_inventory
from procflow_export.destinations.crash import CRASH_ENV, CRASH_POINTS
from procflow_export.destinations.local import LocalDestination
from tests.export.destinations.publishing import EXPORT, PART_COUNT, rows_of, run_export

COMMITTED = frozenset({"publish.manifest_stored", "publish.manifest_read_back", "publish.marker_stored"})
SECOND_PART = ("part.writing:2", "part.written:2", "part.synced:2", "part.stored:2")
SMALL_OBJECTS = ("put.synced:1", "put.synced:2", "put.synced:3")  # run manifest, canonical manifest, marker
POINTS = [point for point in CRASH_POINTS if not point.startswith(("put.", "state."))] + [*SECOND_PART, *SMALL_OBJECTS]


def child_export(root: Path, run_id: str, crash_at: str, *, nameless: bool) -> int:
    """Run an export in a child that kills itself at ``crash_at``, and return its exit status."""
    script = (
        "import pathlib, sys\n"
        "from procflow_export.destinations import Owner\n"
        "from procflow_export.destinations.local import LocalDestination\n"
        "from tests.export.destinations.publishing import EXPORT, run_export\n"
        "root, run_id, nameless = sys.argv[1:]\n"
        "owner = Owner(export=EXPORT, run_id=run_id)\n"
        "run_export(LocalDestination(pathlib.Path(root), owner=owner, nameless=nameless == 'True'), run_id)\n"
    )
    environment = {**os.environ, CRASH_ENV: crash_at, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), run_id, str(nameless)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode


def open_local(root: Path, run_id: str, *, nameless: bool = True) -> LocalDestination:
    return LocalDestination(root, owner=Owner(export=EXPORT, run_id=run_id), nameless=nameless)


def published_rows(root: Path) -> bytes:
    """What a reader gets who follows the manifest."""
    destination = open_local(root, "reader")
    published = read_published(destination, depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.problems == ()
    return b"".join(destination.get(part.key) or b"" for part in published.manifest.parts)


def all_rows(run_id: str) -> bytes:
    return b"".join(rows_of(run_id, chunk) for chunk in range(PART_COUNT))


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_anywhere_leaves_the_old_set_or_the_new(tmp_path: Path, point: str, nameless: bool) -> None:
    """E-42, E-43, E-44: W1-W5: after SIGKILL at any point readers see one whole set, and a rerun publishes its own, once."""
    root = tmp_path / EXPORT
    run_export(open_local(root, "run-1"), "run-1")
    is_committed = point in COMMITTED or point == "put.synced:3"

    status = child_export(root, "run-2", point, nameless=nameless)

    assert status == -signal.SIGKILL
    assert published_rows(root) == all_rows("run-2" if is_committed else "run-1")
    after_crash = read_published(open_local(root, "run-3"))
    assert after_crash is not None
    has_fresh_marker = not is_committed or point == "publish.marker_stored"
    assert after_crash.is_complete == has_fresh_marker
    for info in open_local(root, "reader").list():
        if info.key.endswith(".csv"):
            assert info.size_bytes == len(rows_of("run-1", 0)), "a part is visible that is not whole"

    assert finish_publication(open_local(root, "run-3")) == (not has_fresh_marker)
    publication = run_export(open_local(root, "run-3", nameless=nameless), "run-3")
    after_rerun = read_published(open_local(root, "reader"), depth=Depth.CHECKSUMS)
    assert after_rerun is not None
    assert after_rerun.is_complete
    assert published_rows(root) == all_rows("run-3")
    assert len(publication.superseded) == PART_COUNT
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == [], "nothing unfinished stays"
    inventory = take_inventory(open_local(root, "reader"))
    assert all(b"run-2" in (root / key).read_bytes() for key in inventory.unknown)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_of_the_very_first_run_publishes_nothing_or_all(tmp_path: Path, point: str) -> None:
    """E-43, E-44: with no set before, readers see nothing until the commit and everything after it."""
    root = tmp_path / EXPORT

    assert child_export(root, "run-1", point, nameless=True) == -signal.SIGKILL

    if point in COMMITTED or point == "put.synced:3":
        assert published_rows(root) == all_rows("run-1")
    else:
        assert read_published(open_local(root, "reader")) is None
    run_export(open_local(root, "run-2"), "run-2")
    assert published_rows(root) == all_rows("run-2")


def test_without_the_variable_no_point_kills(tmp_path: Path) -> None:
    """E-44: crash points are off unless asked for by name."""
    for crash_at in ("", "no.such.point", "part.stored:99"):
        assert child_export(tmp_path / EXPORT, f"run-{crash_at or 0}", crash_at, nameless=True) == 0
